"""Matching of units beside plain definitions: linear programs, all permutations, closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog

import relspace as rs
from relspace import measures
from relspace.errors import InvalidInputError

Matrix = NDArray[np.float64]


def two_sets(width: int, other: int, n: int = 30) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(width + other)
    shared = rng.normal(size=(n, 3))
    X, Y = (np.tanh(shared @ rng.normal(size=(3, d))) for d in (width, other))
    return X + 0.4 * rng.normal(size=X.shape) + 0.2, 3 * Y + rng.normal(size=Y.shape)


def correlations(X: Matrix, Y: Matrix) -> Matrix:
    """Every unit of X with every one of Y."""
    both: Matrix = np.corrcoef(X.T, Y.T)[: X.shape[1], X.shape[1] :]
    return both


def largest_transport(C: Matrix) -> float:
    """The linear program of Khosla and Williams 2024."""
    d, e = C.shape
    sums = np.concatenate(
        [np.kron(np.eye(d), np.ones((1, e))), np.kron(np.ones((1, d)), np.eye(e))]
    )
    marginals = np.concatenate([np.full(d, 1 / d), np.full(e, 1 / e)])
    return float(-linprog(-C.ravel(), A_eq=sums, b_eq=marginals).fun)


@pytest.mark.parametrize(("d", "e"), [(6, 9), (9, 6), (7, 7), (4, 8), (1, 5), (5, 7), (8, 30)])
class TestValues:
    def test_soft_matching(self, d: int, e: int) -> None:
        X, Y = two_sets(d, e)
        expected = largest_transport(correlations(X, Y))
        assert measures.get("soft_matching")(X, Y) == pytest.approx(expected, abs=1e-9)

    def test_soft_matching_distance(self, d: int, e: int) -> None:
        X, Y = two_sets(d, e)
        x, y = (Z - Z.mean(axis=0) for Z in (X, Y))
        x, y = (Z / np.linalg.norm(Z) * math.sqrt(Z.shape[1]) for Z in (x, y))
        costs = np.square(x[:, :, None] - y[:, None]).sum(axis=0)
        expected = math.sqrt(-largest_transport(-costs))
        assert measures.get("soft_matching_distance")(X, Y) == pytest.approx(expected, abs=1e-8)

    def test_correlation_matching(self, d: int, e: int) -> None:
        X, Y = two_sets(d, e)
        of_first, of_second = (correlations(X, Y).max(axis=axis).mean() for axis in (1, 0))
        values = [measures.get("correlation_matching", matched=one)(X, Y) for one in
                  ("first", "second", "both")]  # fmt: skip
        expected = [of_first, of_second, (of_first + of_second) / 2]
        assert values == pytest.approx(expected, abs=1e-9)


def test_the_plan_of_many_units_is_that_of_pot() -> None:
    ot = pytest.importorskip("ot")
    X, Y = two_sets(48, 64, n=200)
    expected = 1 - ot.emd2(np.full(48, 1 / 48), np.full(64, 1 / 64), 1 - correlations(X, Y))
    assert measures.get("soft_matching")(X, Y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("d", "e"), [(4, 6), (6, 4), (5, 5)])
def test_permutations_are_the_best_of_all(d: int, e: int) -> None:
    X, Y = two_sets(d, e)
    narrow, wide = (X, Y) if d <= e else (Y, X)
    matchings = list(itertools.permutations(range(wide.shape[1]), narrow.shape[1]))
    C = correlations(narrow, wide)
    rows = np.arange(narrow.shape[1])
    expected = max(C[rows, list(one)].mean() for one in matchings)
    assert measures.get("permutation_matching")(X, Y) == pytest.approx(expected, abs=1e-9)

    x, y = (Z - Z.mean(axis=0) for Z in (narrow, wide))
    x, y = (Z / np.linalg.norm(Z) for Z in (x, y))
    distances = []
    for one in matchings:
        padded = np.zeros_like(y)
        padded[:, list(one)] = x
        distances.append(np.linalg.norm(padded - y))
    value = measures.get("permutation_procrustes")(X, Y)
    assert value == pytest.approx(min(distances), abs=1e-9)
    angle = measures.get("permutation_procrustes", form="angle")(X, Y)
    assert angle == pytest.approx(math.acos(1 - min(distances) ** 2 / 2), abs=1e-9)


NAMES = [one for one in measures.names() if "matching" in one] + ["permutation_procrustes"]


@pytest.mark.parametrize("name", NAMES)
class TestWhatCountsForNothing:
    def test_order_of_units(self, name: str) -> None:
        X, Y = two_sets(6, 9)
        measure = measures.get(name)
        order = np.random.default_rng(0).permutation(9)
        assert measure(X, Y[:, order]) == pytest.approx(measure(X, Y), abs=1e-9)
        assert measure(Y, Y[:, order]) == pytest.approx(measure.identical, abs=1e-9)

    def test_units_that_never_vary(self, name: str) -> None:
        X, Y = two_sets(6, 9)
        measure = measures.get(name)
        for dtype in (np.float64, np.float32):
            dead = np.concatenate([np.full((30, 2), 0.1), Y, np.zeros((30, 1))], axis=1)
            value = measure(X.astype(dtype), dead.astype(dtype))
            assert value == pytest.approx(measure(X.astype(dtype), Y.astype(dtype)), abs=1e-12)

    def test_sums_say_the_same_of_them(self, name: str) -> None:
        X, Y = two_sets(6, 9, n=2000)
        Y[:, 4] = 0.1
        compared = rs.compare(X, Y, measure=name, n_permutations=5)
        summed = rs.compare(X, Y, measure=name, n_permutations=5, memory_budget=100_000)
        assert summed.value == pytest.approx(compared.value, abs=1e-9)


def test_a_rotation_is_seen() -> None:
    X, _ = two_sets(6, 6)
    turned = X @ np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    for name in NAMES:
        measure = measures.get(name)
        assert abs(measure(X, turned) - measure.identical) > 0.1


def test_the_distance_is_a_metric_between_widths() -> None:
    rng = np.random.default_rng(0)
    measure = measures.get("soft_matching_distance")
    for _ in range(10):
        X, Y, Z = (rng.normal(size=(8, d)) for d in (3, 5, 4))
        assert measure(X, Z) <= measure(X, Y) + measure(Y, Z) + 1e-9


def test_choices_are_checked() -> None:
    with pytest.raises(InvalidInputError, match="form is 'score'"):
        measures.get("soft_matching", form="score")
    with pytest.raises(InvalidInputError, match="matched is 'each'"):
        measures.get("correlation_matching", matched="each")
