"""``relspace translate``: files of one model into features of another, with a score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import relspace as rs
from relspace.cli import commands
from relspace.features import scan

random = np.random.default_rng(0)
X = random.normal(size=(200, 6)).astype(np.float32)
Y = (X @ random.normal(size=(6, 9)) + 4).astype(np.float32)


@pytest.fixture
def space(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    return rs.align({"old": X[:100], "new": Y[:100]}).save(tmp_path / "space.safetensors")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["translate", *map(str, arguments)])


def test_rows_are_translated_and_the_score_is_said(space: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    ran = run(space, "old", "new", tmp_path / "x.npy", "-o", out)
    assert ran.exit_code == 0, ran.output
    np.testing.assert_allclose(np.load(out), Y, atol=1e-2)
    assert "200 rows of 9 features saved" in ran.stdout
    assert "on 100 landmarks held out in turn: recall of the 10 nearest" in ran.stdout


def test_a_way_can_be_asked_for(space: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    ran = run(
        *(space, "old", "new", tmp_path / "x.npy", "-o", out),
        *("--method", "local", "--dtype", "float64", "--json"),
    )
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["score"]["method"] == "local"
    assert scan(out).shape == (200, 9)
    assert scan(out).dtype.itemsize == 8


def test_errors_name_what_is_wrong(space: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", Y)
    for arguments, said in (
        (("older", "new", tmp_path / "x.npy"), "no set is called 'older'"),
        (("old", "newer", tmp_path / "x.npy"), "no set is called 'newer'"),
        (("old", "new", tmp_path / "y.npy"), "X has 9 features; this translator takes 6"),
    ):
        ran = run(space, *arguments, "-o", tmp_path / "out.npy")
        assert ran.exit_code == 2
        assert said in ran.stderr.splitlines()[-1]
        assert not (tmp_path / "out.npy").exists()
