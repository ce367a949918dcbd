"""``relspace embed``: rows of one space, their embedding and their colours on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import relspace as rs
from relspace.cli import commands
from relspace.features import scan

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(5, 10))[RNG.integers(5, size=400)] * 2 + RNG.normal(size=(400, 10))).astype(
    np.float32
)


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["embed", *map(str, arguments)])


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "b.npz", rows=X[:150] + 1)
    return f"sam={tmp_path / 'a.npy'}", f"dino={tmp_path / 'b.npz'}::rows"


def test_sets_are_embedded_and_colored_into_a_folder(
    files: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "pictures"
    ran = _run(*files, "-o", out, "--components", 4, "--landmarks", 120, "--json")
    assert ran.exit_code == 0, ran.output
    done = json.loads(ran.stdout)
    assert done["sets"] == {"sam": 400, "dino": 150}
    cut = rs.NormalizedCut(4, n_landmarks=120).fit({"sam": X, "dino": X[:150] + 1})
    coloring = rs.Coloring().fit(cut)
    assert done["eigenvalues"] == pytest.approx(cut.eigenvalues_.tolist(), abs=1e-5)
    for name in ("sam", "dino"):
        rows, colors = (scan(out / f"{name}{end}.zarr") for end in ("", "-colors"))
        expected = torch.from_numpy(cut[name])
        torch.testing.assert_close(rows.read(0, 400), expected, atol=1e-5, rtol=1e-4)
        expected = torch.as_tensor(coloring.colors_[name])
        torch.testing.assert_close(colors.read(0, 400), expected, atol=1e-3, rtol=0)
    loaded = rs.NormalizedCut.load(out / "cut.safetensors")
    again = rs.Coloring.load(out / "colors.safetensors")
    rgb = again.transform(loaded.transform("sam", X))
    np.testing.assert_allclose(rgb, coloring.colors_["sam"], atol=1e-3)


def test_the_same_command_goes_on_and_another_is_refused(
    files: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "pictures"
    first = _run(files[0], "-o", out, "--components", 3)
    assert first.exit_code == 0, first.output
    assert "400 rows of sam in 3 components" in first.stdout
    assert _run(files[0], "-o", out, "--components", 3).exit_code == 0
    other = _run(files[0], "-o", out, "--components", 4)
    assert other.exit_code == 2
    assert "another job" in other.stderr
    assert _run(files[0], "-o", out, "--components", 4, "--force").exit_code == 0
    assert scan(out / "sam.zarr").shape == (400, 4)


def test_errors_are_one_line(files: tuple[str, str], tmp_path: Path) -> None:
    for arguments, message in (
        ((tmp_path / "none.npy",), "there is no file"),
        ((files[0], f"sam-colors={tmp_path / 'a.npy'}"), "would have one name"),
        ((files[0], files[0]), "2 sets are called 'sam'"),
    ):
        ran = _run(*arguments, "-o", tmp_path / "o")
        assert ran.exit_code == 2
        assert message in ran.stderr.splitlines()[-1]


def test_align_does_not_save_what_is_beyond_the_budget(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", -X)
    space = tmp_path / "space.safetensors"
    ran = CliRunner().invoke(
        commands,
        f"align {tmp_path}/a.npy {tmp_path}/b.npy -o {space} --landmarks 50 --memory-budget 1KiB",
    )
    assert ran.exit_code == 0, ran.output
    assert space.stat().st_size < 400 * 50 * 4
    held = rs.align({"a": X, "b": -X}, landmarks=50)
    np.testing.assert_allclose(
        rs.load_space(space).transform("a", X), held.transform("a", X), atol=1e-6
    )


def test_no_input_is_overwritten(files: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    assert _run(*files, "-o", out, "--components", 3, "--landmarks", 60).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for sources in (
        (f"a={out / 'sam.zarr'}", f"sam={out / 'dino.zarr'}"),
        (f"sam={out / 'sam-colors.zarr'}",),
        (f"sam={out / 'sam.zarr'}",),
        (f"x={out / 'cut.safetensors'}::vectors",),
    ):
        ran = _run(*sources, "-o", out, "--force")
        assert ran.exit_code == 2, ran.output
        assert "one of the inputs" in ran.stderr.splitlines()[-1]
    assert {path: path.read_bytes() for path in before} == before


def test_a_folder_that_cannot_be_written_is_named_before_any_work(files: tuple[str, str]) -> None:
    ran = _run(*files, "-o", "/proc/pictures")
    assert ran.exit_code == 2
    assert "/proc/pictures/cut.safetensors" in ran.stderr.splitlines()[-1]
    assert "unfinished" not in ran.stderr
