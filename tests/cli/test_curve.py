"""``relspace curve``: table, JSON, figure, groups of both sets, and errors in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import relspace as rs
from relspace.cli import commands

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a folder with two related sets, and captions of the items of one."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    np.save("a.npy", X)
    np.save("b.npy", X @ rng.normal(size=(4, 6)))
    np.save("captions.npy", np.repeat(X, 2, axis=0) + 0.1 * rng.normal(size=(160, 4)))
    Path("images.txt").write_text("\n".join(map(str, range(80))))
    Path("captions.txt").write_text("\n".join(str(i // 2) for i in range(160)))

    def invoke(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(commands, ["curve", *map(str, arguments)], prog_name="relspace")
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_prints_the_table_and_writes_figure_and_csv(run: Run) -> None:
    given = ("a.npy", "b.npy", "--sizes", "40,80", "--draws", 2, "--permutations", 19)
    lines = run(*given, "-o", "curve.png").stdout.splitlines()
    expected = rs.similarity_curve(
        np.load("a.npy"), np.load("b.npy"), sizes=[40, 80], n_draws=2, n_permutations=19
    )
    assert lines == [*repr(expected).splitlines(), "Written to curve.png"]
    assert Image.open("curve.png").width > 400
    run(*given, "-o", "curve.csv")
    expected.to_csv("expected.csv")
    assert Path("curve.csv").read_text() == Path("expected.csv").read_text()
    assert "curve.csv" in run(*given, "-o", "curve.csv", code=2).stderr


def test_groups_are_of_each_set(run: Run) -> None:
    found = json.loads(
        run(
            *("a.npy", "text=captions.npy", "--groups", "a=images.txt", "--groups"),
            *("text=captions.txt", "--sizes", "40,80", "--draws", 2, "--k", 5, "--json"),
        ).stdout
    )
    assert found["sizes_of"] == "groups"
    assert found["parameters"]["k"] == 5
    assert found["curve"]["value"][1] > 0.5
    assert found["files"]["text"]["path"] == "captions.npy"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--sizes", "a,b"), "no list of whole numbers"),
        (("--sizes", "40,90"), "a gallery of 90"),
        (("--groups", "a=images.txt"), "name both"),
        ((), "--sizes"),
        (("--measure", "cka", "--k", "3", "--sizes", "40,80"), "k"),
    ],
)
def test_errors_are_one_line(run: Run, given: tuple[str, ...], said: str) -> None:
    result = run("a.npy", "b.npy", *given, code=2)
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
