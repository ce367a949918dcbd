"""How much memory is free, and how rows are cut."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import given
from hypothesis import strategies as st

from relspace._core.memory import free_memory_bytes, is_free, row_slices


@given(st.integers(0, 500), st.integers(0, 100), st.integers(1, 5000))
def test_slices_cover_every_row_once_within_the_budget(n: int, width: int, budget: int) -> None:
    slices = list(row_slices(n, width, budget))
    assert [row for piece in slices for row in range(n)[piece]] == list(range(n))
    for piece in slices:
        rows = piece.stop - piece.start
        assert rows == 1 or rows * width <= budget


def test_free_memory_is_what_the_system_says() -> None:
    free = free_memory_bytes()
    assert 0 < free < 2**50
    assert free_memory_bytes(torch.device("cpu")) > 0


def test_a_limit_counts_for_the_calls_inside_it(assume_free: Callable[..., None]) -> None:
    assert is_free(2**20)
    assume_free(1000, 10)
    assert free_memory_bytes() == 1000
    assert free_memory_bytes(torch.device("cuda")) == 10
    assert is_free(1000)
    assert not is_free(1001)
