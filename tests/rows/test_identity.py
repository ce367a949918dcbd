"""Identity: the same data has one, other data another, and what can't be identified has none."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array
import h5py
import numpy as np
import pytest
import torch
import zarr
from safetensors.numpy import save_file

import relspace as rs
from relspace.errors import FileFormatError, InvalidTypeError
from relspace.features import FeatureSet, scan
from relspace.rows import identity
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.identity import (
    Identity,
    combine,
    hash_array,
    hash_ids,
    hash_rows,
    hash_texts,
    identify,
    identify_file,
    identify_url,
    what_changed,
)
from relspace.rows.source import GeneratedRows

N, D = 300, 8
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
#: The rows that first, middle and last ones, or every 64th, don't meet.
REPAIRED = X.copy()
REPAIRED[101:140] = 0


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks, so that they are joined and hashed in threads."""
    monkeypatch.setattr(identity, "_BLOCK_BYTES", 1000)


def test_an_array_is_hashed_whole_however_it_lies_in_memory() -> None:
    expected = hash_array(X)
    wide = np.zeros((N, 2 * D), np.float32)
    wide[:, ::2] = X
    for same in (
        np.asfortranarray(X),
        wide[:, ::2],
        X[::-1].copy()[::-1],
        X.astype(">f4"),
        torch.from_numpy(X),
        torch.from_numpy(X.T.copy()).T,
        torch.from_numpy(X).requires_grad_(),
    ):
        assert hash_array(same).same_as(expected)
    assert hash_rows(ArrayRows(X)).same_as(expected)
    for row in range(0, N, 7):
        other = X.copy()
        other[row, row % D] += 1e-6
        assert what_changed(expected, hash_array(other)) == ["values"]
    assert what_changed(expected, hash_array(X[:-1])) == ["shape"]
    assert what_changed(expected, hash_array(X.astype(np.float16))) == ["dtype"]
    assert not hash_array(X.reshape(D, N)).same_as(expected)


def test_the_hash_is_the_same_for_all_numbers_of_threads_and_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = set()
    for n_threads in (1, 2, 5):
        monkeypatch.setattr(identity, "_n_threads", lambda n=n_threads: n)
        for chunk_rows in (1, 7, 31, 299, 1000):
            rows = ArrayRows(X)
            rows.chunk_rows = chunk_rows  # type: ignore[attr-defined]
            found.add(hash_rows(rows).digest)
    assert len(found) == 1


@pytest.mark.parametrize(
    "array",
    [
        np.float32(1.5).reshape(()),
        np.zeros((0, 4)),
        np.array(["a", "b"]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.ma.masked_array([1.0, 2.0], mask=[True, False]),
        torch.zeros(3, dtype=torch.bfloat16),
        torch.zeros(2, dtype=torch.bool),
        torch.zeros(2, dtype=torch.complex64).conj(),
    ],
)
def test_arrays_of_every_kind_have_an_identity_of_their_own(array: Any) -> None:
    assert hash_array(array).same_as(hash_array(array))
    assert not hash_array(array).same_as(hash_array(np.ones((2, 2))))


def test_the_mask_of_a_masked_array_counts() -> None:
    values = np.array([1.0, 2.0])
    masks = ([True, False], [False, True])
    one, two = (hash_array(np.ma.masked_array(values, mask=mask)) for mask in masks)
    assert not one.same_as(two)


@pytest.mark.parametrize("array", [np.array([object()]), torch.zeros(2, 2).to_sparse()])
def test_what_has_no_bytes_is_refused(array: Any) -> None:
    with pytest.raises(InvalidTypeError, match="can't be hashed"):
        hash_array(array)


def test_texts_and_ids_are_told_apart() -> None:
    assert not hash_texts(["ab", "c"]).same_as(hash_texts(["a", "bc"]))
    assert not hash_texts(["a", "b"]).same_as(hash_texts(["b", "a"]))
    assert hash_texts(["a\udc80"]).is_known
    assert hash_ids((1, 2)) != hash_ids(("1", "2"))
    assert hash_ids(("1", "2")) != hash_ids(("2", "1"))
    assert hash_ids(None) == ""


def test_a_file_is_its_content_whatever_its_time(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"a" * 5000)
    before = identify_file(path)
    os.utime(path, ns=(1, 1))
    assert identify_file(path).same_as(before)
    copy = tmp_path / "copy.bin"
    copy.write_bytes(path.read_bytes())
    assert identify_file(copy).same_as(before)
    with path.open("r+b") as file:
        file.seek(2500)
        file.write(b"b")
    os.utime(path, ns=(1, 1))
    assert what_changed(before, identify_file(path)) == ["values"]
    path.write_bytes(b"a" * 5001)
    assert what_changed(before, identify_file(path)) == ["size"]


def test_of_a_large_file_size_time_name_and_parts_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "WHOLE_FILE_BYTES", 10_000)
    monkeypatch.setattr(identity, "_BYTES_OF_A_PART", 50)
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(20_000))
    os.utime(path, ns=(5, 5))
    before = identify_file(path)
    assert identify_file(path).same_as(before)
    os.utime(path, ns=(5, 6))
    assert what_changed(before, identify_file(path)) == ["modification time"]
    for at in (0, 19_999):
        content = bytearray(20_000)
        content[at] = 1
        path.write_bytes(content)
        os.utime(path, ns=(5, 5))
        assert what_changed(before, identify_file(path)) == ["values"]
    path.write_bytes(bytes(20_000))
    os.utime(path, ns=(5, 5))
    assert identify_file(path).same_as(before)
    assert not identify_file(path.rename(tmp_path / "b.bin")).same_as(before)


def test_a_file_that_is_being_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(5000))
    hashed = identity._hash_bytes

    def writes_meanwhile(blocks: Any, about: Any) -> str:
        with path.open("ab") as file:
            file.write(b"more")
        return hashed(blocks, about)

    monkeypatch.setattr(identity, "_hash_bytes", writes_meanwhile)
    with pytest.raises(FileFormatError, match="is being written"):
        identify_file(path)


def test_files_in_another_order_are_others(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text(path.name)

    def together(paths: list[Path]) -> identity.Identity:
        return combine([identify_file(path) for path in paths])

    before = together(paths)
    assert together(paths).same_as(before)
    assert what_changed(before, together(paths[::-1])) == ["part 0, 1"]
    paths[1].write_text("c")
    assert what_changed(before, together(paths)) == ["part 1"]
    assert what_changed(before, together(paths[:1])) == ["number of parts (2 before, 1 now)"]


def _npy(folder: Path, values: np.ndarray) -> object:
    np.save(folder / "a.npy", values)
    return folder / "a.npy"


def _hdf5(folder: Path, values: np.ndarray) -> object:
    with h5py.File(folder / "a.h5", "w") as file:
        file["features"] = values
    return folder / "a.h5"


def _virtual(folder: Path, values: np.ndarray) -> object:
    _hdf5(folder, values)
    layout = h5py.VirtualLayout(shape=values.shape, dtype=values.dtype)
    layout[...] = h5py.VirtualSource(folder / "a.h5", "features", shape=values.shape)
    with h5py.File(folder / "v.h5", "w") as file:
        file.create_virtual_dataset("features", layout)
    return folder / "v.h5"


def _zarr(folder: Path, values: np.ndarray, url: str | None = None) -> str:
    group = zarr.open_group(url or str(folder / "a.zarr"), mode="w")
    group.create_array("features", data=values, chunks=(50, D))
    return url or str(folder / "a.zarr")


def _safetensors(folder: Path, values: np.ndarray) -> object:
    save_file({"features": values}, folder / "a.safetensors")
    return folder / "a.safetensors"


def _shards(folder: Path, values: np.ndarray) -> object:
    return [_npy(folder, values[:60]), values[60:]]


SOURCES: dict[str, Callable[[Path, np.ndarray], object]] = {
    "array": lambda folder, values: values,
    "tensor": lambda folder, values: torch.from_numpy(values),
    "npy file": _npy,
    "memory map": lambda folder, values: np.load(_npy(folder, values), mmap_mode="r"),
    "HDF5 file": _hdf5,
    "HDF5 dataset": lambda folder, values: h5py.File(_hdf5(folder, values))["features"],
    "virtual HDF5 dataset": _virtual,
    "Zarr folder": _zarr,
    "open Zarr array": lambda folder, values: zarr.open(_zarr(folder, values))["features"],
    "Zarr in memory": lambda folder, values: zarr.array(values),
    "Zarr at a URL": lambda folder, values: _zarr(folder, values, f"memory://{folder.name}/a.zarr"),
    "safetensors": _safetensors,
    "shards": _shards,
    "layer of a feature set": lambda folder, values: FeatureSet.from_arrays({"a": values})["a"],
}


@pytest.mark.parametrize("kind", list(SOURCES))
def test_rows_that_were_repaired_in_the_middle_are_other_rows(kind: str, tmp_path: Path) -> None:
    make = SOURCES[kind]
    before = identify(scan(make(tmp_path, X)))
    assert before.is_known
    assert identify(scan(make(tmp_path, X))).same_as(before)
    now = identify(scan(make(tmp_path, REPAIRED)))
    assert not now.same_as(before)
    assert what_changed(before, now)


def test_another_array_of_the_same_file_is_other_rows(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"], file["b"] = X, X
    found = [identify(scan(tmp_path / "a.h5", key=key)) for key in "ab"]
    assert what_changed(*found) == ["entry"]


def test_what_code_makes_is_never_the_same() -> None:
    made = scan(GeneratedRows((N, D), lambda start, stop: X[start:stop]))
    lazy = scan(dask.array.from_array(X))
    mapped = FeatureSet.from_arrays({"a": X})["a"].mapped(D, torch.exp)
    shards = scan([X, lazy])
    for source in (made, lazy, mapped, shards):
        found = identify(source)
        assert not found.is_known
        assert not found.same_as(found)
        assert re.search(
            "can't be identified: .*(made by code|computed)", what_changed(found, found)[0]
        )
    assert not combine([hash_array(X), identify(made)]).is_known


def test_objects_at_a_url_are_known_by_their_etags(s3: str, tmp_path: Path) -> None:
    url = _zarr(tmp_path, X, f"{s3}/{tmp_path.name}/a.zarr")
    before = identify_url(url)
    assert before.detail["hashed"] == "version"
    assert identify_url(url).same_as(before)
    _zarr(tmp_path, REPAIRED, url)
    assert not identify_url(url).same_as(before)


def test_what_is_large_and_has_no_etag_at_a_url_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = _zarr(tmp_path, X, f"memory://{tmp_path.name}/b.zarr")
    assert identify_url(url).is_known
    monkeypatch.setattr(identity, "WHOLE_OBJECT_BYTES", 100)
    assert "neither etags" in str(identify_url(url).detail["reason"])
    assert not identify_url(f"memory://{tmp_path.name}/none").is_known


def test_a_record_is_read_back_and_a_strange_one_is_unknown() -> None:
    for found in (hash_array(X), Identity.unidentified("it is new")):
        assert Identity.of(found.record()) == found
    for record in (None, {}, {"kind": "content", "digest": "", "detail": {}}, {"kind": "magic"}):
        assert not Identity.of(record).is_known


def test_relative_features_that_are_made_as_they_are_read_are_known_by_what_makes_them(
    tmp_path: Path,
) -> None:
    def rows(values: np.ndarray, density: float = 0.2) -> Any:
        np.save(tmp_path / "a.npy", values)
        space = rs.align({"a": scan(tmp_path / "a.npy")}, landmarks=20, density=density)
        return space.rows("a")

    before = identify(rows(X))
    assert before.is_known
    assert identify(rows(X)).same_as(before)
    assert not identify(rows(X, density=0.3)).same_as(before)
    assert not identify(rows(REPAIRED)).same_as(before)
