"""Spanning trees and merge orders beside SciPy's, and p-values with ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform
from scipy.stats import binom, spearmanr

import relspace as rs
from relspace import measures
from relspace.measures.spanning_trees import merge_heights, spanning_tree

Matrix = NDArray[np.float64]


def two_sets(n: int = 40) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(0)
    shared = 2 * np.eye(4)[rng.integers(0, 4, n)]
    X = shared @ rng.normal(size=(4, 6)) + 0.6 * rng.normal(size=(n, 6))
    return X, shared @ rng.normal(size=(4, 8)) + 0.6 * rng.normal(size=(n, 8))


def edges_of(Z: Matrix) -> set[tuple[int, int]]:
    first, second = minimum_spanning_tree(squareform(pdist(Z))).nonzero()
    return {(min(i, j), max(i, j)) for i, j in zip(first.tolist(), second.tolist(), strict=True)}


def test_the_tree_and_its_merges_are_those_of_scipy() -> None:
    X, _ = two_sets()
    edges, lengths = spanning_tree(squareform(pdist(X)))
    assert {(min(a, b), max(a, b)) for a, b in edges.tolist()} == edges_of(X)
    expected = cophenet(linkage(pdist(X), "single"))
    np.testing.assert_allclose(squareform(merge_heights(edges, lengths)), expected)


def test_values_are_those_of_the_definition() -> None:
    X, Y = two_sets()
    heights = [cophenet(linkage(pdist(Z), "single")) for Z in (X, Y)]
    value = measures.get("merge_orders")(X, Y)
    assert value == pytest.approx(spearmanr(*heights).statistic, abs=1e-9)
    shared = len(edges_of(X) & edges_of(Y)) / (len(X) - 1)
    assert measures.get("tree_edges")(X, Y) == pytest.approx(shared)
    assert measures.get("tree_edges", random_state=5)(X, Y) == pytest.approx(shared)
    correlations = [cophenet(linkage(pdist(Z, "correlation"), "single")) for Z in (X, Y)]
    other = measures.get("merge_orders", distance="correlation")(X, Y)
    assert other == pytest.approx(spearmanr(*correlations).statistic, abs=1e-9)


def test_merge_orders_of_tied_distances_do_not_depend_on_the_tree() -> None:
    rng = np.random.default_rng(2)
    X, Y = (rng.integers(0, 4, size=(30, 3)).astype(float) for _ in range(2))
    # Whole numbers have exact distances.
    expected = [cophenet(linkage(pdist(Z, "sqeuclidean"), "single")) for Z in (X, Y)]
    order = rng.permutation(30)
    for rows in (slice(None), order):
        value = measures.get("merge_orders")(X[rows], Y[rows])
        assert value == pytest.approx(spearmanr(*expected).statistic, abs=1e-9)


def test_tied_edges_are_chosen_at_random() -> None:
    # Of a square's four sides every three make a tree. The squares share two opposite sides.
    X = np.array([[0.0, 0], [0, 1], [1, 1], [1, 0]])
    Y = X[[0, 2, 1, 3]]
    values = [measures.get("tree_edges", random_state=seed)(X, Y) for seed in range(300)]
    assert set(np.round(3 * np.array(values))) == {0, 1, 2}
    assert np.mean(values) == pytest.approx(2 / 3 * (3 / 4) ** 2, abs=0.04)


@pytest.mark.parametrize("name", ["merge_orders", "tree_edges"])
def test_unrelated_sets_with_ties_are_no_more_alike_than_chance(name: str) -> None:
    rng = np.random.default_rng(0)
    p_values: list[Any] = []
    for seed in range(40):
        X, Y = (rng.integers(0, 3, size=(30, 3)) for _ in range(2))
        found = rs.compare(X, Y, measure=name, n_permutations=39, random_state=seed)
        p_values.append(found.p_value)
    assert sum(p <= 0.05 for p in p_values) <= binom.ppf(0.999, 40, 0.05)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.2)
