"""Landmarks: uniform, sorted, decided by the seed."""

from __future__ import annotations

import pytest
import torch

from relspace import choose_landmarks
from relspace.errors import InvalidInputError, InvalidTypeError


@pytest.mark.parametrize(("n", "m"), [(10, 3), (1000, 999), (5, 5), (5, 50), (1, 1)])
def test_landmarks_are_distinct_items_in_order(n: int, m: int) -> None:
    landmarks = choose_landmarks(n, m)
    assert landmarks.dtype == torch.long
    assert len(landmarks) == min(n, m)
    assert bool((landmarks.diff() > 0).all())
    assert 0 <= int(landmarks[0]) <= int(landmarks[-1]) < n


def test_the_seed_decides() -> None:
    assert torch.equal(choose_landmarks(1000, 20), choose_landmarks(1000, 20))
    assert not torch.equal(choose_landmarks(1000, 20), choose_landmarks(1000, 20, random_state=1))


def test_every_item_is_as_likely() -> None:
    counts = torch.zeros(20)
    for seed in range(2000):
        counts[choose_landmarks(20, 5, random_state=seed)] += 1
    # 500 expected, standard deviation 19.4.
    assert float((counts - 500).abs().max()) < 80


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 3), InvalidInputError, "n_items is 0"),
        ((3, 0), InvalidInputError, "n_landmarks is 0"),
        ((3.0, 1), InvalidTypeError, "n_items is 3.0"),
        ((3, True), InvalidTypeError, "n_landmarks is True"),
    ],
)
def test_bad_counts_are_named(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        choose_landmarks(*arguments)
