"""Neighbours in order: values by their definitions, ties broken at random, p-values with ties."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from sklearn.neighbors import NearestNeighbors

import relspace as rs
from relspace import measures
from relspace.errors import InvalidTypeError

Matrix = NDArray[np.float64]
NAMES = ["rank_neighbors", "lcs_neighbors", "edit_neighbors", "cycle_neighbors"]


def two_sets(n: int = 40) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(n, 3))
    X = np.tanh(shared @ rng.normal(size=(3, 6))) + 0.3 * rng.normal(size=(n, 6)) + 0.2
    return X, shared @ rng.normal(size=(3, 8)) + 0.5 * rng.normal(size=(n, 8))


def ordered(Z: Matrix, k: int, metric: str) -> list[list[int]]:
    search = NearestNeighbors(n_neighbors=k, metric=metric).fit(Z)
    found: list[list[int]] = search.kneighbors(return_distance=False).tolist()
    return found


def longest_common(a: list[int], b: list[int]) -> int:
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, j in itertools.product(range(len(a)), range(len(b))):
        longer = max(table[i, j + 1], table[i + 1, j])
        table[i + 1, j + 1] = table[i, j] + 1 if a[i] == b[j] else longer
    return int(table[-1, -1])


def edits(a: list[int], b: list[int]) -> int:
    if not a or not b:
        return len(a) + len(b)
    changed = edits(a[:-1], b[:-1]) + (a[-1] != b[-1])
    return min(edits(a[:-1], b) + 1, edits(a, b[:-1]) + 1, changed)


def rank_agreement(a: list[int], b: list[int]) -> float:
    shared = set(a) & set(b)
    if not shared:
        return 0.0
    ranks = [(a.index(j) + 1, b.index(j) + 1) for j in shared]
    terms = [2 / ((1 + abs(r - q)) * (r + q)) for r, q in ranks]
    return sum(terms) / sum(1 / i for i in range(1, len(shared) + 1))


def by_definition(name: str, near_x: list[list[int]], near_y: list[list[int]], k: int) -> float:
    pairs = list(zip(near_x, near_y, strict=True))
    if name == "cycle_neighbors":
        return float(np.mean([any(i in near_x[j] for j in b) for i, (_, b) in enumerate(pairs)]))
    if name == "rank_neighbors":
        return float(np.mean([rank_agreement(a, b) for a, b in pairs]))
    if name == "lcs_neighbors":
        return float(np.mean([longest_common(a, b) for a, b in pairs])) / k
    return 1 - float(np.mean([edits(a, b) for a, b in pairs])) / k


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5])
def test_values_are_those_of_the_definition(name: str, metric: str, k: int) -> None:
    X, Y = two_sets()
    parameters: dict[str, Any] = {"k": k, "metric": metric}
    measure = measures.get(name, **parameters)
    near_x, near_y = ordered(X, k, metric), ordered(Y, k, metric)
    assert measure(X, Y) == pytest.approx(by_definition(name, near_x, near_y, k), abs=1e-12)
    # Without ties the seed changes nothing.
    assert measures.get(name, random_state=7, **parameters)(X, Y) == measure(X, Y)
    order = np.random.default_rng(1).permutation(len(X))
    permuted = by_definition(name, ordered(X[order], k, metric), near_y, k)
    factors = measure.prepare(X), measure.prepare(Y)
    assert measure.from_factors(*factors, torch.from_numpy(order)) == pytest.approx(permuted)


def test_orders_of_many_items_are_searched_without_a_table() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4100, 5))
    Y = X + 0.1 * rng.normal(size=X.shape)
    near_x, near_y = ordered(X, 3, "euclidean"), ordered(Y, 3, "euclidean")
    for name in NAMES:
        value = measures.get(name, k=3, metric="euclidean")(X, Y)
        assert value == pytest.approx(by_definition(name, near_x, near_y, 3), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_way_to_break_ties_is_as_likely(name: str, dtype: torch.dtype) -> None:
    """Means over seeds are the mean over all orders of tied items, in each set by itself."""
    rng = np.random.default_rng(3)
    X, Y = rng.integers(0, 2, size=(7, 2)), rng.integers(0, 3, size=(7, 1))
    k = 2

    def ways(Z: Matrix) -> list[list[list[int]]]:
        found = []
        for i, row in enumerate(np.abs(Z[:, None] - Z).sum(axis=-1)):
            others = [j for j in range(7) if j != i]
            orders = [list(p) for p in itertools.permutations(others)]
            first = {tuple(p[:k]) for p in orders if sorted(row[p]) == row[p].tolist()}
            found.append([list(one) for one in first])
        return found

    ways_x, ways_y = ways(X), ways(Y)
    of_items = []
    for i, (of_x, of_y) in enumerate(zip(ways_x, ways_y, strict=True)):
        if name == "cycle_neighbors":
            # Each of the others breaks its own ties.
            leads = [np.mean([i in way for way in ways_x[j]]) for j in range(7)]
            values = [1 - np.prod([1 - leads[j] for j in b]) for b in of_y]
        else:
            values = [by_definition(name, [a], [b], k) for a in of_x for b in of_y]
        of_items.append(np.mean(values))
    sets = [torch.tensor(Z, dtype=dtype) for Z in (X, Y)]
    found = [
        measures.get(name, k=k, metric="euclidean", random_state=seed)(*sets) for seed in range(300)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(np.mean(of_items), abs=4 * error)


@pytest.mark.parametrize("name", NAMES)
def test_sets_of_the_same_kind_break_their_ties_by_themselves(name: str) -> None:
    rng = np.random.default_rng(0)
    p_values = []
    for seed in range(40):
        X, Y = (np.eye(5)[rng.integers(0, 5, 40)] for _ in range(2))
        found = rs.compare(X, Y, measure=name, n_permutations=39, random_state=seed)
        assert found.p_value is not None
        p_values.append(found.p_value)
    assert sum(p <= 0.05 for p in p_values) <= binom.ppf(0.999, 40, 0.05)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.2)


def test_the_seed_is_checked() -> None:
    with pytest.raises(InvalidTypeError, match="random_state"):
        measures.get("lcs_neighbors", random_state=0.5)


@pytest.mark.parametrize(
    "name", ["edit_neighbors", "lcs_neighbors", "rank_neighbors", "tree_edges"]
)
def test_ties_are_broken_alike_where_the_order_of_distances_is_the_same(name: str) -> None:
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    labels, counts = np.eye(4)[rng.integers(0, 4, 40)], rng.poisson(2.0, size=(40, 4)).astype(float)
    for X in (labels, counts):
        same = (X, 3 * X, 0.1 * X, X[:, ::-1], X.astype("f4"), X @ rotation)
        found = [rs.compare(X, Y, measure=name, n_permutations=99).calibrated for Y in same]
        assert found == [1.0] * len(same)
    # Other labels break their ties in another way, however many items agree.
    other = labels.copy()
    other[0] = labels[labels.argmax(axis=1) != labels[0].argmax()][0]
    assert measures.get(name)(labels, other) < 0.9
