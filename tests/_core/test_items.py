"""Ids have one normal form, and row numbers are checked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from relspace._core.items import as_ids, as_item_indices
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError


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
