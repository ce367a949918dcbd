"""Feature matrices are let in and given back in their types, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relspace._core.matrices import as_features, check_same_width
from relspace.errors import InvalidInputError, InvalidTypeError, NonFiniteError


class _OnlyArray:
    def __array__(self, dtype=None, copy=None):
        return np.arange(6.0).reshape(3, 2)


class _OnlyDlpack:
    def __init__(self) -> None:
        self.tensor = torch.arange(6.0).reshape(3, 2)

    def __dlpack__(self, **arguments):
        return self.tensor.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


@pytest.mark.parametrize(
    ("dtype", "computed"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.int8, torch.float32),
        (torch.int64, torch.float32),
    ],
)
def test_types_are_computed_and_given_back(dtype: torch.dtype, computed: torch.dtype) -> None:
    features = as_features(torch.arange(6).reshape(3, 2).to(dtype))
    assert features.tensor.dtype == computed
    assert not features.is_array
    restored = features.restore(features.tensor * 0.5)
    assert restored.dtype == (dtype if dtype.is_floating_point else computed)


def test_a_float_tensor_is_not_copied() -> None:
    X = torch.randn(4, 3)
    assert as_features(X).tensor is X
    array = np.ones((4, 3))
    assert np.shares_memory(as_features(array).tensor.numpy(), array)


@pytest.mark.parametrize(
    "given", [_OnlyArray(), _OnlyDlpack(), [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], ((0, 1), (2, 3))]
)
def test_array_likes_are_let_in(given: object) -> None:
    tensor = as_features(given).tensor
    assert tensor[1].tolist() == [2.0, 3.0]


def test_readonly_arrays_are_neither_written_nor_warned_about(
    recwarn: pytest.WarningsRecorder,
) -> None:
    array = np.ones((3, 2), dtype=np.float32)
    array.flags.writeable = False
    as_features(array).tensor.zero_()
    assert array.sum() == 6
    assert not recwarn.list


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (torch.ones(3), InvalidInputError, r"Z has shape \(3,\); .* reshape\(-1, 1\)"),
        (torch.ones(3, 2, 2), InvalidInputError, r"Z has shape \(3, 2, 2\); .* flatten it first"),
        (np.float64(3), InvalidInputError, r"Z has shape \(\)"),
        (torch.ones(0, 4), InvalidInputError, r"Z is empty: its shape is \(0, 4\)"),
        (np.ones((4, 0)), InvalidInputError, r"Z is empty: its shape is \(4, 0\)"),
        (torch.ones(3, 2, dtype=torch.complex64), InvalidTypeError, "type torch.complex64"),
        (np.ones((3, 2), dtype=complex), InvalidTypeError, "type complex128"),
        (torch.ones(3, 2, dtype=torch.bool), InvalidTypeError, "type torch.bool"),
        (np.ones((3, 2), dtype=bool), InvalidTypeError, "type bool"),
        (np.array([["a", "b"]]), InvalidTypeError, "type <U1"),
        (np.array([[None, 1]]), InvalidTypeError, "type object"),
        (torch.eye(3).to_sparse(), InvalidTypeError, r"sparse tensor; call .to_dense\(\)"),
        ("features.npy", InvalidTypeError, "Z is of type str"),
        (b"1", InvalidTypeError, "Z is of type bytes"),
        (None, InvalidTypeError, "Z is of type NoneType"),
        ({"a": 1}, InvalidTypeError, "Z is of type dict"),
        ([[1.0, 2.0], [3.0]], InvalidInputError, "Z can't be made an array"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(given, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        as_features(given, "Z")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_non_finite_values_are_counted_and_placed(dtype: torch.dtype) -> None:
    X = torch.ones(10, 3, dtype=dtype)
    X[2, 1] = torch.nan
    X[2, 2] = torch.inf
    X[7, 0] = -torch.inf
    with pytest.raises(
        NonFiniteError,
        match=r"Z holds 3 NaN or infinite values in 2 of 10 rows, "
        r"first at \(row, column\) \(2, 1\), \(2, 2\), \(7, 0\); repair or remove",
    ):
        as_features(X, "Z")
    assert as_features(X, check_finite=False).tensor.shape == (10, 3)


def test_infinities_that_cancel_are_found() -> None:
    with pytest.raises(NonFiniteError, match="2 NaN or infinite values in 1 of 1"):
        as_features([[np.inf, -np.inf]])


def test_huge_finite_values_are_let_in() -> None:
    largest = torch.finfo(torch.float32).max
    X = torch.tensor([[largest, largest], [-largest, -largest]])
    assert as_features(X).tensor is X


def test_gradient_survives_tensors_and_leaves_arrays() -> None:
    X = torch.randn(4, 3, requires_grad=True)
    assert as_features(X).restore(X * 2).requires_grad
    assert isinstance(as_features(np.ones((4, 3))).restore(X * 2), np.ndarray)


def test_different_widths_are_refused() -> None:
    check_same_width(torch.ones(2, 3), torch.ones(5, 3), ("X", "Y"))
    with pytest.raises(InvalidInputError, match=r"X has 3 features and Y has 4; .* align"):
        check_same_width(torch.ones(2, 3), torch.ones(2, 4), ("X", "Y"))
