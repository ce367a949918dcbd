"""Columns of vectors, in every format of tables that has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relspace.errors import FileFormatError, InvalidInputError
from relspace.features import read, read_layers, scan, scan_layers

SUFFIXES = (".parquet", ".arrow", ".jsonl")
X = np.random.default_rng(0).normal(size=(7, 3))
IDS = [f"item {i}" for i in range(7)]


def write(path: Path, **columns: object) -> Path:
    """Write columns as a table, two rows in each group or batch."""
    if path.suffix == ".jsonl":
        lists = {name: [_plain(one) for one in column] for name, column in columns.items()}
        rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
        return path
    table = pa.table({name: [_plain(one) for one in column] for name, column in columns.items()})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=2)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=2)
    return path


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"table{request.param}"


def test_the_only_vectors_are_the_features_whatever_lies_beside_them(path: Path) -> None:
    write(path, id=IDS, x=X, tags=[["a"]] * 7, day=["Monday"] * 7)
    for found in (read(path), read(path, key="x")):
        assert (found.ids, found.key) == (tuple(IDS), "x")
        np.testing.assert_array_equal(found.features, X)
    assert scan(path).ids == tuple(IDS)
    np.testing.assert_array_equal(scan(path).read(1, 6), X[1:6])


def test_numbers_beside_vectors_are_not_passed_over(path: Path) -> None:
    write(path, id=IDS, x=X, label=list(range(7)))
    if path.suffix == ".jsonl":
        # Numbers by themselves are no features there.
        assert read(path).key == "x"
        return
    with pytest.raises(InvalidInputError, match="vectors in 'x' and numbers in 'label'"):
        read(path)
    np.testing.assert_array_equal(read(path, key="x").features, X)
    assert list(scan_layers(path).layers) == ["x"]


def test_several_vectors_need_a_key_and_are_layers(path: Path) -> None:
    write(path, ids=list(range(7)), b=2 * X, a=X[:, :2])
    with pytest.raises(InvalidInputError, match=r"2 matrices, b .*, a .*: say which"):
        read(path)
    np.testing.assert_array_equal(scan(path, key="a"), X[:, :2])
    for opened in (read_layers(path), scan_layers(path)):
        assert (list(opened.layers), opened.ids) == (["b", "a"], tuple(range(7)))
        np.testing.assert_array_equal(opened.layers["b"], 2 * X)


def test_ids_may_be_in_a_column_that_is_named(path: Path) -> None:
    write(path, name=IDS, x=X)
    assert read(path).ids is None
    assert scan(path, id_column="name").ids == tuple(IDS)
    with pytest.raises(InvalidInputError, match="no column 'other' to read ids from"):
        read(path, id_column="other")


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (5, [1.0, 2.0], "vectors of different lengths: .*row 5 has 2 numbers"),
        (3, None, "missing value.* in row 3"),
        (4, [1.0, None, 2.0], "missing value.* in row 4"),
        (6, [1.0, 2.0, float("nan")], "NaN or infinite values, the first in row 6"),
        (2, [1.0, float("inf"), 2.0], "NaN or infinite values, the first in row 2"),
    ],
)
def test_what_is_no_vector_is_refused_by_its_row(
    path: Path, row: int, value: object, message: str
) -> None:
    vectors: list[object] = [*X.tolist()]
    vectors[row] = value
    write(path, x=vectors)
    for use in (lambda: read(path), lambda: scan(path).read(0, 7)):
        with pytest.raises(FileFormatError, match=message) as caught:
            use()
        assert path.name in str(caught.value)


def test_a_first_row_that_is_missing_does_not_say_how_long_vectors_are(tmp_path: Path) -> None:
    for suffix in (".parquet", ".arrow"):
        path = write(tmp_path / f"a{suffix}", x=[None, *X[1:].tolist()])
        with pytest.raises(FileFormatError, match="missing values, the first in row 0"):
            read(path)


def test_vectors_that_can_not_be_read_are_not_passed_over_for_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", x=[*X[:6].tolist(), [1.0]], y=X)
    with pytest.raises(InvalidInputError, match="2 matrices"):
        read(path)
    assert read(path, key="y").features.shape == (7, 3)


def test_vectors_of_whole_numbers_and_of_few_bits_keep_their_type(tmp_path: Path) -> None:
    for kind in ("float16", "float32", "int8", "int64"):
        values = (10 * X).astype(kind)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3)
        table = pa.table({"x": column})
        with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
            file.write_table(table)
        found = read(tmp_path / "a.arrow").features
        assert found.dtype == kind
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "holds no matrix"),
        ("[1, 2]\n", "line 1: each line must be one JSON object"),
        ('{"x": [1, 2]}\n{"x": [1, 2}\n', "line 2: this is no JSON"),
        ('{"x": [1, 2], "x": [3, 4]}\n', "line 1: .*a field is there twice"),
        ('{"x": [1, 2], "id": 3}\n{"x": [1, 2]}\n', "line 2: there is no 'id'"),
        ('{"x": [1, true]}\n', "holds no integers or floats"),
        ('{"x": [1, 2], "id": 3}\n{"x": [1, 2], "id": 3}\n', "name 1 item more than once: 3"),
        ('{"x": 1}\n', "holds no matrix"),
        ('{"x": []}\n', "is empty"),
        ('{"x": [1, 1e999]}\n', "NaN or infinite values, the first in row 0"),
    ],
)
def test_json_lines_of_something_else_are_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read(path)
