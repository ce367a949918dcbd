"""The command that aligns, of files that it reads in parts and of stores at URLs."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from click.testing import CliRunner, Result
from safetensors.torch import save_file

import relspace as rs
from relspace.cli import commands
from relspace.rows.formats._format import Entry

N, D = 400, 12
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
Y = (X @ np.random.default_rng(1).normal(size=(D, 20))).astype(np.float32)
IDS = [f"item {i}" for i in range(N)]


def run(*arguments: object, code: int = 0) -> Result:
    ran = CliRunner().invoke(commands, ["align", *map(str, arguments)])
    assert ran.exit_code == code, ran.output
    return ran


def write(folder: Path, kind: str, rows: np.ndarray, ids: list[str]) -> Path | str:
    path = folder / f"y.{kind}"
    if kind == "h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("features", data=rows, chunks=(64, 5), compression="gzip")
            file.create_dataset("ids", data=ids)
    elif kind == "parquet":
        table = pd.DataFrame(rows, columns=[f"f{i}" for i in range(rows.shape[1])])
        table.insert(0, "photo", ids)
        table.to_parquet(path, row_group_size=90)
    elif kind == "safetensors":
        save_file({"features": torch.from_numpy(rows)}, path, metadata={"ids": _listed(ids)})
    else:
        place = f"memory://{folder.name}/y.zarr" if kind == "url" else str(folder / "y.zarr")
        group = zarr.create_group(place)
        group.create_array("rows", data=rows, chunks=(50, rows.shape[1]))
        group.create_array("ids", shape=(len(ids),), dtype=str)[...] = np.array(ids, dtype=object)
        return place
    return path


def _listed(ids: list[str]) -> str:
    return "[" + ", ".join(f'"{one}"' for one in ids) + "]"


@pytest.mark.parametrize("budget", [None, "10KiB"])
@pytest.mark.parametrize("kind", ["h5", "parquet", "safetensors", "zarr", "url"])
def test_what_is_read_in_parts_is_never_loaded(
    kind: str, budget: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = np.random.default_rng(2).permutation(N)
    np.savez(tmp_path / "x.npz", features=X, ids=IDS)
    place = write(tmp_path, kind, Y[order], [IDS[i] for i in order])
    loaded: list[tuple[int, ...]] = []
    load = Entry.__init__

    def noting(self: Entry, shape: tuple[int, ...], *given: object, **named: object) -> None:
        load(self, shape, *given, **named)  # type: ignore[arg-type]
        if shape == Y.shape:
            object.__setattr__(self, "load", lambda: loaded.append(shape))

    monkeypatch.setattr(Entry, "__init__", noting)
    options = ["--landmarks", "60", "-o", tmp_path / "s.safetensors"]
    options += ["--id-column", "photo"] if kind == "parquet" else []
    options += [] if budget is None else ["--memory-budget", budget]
    said = run(f"x={tmp_path / 'x.npz'}", f"y={place}", *options).stdout
    assert loaded == []
    assert "400 items matched by id" in said
    space = rs.load_space(tmp_path / "s.safetensors")
    expected = rs.align({"x": X, "y": Y}, landmarks=60)
    new = Y[:50] + 1
    found, wanted = (np.asarray(one.transform("y", new)) for one in (space, expected))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    if budget is None:
        np.testing.assert_allclose(np.asarray(space["y"]), expected["y"], atol=1e-4)
        # Arrays give arrays, and tensors tensors, as when the whole file is read.
        assert isinstance(space["y"], np.ndarray) == (kind != "safetensors")


def test_ids_may_be_an_entry_of_a_store(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", features=X, ids=IDS)
    place = write(tmp_path, "zarr", Y, IDS)
    out = ["-o", tmp_path / "s.safetensors"]
    ran = run(tmp_path / "x.npz", place, *out, "--ids", "y=ids")
    assert "400 items matched by ids" in ran.stdout
    ran = run(tmp_path / "x.npz", place, *out, "--force", "--ids", "y=names", code=2)
    assert "neither a text file nor an entry" in ran.stderr
    ran = run(tmp_path / "x.npz", f"{place}::nothing", *out, "--force", code=2)
    assert "nothing" in ran.stderr
