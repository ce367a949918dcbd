"""What every file format gives back, and what each kind of bad file is refused with."""

import json
import pickle
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
    RelspaceError,
)
from relspace.features import FeatureTable, read

SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".safetensors", ".h5", ".hdf5", ".csv", ".parquet")
KEYED = (".npz", ".pt", ".safetensors", ".h5")
TABLES = (".csv", ".parquet")
IDS = ["cat", "dog", "eagle owl", "ünïcode"]


def write(path: Path, features, ids=None, key="features", id_name="ids"):
    """Write features, and ids under a key or in a column, in the format of the suffix."""
    features = np.asarray(features)
    match path.suffix:
        case ".npy":
            np.save(path, features)
        case ".npz":
            np.savez(path, **{key: features}, **({} if ids is None else {id_name: ids}))
        case ".pt" | ".pth":
            tensor = torch.from_numpy(features.copy())
            torch.save({key: tensor} | ({} if ids is None else {id_name: list(ids)}), path)
        case ".safetensors":
            metadata = None if ids is None else {id_name: json.dumps(list(ids))}
            save_file({key: torch.from_numpy(features.copy())}, path, metadata=metadata)
        case ".h5" | ".hdf5":
            with h5py.File(path, "w") as file:
                file[key] = features
                if ids is not None:
                    file[id_name] = list(ids)
        case ".csv":
            names = [f"f{i}" for i in range(features.shape[1])]
            lines = [[*names, *([] if ids is None else [id_name])]]
            for i, row in enumerate(features.tolist()):
                lines.append([*map(repr, row), *([] if ids is None else [str(ids[i])])])
            path.write_text("\n".join(",".join(line) for line in lines) + "\n", encoding="utf-8")
        case ".parquet":
            columns = {f"f{i}": column for i, column in enumerate(features.T)}
            if ids is not None:
                columns = {id_name: list(ids)} | columns
            pq.write_table(pa.table(columns), path)
    return path


def values(table: FeatureTable) -> np.ndarray:
    return np.asarray(table.features)


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


class TestFormats:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8"])
    def test_round_trip_keeps_values_and_dtype(self, tmp_path, suffix, dtype):
        features = np.arange(12).reshape(4, 3).astype(dtype)
        path = write(tmp_path / f"vit{suffix}", features)
        table = read(path)
        np.testing.assert_array_equal(values(table), features)
        assert values(table).dtype == ("float64" if suffix == ".csv" else dtype)
        assert table.source == path
        assert table.ids is None
        assert table.key == ("features" if suffix in (*KEYED, ".pth", ".hdf5") else None)

    @settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @given(data=st.data())
    def test_what_was_written_is_read(self, tmp_path, suffix, data):
        shape = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
        features = data.draw(hnp.arrays(np.float64, shape))
        table = read(write(tmp_path / f"x{suffix}", features))
        np.testing.assert_array_equal(values(table), features)

    def test_bfloat16(self, tmp_path):
        tensor = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
        torch.save(tensor, tmp_path / "a.pt")
        save_file({"x": tensor}, tmp_path / "a.safetensors")
        assert torch.equal(read(tmp_path / "a.pt").features, tensor)
        assert torch.equal(read(tmp_path / "a.safetensors").features, tensor)

    def test_npy_is_mapped_into_memory(self, tmp_path, features):
        assert isinstance(read(write(tmp_path / "a.npy", features)).features, np.memmap)

    def test_other_byte_order_becomes_native(self, tmp_path, features):
        for suffix in (".npy", ".npz", ".h5"):
            table = read(write(tmp_path / f"a{suffix}", features.astype(">f4")))
            assert table.features.dtype == np.float32
            np.testing.assert_array_equal(table.features, features)

    def test_column_major_order(self, tmp_path, features):
        table = read(write(tmp_path / "a.npy", np.asfortranarray(features)))
        np.testing.assert_array_equal(table.features, features)

    def test_a_bare_tensor(self, tmp_path, features):
        torch.save(torch.from_numpy(features).requires_grad_(), tmp_path / "a.pt")
        table = read(tmp_path / "a.pt")
        assert (table.key, table.features.requires_grad) == (None, False)

    def test_files_of_old_torch(self, tmp_path, features):
        path = tmp_path / "a.pt"
        torch.save(torch.from_numpy(features), path, _use_new_zipfile_serialization=False)
        np.testing.assert_array_equal(values(read(path)), features)

    def test_compressed_npz(self, tmp_path, features):
        np.savez_compressed(tmp_path / "a.npz", x=features)
        np.testing.assert_array_equal(read(tmp_path / "a.npz").features, features)

    def test_suffix_in_capitals(self, tmp_path, features):
        path = write(tmp_path / "a.npy", features).rename(tmp_path / "a.NPY")
        np.testing.assert_array_equal(read(path).features, features)

    def test_not_a_number_is_left_to_whoever_computes(self, tmp_path, features):
        features[1, 1] = np.nan
        for suffix in SUFFIXES:
            table = read(write(tmp_path / f"a{suffix}", features))
            assert np.isnan(values(table)).sum() == 1

    def test_csv_without_column_names_with_blank_lines_and_a_byte_order_mark(self, tmp_path):
        (tmp_path / "a.csv").write_text("\ufeff1,2.5\r\n\r\n-3e2,nan\r\n", encoding="utf-8")
        table = read(tmp_path / "a.csv")
        np.testing.assert_array_equal(table.features, [[1, 2.5], [-300, np.nan]])

    def test_parquet_of_mixed_numbers(self, tmp_path):
        columns = {"a": np.arange(3, dtype="int32"), "b": np.ones(3, "float32")}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        table = read(tmp_path / "a.parquet")
        np.testing.assert_array_equal(table.features, [[0, 1], [1, 1], [2, 1]])
        assert table.features.dtype == np.float64

    def test_a_folder_named_like_a_partition_adds_no_column(self, tmp_path, features):
        folder = tmp_path / "layer=3"
        folder.mkdir()
        assert values(read(write(folder / "a.parquet", features))).shape == (4, 3)


class TestKeys:
    @pytest.mark.parametrize("suffix", KEYED)
    def test_key_picks_one_of_several(self, tmp_path, features, suffix):
        path = tmp_path / f"a{suffix}"
        several = {"block1": features, "block2": features + 1}
        if suffix == ".npz":
            np.savez(path, **several)
        elif suffix == ".h5":
            with h5py.File(path, "w") as file:
                for name, matrix in several.items():
                    file[name] = matrix
        else:
            tensors = {name: torch.from_numpy(matrix) for name, matrix in several.items()}
            save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
        table = read(path, key="block2")
        np.testing.assert_array_equal(values(table), features + 1)
        assert table.key == "block2"
        listing = r"2 matrices, block1 \(4, 3\), block2 \(4, 3\): say which by key"
        with pytest.raises(InvalidInputError, match=listing):
            read(path)
        with pytest.raises(InvalidInputError, match=r"no entry 'block3'; it holds block1 \(4, 3\)"):
            read(path, key="block3")

    def test_groups_of_hdf5(self, tmp_path, features):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["vit/block1/tokens"] = features
        assert read(tmp_path / "a.h5").key == "vit/block1/tokens"

    def test_whole_numbers_as_keys_of_a_dictionary(self, tmp_path, features):
        torch.save({3: torch.from_numpy(features), 4: torch.ones(2, 2)}, tmp_path / "a.pt")
        np.testing.assert_array_equal(values(read(tmp_path / "a.pt", key="3")), features)

    def test_long_lists_are_cut(self, tmp_path, features):
        np.savez(tmp_path / "a.npz", **{f"layer{i}": features for i in range(30)})
        with pytest.raises(InvalidInputError, match=r"layer7 \(4, 3\) and 22 more"):
            read(tmp_path / "a.npz")

    @pytest.mark.parametrize("suffix", [".npy", *TABLES])
    def test_files_without_keys_refuse_one(self, tmp_path, features, suffix):
        path = write(tmp_path / f"a{suffix}", features)
        with pytest.raises(
            InvalidInputError, match=r"one matrix, .* 'x' is asked for: leave key out"
        ):
            read(path, key="x")


class TestIds:
    @pytest.mark.parametrize("suffix", [*KEYED, *TABLES])
    def test_default_name(self, tmp_path, features, suffix):
        path = write(tmp_path / f"a{suffix}", features, ids=IDS)
        table = read(path)
        assert table.ids == tuple(IDS)
        np.testing.assert_array_equal(values(table), features)

    @pytest.mark.parametrize("suffix", [".npz", ".pt", ".h5"])
    def test_entry_of_another_name(self, tmp_path, features, suffix):
        path = write(tmp_path / f"a{suffix}", features, ids=IDS, id_name="names")
        assert read(path).ids is None
        assert read(path, ids="names").ids == tuple(IDS)

    @pytest.mark.parametrize("suffix", TABLES)
    @pytest.mark.parametrize("name", ["photo", "Id", "IDS"])
    def test_column(self, tmp_path, features, suffix, name):
        path = write(tmp_path / f"a{suffix}", features, ids=IDS, id_name=name)
        table = read(path, id_column=name)
        assert table.ids == tuple(IDS)
        np.testing.assert_array_equal(values(table), features)

    @pytest.mark.parametrize("suffix", TABLES)
    def test_a_column_of_ids_is_never_a_feature(self, tmp_path, features, suffix):
        path = write(tmp_path / f"a{suffix}", features, ids=[7, 8, 9, 10], id_name="ID")
        table = read(path)
        assert (table.ids, table.features.shape) == ((7, 8, 9, 10), (4, 3))

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_text_file_goes_before_what_the_file_brings(self, tmp_path, features, suffix):
        path = write(tmp_path / f"a{suffix}", features, ids=["w", "x", "y", "z"])
        text = tmp_path / "names.txt"
        text.write_text("\ufeff" + "\r\n".join(IDS) + "\r\n", encoding="utf-8")
        assert read(path, ids=text).ids == tuple(IDS)
        assert read(path, ids=str(text)).ids == tuple(IDS)

    @pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors", ".h5", ".parquet"])
    def test_integers_stay_integers(self, tmp_path, features, suffix):
        path = write(tmp_path / f"a{suffix}", features, ids=np.array([3, 1, 2, 10]).tolist())
        assert read(path).ids == (3, 1, 2, 10)

    def test_integer_tensors(self, tmp_path, features):
        tensors = {"x": torch.from_numpy(features), "ids": torch.tensor([3, 1, 2, 10])}
        save_file(tensors, tmp_path / "a.safetensors")
        torch.save(tensors, tmp_path / "a.pt")
        for name in ("a.pt", "a.safetensors"):
            assert read(tmp_path / name).ids == (3, 1, 2, 10)

    def test_bytes_become_text(self, tmp_path, features):
        np.savez(tmp_path / "a.npz", x=features, ids=np.array([b"a", b"b", b"c", b"d"]))
        assert read(tmp_path / "a.npz").ids == ("a", "b", "c", "d")

    @pytest.mark.parametrize(
        ("ids", "message"),
        [
            (["a", "b", "c"], r"4 items and 3 ids"),
            (["a", "b", "b", "a"], r"name 2 items more than once: 'a', 'b'"),
            (["a", "", "b", "c"], r"id 2 of .*a\.pt is ''"),
            ([1.0, 2.0, 3.0, 4.0], r"id 1 of .*a\.pt is 1\.0, of type float"),
            ([True, False, True, False], r"id 1 of .*a\.pt is True"),
        ],
    )
    def test_bad_ids(self, tmp_path, features, ids, message):
        path = tmp_path / "a.pt"
        torch.save({"x": torch.from_numpy(features), "ids": ids}, path)
        with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
            read(path)

    def test_a_single_id(self, tmp_path, features):
        np.savez(tmp_path / "a.npz", x=features, ids=7)
        with pytest.raises(
            InvalidInputError, match=r"ids of .*a\.npz have shape \(\); they must be one list"
        ):
            read(tmp_path / "a.npz")

    def test_missing_ids_in_parquet(self, tmp_path):
        pq.write_table(pa.table({"id": ["a", None], "x": [1.0, 2.0]}), tmp_path / "a.parquet")
        with pytest.raises(InvalidTypeError, match=r"id 2 of .* is None"):
            read(tmp_path / "a.parquet")

    def test_text_file_with_a_blank_line(self, tmp_path, features):
        (tmp_path / "ids.txt").write_text("a\n\nb\nc\n")
        with pytest.raises(InvalidTypeError, match=r"id 2 of .*ids.txt is ''"):
            read(write(tmp_path / "a.npy", features), ids=tmp_path / "ids.txt")

    def test_text_file_that_is_none(self, tmp_path, features):
        (tmp_path / "ids.txt").write_bytes(b"\xff\xfe\x00\x01")
        with pytest.raises(FileFormatError, match="one id in each line"):
            read(write(tmp_path / "a.npy", features), ids=tmp_path / "ids.txt")

    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
    def test_ids_that_are_nowhere(self, tmp_path, features, suffix):
        path = write(tmp_path / f"a{suffix}", features)
        with pytest.raises(
            InvalidInputError, match="'names', where the ids should be, is neither a"
        ):
            read(path, ids="names")

    def test_ids_that_could_be_two_things(self, tmp_path, features, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = write(Path("a.npz"), features, ids=IDS, id_name="names")
        Path("names").write_text("a\nb\nc\nd\n")
        with pytest.raises(InvalidInputError, match=r"write \./names for the text file"):
            read(path, ids="names")
        assert read(path, ids="./names").ids == ("a", "b", "c", "d")

    def test_id_column_and_ids_exclude_each_other(self, tmp_path, features):
        path = write(tmp_path / "a.csv", features, ids=IDS)
        with pytest.raises(InvalidInputError, match="give one of them"):
            read(path, ids="x", id_column="ids")

    def test_id_column_is_for_tables(self, tmp_path, features):
        with pytest.raises(InvalidInputError, match=r"id_column is for .*\.csv, .* and \.parquet"):
            read(write(tmp_path / "a.npy", features), id_column="ids")

    @pytest.mark.parametrize("suffix", TABLES)
    def test_id_column_that_is_missing(self, tmp_path, features, suffix):
        path = write(tmp_path / f"a{suffix}", features)
        with pytest.raises(InvalidInputError, match=r"no column 'photo'.*'f0', 'f1', 'f2'"):
            read(path, id_column="photo")

    def test_two_columns_of_ids(self, tmp_path):
        (tmp_path / "a.csv").write_text("id,ids,x\na,b,1\n")
        with pytest.raises(InvalidInputError, match=r"2 columns that could .*, 'id', 'ids'"):
            read(tmp_path / "a.csv")
        table = read(tmp_path / "a.csv", id_column="ids")
        assert (table.ids, table.features.tolist()) == (("b",), [[1.0]])

    @pytest.mark.parametrize("metadata", ['{"a": 1}', "no json"])
    def test_metadata_that_is_no_list(self, tmp_path, metadata):
        path = tmp_path / "a.safetensors"
        save_file({"x": torch.ones(2, 2)}, path, metadata={"ids": metadata})
        with pytest.raises(FileFormatError):
            read(path)


class TestRefusals:
    def test_missing_file(self, tmp_path):
        with pytest.raises(InvalidInputError, match=r"there is no file .*a\.npy"):
            read(tmp_path / "a.npy")

    def test_folder(self, tmp_path):
        (tmp_path / "a.npy").mkdir()
        with pytest.raises(InvalidInputError, match="is a folder"):
            read(tmp_path / "a.npy")

    def test_unknown_suffix(self, tmp_path):
        path = tmp_path / "a.mat"
        with pytest.raises(InvalidInputError, match=r"there is no file .*a\.mat"):
            read(path)
        path.write_bytes(b"MATLAB")
        with pytest.raises(
            InvalidInputError, match=r"'\.mat'; .* end in \.arrow, .*, \.safetensors"
        ):
            read(path)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_empty_file(self, tmp_path, suffix):
        (tmp_path / f"a{suffix}").touch()
        with pytest.raises(FileFormatError, match=r"is empty \(0 bytes\)"):
            read(tmp_path / f"a{suffix}")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_another_format(self, tmp_path, suffix):
        (tmp_path / f"a{suffix}").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00" * 20)
        with pytest.raises(FileFormatError, match=r"a\."):
            read(tmp_path / f"a{suffix}")

    @pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".csv"])
    @pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
    def test_cut_off(self, tmp_path, suffix, share):
        path = write(tmp_path / f"a{suffix}", np.ones((50, 20)))
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(FileFormatError, match="can't be read as") as caught:
            read(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @settings(
        max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_damage_is_refused_or_harmless(self, tmp_path, suffix, data):
        path = write(tmp_path / f"a{suffix}", np.ones((6, 4)), ids=[f"n{i}" for i in range(6)])
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
        try:
            table = read(path)
        except RelspaceError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is allowed
        else:
            assert values(table).ndim == 2

    @pytest.mark.parametrize(
        ("shape", "message"),
        [((4,), r"\(4,\)"), ((2, 3, 4), r"\(2, 3, 4\)"), ((0, 3), "empty"), ((3, 0), "empty")],
    )
    @pytest.mark.parametrize("suffix", [".npy", *KEYED])
    def test_wrong_shape(self, tmp_path, suffix, shape, message):
        path = write(tmp_path / f"a{suffix}", np.ones(shape))
        with pytest.raises(FileFormatError, match=message):
            read(path)
        if suffix in KEYED:
            with pytest.raises(FileFormatError, match=f"::features .*{message}"):
                read(path, key="features")

    @pytest.mark.parametrize("dtype", ["complex64", "bool", "U3", "datetime64[s]"])
    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    def test_no_real_numbers(self, tmp_path, suffix, dtype):
        path = write(tmp_path / f"a{suffix}", np.zeros((2, 2), dtype))
        with pytest.raises(FileFormatError, match="numbers"):
            read(path)

    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    def test_pickled_objects(self, tmp_path, suffix):
        path = write(tmp_path / f"a{suffix}", np.array([[1, "a"]], dtype=object))
        with pytest.raises(FileFormatError, match=r"unpickling can run any code.*astype\(str\)"):
            read(path, key="features" if suffix == ".npz" else None)

    def test_pickled_objects_in_pt(self, tmp_path, features):
        torch.save({"x": features}, tmp_path / "a.pt")
        with pytest.raises(FileFormatError, match="unpickling can run any code"):
            read(tmp_path / "a.pt")

    def test_a_pickle_is_never_run(self, tmp_path):
        class Attack:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        for suffix in SUFFIXES:
            (tmp_path / f"a{suffix}").write_bytes(pickle.dumps(Attack(), protocol=2))
            with pytest.raises(RelspaceError):
                read(tmp_path / f"a{suffix}")
        torch.save({"x": Attack()}, tmp_path / "b.pt")
        with pytest.raises(RelspaceError):
            read(tmp_path / "b.pt")
        assert not (tmp_path / "ran").exists()

    def test_a_list_in_pt(self, tmp_path):
        torch.save([torch.ones(2, 2)], tmp_path / "a.pt")
        with pytest.raises(FileFormatError, match="holds a list: save a tensor or a dictionary"):
            read(tmp_path / "a.pt")

    def test_nothing_in_npz(self, tmp_path):
        np.savez(tmp_path / "a.npz")
        with pytest.raises(FileFormatError):
            read(tmp_path / "a.npz")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a,b,c\n1,x,y\n", "line 2: 'x' is no number, in 'b', 'c'"),
            ("a,b\n1,\n", "line 2: '' is no number, in 'b'"),
            ("1,2\n1,x\n", "in 'column 2'"),
            ("a,b\n1,2\n3\n", "line 3: 1 cell where 2 are expected"),
            ("a;b\n1;2\n", "line 2: '1;2' is no number"),
            ("0,1,2\n4,5,6\n", "give the columns names"),
            (",a\n0,1\n", "column 1 is a data frame's index"),
            ("id\n1\n", "no columns of features"),
            ("a,b\n", "is empty"),
            ("\n\n", "is empty"),
            ("a,b\n1,\x002\n", "csv"),
        ],
    )
    def test_bad_csv(self, tmp_path, text, message):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(FileFormatError, match=message):
            read(tmp_path / "a.csv")

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"x": [1.0], "name": ["a"], "day": [True]}, r"'name' \(string\), 'day' \(bool\)"),
            ({"x": [1.0, None]}, "missing values, the first in row 1 of 'x'"),
            ({"x": pa.array([], pa.float64())}, "is empty"),
            ({"x": [["a", "b"]]}, r"'x' \(list<.*string.*>\)"),
        ],
    )
    def test_bad_parquet(self, tmp_path, columns, message):
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        with pytest.raises(FileFormatError, match=message):
            read(tmp_path / "a.parquet")

    @pytest.mark.parametrize(("suffix", "package"), [(".h5", "h5py"), (".parquet", "pyarrow")])
    def test_missing_reader(self, tmp_path, features, monkeypatch, suffix, package):
        path = write(tmp_path / f"a{suffix}", features)
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingDependencyError, match=rf"{package}.*relspace\[files\]"):
            read(path)
