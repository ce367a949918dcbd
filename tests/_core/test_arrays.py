"""What holds numbers is read as those numbers, whatever library made it, or refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import relspace as rs
from relspace._core.arrays import tensor_from
from relspace._core.matrices import as_features
from relspace.errors import InvalidInputError, InvalidTypeError, NonFiniteError, RelspaceError
from relspace.rows.formats.dask import DaskRows
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.formats.shards import ShardedRows
from relspace.rows.registry import scan
from relspace.rows.source import GeneratedRows

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")


def masked(fill: float = 1e20) -> np.ma.MaskedArray:
    values = np.ma.masked_array(np.arange(40.0).reshape(20, 2), mask=False, fill_value=fill)
    values[3, 1] = np.ma.masked
    return values


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(4, 2), 0.1, 0, torch.qint8)


def nested() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)])


def unreadable() -> dict[str, tuple[object, type[RelspaceError], str]]:
    record = np.zeros(4, dtype=[("a", "f4"), ("b", "f4")])
    return {
        "meta": (torch.ones(4, 2, device="meta"), InvalidTypeError, "a meta tensor, .* load"),
        "nested": (nested(), InvalidTypeError, r"a nested tensor; .*unbind\(\)"),
        "quantised": (quantized(), InvalidTypeError, r"quantised tensor; call .dequantize\(\)"),
        "sparse": (torch.eye(3).to_sparse(), InvalidTypeError, r"call .to_dense\(\)"),
        "sparse rows": (torch.eye(3).to_sparse_csr(), InvalidTypeError, r"call .to_dense\(\)"),
        "float8": (
            torch.ones(4, 2).to(torch.float8_e4m3fn),
            InvalidTypeError,
            r"type torch.float8_e4m3fn; .* by .to\(torch.float32\), .* scale",
        ),
        "float8 e5m2": (torch.ones(4, 2).to(torch.float8_e5m2), InvalidTypeError, "float8_e5m2"),
        "complex": (np.ones((4, 2), dtype=complex), InvalidTypeError, "real and imaginary parts"),
        "bool": (np.ones((4, 2), dtype=bool), InvalidTypeError, r"\.astype\(float\)"),
        "bool tensor": (torch.ones(4, 2, dtype=torch.bool), InvalidTypeError, r"\.float\(\)"),
        "objects": (np.array([[1, None], [2, 3]]), InvalidTypeError, "type object; .* numbers"),
        "strings": (np.array([["1", "2"]]), InvalidTypeError, "<U1; .* not read as numbers"),
        "records": (record, InvalidTypeError, "structured_to_unstructured"),
        "dates": (np.zeros((4, 2), dtype="M8[D]"), InvalidTypeError, "dates as numbers"),
        "a number": (3.0, InvalidTypeError, "of type float"),
        "a NumPy number": (np.float32(3.0), InvalidInputError, "single number"),
        "a list of matrices": ([np.eye(3), np.eye(3)], InvalidInputError, "list of 2 matrices"),
        "rows of two lengths": ([torch.ones(2), torch.ones(3)], InvalidTypeError, "made an array"),
        "masked": (masked(), NonFiniteError, r"1 masked values in 1 of 20 rows, .*\(3, 1\)"),
        "masked rows": (list(masked()), NonFiniteError, r"X\[3\] holds 1 masked"),
        "dead rows": ([[1.0, None], [2.0, 3.0]], InvalidTypeError, "type object"),
        "huge numbers": ([[2**60, 1], [3, 4]], InvalidInputError, r"beyond 2\^53, .* at \(0, 0\)"),
        "huge unsigned": (
            np.full((3, 2), 2**63, dtype=np.uint64),
            InvalidInputError,
            r"2\^63 and more",
        ),
    }


@pytest.mark.parametrize("kind", unreadable())
def test_what_cannot_be_read_is_refused_by_name(kind: str) -> None:
    given, error, message = unreadable()[kind]
    with pytest.raises(error, match=message) as caught:
        as_features(given)
    assert "\n" not in str(caught.value)
    with pytest.raises(RelspaceError):
        rs.rbf_affinity(given)
    if kind != "a list of matrices":
        with pytest.raises(RelspaceError):
            rs.align({"a": given})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"a": pd.array([1, None, 3] * 4, dtype="Int64")}, r"4 missing values .*\(1, 'a'\)"),
        ({"a": pd.array([1.5, None, 3] * 4, dtype="Float32")}, r"4 missing .*\(1, 'a'\)"),
        ({"a": [1.0] * 12, "b": pd.array([1, None, 3] * 4, dtype="UInt8")}, r"\(1, 'b'\)"),
        ({"a": [1.0] * 11 + [None]}, "NaN"),
        ({"a": [1.0] * 11 + [pd.NA]}, "column 'a' of X holds values of type object"),
        ({"a": ["x"] * 12}, "column 'a' of X"),
        ({"a": [True] * 12}, "column 'a' of X holds values of type bool"),
        ({"a": pd.to_datetime(["2020-01-01"] * 12)}, "column 'a' of X holds values of type date"),
        ({"a": pd.Categorical(["x"] * 12)}, "column 'a' of X holds values of type category"),
        ({"a": [2**60] * 12, "b": pd.array([1.5] * 12, dtype="Float64")}, r"beyond 2\^53"),
    ],
)
def test_missing_values_and_other_kinds_of_a_frame_are_named(frame: dict, message: str) -> None:
    with pytest.raises(RelspaceError, match=message):
        as_features(pd.DataFrame(frame))


def test_nullable_types_without_missing_values_are_read() -> None:
    frame = pd.DataFrame({"a": pd.array([1, 2, 3], dtype="Int64"), "b": [0.5, 1.5, 2.5]})
    for one in (frame, frame.convert_dtypes(dtype_backend="pyarrow")):
        assert as_features(one).tensor.tolist() == [[1.0, 0.5], [2.0, 1.5], [3.0, 2.5]]
        assert as_features(one).is_array
    large = pd.DataFrame({"a": pd.array([2**40 + 1, 2**40], dtype="Int64")})
    assert as_features(large).tensor.tolist() == [[2**40 + 1], [2**40]]


def test_arrow_tables_are_read_and_their_nulls_refused() -> None:
    table = pa.table({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5]})
    assert as_features(table).tensor.tolist() == [[1.0, 0.5], [2.0, 1.5], [3.0, 2.5]]
    with pytest.raises(NonFiniteError, match=r"1 missing values .* \(2, 'b'\)"):
        as_features(pa.table({"a": [1, 2, 3], "b": [0.5, 1.5, None]}))
    with pytest.raises(InvalidTypeError, match="column 'a' of X holds"):
        as_features(pa.table({"a": ["x", "y"]}))


def test_labelled_arrays_are_read() -> None:
    xr = pytest.importorskip("xarray")
    assert as_features(xr.DataArray(np.eye(3))).tensor.tolist() == np.eye(3).tolist()
    with pytest.raises(InvalidTypeError, match="Dataset of several arrays"):
        as_features(xr.Dataset({"a": (("x", "y"), np.eye(3))}))


def test_a_mask_that_hides_nothing_is_no_mask() -> None:
    values = np.ma.masked_array(np.eye(4), mask=False)
    assert as_features(values).tensor.tolist() == np.eye(4).tolist()


@pytest.mark.parametrize("kind", ["rows", "shards", "dask"])
def test_masks_are_seen_where_rows_are_read_in_blocks(kind: str) -> None:
    da = pytest.importorskip("dask.array")
    source = {
        "rows": lambda: ArrayRows(masked()),
        "shards": lambda: scan([masked(), masked()]),
        "dask": lambda: DaskRows(da.from_array(masked(), chunks=(5, 2))),
    }[kind]()
    with pytest.raises(NonFiniteError, match="1 masked values"):
        source.read(0, source.shape[0])


def test_dask_arrays_of_unknown_lengths_are_refused() -> None:
    da = pytest.importorskip("dask.array")
    array = da.from_array(np.arange(40.0).reshape(20, 2), chunks=(5, 2))
    some = array[array[:, 0] > 10]
    with pytest.raises(InvalidInputError, match=r"compute_chunk_sizes\(\)"):
        rs.align({"a": some})


@pytest.mark.parametrize("as_one", [np.array, torch.tensor, list])
def test_a_list_of_rows_is_a_matrix_everywhere(as_one) -> None:
    X = np.random.default_rng(0).normal(size=(20, 3))
    rows = [as_one(row) for row in X]
    np.testing.assert_allclose(rs.rbf_affinity(rows), rs.rbf_affinity(X), atol=1e-12)
    np.testing.assert_allclose(rs.align({"a": rows})["a"], rs.align({"a": X})["a"], atol=1e-12)
    assert rs.compare(rows, X, measure="cka").value == pytest.approx(1.0)
    assert scan(rows).shape == (20, 3)


def test_a_list_of_matrices_is_a_list_of_shards() -> None:
    X = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(
        rs.align({"a": [X[:8], X[8:]]})["a"], rs.align({"a": X})["a"], atol=1e-12
    )


def test_the_gradient_goes_through_a_list_of_rows() -> None:
    X = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rs.rbf_affinity([*X]).square().sum().backward()
    expected = X.grad.clone()
    X.grad = None
    rs.rbf_affinity(X).square().sum().backward()
    torch.testing.assert_close(X.grad, expected)


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
)
def test_whole_numbers_keep_their_digits(dtype: str) -> None:
    limits = np.iinfo(dtype)
    offset = min(limits.max - 99, 2**53 - 99)
    small = np.random.default_rng(0).integers(0, 99, size=(30, 4))
    X = small.astype(dtype) + np.array(offset, dtype=dtype)
    assert X.dtype == dtype
    expected = rs.rbf_affinity(small.astype(np.float64))
    for given in (X, torch.from_numpy(X), X.byteswap().view(X.dtype.newbyteorder())):
        np.testing.assert_allclose(rs.rbf_affinity(given), expected, rtol=1e-4, atol=1e-6)
        assert as_features(given).dtype == torch.float32
    aligned = rs.align({"a": small.astype(np.float64)})["a"]
    for given in (X, scan(X), scan([X[:10], X[10:]])):
        found = np.asarray(rs.align({"a": given})["a"])
        np.testing.assert_allclose(found, aligned, atol=1e-4 if limits.max < 2**25 else 1e-5)
        assert rs.compare(given, small, measure="cka").value == pytest.approx(1.0, abs=1e-6)


def test_whole_numbers_beside_floats_keep_their_digits() -> None:
    whole = np.arange(6, dtype=np.int64).reshape(3, 2) + 2**40
    shards = ShardedRows([ArrayRows(whole), ArrayRows(np.ones((1, 2), dtype=np.float32))])
    assert shards.read(0, 4).tolist() == [*whole.astype(float).tolist(), [1.0, 1.0]]


def test_whole_numbers_in_files_keep_their_digits(tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 99, size=(30, 4))
    np.save(tmp_path / "X.npy", (small + 2**31).astype(np.uint32))
    found = rs.align({"a": tmp_path / "X.npy"})["a"]
    expected = rs.align({"a": small.astype(np.float64)})["a"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_made_rows_that_are_masked_are_refused() -> None:
    source = GeneratedRows((20, 2), lambda start, stop: masked()[start:stop])
    assert source.read(4, 6).tolist() == [[8.0, 9.0], [10.0, 11.0]]
    with pytest.raises(NonFiniteError, match="what makes the rows holds 1 masked"):
        source.read(0, 5)


def test_an_array_is_not_copied() -> None:
    X = np.ones((4, 2), dtype=np.float32)
    tensor, is_array = tensor_from(X, "X")
    assert is_array
    assert np.shares_memory(tensor.numpy(), X)
