"""Files as people have them: types of ids, links, sources that are gone, cells of tables."""

from __future__ import annotations

import csv
import json
import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from click.testing import CliRunner
from safetensors.torch import save_file

import relspace as rs
from relspace.cli import commands
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    MissingDependencyError,
    RelspaceError,
)
from relspace.features import read, read_layers, scan

X = np.random.default_rng(0).normal(size=(6, 3))
IDS_OF_TYPES: dict[str, tuple[Any, ...]] = {
    "int": (30, 1, 2, -4, 0, 10**12),
    "text": ("a", "b ", " c", "d,e", 'f"', "g/h"),
    "whole numbers in text": ("30", "1", "2", "-4", "0", "7"),
    "text like numbers": ("030", "1", "2", "-0", "1_000", "7.0"),
    "unicode": ("ünïcode", "日本", "é", "e\u0301", "😀", "x\u2028y"),
}
#: Formats in which everything is text.
TEXT = (".csv", ".tsv")


def write(path: Path, ids: tuple[Any, ...]) -> Path:
    """Write X with ids, as files of the format usually hold them."""
    is_int = isinstance(ids[0], int)
    as_array = np.array(ids)
    columns = {"id": list(ids)} | {f"f{i}": X[:, i].tolist() for i in range(3)}
    match path.suffix:
        case ".npy":
            np.save(path, X)
            path.with_suffix(".ids.json").write_text(
                json.dumps({"kind": "ids", "rows": 6, "ids": list(ids)})
            )
        case ".npz":
            np.savez(path, x=X, ids=as_array)
        case ".pt":
            kept = torch.tensor(ids) if is_int else list(ids)
            torch.save({"x": torch.from_numpy(X), "ids": kept}, path)
        case ".safetensors" if is_int:
            save_file({"x": torch.from_numpy(X), "ids": torch.tensor(ids)}, path)
        case ".safetensors":
            metadata = {"ids": json.dumps(list(ids))}
            save_file({"x": torch.from_numpy(X)}, path, metadata=metadata)
        case ".h5":
            with h5py.File(path, "w") as file:
                file["x"] = X
                text = h5py.string_dtype()
                file.create_dataset("ids", data=list(ids), dtype="int64" if is_int else text)
        case ".zarr":
            group = zarr.open_group(path, mode="w")
            group["x"] = X
            kind = np.int64 if is_int else str
            group.create_array("ids", shape=(6,), dtype=kind)[...] = (
                as_array if is_int else np.array(ids, dtype=object)
            )
        case ".parquet":
            pq.write_table(pa.table(columns), path)
        case ".csv" | ".tsv":
            with path.open("w", newline="", encoding="utf-8") as stream:
                rows = csv.writer(stream, delimiter="," if path.suffix == ".csv" else "\t")
                rows.writerow(columns)
                rows.writerows(zip(*columns.values(), strict=True))
    return path


SUFFIXES = (
    *(".npy", ".npz", ".pt", ".safetensors", ".h5", ".zarr", ".parquet"),
    *TEXT,
)


@pytest.mark.parametrize("kind", IDS_OF_TYPES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_keep_their_type_in_every_format(tmp_path: Path, suffix: str, kind: str) -> None:
    ids = IDS_OF_TYPES[kind]
    path = write(tmp_path / f"a{suffix}", ids)
    expected: tuple[Any, ...] = ids
    if suffix in TEXT and kind == "whole numbers in text":
        expected = tuple(map(int, ids))
    found = read(path).ids
    assert found == expected
    assert scan(path).ids == expected
    assert found is not None
    assert {type(one) for one in found} == {type(expected[0])}
    np.testing.assert_array_equal(np.asarray(read(path).features), X)
    # And there again: a space keeps them, and so does what it writes.
    space = rs.align({"a": scan(path), "b": X}, ids={"a": found, "b": list(ids)})
    assert rs.load_space(space.save(tmp_path / "space.safetensors")).ids == expected
    for place in (tmp_path / "out.zarr", tmp_path / "out.npy"):
        space.transform("a", scan(path), out=place)
        assert scan(place).ids == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("other", [".npz", ".csv", ".parquet"])
def test_the_same_items_match_whatever_the_formats(tmp_path: Path, suffix: str, other: str) -> None:
    first = write(tmp_path / f"a{suffix}", (30, 1, 2, -4, 0, 7))
    second = write(tmp_path / f"b{other}", ("30", "1", "2", "-4", "0", "7"))
    compared = rs.compare(first, second, measure="cka")
    assert (round(compared.value, 6), compared.matched_by) == (1.0, "ids")
    odd = write(tmp_path / f"c{other}", ("030", "1", "2", "-4", "0", "7"))
    with pytest.raises(RelspaceError, match=r"whole numbers and .* are strings"):
        rs.compare(first, odd)


class TestHdf5:
    def test_an_entry_behind_a_soft_link_is_found_by_its_name(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            file["deep/x"] = X
            file["short"] = h5py.SoftLink("/deep/x")
            file["folder"] = h5py.SoftLink("/deep")
            file["gone"] = h5py.SoftLink("/nowhere")
            file["deep/up"] = h5py.SoftLink("/")
        for key in ("deep/x", "short", "folder/x"):
            np.testing.assert_array_equal(read(path, key=key).features, X)
            assert scan(path, key=key).read(0, 6).numpy() == pytest.approx(X)
        with pytest.raises(FileFormatError, match="gone is a link to /nowhere that leads nowhere"):
            read(path, key="gone")

    def test_another_name_of_a_matrix_is_no_second_one(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            file["x"] = X
            file["also"] = h5py.SoftLink("/x")
            file["again"] = file["x"]
        assert read(path).key in ("x", "again")
        assert len(read_layers(path).layers) == 1

    def test_a_link_into_another_file_is_never_overlooked(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["y"] = X
        with h5py.File(path, "w") as file:
            file["features"] = h5py.ExternalLink("other.h5", "/y")
        said = r"features is a link into another file: open other\.h5::y instead"
        with pytest.raises(FileFormatError, match=said):
            read(path)
        with h5py.File(path, "a") as file:
            file["mask"] = np.ones((6, 3))
        with pytest.raises(InvalidInputError, match=r"features \(unreadable\), mask .*say which"):
            read(path)
        with pytest.raises(FileFormatError, match=said):
            read_layers(path)
        assert read(path, key="mask").features.sum() == 18

    def virtual(self, folder: Path, source: str = "part.h5", rows: int = 6) -> Path:
        with h5py.File(folder / "part.h5", "w") as file:
            file["x"] = X
        layout = h5py.VirtualLayout(shape=(6, 3), dtype="f8")
        layout[:rows] = h5py.VirtualSource(source, "x", shape=(6, 3))[:rows]
        with h5py.File(folder / "whole.h5", "w") as file:
            file.create_virtual_dataset("x", layout)
        return folder / "whole.h5"

    def test_a_virtual_dataset_is_read_where_its_sources_are(self, tmp_path: Path) -> None:
        path = self.virtual(tmp_path)
        np.testing.assert_array_equal(read(path).features, X)

    def test_a_virtual_dataset_without_its_sources_is_no_zeros(self, tmp_path: Path) -> None:
        path = self.virtual(tmp_path)
        with h5py.File(tmp_path / "part.h5", "w") as file:
            file["x"] = X[:4]
        with pytest.raises(FileFormatError, match=r"part\.h5::x has only the shape \(4, 3\)"):
            read(path)
        with h5py.File(tmp_path / "part.h5", "w") as file:
            file["y"] = X
        with pytest.raises(FileFormatError, match=r"part\.h5::x is not there"):
            read(path)
        (tmp_path / "part.h5").unlink()
        for opener in (read, scan, read_layers):
            with pytest.raises(FileFormatError, match=r"part\.h5::x is not there, .* zeros"):
                opener(path)

    def test_a_virtual_dataset_of_a_part_is_no_zeros(self, tmp_path: Path) -> None:
        with pytest.raises(FileFormatError, match="no source for a part of its values"):
            read(self.virtual(tmp_path, rows=4))

    def test_values_in_other_files_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "raw.bin").write_bytes(X.tobytes())
        with h5py.File(tmp_path / "a.h5", "w") as file:
            external = [(str(tmp_path / "raw.bin"), 0, X.nbytes)]
            file.create_dataset("x", shape=X.shape, dtype="f8", external=external)
        with pytest.raises(FileFormatError, match=r"values in other files .*raw\.bin"):
            read(tmp_path / "a.h5")


class TestTensors:
    @pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
    def test_unsigned_numbers_are_read_exactly(self, tmp_path: Path, dtype: torch.dtype) -> None:
        largest = min(torch.iinfo(dtype).max, 2**40)
        values = torch.tensor([[0, 1], [2, largest], [5, 7]], dtype=torch.int64)
        save_file({"x": values.to(dtype)}, tmp_path / "a.safetensors")
        torch.save({"x": values.to(dtype)}, tmp_path / "a.pt")
        for name in ("a.safetensors", "a.pt"):
            found = read(tmp_path / name).features
            assert isinstance(found, torch.Tensor)
            assert found.tolist() == values.tolist()
            assert scan(tmp_path / name).read(1, 3).tolist() == values[1:].tolist()

    def test_floats_of_few_bits_are_refused_by_their_name(self, tmp_path: Path) -> None:
        values = torch.ones(4, 3).to(torch.float8_e4m3fn)
        save_file({"x": values}, tmp_path / "a.safetensors")
        torch.save(values, tmp_path / "a.pt")
        with pytest.raises(FileFormatError, match=r"F8_E4M3.*scale: convert them by .*float32"):
            read(tmp_path / "a.safetensors")
        with pytest.raises(FileFormatError, match=r"float8_e4m3fn.*convert them by .*float32"):
            read(tmp_path / "a.pt")
        save_file({"x": torch.ones(4, 3, dtype=torch.bool)}, tmp_path / "b.safetensors")
        with pytest.raises(FileFormatError, match=r"BOOL: save 0 and 1 as numbers"):
            read(tmp_path / "b.safetensors")

    def test_tensors_without_values_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pt"
        torch.save({"x": torch.ones(4, 3, device="meta")}, path)
        with pytest.raises(FileFormatError, match=r"x is a meta tensor, which has .* no values"):
            read(path)
        result = CliRunner().invoke(commands, ["compare", str(path), f"b={path}"])
        assert result.exit_code == 2
        assert "meta tensor" in result.output
        torch.save({"x": torch.eye(3).to_sparse()}, path)
        with pytest.raises(FileFormatError, match="sparse tensor"):
            read(path)


class TestZarr:
    @pytest.mark.parametrize("version", [2, 3])
    @pytest.mark.parametrize("name", ["a.zarr", "a"])
    def test_a_plain_array_is_read(self, tmp_path: Path, version: Any, name: str) -> None:
        path = tmp_path / name
        zarr.create_array(path, data=X, chunks=(4, 3), zarr_format=version)
        table = read(path)
        np.testing.assert_array_equal(np.asarray(table.features), X)
        assert scan(path).read(2, 5).numpy() == pytest.approx(X[2:5])
        result = CliRunner().invoke(
            commands, ["compare", str(path), f"b={path}", "--measure", "cka", "--json"]
        )
        assert result.exit_code == 0, result.output
        with pytest.raises(InvalidInputError, match="one matrix, which has no key"):
            read(path, key="x")

    def test_a_missing_store_is_said_to_be_missing(self, tmp_path: Path) -> None:
        for opener in (read, scan):
            with pytest.raises(InvalidInputError, match=r"there is no Zarr array or group .*a\.z"):
                opener(tmp_path / "a.zarr")
        with pytest.raises(InvalidInputError, match="there is no file"):
            read(tmp_path / "a.npy")
        with pytest.raises(InvalidInputError, match="is a folder and no Zarr store"):
            read(tmp_path)
        (tmp_path / "b.zarr").write_bytes(b"x")
        with pytest.raises(InvalidInputError, match=r"b\.zarr"):
            read(tmp_path / "b.zarr")

    def test_urls_stay_as_they_are(self) -> None:
        with pytest.raises(InvalidInputError, match=r"^http://host/a\.npy is a URL of a \.npy"):
            read("http://host/a.npy")
        with pytest.raises(InvalidInputError, match=r"^s3://bucket/a\.parquet is a URL"):
            scan("s3://bucket/a.parquet")
        with pytest.raises(RelspaceError, match=r"foo://host/a\.zarr"):
            read("foo://host/a.zarr")
        arguments = ["align", "x=http://h/a.npy", "b.npy", "-o", "s.safetensors"]
        result = CliRunner().invoke(commands, arguments)
        assert "http://h/a.npy is a URL" in result.output

    def test_a_url_whose_package_is_missing_says_which(self, monkeypatch) -> None:
        import fsspec

        def refuse(*_: object, **__: object) -> None:
            raise ImportError("Install s3fs to access S3")

        monkeypatch.setattr(fsspec, "get_filesystem_class", refuse)
        monkeypatch.setattr("fsspec.core.get_filesystem_class", refuse)
        with pytest.raises(MissingDependencyError, match=r"s3://bucket/a\.zarr .*s3fs for s3://"):
            read("s3://bucket/a.zarr")


class TestTables:
    @pytest.mark.parametrize("cell", ["1_000", "\u0661\u0662", "\uff11", "0x1p3", "1,5", "--1"])
    @pytest.mark.parametrize("suffix", TEXT)
    def test_a_cell_that_is_no_number_is_refused(
        self, tmp_path: Path, suffix: str, cell: str
    ) -> None:
        mark = "," if suffix == ".csv" else "\t"
        lines = [mark.join(("a", "b")), mark.join(("1", "2")), mark.join(("3", f'"{cell}"'))]
        (tmp_path / f"a{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        with pytest.raises(FileFormatError, match=r"line 3: '.*' is no number, in 'b'"):
            read(tmp_path / f"a{suffix}")

    def test_the_line_is_that_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text('id,x\n"a\nb",1\n\nc,one\n')
        with pytest.raises(FileFormatError, match=r"a\.csv, line 5: 'one' is no number, in 'x'"):
            read(tmp_path / "a.csv")

    def test_numbers_as_other_programs_write_them(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,b,c\n+1.5e-3, 2 ,.5\n1E5,-0.,3.\n")
        found = np.asarray(read(tmp_path / "a.csv").features)
        assert found.tolist() == [[0.0015, 2.0, 0.5], [100000.0, 0.0, 3.0]]

    def test_two_entries_of_one_name_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w") as archive:
            for values in (X, X + 1):
                stream = BytesIO()
                np.save(stream, values)
                with warnings.catch_warnings(action="ignore"):
                    archive.writestr("x.npy", stream.getvalue())
        with pytest.raises(FileFormatError, match="several entries of one name, 'x'"):
            read(path)
        twice = pa.table([pa.array([1.0]), pa.array([2.0])], names=["a", "a"])
        pq.write_table(twice, tmp_path / "a.parquet")
        with pytest.raises(FileFormatError, match="several columns of one name, 'a'"):
            read(tmp_path / "a.parquet")

    @pytest.mark.parametrize(
        ("column", "said"),
        [
            (pa.array([1.0, None, 3.0]), "missing values, the first in row 1 of 'x'"),
            (pa.array([1, 2, None]), "missing values, the first in row 2 of 'x'"),
            (pa.array([True, False, True]), r"hold no numbers: 'x' \(bool\)"),
            (pa.array(["a", "b", "c"]), r"hold no numbers: 'x' \(string\)"),
            (pa.array(["a", "b", "a"]).dictionary_encode(), r"hold no numbers: 'x' \(dictionary"),
            (pa.array([1, 2, 3]).cast(pa.decimal128(25, 2)), r"hold no numbers: 'x' \(decimal128"),
            (pa.array([[1.0], [2.0], [3.0]]), "vectors in 'x' and numbers in 'y'"),
            (pa.array([1, 2, 3], pa.timestamp("s")), r"hold no numbers: 'x' \(timestamp"),
        ],
    )
    def test_parquet_columns_are_right_or_refused(
        self, tmp_path: Path, column: Any, said: str
    ) -> None:
        pq.write_table(pa.table({"y": [1.0, 2.0, 3.0], "x": column}), tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=said):
            read(tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=said):
            scan(tmp_path / "a.parquet").read(0, 3)
