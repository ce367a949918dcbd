"""The contract of a source of rows, which every kind of source passes."""

from __future__ import annotations

import json
import pickle
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

from relspace import Aligner
from relspace.errors import FileFormatError, MemoryBudgetError
from relspace.features import FeatureSet, scan
from relspace.rows.formats.shards import ShardedRows
from relspace.rows.identity import hash_rows
from relspace.rows.output import Output
from relspace.rows.source import GeneratedRows, RowSource

N, D = 103, 6
VALUES = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
IDS = tuple(f"item {i}" for i in range(N))


def _npy(folder: Path) -> object:
    np.save(folder / "a.npy", VALUES)
    return folder / "a.npy"


def _memory_map(folder: Path) -> object:
    return np.load(_npy(folder), mmap_mode="r")


def _hdf5(folder: Path) -> object:
    with h5py.File(folder / "a.h5", "w") as file:
        file["features"] = VALUES
        file["ids"] = list(IDS)
    return folder / "a.h5"


def _hdf5_dataset(folder: Path) -> object:
    return h5py.File(_hdf5(folder))["features"]


def _zarr_array(folder: Path) -> object:
    zarr.save(str(folder / "a.zarr"), VALUES)
    return folder / "a.zarr"


def _zarr_group(folder: Path) -> object:
    group = zarr.create_group(str(folder / "g.zarr"))
    group.create_array("features", data=VALUES, chunks=(10, D))
    ids = group.create_array("ids", shape=(N,), dtype=str)
    ids[...] = np.array(IDS, dtype=object)
    return str(folder / "g.zarr")


def _zarr_url(folder: Path) -> object:
    url = f"memory://{folder.name}/a.zarr"
    zarr.create_group(url).create_array("features", data=VALUES, chunks=(10, D))
    return url


def _safetensors(folder: Path) -> object:
    save_file({"features": torch.from_numpy(VALUES)}, folder / "a.safetensors")
    return folder / "a.safetensors"


def _parquet(folder: Path, row_group_size: int | None = None) -> object:
    columns = {"id": list(IDS), **{f"x{i}": VALUES[:, i] for i in range(D)}}
    pq.write_table(pa.table(columns), folder / "a.parquet", row_group_size=row_group_size)
    return folder / "a.parquet"


def _vectors() -> pa.Table:
    values = pa.FixedSizeListArray.from_arrays(pa.array(VALUES.ravel()), D)
    return pa.table({"text": ["..."] * N, "id": list(IDS), "vector": values})


def _parquet_of_vectors(folder: Path) -> object:
    lists = _vectors()["vector"].cast(pa.list_(pa.float32()))
    table = _vectors().set_column(2, "vector", lists)
    pq.write_table(table, folder / "v.parquet", row_group_size=20)
    return folder / "v.parquet"


def _arrow_file(folder: Path) -> object:
    with pa.ipc.new_file(folder / "a.arrow", _vectors().schema) as file:
        file.write_table(_vectors(), max_chunksize=20)
    return folder / "a.arrow"


def _arrow_stream(folder: Path) -> object:
    with pa.ipc.new_stream(folder / "s.arrow", _vectors().schema) as file:
        file.write_table(_vectors(), max_chunksize=20)
    return folder / "s.arrow"


def _feather(folder: Path) -> object:
    columns = {"id": list(IDS), **{f"x{i}": VALUES[:, i] for i in range(D)}}
    feather.write_feather(pa.table(columns), folder / "a.feather", chunksize=20)
    return folder / "a.feather"


def _json_lines(folder: Path) -> object:
    rows = zip(IDS, VALUES.tolist(), strict=True)
    lines = [json.dumps({"id": one, "vector": row, "text": "..."}) for one, row in rows]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "a.jsonl"


def _shards(folder: Path) -> object:
    np.save(folder / "1.npy", VALUES[:40])
    np.save(folder / "3.npy", VALUES[41:])
    return [folder / "1.npy", VALUES[40:41], torch.from_numpy(VALUES[41:90]), VALUES[90:]]


def _dask(folder: Path) -> object:
    return pytest.importorskip("dask.array").from_array(VALUES, chunks=(17, 3))


KINDS: dict[str, Callable[[Path], object]] = {
    "array": lambda folder: VALUES,
    "tensor": lambda folder: torch.from_numpy(VALUES),
    "npy file": _npy,
    "npz file": lambda folder: np.savez(folder / "a.npz", x=VALUES) or folder / "a.npz",
    "memory map": _memory_map,
    "HDF5 file": _hdf5,
    "HDF5 dataset": _hdf5_dataset,
    "Zarr array": _zarr_array,
    "open Zarr array": lambda folder: zarr.open(str(_zarr_array(folder))),
    "Zarr group": _zarr_group,
    "Parquet file": _parquet,
    "Parquet file of small groups": lambda folder: _parquet(folder, row_group_size=20),
    "Parquet file of vectors": _parquet_of_vectors,
    "Arrow file": _arrow_file,
    "Arrow stream": _arrow_stream,
    "Feather file": _feather,
    "JSON lines": _json_lines,
    "Zarr at a URL": lambda folder: f"file://{_zarr_group(folder)}",
    "Zarr at another URL": lambda folder: _zarr_url(folder),
    "safetensors file": _safetensors,
    "shards": _shards,
    "Dask array": _dask,
    "generated": lambda folder: GeneratedRows((N, D), lambda start, stop: VALUES[start:stop]),
    "feature set of one layer": lambda folder: FeatureSet.from_arrays({"last": VALUES}),
    "layer of a feature set": lambda folder: FeatureSet.from_arrays({"last": VALUES})["last"],
}


def _dtype_of(source: RowSource) -> torch.dtype:
    # Numbers in JSON have the precision of Python's.
    in_json = any(str(one).endswith(".jsonl") for one in source.locations())
    return torch.float64 if in_json else torch.float32


@pytest.fixture(params=list(KINDS))
def given(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    return KINDS[request.param](tmp_path)


def test_it_has_a_shape_a_type_and_ids(given: object) -> None:
    source = scan(given)
    assert isinstance(source, RowSource)
    assert tuple(source.shape) == (N, D)
    assert source.dtype == _dtype_of(source)
    assert source.ids in (None, IDS)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, N), (0, 1), (9, 31), (40, 41), (39, 95), (100, N), (50, 50), (90, 200)]
)
def test_it_reads_the_rows_asked_for(given: object, start: int, stop: int) -> None:
    rows = scan(given).read(start, stop)
    assert rows.dtype == _dtype_of(scan(given))
    assert torch.equal(rows.float(), torch.from_numpy(VALUES[start:stop]))


def test_reading_changes_nothing_and_rows_may_be_changed(given: object) -> None:
    source = scan(given)
    before = hash_rows(source)
    source.read(0, 5).clone().zero_()
    assert hash_rows(source) == before
    whole = torch.from_numpy(VALUES).to(source.dtype)
    assert hash_rows(scan(whole)) == before
    assert hash_rows(scan(VALUES + 1)) != before


def test_single_rows_are_read_in_the_order_asked_for(given: object) -> None:
    wanted = torch.tensor([102, 3, 4, 5, 41, 40, 3])
    assert torch.equal(scan(given).read_at(wanted).float(), torch.from_numpy(VALUES)[wanted])


def test_its_rows_are_mapped_and_taken_when_they_are_read(given: object) -> None:
    source = scan(given)
    numbers = torch.arange(N)

    def function(rows: torch.Tensor, first: int) -> torch.Tensor:
        own = numbers[first : first + len(rows), None]
        return torch.cat([rows[:, :2].double(), own], dim=1)

    mapped = source.map(function, 3, dtype=torch.float64)
    expected = torch.cat([torch.from_numpy(VALUES)[:, :2].double(), numbers[:, None]], dim=1)
    assert (mapped.shape, mapped.dtype, mapped.ids) == ((N, 3), torch.float64, source.ids)
    assert torch.equal(mapped.read(9, 31), expected[9:31])
    wanted = torch.tensor([102, 3, 4, 41, 3])
    taken = source.take(wanted)
    assert taken.shape == (5, D)
    assert torch.equal(taken.read(1, 4).float(), torch.from_numpy(VALUES)[wanted[1:4]])
    assert torch.equal(
        taken.take(torch.tensor([1, 0])).read(0, 2), taken.read_at(torch.arange(2).flip(0))
    )
    assert taken.ids == (None if source.ids is None else tuple(IDS[i] for i in wanted.tolist()))
    assert mapped.locations() == taken.locations() == source.locations()


def test_its_ids_can_be_replaced(given: object) -> None:
    source = scan(given)
    other = source.with_ids(tuple(range(N)))
    assert other.ids == tuple(range(N))
    assert other.with_ids(None).ids is None
    assert source.ids in (None, IDS)
    assert torch.equal(other.read(3, 9), source.read(3, 9))


def test_it_names_the_files_that_it_is_read_from(tmp_path: Path) -> None:
    for kind, make in KINDS.items():
        folder = tmp_path / kind.replace(" ", "-")
        folder.mkdir()
        locations = scan(make(folder)).locations()
        if kind in ("array", "tensor", "Dask array", "generated") or "feature" in kind:
            assert locations == ()
        elif kind == "Zarr at another URL":
            assert locations == (f"memory://{folder.name}/a.zarr",)
        else:
            assert locations
            assert all(Path(one).exists() and folder in Path(one).parents for one in locations)


def test_what_reads_rows_without_being_a_source_is_one_made_by_code() -> None:
    class Own:
        shape, dtype, ids = (N, D), torch.float32, IDS

        def read(self, start: int, stop: int) -> torch.Tensor:
            return torch.from_numpy(VALUES[start:stop])

    source = scan(Own())
    assert isinstance(source, RowSource)
    assert (source.ids, source.lies_in, source.chunk_rows) == (IDS, "code", 1)
    assert torch.equal(source.read(3, 9), torch.from_numpy(VALUES[3:9]))
    assert not source.identity().is_known


def test_a_map_is_identified_by_its_source_and_what_it_is_said_to_do() -> None:
    source = scan(VALUES)
    doubled, tripled = (
        source.map(lambda rows, first, k=k: k * rows, D, identity={"times": k}) for k in (2, 3)
    )
    again = scan(VALUES).map(lambda rows, first: 2 * rows, D, identity={"times": 2})
    assert doubled.identity().same_as(again.identity())
    assert not doubled.identity().same_as(tripled.identity())
    assert not source.map(lambda rows, first: rows, D).identity().is_known
    assert (
        not source.take(torch.arange(4))
        .identity()
        .same_as(source.take(torch.arange(4).flip(0)).identity())
    )


def test_it_is_transformed_as_the_array_is(given: object, tmp_path: Path) -> None:
    aligner = Aligner().fit(VALUES[:20])
    expected = aligner.transform(VALUES)
    np.testing.assert_allclose(np.asarray(aligner.transform(given)), expected, atol=1e-6)
    written = aligner.transform(given, out=Output(tmp_path / "out.zarr", chunk_rows=25))
    np.testing.assert_allclose(written.read(0, N), expected, atol=1e-6)


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 2, 2), np.float32), np.zeros(4), np.zeros((0, 3)), [np.zeros((2, 2, 2))]]
)
def test_what_is_no_matrix_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="shape"):
        scan(wrong)


def test_shards_of_different_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="different numbers of features: 3, 4"):
        scan([np.zeros((2, 3)), np.zeros((2, 4))])
    with pytest.raises(ValueError, match="list of shards is empty"):
        ShardedRows([])


def test_rows_of_a_wrong_shape_are_refused_when_made() -> None:
    with pytest.raises(
        ValueError, match=r"made with shape \(5, 3\); they must have shape \(5, 2\)"
    ):
        GeneratedRows((10, 2), lambda start, stop: np.zeros((5, 3))).read(0, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.npy", "there is no file"),
        (lambda folder: folder / "none.zarr", "there is no Zarr array"),
        (lambda folder: (folder / "bad.npy").write_bytes(b"xx") and folder / "bad.npy", "corrupt"),
        (lambda folder: "file:///nowhere/none.zarr", "there is no Zarr array"),
        (lambda folder: "memory://nowhere/none.zarr", "there is no Zarr array"),
    ],
)
def test_files_that_are_not_there_or_damaged_are_refused(make, message, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        scan(make(tmp_path))


def test_a_group_of_several_matrices_needs_a_key(tmp_path: Path) -> None:
    group = zarr.create_group(str(tmp_path / "g.zarr"))
    group.create_array("a", data=VALUES)
    group.create_array("b", data=VALUES[:5])
    with pytest.raises(ValueError, match=r"2 matrices, a .*, b .*: say which"):
        scan(tmp_path / "g.zarr")
    assert scan(tmp_path / "g.zarr", key="b").shape == (5, D)
    with pytest.raises(ValueError, match="no entry 'c'"):
        scan(tmp_path / "g.zarr", key="c")


def test_parquet_is_read_in_order_and_out_of_order_and_by_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A few rows for each batch, so that blocks begin and end within one.
    monkeypatch.setattr("relspace.rows.formats._tables.BATCH_BYTES", 8 * D * 7)
    source = scan(_parquet(tmp_path, row_group_size=40))
    assert source.ids == IDS
    blocks = [(0, 10), (10, 55), (55, 60), (70, 80), (3, 5), (41, 43), (100, 103), (0, N)]
    for one in (source, pickle.loads(pickle.dumps(source))):
        for start, stop in blocks:
            assert torch.equal(one.read(start, stop), torch.from_numpy(VALUES[start:stop]))


def test_missing_values_in_parquet_are_found_when_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relspace.rows.formats._tables.BATCH_BYTES", 16)
    table = pa.table({"x": [1.0, 2.0, None], "y": [1.0, 2.0, 3.0]})
    pq.write_table(table, tmp_path / "a.parquet")
    source = scan(tmp_path / "a.parquet")
    assert source.read(0, 2).tolist() == [[1.0, 1.0], [2.0, 2.0]]
    with pytest.raises(FileFormatError, match="missing values, the first in row 2 of 'x'"):
        source.read(2, 3)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".pt"])
def test_files_that_can_only_be_loaded_whole_are_refused_where_they_do_not_fit(
    tmp_path: Path, assume_free: Callable[..., None], suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, x=VALUES)
    elif suffix == ".pt":
        torch.save(torch.from_numpy(VALUES), path)
    else:
        np.savetxt(path, VALUES, delimiter=",")
    assert scan(path).shape == (N, D)
    assume_free(1000)
    with pytest.raises(MemoryBudgetError, match=r"loaded whole, needs .* save it as one of .*.npy"):
        scan(path)


def test_a_feature_set_of_several_layers_is_refused() -> None:
    several = FeatureSet.from_arrays({"a": VALUES, "b": VALUES})
    with pytest.raises(ValueError, match=r"2 layers; give one: features\[layer\]"):
        scan(several)
