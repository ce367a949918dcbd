"""What is let in at the border, what is refused, and in which words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relspace._core.limits import MOST_RESAMPLES
from relspace._core.validation import (
    as_features,
    as_ids,
    as_item_indices,
    check_choice,
    check_count,
    check_fraction,
    check_path,
    check_positive,
    check_random_state,
    check_resamples,
    check_same_width,
    name_some,
    pair_items,
)
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError, NonFiniteError


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
        r"first at \(row, column\) \(2, 1\), \(2, 2\), \(7, 0\); remove or repair",
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


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_numbers_of_any_kind_are_let_in(value: object) -> None:
    assert check_fraction(value, "c") == 0.5
    assert check_positive(value, "s") == 0.5


@pytest.mark.parametrize(
    ("check", "value", "error"),
    [
        (check_fraction, 0, InvalidInputError),
        (check_fraction, 1, InvalidInputError),
        (check_fraction, float("nan"), InvalidInputError),
        (check_fraction, "0.5", InvalidTypeError),
        (check_fraction, True, InvalidTypeError),
        (check_fraction, [0.5], InvalidTypeError),
        (check_fraction, 0.5j, InvalidTypeError),
        (check_positive, 0.0, InvalidInputError),
        (check_positive, float("inf"), InvalidInputError),
        (check_positive, None, InvalidTypeError),
        (check_count, 0, InvalidInputError),
        (check_count, 2.0, InvalidTypeError),
        (check_count, True, InvalidTypeError),
        (check_count, "3", InvalidTypeError),
        (check_count, 2**63, InvalidInputError),
        # Python refuses to write so many digits.
        pytest.param(check_count, 10**5000, InvalidInputError, id="huge0"),
        pytest.param(check_count, -(10**5000), InvalidInputError, id="huge1"),
        pytest.param(check_positive, 10**5000, InvalidInputError, id="huge2"),
        (check_positive, np.array("x"), InvalidTypeError),
        (check_positive, np.array(1j), InvalidTypeError),
        (check_positive, torch.tensor(True), InvalidTypeError),
        (check_resamples, 10_000_001, InvalidInputError),
        (check_path, "", InvalidInputError),
        (check_path, "a\0b", InvalidInputError),
        (check_path, float("nan"), InvalidTypeError),
        (check_path, b"x", InvalidTypeError),
    ],
)
def test_bad_numbers_are_named(check, value, error) -> None:
    with pytest.raises(error, match=r"^size is"):
        check(value, "size")


def test_the_largest_counts_are_let_in() -> None:
    assert check_count(2**63 - 1, "n") == 2**63 - 1
    assert check_resamples(MOST_RESAMPLES, "n") == 10_000_000
    with pytest.raises(InvalidInputError, match=r"^n is 10000001; it must be at most 10000000\."):
        check_resamples(10_000_001, "n")


@pytest.mark.parametrize("seed", [0, 7, np.int64(3), 2**63 - 1])
def test_seeds(seed: int) -> None:
    assert check_random_state(seed) == int(seed)


@pytest.mark.parametrize(
    ("seed", "error"),
    [
        (-1, InvalidInputError),
        (2**63, InvalidInputError),
        (None, InvalidTypeError),
        (1.0, InvalidTypeError),
        (True, InvalidTypeError),
        (np.random.default_rng(0), InvalidTypeError),
    ],
)
def test_bad_seeds_are_named(seed, error) -> None:
    with pytest.raises(error, match="random_state is"):
        check_random_state(seed)


def test_choices() -> None:
    assert check_choice("b", "mode", ("a", "b")) == "b"
    for value in ("c", None, 1):
        with pytest.raises(InvalidInputError, match=r"mode is .*; it must be one of a, b"):
            check_choice(value, "mode", ("a", "b"))


def test_row_numbers() -> None:
    assert as_item_indices([3, 1], "rows", 4).tolist() == [3, 1]
    assert as_item_indices(np.array([0, 2], dtype=np.int32), "rows", 4).dtype == torch.long


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([0, 4, -1], InvalidInputError, "rows holds 4, -1; rows go from 0 to 3"),
        ([1, 1], InvalidInputError, "more than once"),
        ([1.5], InvalidTypeError, "list of row numbers"),
        ([[1]], InvalidTypeError, "list of row numbers"),
        ([True, False], InvalidTypeError, "list of row numbers"),
        ("12", InvalidTypeError, "list of row numbers"),
    ],
)
def test_bad_row_numbers_are_named(rows, error, message) -> None:
    with pytest.raises(error, match=message):
        as_item_indices(rows, "rows", 4)


@pytest.mark.parametrize(
    "ids", [["a", "b", "c"], np.array(["a", "b", "c"]), [1, 2, 3], torch.tensor([1, 2, 3])]
)
def test_ids_of_any_list(ids: object) -> None:
    checked = as_ids(ids, "sam", 3)
    assert checked in (("a", "b", "c"), (1, 2, 3))


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (["a", "b"], ItemMismatchError, "sam has 3 items and 2 ids"),
        (["a", "b", "a"], ItemMismatchError, "name 1 item more than once: 'a'"),
        (["1", 1, "2"], ItemMismatchError, "mix strings and whole numbers"),
        ([1.0, 2.0, 3.0], InvalidTypeError, r"id 1 of sam is 1.0, of type float; .*ids='position'"),
        ([True, False, 3], InvalidTypeError, "id 1 of sam is True, of type bool"),
        (["a", "", "b"], InvalidTypeError, "id 2 of sam is ''"),
        ([b"a", b"\xff", b"b"], InvalidInputError, "id 2 of sam .* no text in UTF-8"),
        ("abc", InvalidTypeError, "of type str"),
        (np.ones((3, 1)), InvalidInputError, r"shape \(3, 1\)"),
    ],
)
def test_bad_ids_are_named(ids, error, message) -> None:
    with pytest.raises(error, match=message):
        as_ids(ids, "sam", 3)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=20, unique=True), st.randoms())
def test_items_are_brought_into_the_order_of_the_first_set(ids, random) -> None:
    shuffled = list(ids)
    random.shuffle(shuffled)
    shared, order = pair_items(
        {"a": len(ids), "b": len(ids)}, {"a": tuple(ids), "b": tuple(shuffled)}
    )
    assert shared == tuple(ids)
    assert order["a"] is None
    rows = range(len(ids)) if order["b"] is None else order["b"].tolist()
    assert [shuffled[row] for row in rows] == list(ids)


def test_without_ids_items_are_paired_by_position() -> None:
    ids, order = pair_items({"a": 3, "b": 3}, {"a": None, "b": None})
    assert ids is None
    assert order == {"a": None, "b": None}


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"a": None, "b": None}, "a has 3 items and b has 2; without ids .*: give ids"),
        ({"a": (1, 2, 3), "b": None}, "'b' has no ids while 'a' has"),
        ({"a": (1, 2, 3), "b": (1, 2)}, "b lacks 1 item of a: 3"),
        ({"a": (1, 2, 3), "b": (4, 1)}, "b lacks 2 items of a: 2, 3; a lacks 1 item of b: 4"),
        ({"a": (1, 2, 3), "b": ("1", "02")}, "ids of a are whole numbers and those of b are str"),
        ({"a": (1, 2, 3), "b": ("1", "x")}, "ids of a are whole numbers and those of b are str"),
    ],
)
def test_items_that_do_not_correspond_are_named(ids, message) -> None:
    with pytest.raises(ItemMismatchError, match=message):
        pair_items({"a": 3, "b": 2}, ids)


@pytest.mark.parametrize(
    ("first", "second"), [((1, 2, 30), ("30", "1", "2")), (("1", "2", "30"), (30, 1, 2))]
)
def test_whole_numbers_in_text_are_those_numbers(first, second) -> None:
    shared, order = pair_items({"a": 3, "b": 3}, {"a": first, "b": second})
    assert shared == first
    assert order["b"] is not None
    assert order["b"].tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("ids", "normal"),
    [
        (np.array([3, 1, 2], dtype=np.uint8), (3, 1, 2)),
        ([np.int64(3), 1, np.int8(2)], (3, 1, 2)),
        (np.array(["a", "b ", "3"]), ("a", "b ", "3")),
        ([np.str_("a"), "b", b"c"], ("a", "b", "c")),
        (np.array(["\u00e9".encode(), b"b", b"c"]), ("\u00e9", "b", "c")),
        (torch.tensor([3, 1, 2]), (3, 1, 2)),
        (pd.Index(["a", "b", "c"]), ("a", "b", "c")),
        (pd.Series([3, 1, 2], index=[9, 8, 7]), (3, 1, 2)),
        (pa.array([3, 1, 2]), (3, 1, 2)),
        (range(3), (0, 1, 2)),
    ],
)
def test_ids_have_one_normal_form(ids, normal) -> None:
    found = as_ids(ids, "sam", 3)
    assert found == normal
    assert {type(one) for one in found} == {type(normal[0])}


def test_only_some_items_are_named() -> None:
    assert name_some([1, "b"]) == "1, 'b'"
    assert name_some(range(9)) == "0, 1, 2, 3, 4, ..."


def test_integer_labels_offer_ids_of_each_set_first() -> None:
    rows = {"X": (5, 6, 7), "Y": (6, 7, 8)}
    with pytest.raises(ItemMismatchError) as caught:
        pair_items(dict.fromkeys(rows, 3), rows)
    assert caught.value.ways_out[0] == "name the items of each: {ids={'X': ..., 'Y': ...}}"
    with pytest.raises(ItemMismatchError, match=r"ids=\{'X': \.\.\., 'Y': \.\.\.\}, or match"):
        pair_items(dict.fromkeys(rows, 3), {**rows, "Y": None})
