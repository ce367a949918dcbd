"""CKNNA far from the origin, where neighbours are tied, and where its masks differ."""

from __future__ import annotations

import math

import numpy as np
import pytest

import relspace as rs
from relspace import measures
from relspace.errors import UndefinedValueError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 5)), RNG.normal(size=(60, 6))
Y[:, :5] += X


def cknna_of_differences(X: np.ndarray, Y: np.ndarray, k: int = 10) -> float:
    """By the definition, in extended precision."""
    kernels, masks = [], []
    for Z in (X, Y):
        unit = Z.astype(np.longdouble)
        unit = unit / np.sqrt((unit**2).sum(axis=1, keepdims=True))
        squared = ((unit[:, None] - unit[None]) ** 2).sum(axis=2)
        kernels.append(1 - squared / 2)
        np.fill_diagonal(squared, np.inf)
        mask = np.zeros(squared.shape)
        np.put_along_axis(mask, squared.argsort(axis=1)[:, :k], 1, axis=1)
        masks.append(mask)

    def align(i: int, j: int) -> np.longdouble:
        A, B = (kernels[one] * masks[i] * masks[j] for one in (i, j))
        n = len(A)
        product = np.einsum("ij,ji->", A, B)
        product += A.sum() * B.sum() / ((n - 1) * (n - 2))
        return product - 2 * A.sum(axis=0) @ B.sum(axis=1) / (n - 2)

    return float(align(0, 1) / np.sqrt(align(0, 0) * align(1, 1)))


@pytest.mark.parametrize("offset", [0.0, 1e3, 3e7, 1e8, 1e9])
def test_neighbours_far_from_the_origin_are_found(offset: float) -> None:
    for far in (X + offset, np.c_[X, np.full(60, offset)]):
        assert rs.compare(far, Y, measure="cknna").value == pytest.approx(
            cknna_of_differences(far, Y), abs=1e-6
        )


@pytest.mark.parametrize("offset", [1e3, 3e4])
def test_neighbours_far_from_the_origin_in_float32(offset: float) -> None:
    far = np.c_[X, np.full(60, offset)].astype("f4")
    for name in ("cknna", "mutual_neighbors", "jaccard_neighbors"):
        measure = measures.get(name)
        assert measure(far, Y) == pytest.approx(measure(far.astype("f8"), Y), abs=1e-5)


@pytest.mark.parametrize("name", ["cknna", "mutual_neighbors", "second_order_cosine"])
def test_one_direction_to_within_rounding_is_refused(name: str) -> None:
    for far in (X + 1e15, np.c_[X, np.full(60, 1e15)], np.c_[X, np.full(60, 1e18)]):
        with pytest.raises(UndefinedValueError, match="rounding"):
            rs.compare(far, Y, measure=name)


def test_neighbours_all_tied_are_refused() -> None:
    # All are as near to each other: the mask is the same number everywhere.
    with pytest.raises(UndefinedValueError, match="tied"):
        rs.compare(np.eye(20), Y[:20], measure="cknna")


def test_no_bound_of_1_is_claimed() -> None:
    # Each item has 9 neighbours in its cluster and one outside, which the sets don't share.
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.random.default_rng(0).normal(size=(2, 5)), 10, axis=0)
    A, B = (clusters + 1e-3 * rng.normal(size=clusters.shape) for _ in range(2))
    value = rs.compare(A, B, measure="cknna").value
    assert value == pytest.approx(cknna_of_differences(A, B), abs=1e-6)
    assert value > 1.05
    assert rs.compare(clusters, clusters, measure="cknna").value > 1.05
    assert measures.get("cknna").range == (-math.inf, math.inf)
