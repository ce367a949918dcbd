"""``relspace transform``: files of any size into a saved space, on disk."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import relspace as rs
from relspace.cli import commands
from relspace.cli.options import parse_bytes
from relspace.features import scan

X = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)


@pytest.fixture
def space(tmp_path: Path) -> Path:
    return rs.align({"a": X, "b": -X}, landmarks=20).save(tmp_path / "space.safetensors")


def _run(*arguments: object) -> object:
    return CliRunner().invoke(commands, ["transform", *map(str, arguments)])


def test_shards_become_one_store(space: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", X[:90])
    np.savez(tmp_path / "2.npz", features=X[90:])
    sources = [tmp_path / "1.npy", f"{tmp_path / '2.npz'}::features"]
    out = tmp_path / "out.zarr"
    ran = _run(space, "a", *sources, "-o", out, "--memory-budget", "1MiB", "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["n_items"] == 200
    expected = rs.load_space(space).transform("a", X)
    np.testing.assert_allclose(scan(out).read(0, 200), expected, atol=1e-6)
    again = _run(space, "a", *sources, "-o", out)
    assert again.exit_code == 0
    assert "200 rows over 20 landmarks" in again.stdout


def test_errors_are_one_line(space: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    for arguments, message in (
        ((space, "c", tmp_path / "x.npy", "-o", tmp_path / "o.zarr"), "no set is called 'c'"),
        ((space, "a", tmp_path / "y.npy", "-o", tmp_path / "o.zarr"), "there is no file"),
        ((space, "a", tmp_path / "x.npy", "-o", tmp_path / "o.csv"), "must end in .zarr or .npy"),
    ):
        ran = _run(*arguments)
        assert ran.exit_code == 2
        assert message in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1000", 1000), ("2GiB", 2**31), ("1.5 MB", 3 * 2**19), ("8k", 2**13), (None, None)],
)
def test_numbers_of_bytes_are_read(text: str | None, expected: int | None) -> None:
    assert parse_bytes(None, None, text) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "GiB", "-1", "0", "2 XB"])
def test_what_is_no_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="must be a number of bytes"):
        parse_bytes(None, None, text)  # type: ignore[arg-type]


def test_neither_the_space_nor_features_are_overwritten(space: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    zarr.save(str(tmp_path / "x.zarr"), X)
    inside = tmp_path / "holds.zarr"
    inside.mkdir()
    (inside / "space.safetensors").write_bytes(space.read_bytes())
    for saved, features, out in (
        (space, "x.npy", "x.npy"),
        (space, "x.zarr", "x.zarr/out.zarr"),
        (inside / "space.safetensors", "x.npy", "holds.zarr"),
    ):
        ran = _run(saved, "a", tmp_path / features, "-o", tmp_path / out, "--force")
        assert ran.exit_code == 2
        assert "one of the inputs" in ran.stderr.splitlines()[-1]
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), X)
