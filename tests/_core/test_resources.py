"""Resources: what a budget means, what fits, and how it is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch

from relspace._core.resources import Resources, parse_bytes
from relspace.errors import InvalidInputError, InvalidTypeError, MemoryBudgetError


def test_without_a_budget_the_limit_is_what_is_free(assume_free: Callable[..., None]) -> None:
    assume_free(1000, 100)
    assert Resources().limit == 1000
    assert Resources(device=torch.device("cuda")).limit == 100
    assert Resources().for_blocks() == 250
    assert Resources().for_blocks(at_most=7) == 7


def test_a_budget_is_kept_to_but_never_above_what_is_free(
    assume_free: Callable[..., None],
) -> None:
    assume_free(1000)
    few, many = Resources.of(77), Resources.of("2 KiB")
    assert (few.limit, many.limit) == (77, 1000)
    assert few.fits(77)
    assert not few.fits(78)
    assert not many.fits(1001)
    # What is held beside the blocks is part of the peak.
    assert few.for_blocks() == 77
    assert few.for_blocks(beside=70) == 7
    assert few.for_blocks(beside=700) == 0
    assert [rows.stop for rows in few.blocks(10, 10, beside=37)] == [4, 8, 10]


def test_what_does_not_fit_is_refused_with_its_numbers(assume_free: Callable[..., None]) -> None:
    assume_free(2**30)
    Resources().require(2**30, "the matrix", "take fewer rows.")
    with pytest.raises(
        MemoryBudgetError, match=r"the matrix needs 3 GiB and 1 GiB are free: take fewer"
    ) as caught:
        Resources().require(3 * 2**30, "the matrix", "take fewer rows.")
    assert isinstance(caught.value, MemoryError)
    with pytest.raises(MemoryBudgetError, match=r"and 1 MiB may be used: raise memory_budget"):
        Resources.of("1 MiB").require(2**21, "the matrix")
    for error in (
        caught.value,
        caught.value.about("X"),
        pickle.loads(pickle.dumps(caught.value)),
    ):
        assert isinstance(error, MemoryBudgetError)
        assert (error.n_bytes, error.limit) == (3 * 2**30, 2**30)
        assert error.ways_out == ("take fewer rows",)


@pytest.mark.parametrize(
    ("budget", "error"),
    [
        *((0, InvalidInputError), (-5, InvalidInputError), (1.5, InvalidTypeError)),
        *(("", InvalidInputError), ("0 MiB", InvalidInputError), ("much", InvalidInputError)),
    ],
)
def test_a_bad_budget_is_named(budget: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="memory_budget is"):
        Resources.of(budget)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("1000000", 10**6), ("800M", 800 * 2**20), ("1.5 GiB", 3 * 2**29), (" 2kb ", 2048)],
)
def test_bytes_may_be_text(text: str, n_bytes: int) -> None:
    assert parse_bytes(text, "memory_budget") == n_bytes
