"""``relspace report``: pages from saved spaces and from feature stores, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import relspace
from relspace.cli import commands


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    relspace.align({"left": X, "right": X.flip(1)}).save("space.safetensors")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["report", *arguments], prog_name="relspace")


def test_a_saved_space_becomes_one_page(folder: Path) -> None:
    result = run(
        "space.safetensors", "-o", "page.html", "--title", "A title", "--permutations", "9"
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == "Report: page.html (0.1 MB)\n"
    html = (folder / "page.html").read_text()
    assert "<h1>A title</h1>" in html
    assert "How alike left and right are" in html


def test_a_page_is_overwritten_only_by_force(folder: Path) -> None:
    (folder / "page.html").write_text("mine")
    result = run("space.safetensors", "-o", "page.html")
    assert result.exit_code == 2
    assert "overwrite it with --force" in result.stderr
    assert (folder / "page.html").read_text() == "mine"
    assert run("space.safetensors", "-o", "page.html", "--force").exit_code == 0
    assert (folder / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["space.safetensors", "-o", "page.pdf"], "saved as .html"),
        (["nowhere.safetensors"], "there is no file nowhere.safetensors"),
        (["space.safetensors", "--images", "nowhere"], "there is no folder or file nowhere"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_line(
    folder: Path, arguments: list[str], message: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert not (folder / "report.html").exists()
