"""Nearest groups against loops over all items, and against neighbours of items."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

import relspace as rs
from relspace.errors import InvalidInputError
from relspace.measures.group_neighborhoods import GroupNeighborhoods, find_group_neighborhoods
from relspace.resampling import shift_families

K = 3


def nearest_groups(X: np.ndarray, labels: np.ndarray) -> list[set[int]]:
    """The K nearest other groups of each item, by its cosine with their nearest item."""
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    found = []
    for item, own in zip(unit, labels, strict=True):
        cosines = unit @ item
        best = {g: cosines[labels == g].max() for g in set(labels.tolist()) if g != own}
        found.append(set(sorted(best, key=best.__getitem__)[-K:]))
    return found


def sets() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(12, 5))
    of_x, of_y = rng.permutation(np.arange(24) // 2), rng.permutation(np.arange(60) % 12)
    X = groups[of_x] + 0.6 * rng.normal(size=(24, 5))
    Y = groups[of_y] @ rng.normal(size=(5, 7)) + 0.6 * rng.normal(size=(60, 7))
    return X, Y, of_x, of_y


def find(X: np.ndarray, labels: np.ndarray, metric: str = "cosine") -> GroupNeighborhoods:
    return find_group_neighborhoods(torch.tensor(X), torch.tensor(labels), K, metric, "X", 0)


@pytest.mark.parametrize("permuted", [False, True])
def test_agreement_is_that_of_all_pairs_of_items_in_a_group(permuted: bool) -> None:
    X, Y, of_x, of_y = sets()
    permutation = np.random.default_rng(1).permutation(12) if permuted else np.arange(12)
    near_x, near_y = nearest_groups(X, of_x), nearest_groups(Y, of_y)
    number = permutation.argsort()
    shares = []
    for group in range(12):
        first = [{number[h] for h in near_x[i]} for i in np.flatnonzero(of_x == permutation[group])]
        second = [near_y[j] for j in np.flatnonzero(of_y == group)]
        shares.append(np.mean([len(a & b) / K for a in first for b in second]))
    given = torch.tensor(np.stack([np.roll(np.arange(12), 1), permutation]))
    found = find(X, of_x).agreements(find(Y, of_y), given)
    assert float(found[1]) == pytest.approx(np.mean(shares))
    if not permuted:
        assert find(X, of_x).agreement(find(Y, of_y)) == pytest.approx(np.mean(shares))


def test_the_null_is_the_agreement_under_each_permutation(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y, of_x, of_y = sets()
    first, second = find(X, of_x), find(Y, of_y)
    families = shift_families(12, 30, random_state=0)
    one_by_one = [
        float(first.agreements(second, batch)) for family in families for batch in family.batches(1)
    ]
    for at_once in (2**17, 1):
        monkeypatch.setattr("relspace.measures.group_neighborhoods._ENTRIES_AT_ONCE", at_once)
        np.testing.assert_allclose(first.null(second, families), one_by_one, rtol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_groups_of_one_item_are_its_neighbours(metric: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4))
    Y = X @ rng.normal(size=(4, 6)) + 0.3 * rng.normal(size=(30, 6))
    found = find(X, np.arange(30), metric).agreement(find(Y, np.arange(30), metric))
    assert found == pytest.approx(rs.measures.get("mutual_neighbors", k=K, metric=metric)(X, Y))


def test_ties_are_broken_by_the_seed_and_not_by_the_order() -> None:
    classes = np.eye(2)[np.arange(40) % 2]
    of_seed = [
        find_group_neighborhoods(torch.tensor(classes), torch.arange(40), K, "cosine", "X", seed)
        for seed in range(400)
    ]
    mean = np.mean([one.agreement(two) for one, two in pairwise(of_seed)])
    assert mean == pytest.approx(K / 19, abs=0.02)


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"k is 3 and X has 4 groups"):
        find(np.random.default_rng(0).normal(size=(8, 3)), np.arange(8) // 2)
