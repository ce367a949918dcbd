"""What one tries after ``relspace align a.npy b.npy``: next steps work from files as they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import relspace as rs
from relspace.cli import commands

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 8))
Y = X @ RNG.normal(size=(8, 12))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", X)
    np.save("b.npy", Y)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments, prog_name="relspace")


def done(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def aligned() -> rs.ItemSpace:
    done("align", "a.npy", "b.npy", "-o", "space.safetensors")
    space = rs.load_space("space.safetensors")
    assert isinstance(space, rs.ItemSpace)
    return space


def test_two_files_become_a_page_of_their_space() -> None:
    done("report", "a.npy", "b.npy", "-o", "page.html", "--permutations", "9")
    html = Path("page.html").read_text()
    assert "a and b in one space" in html
    assert 'class="layer-table"' not in html


def test_files_of_the_same_items_in_another_order_become_a_page_by_their_ids() -> None:
    ids = [f"image {i}" for i in range(60)]
    Path("a.txt").write_text("\n".join(ids))
    Path("b.txt").write_text("\n".join(ids[::-1]))
    np.save("b.npy", Y[::-1])
    options = ("--ids", "a=a.txt", "--ids", "b=b.txt", "--permutations", "9")
    done("report", "a.npy", "b.npy", "-o", "page.html", *options)
    space = rs.align({"a": X, "b": Y[::-1]}, ids={"a": ids, "b": ids[::-1]})
    assert f"{space.match('a', 'b').accuracy:.3f}" in Path("page.html").read_text()


def test_the_sets_of_a_space_are_embedded() -> None:
    space = aligned()
    done("embed", "space.safetensors", "-o", "embedded", "--components", "4")
    cut = rs.NormalizedCut(4).fit(space)
    for name in space:
        written = rs.features.scan(f"embedded/{name}.zarr").read(0, 60)
        np.testing.assert_allclose(np.abs(written), np.abs(cut[name]), atol=2e-4)


def test_a_file_of_one_matrix_is_a_model_of_one_layer() -> None:
    found = json.loads(done("layers", "a.npy", "b.npy", "--json"))
    assert found["layers"] == {"a": ["a"], "b": ["b"]}
    assert found["values"][0][0] == pytest.approx(rs.compare(X, Y, n_permutations=0).value)


def test_a_space_becomes_a_figure() -> None:
    aligned()
    assert done("plot", "space.safetensors", "-o", "space.png") == "Written to space.png\n"
    assert Path("space.png").read_bytes().startswith(b"\x89PNG")


def test_matches_become_a_table() -> None:
    space = aligned()
    said = done("match", "space.safetensors", "a", "b", "-o", "m.csv", "--neighbors", "2", "--json")
    match = space.match("a", "b", 2)
    assert json.loads(said) == match.to_dict() | {"from": "a", "to": "b", "output": "m.csv"}
    with Path("m.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["item"], row["rank"]) for row in rows[:3]] == [("0", "1"), ("0", "2"), ("1", "1")]
    assert [int(row["nearest"]) for row in rows] == match.indices.ravel().tolist()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("match", "space.safetensors", "a", "c", "-o", "m.csv"), "no set is called 'c'"),
        (("match", "space.safetensors", "a", "b", "-o", "m.txt"), "ends in .csv"),
        (("match", "a.npy", "a", "b", "-o", "m.csv"), "a.npy can't be read"),
        (("plot", "a.npy", "-o", "space.png"), "a.npy can't be read"),
        (("plot", "space.safetensors", "-o", "space.txt"), "ends in .png"),
        (("report", "a.npy", "-o", "page.html"), "a.npy can't be read"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_line(arguments: tuple[str, ...], said: str) -> None:
    aligned()
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len([one for one in result.stderr.splitlines() if "error" in one]) == 1
