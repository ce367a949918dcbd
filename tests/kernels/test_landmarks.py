"""Landmarks: uniform, sorted, decided by the seed."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import combinations

import pytest
import torch

from relspace import choose_landmarks
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.kernels import landmarks as module
from relspace.kernels.landmarks import draw_distinct


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


@pytest.mark.parametrize(("n", "m"), [(6, 3), (7, 2), (5, 1)])
def test_every_set_of_items_is_as_likely_beyond_a_permutation(
    n: int, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PERMUTED_ITEMS", 0)
    monkeypatch.setattr(torch, "randperm", None)
    generator = torch.Generator().manual_seed(0)
    # One more item than twice those drawn, or draw_distinct permutes.
    n = max(n, 2 * m + 1)
    sets = list(combinations(range(n), m))
    per_set = 400
    counts = Counter(
        tuple(draw_distinct(n, m, generator).tolist()) for _ in range(per_set * len(sets))
    )
    assert set(counts) == set(sets)
    chi_squared = sum((count - per_set) ** 2 / per_set for count in counts.values())
    degrees = len(sets) - 1
    # Mean and standard deviation of its distribution.
    assert abs(chi_squared - degrees) < 3.5 * (2 * degrees) ** 0.5


@pytest.mark.parametrize("m", [1, 1000, 2**17])
def test_of_a_thousand_million_items_memory_is_that_of_the_landmarks(m: int) -> None:
    n = 10**9
    tracemalloc.start()
    chosen = choose_landmarks(n, m)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(chosen, choose_landmarks(n, m))
    assert not torch.equal(chosen, choose_landmarks(n, m, random_state=1))
    assert chosen.unique().tolist() == chosen.tolist()
    assert len(chosen) == m
    assert 0 <= int(chosen[0]) <= int(chosen[-1]) < n
    # NumPy's part of it; torch's is two such tensors.
    assert peak < 100 * m + 100_000


def test_half_of_many_items_are_permuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PERMUTED_ITEMS", 0)
    monkeypatch.setattr(torch, "randint", None)
    assert len(choose_landmarks(100, 50)) == 50
