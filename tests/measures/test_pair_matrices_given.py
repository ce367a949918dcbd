"""Dissimilarities that are given where features are asked for: said, not taken silently."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

import relspace as rs
from relspace.errors import InvalidInputError, RelspaceWarning


def features(n_items: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_items, 5))
    return X, X[:, :3] + 0.3 * rng.normal(size=(n_items, 3))


@pytest.mark.parametrize("measure", ["rsa", "cka"])
def test_a_square_matrix_of_dissimilarities_is_warned_of(measure: str) -> None:
    X, Y = features()
    with pytest.warns(RelspaceWarning, match="X is a symmetric matrix of 30 x 30.*dissimilar"):
        rs.compare(squareform(pdist(X)), Y, measure=measure)
    with pytest.warns(RelspaceWarning, match="b, l is a symmetric .* give the features"):
        rs.compare_layers(
            {"l": X},
            {"l": squareform(pdist(Y)).astype(np.float32)},
            measure=measure,
            names=["a", "b"],
            n_permutations=0,
        )
    with pytest.warns(RelspaceWarning, match="with 1 all along its diagonal, as similarities"):
        rs.compare(np.corrcoef(X), Y, measure=measure)


def test_square_features_are_not_warned_of() -> None:
    X = np.random.default_rng(0).normal(size=(30, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rs.compare(X, X + X.T, measure="cka")
        np.fill_diagonal(X, 0.0)
        rs.compare(X, features()[0], measure="cka")


def test_a_condensed_vector_is_named() -> None:
    X, Y = features()
    with pytest.raises(InvalidInputError, match="435 is the number of pairs of 30 items"):
        rs.compare(pdist(X), Y, measure="rsa")
    with pytest.raises(InvalidInputError, match=r"one feature of it\.$"):
        rs.compare(np.arange(434.0), Y)
