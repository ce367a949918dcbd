"""Memory budgets: what is free, how rows are cut, what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relspace._core import memory as _blocks
from relspace._core.memory import (
    free_memory_bytes,
    memory_budget_bytes,
    refuse_too_large,
    row_slices,
)
from relspace.errors import InvalidInputError, InvalidTypeError, MemoryBudgetError


@given(st.integers(0, 500), st.integers(0, 100), st.integers(1, 5000))
def test_slices_cover_every_row_once_within_the_budget(n: int, width: int, budget: int) -> None:
    slices = list(row_slices(n, width, budget))
    assert [row for piece in slices for row in range(n)[piece]] == list(range(n))
    for piece in slices:
        rows = piece.stop - piece.start
        assert rows == 1 or rows * width <= budget


def test_default_budget_is_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "free_memory_bytes", lambda device=None: 1000)
    assert memory_budget_bytes() == 250
    assert memory_budget_bytes(77) == 77


@pytest.mark.parametrize(
    ("budget", "error"), [(0, InvalidInputError), (-5, InvalidInputError), (1.5, InvalidTypeError)]
)
def test_bad_budget_is_named(budget: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="memory_budget is"):
        memory_budget_bytes(budget)  # type: ignore[arg-type]


def test_free_memory_is_what_the_system_says() -> None:
    free = free_memory_bytes()
    assert 0 < free < 2**50
    assert free_memory_bytes(torch.device("cpu")) > 0


def test_result_too_large_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "free_memory_bytes", lambda device=None: 2**30)
    refuse_too_large(2**30, "the matrix", "take fewer rows.")
    with pytest.raises(
        MemoryBudgetError, match=r"the matrix needs 3 GiB and 1 GiB are free: take fewer"
    ) as caught:
        refuse_too_large(3 * 2**30, "the matrix", "take fewer rows.")
    assert isinstance(caught.value, MemoryError)
