"""Alignment of depth and arrangements, beside exhaustive search and known geometry."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from relspace.similarity.arrangement import classical_scaling, dissimilarity, hierarchy
from relspace.similarity.depth import depth_correlation, monotone_path, relative_depth

Path = list[tuple[int, int]]


def every_path(rows: int, columns: int) -> list[Path]:
    if (rows, columns) == (1, 1):
        return [[(0, 0)]]
    shorter = []
    for down, right in ((1, 1), (1, 0), (0, 1)):
        if rows > down and columns > right:
            shorter += every_path(rows - down, columns - right)
    return [[*path, (rows - 1, columns - 1)] for path in shorter]


def length(path: Path, likeness: np.ndarray) -> float:
    total = 2 * likeness[0, 0]
    for (i, j), (k, m) in pairwise(path):
        total += (k - i + m - j) * likeness[k, m]
    return float(total)


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_no_path_is_better(rows: int, columns: int, seed: int) -> None:
    likeness = np.random.default_rng(seed).normal(size=(rows, columns))
    found = monotone_path(likeness)
    best = max(length(path, likeness) for path in every_path(rows, columns))
    assert length(found, likeness) == pytest.approx(best)
    assert found in every_path(rows, columns)


def test_a_model_is_aligned_with_itself_along_the_diagonal() -> None:
    depth = np.arange(6.0)
    likeness = np.exp(-np.abs(depth[:, None] - depth))
    assert monotone_path(likeness) == [(i, i) for i in range(6)]


def test_relative_depth_and_its_correlation() -> None:
    np.testing.assert_allclose(relative_depth(5), [0, 0.25, 0.5, 0.75, 1])
    assert relative_depth(1).tolist() == [1.0]
    assert depth_correlation(np.array([3, 2, 1, 0])) == -1.0
    assert np.isnan(depth_correlation(np.array([2, 2, 2])))


def test_scaling_reproduces_distances_of_a_plane() -> None:
    points = np.random.default_rng(0).normal(size=(7, 2))
    distances = squareform(pdist(points))
    placed, explained = classical_scaling(distances)
    np.testing.assert_allclose(squareform(pdist(placed)), distances, atol=1e-9)
    assert explained == pytest.approx(1.0)
    in_space = squareform(pdist(np.random.default_rng(0).normal(size=(30, 20))))
    assert 0.1 < classical_scaling(in_space)[1] < 0.4


def test_hierarchy_joins_the_closest_first() -> None:
    distances = squareform(pdist(np.array([[0.0], [1.0], [5.0], [5.5]])))
    merges = hierarchy(distances)
    assert merges[:, :2].astype(int).tolist() == [[2, 3], [0, 1], [4, 5]]
    np.testing.assert_allclose(merges[:, 2], [0.5, 1.0, 4.75])


def test_dissimilarity_of_values() -> None:
    cosines = np.array([[1.0, 0.5], [0.5, 1.0]])
    np.testing.assert_allclose(dissimilarity(cosines, "similarity", 1.0), [[0, 1], [1, 0]])
    distances = np.array([[1e-8, 0.3], [0.3, 0.0]])
    np.testing.assert_allclose(dissimilarity(distances, "distance", 0.0), [[0, 0.3], [0.3, 0]])
