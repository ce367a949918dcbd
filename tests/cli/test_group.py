"""Errors of commands: one line and an exit code, no traceback, and nothing computed is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import relspace as rs
from relspace._core.text_tables import one_line, text_table
from relspace.cli import commands

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", early=X, late=X[:, ::-1])
    np.savez("b.npz", early=X + 1, late=X * 2)
    np.save("a.npy", X)
    np.save("b.npy", X[:, ::-1])
    return tmp_path


def run(*arguments: object, **options: object) -> Result:
    return CliRunner().invoke(commands, [*map(str, arguments)], prog_name="relspace", **options)


def fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError("in a\nkernel")


def test_a_fault_of_relspace_is_named_and_is_another_exit_code(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rs, "compare", fail)
    done = run("compare", "a.npy", "b.npy")
    assert done.exit_code == 1
    (line,) = [one for one in done.stderr.splitlines() if "error" in one]
    assert line.startswith("relspace: unexpected error: ZeroDivisionError: in a kernel: please")
    assert "Traceback" not in done.output
    for told in (
        run("--debug", "compare", "a.npy", "b.npy"),
        run("compare", "a.npy", "b.npy", env={"RELSPACE_DEBUG": "1"}),
    ):
        assert told.exit_code == 1
        assert "Traceback" in told.stderr


@pytest.mark.parametrize("error", [OSError("no\x1b[31m space"), MemoryError(), ValueError("x")])
def test_errors_are_one_line_that_steers_no_terminal(
    files: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def raise_it(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(rs, "compare", raise_it)
    done = run("compare", "a.npy", "b.npy")
    assert done.exit_code == (1 if type(error) is ValueError else 2)
    assert "\x1b" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("relspace: ")


def test_an_interrupted_command_says_so(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rs, "compare", interrupt)
    done = run("compare", "a.npy", "b.npy")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (130, "relspace: interrupted")


def test_a_reader_that_left_is_no_error(files: Path) -> None:
    command = [sys.executable, "-m", "relspace", "compare", "--list-measures"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("output", "drawing"),
    [
        ("l.png", "relspace.pictures.layer_plots.draw_layer_comparison"),
        ("l.html", "relspace.reports.page.render_report"),
    ],
)
def test_numbers_are_printed_although_their_picture_fails(
    files: Path, monkeypatch: pytest.MonkeyPatch, output: str, drawing: str, as_json: bool
) -> None:
    monkeypatch.setattr(drawing, fail)
    options = ["--json"] * as_json
    done = run("layers", "a.npz", "b.npz", "-o", output, "--permutations", 0, *options)
    assert done.exit_code == 1
    if as_json:
        assert json.loads(done.stdout)["output"] is None
    else:
        assert "layer of a" in done.stdout
        assert "Written" not in done.stdout
    assert not Path(output).exists()


@pytest.mark.parametrize("name", ["$^$", "a$b$c", "_x", "<b>", "two\nlines", "\x1b[31m"])
def test_sets_of_any_name_are_compared_and_drawn(files: Path, name: str) -> None:
    done = run("layers", f"{name}=a.npz", "b.npz", "-o", "l.html", "--permutations", 0)
    assert done.exit_code == 0, done.stderr
    assert one_line(name) in done.stdout
    assert "\x1b" not in done.output
    assert Path("l.html").stat().st_size > 1000


@pytest.fixture
def stores(files: Path) -> tuple[str, str]:
    """Tokens of two images on grids, of two networks."""
    images = list(np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3)).astype(np.uint8))
    for name, stride in (("fine", 4), ("coarse", 8)):
        torch.manual_seed(stride)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, stride, stride))
        processing = rs.Preprocessing(size=(16, 16))
        model = rs.ModuleModel(net, ["0"], layout="bchw", preprocessing=processing)
        rs.extract(model, images, f"{name}.zarr")
    return "fine.zarr", "coarse.zarr"


def test_a_flag_for_speed_does_not_turn_tokens_into_items(stores: tuple[str, str]) -> None:
    done = run("align", *stores, "-o", "s.safetensors", "--scheduler", "tcp://127.0.0.1:1")
    assert done.exit_code == 2
    assert "fine holds tokens on grids" in done.stderr
    assert "leave --scheduler away" in done.stderr
    assert not Path("s.safetensors").exists()


def test_what_was_aligned_is_saved_although_it_can_not_be_compared(
    stores: tuple[str, str],
) -> None:
    done = run("align", *stores, "-o", "s.safetensors")
    assert done.exit_code == 2
    assert "2 images are matched; it takes at least 3" in done.stderr
    assert rs.load_space("s.safetensors").names == ("fine", "coarse")


def test_tables_are_of_one_line_a_row() -> None:
    lines = text_table(["a\nb", "c"], [["x\ty", "1\x07"]])
    assert lines == ["a b      c", r"x y  1\x07"]
