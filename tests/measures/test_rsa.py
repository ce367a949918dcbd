"""RSA by cosine and correlation distances where one feature dominates all items."""

from __future__ import annotations

import numpy as np
import pytest

import relspace as rs
from relspace import measures
from relspace.errors import UndefinedValueError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 5)), RNG.normal(size=(40, 6))
Y[:, :5] += X


def distances(Z: np.ndarray, distance: str) -> np.ndarray:
    wide = Z.astype(np.longdouble)
    if distance == "correlation":
        wide = wide - wide.mean(axis=1, keepdims=True)
    unit = wide / np.sqrt((wide**2).sum(axis=1, keepdims=True))
    squared = ((unit[:, None] - unit[None]) ** 2).sum(axis=2) / 2
    return squared[np.triu_indices(len(Z), 1)]


def expected(A: np.ndarray, B: np.ndarray, distance: str, comparison: str) -> float:
    a, b = distances(A, distance), distances(B, distance)
    if comparison == "correlation":
        a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.parametrize("distance", ["cosine", "correlation"])
@pytest.mark.parametrize("comparison", ["correlation", "cosine"])
@pytest.mark.parametrize(
    ("size", "dtype"),
    [(1e3, "f4"), (3e3, "f4"), (1e4, "f4"), (2e4, "f4"), (1e7, "f4"), (1e8, "f8"), (1e10, "f8")],
)
def test_a_dominant_feature_hides_nothing(
    size: float, dtype: str, comparison: str, distance: str
) -> None:
    A = np.c_[X, np.full(40, size)].astype(dtype)
    measure = measures.get("rsa", distance=distance, comparison=comparison)
    assert measure(A, Y) == pytest.approx(expected(A, Y, distance, comparison), abs=1e-5)


@pytest.mark.parametrize("name", ["rsa_spearman", "rsa_kendall"])
def test_ranks_do_not_depend_on_how_dominant_a_feature_is(name: str) -> None:
    far = [rs.compare(np.c_[X, np.full(40, s)], Y, measure=name).value for s in (1e6, 1e8)]
    assert far[1] == pytest.approx(far[0], abs=1e-3)


def test_equal_distances_stay_tied_beside_a_dominant_feature() -> None:
    corners = np.indices((2, 2, 2, 2)).reshape(4, -1).T * 2.0 - 1
    measure = measures.get("rsa_spearman", distance="cosine")
    values = [measure(np.c_[corners, np.full(16, s)], Y[:16]) for s in (1.0, 3e7)]
    assert values[1] == pytest.approx(values[0], abs=1e-9)


@pytest.mark.parametrize("name", ["rsa", "rsa_cosine", "rsa_spearman", "rsa_kendall"])
def test_directions_made_of_rounding_are_refused(name: str) -> None:
    for dtype in ("f4", "f8"):
        A = np.c_[X, np.full(40, 1e15)].astype(dtype)
        with pytest.raises(UndefinedValueError, match="same direction to within rounding"):
            rs.compare(A, Y, measure=name)
