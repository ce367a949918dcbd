"""Damaged files: whatever their bytes are, they are read rightly or refused by their name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from safetensors.torch import save_file

from relspace.errors import RelspaceError
from relspace.features import read, read_layers, scan, scan_layers

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
IDS = [f"photo {i}" for i in range(12)]
SUFFIXES = (
    *(".npy", ".npz", ".pt", ".safetensors", ".h5", ".zarr"),
    *(".csv", ".tsv", ".parquet", ".arrow", ".feather", ".jsonl"),
)
ALIKE = ({".csv", ".tsv"}, {".arrow", ".feather"})
_WITH_LAYERS = (".npz", ".pt", ".safetensors", ".h5", ".arrow", ".jsonl")


def write(path: Path) -> Path:
    """Write a sound file, or the part of one that is to be damaged; return what is damaged."""
    match path.suffix:
        case ".npy":
            np.save(path, X)
        case ".npz":
            np.savez(path, x=X, ids=IDS)
        case ".pt":
            torch.save({"x": torch.from_numpy(X), "ids": IDS}, path)
        case ".safetensors":
            save_file({"x": torch.from_numpy(X)}, path)
        case ".h5":
            with h5py.File(path, "w") as file:
                file.create_dataset("x", data=X, chunks=(6, 4), compression="gzip")
                file["ids"] = IDS
        case ".parquet":
            columns = {"id": IDS} | {f"f{i}": X[:, i] for i in range(4)}
            pq.write_table(pa.table(columns), path)
        case ".arrow":
            table = pa.table({"id": IDS, "x": pa.array(X.tolist(), pa.list_(pa.float32()))})
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table, max_chunksize=5)
        case ".feather":
            columns = {"id": IDS} | {f"f{i}": X[:, i] for i in range(4)}
            feather.write_feather(pa.table(columns), path)
        case ".jsonl":
            lines = [
                json.dumps({"id": one, "x": row}) for one, row in zip(IDS, X.tolist(), strict=True)
            ]
            path.write_text("\n".join(lines) + "\n")
        case ".csv" | ".tsv":
            mark = "," if path.suffix == ".csv" else "\t"
            rows = [mark.join([name, *map(str, row)]) for name, row in zip(IDS, X, strict=True)]
            path.write_text("\n".join([mark.join("iabcd").replace("i", "id"), *rows]) + "\n")
        case ".zarr":
            zarr.create_array(path, data=X, chunks=(6, 4))
        case _:
            raise AssertionError(path.suffix)
    return path


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """The bytes of a file with a piece cut off, bytes changed, taken out, or put in."""
    at = int(random.integers(len(content)))
    match int(random.integers(5)):
        case 0:
            return content[:at]
        case 1:
            flipped = bytearray(content)
            for place in random.integers(len(content), size=int(random.integers(1, 5))):
                flipped[place] ^= int(random.integers(1, 256))
            return bytes(flipped)
        case 2:
            return content[:at] + content[at + int(random.integers(1, 64)) :]
        case 3:
            return content[:at] + random.bytes(int(random.integers(1, 64))) + content[at:]
        case _:
            # Lengths and offsets stand at the beginning and at the end.
            flipped = bytearray(content)
            start = int(random.choice([0, max(0, len(content) - 64)]))
            flipped[start + int(random.integers(min(64, len(content))))] = 0xFF
            return bytes(flipped)


def read_or_refuse(read: Callable[[], object], path: Path) -> bool:
    """Whether a file is read; errors are of this library or of the system, and name it."""
    said = None
    try:
        read()
    except (RelspaceError, OSError) as error:
        said = f"{type(error).__name__}: {error}"
    assert said is None or path.name in said
    return said is None


def damage_and_read(tmp_path: Path, suffix: str, n_times: int) -> int:
    random = np.random.default_rng(n_times)
    path = write(tmp_path / f"damaged{suffix}")
    parts = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    contents = {part: part.read_bytes() for part in parts}
    n_read = 0
    for _ in range(n_times):
        part = parts[int(random.integers(len(parts)))]
        part.unlink()
        part.write_bytes(damaged(contents[part], random))
        n_read += read_or_refuse(lambda: np.asarray(read(path).features), path)
        read_or_refuse(lambda: (rows := scan(path)).read(0, rows.shape[0]), path)
        if suffix in _WITH_LAYERS:
            read_or_refuse(lambda: read_layers(path), path)
            read_or_refuse(lambda: scan_layers(path), path)
        part.unlink()
        part.write_bytes(contents[part])
    # The sound file is read, so that what was refused was refused for its damage.
    assert np.asarray(read(path).features) == pytest.approx(X)
    return n_read


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_read_or_refused_by_name(tmp_path: Path, suffix: str) -> None:
    assert damage_and_read(tmp_path, suffix, 12) < 12


@pytest.mark.release
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_damaged_files_are_read_or_refused_by_name(tmp_path: Path, suffix: str) -> None:
    assert damage_and_read(tmp_path, suffix, 200) < 200


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_another_format_is_refused(tmp_path: Path, suffix: str) -> None:
    for other in SUFFIXES:
        if other == suffix or ".zarr" in (suffix, other) or {suffix, other} in ALIKE:
            continue
        path = tmp_path / f"wrong{suffix}"
        shutil.copyfile(write(tmp_path / f"right{other}"), path)
        assert not read_or_refuse(lambda path=path: read(path), path), other
