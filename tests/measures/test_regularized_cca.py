"""The family from CCA to Procrustes and GULP beside their formulas, written out in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import relspace as rs
from relspace import measures
from relspace.errors import InvalidInputError

Matrix = NDArray[np.float64]
ALPHAS = [0.0, 0.2, 0.5, 1.0]


def two_sets(n: int = 60, widths: tuple[int, int] = (6, 9)) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(n, 3))
    X, Y = (shared @ rng.normal(size=(3, d)) + 0.5 * rng.normal(size=(n, d)) for d in widths)
    return X * np.logspace(0, 1, widths[0]) + 2, Y - 3


def whitening(X: Matrix, alpha: float) -> Matrix:
    """Equation 8 of Williams et al. 2021, for features with a mean variance of 1 along axes."""
    covariance = X.T @ X
    variances, axes = np.linalg.eigh(covariance / (np.trace(covariance) / len(covariance)))
    scale = math.sqrt(len(covariance) / np.trace(covariance))
    turned: Matrix = scale * axes @ np.diag(alpha + (1 - alpha) * variances**-0.5) @ axes.T
    return turned


def padded(X: Matrix, width: int) -> Matrix:
    return np.pad(X, ((0, 0), (0, width - X.shape[1])))


def best_rotation(X: Matrix, Y: Matrix) -> Matrix:
    left, _, right = np.linalg.svd(X.T @ Y)
    turn: Matrix = left @ right
    return turn


def angle(X: Matrix, Y: Matrix) -> float:
    return math.acos(np.sum(X * Y) / np.linalg.norm(X) / np.linalg.norm(Y))


@pytest.mark.parametrize("alpha", ALPHAS)
class TestFamily:
    def test_angle(self, alpha: float) -> None:
        X, Y = (Z - Z.mean(axis=0) for Z in two_sets())
        x, y = (padded(Z @ whitening(Z, alpha), 9) for Z in (X, Y))
        expected = angle(x @ best_rotation(x, y), y)
        assert measures.get("regularized_cca", alpha=alpha)(X, Y) == pytest.approx(
            expected, abs=1e-9
        )

    @pytest.mark.parametrize("n_folds", [2, 5])
    def test_held_out_items(self, alpha: float, n_folds: int) -> None:
        X, Y = two_sets()
        measure = measures.get("crossvalidated_cca", alpha=alpha, n_folds=n_folds, random_state=4)
        folds = measure.folds(60)
        assert folds is not None
        part_of = folds(0, 60).numpy()
        alike = size_x = size_y = 0.0
        for part in range(n_folds):
            train, test = part_of != part, part_of == part
            fitted = []
            for Z in (X, Y):
                mean = Z[train].mean(axis=0)
                turn = whitening(Z[train] - mean, alpha)
                fitted.append(tuple(padded((Z[some] - mean) @ turn, 9) for some in (train, test)))
            (x, x_out), (y, y_out) = fitted
            alike += np.sum((x_out @ best_rotation(x, y)) * y_out)
            size_x, size_y = size_x + np.sum(x_out**2), size_y + np.sum(y_out**2)
        expected = math.acos(alike / math.sqrt(size_x * size_y))
        assert measure(X, Y) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("name", ["regularized_cca", "crossvalidated_procrustes"])
    def test_sums_give_the_same(self, alpha: float, name: str) -> None:
        X, Y = two_sets(3000)
        measure = measures.get(name, alpha=alpha)
        held = rs.compare(X, Y, measure=measure, n_permutations=5)
        summed = rs.compare(X, Y, measure=measure, n_permutations=5, memory_budget=300_000)
        assert summed.value == pytest.approx(held.value, abs=1e-9)
        assert abs(summed.chance - held.chance) < 0.05


def test_the_ends_are_procrustes_and_cca() -> None:
    X, Y = two_sets()
    procrustes = measures.get("procrustes_angle")(X, Y)
    assert measures.get("regularized_cca", alpha=1.0)(X, Y) == pytest.approx(procrustes, abs=1e-9)
    # Of 6 and 9 dimensions, 6 canonical correlations.
    cca = math.acos(measures.get("cca")(X, Y) * 6 / math.sqrt(6 * 9))
    assert measures.get("regularized_cca", alpha=0.0)(X, Y) == pytest.approx(cca, abs=1e-9)


def test_cca_is_refused_where_correlations_are_1_whatever_the_features() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 20, 12))
    with pytest.raises(InvalidInputError, match="12 and 12 dimensions and 20 items"):
        measures.get("regularized_cca", alpha=0.0)(X, Y)
    assert measures.get("regularized_cca", alpha=0.1)(X, Y) > 0


def test_an_alpha_out_of_range_is_refused() -> None:
    for name in ("regularized_cca", "crossvalidated_cca"):
        with pytest.raises(InvalidInputError, match=r"alpha is 1\.5"):
            measures.get(name, alpha=1.5)


@pytest.mark.parametrize("name", ["crossvalidated_procrustes", "crossvalidated_cca"])
@pytest.mark.parametrize("width", [6, 300])
def test_unrelated_sets_are_at_a_right_angle_and_a_rotated_one_at_none(
    name: str, width: int
) -> None:
    rng = np.random.default_rng(1)
    measure = measures.get(name)
    values = [measure(*rng.normal(size=(2, 60, width))) for _ in range(12)]
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - math.pi / 2) < 4 * error
    X = rng.normal(size=(60, width))
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    assert measure(X, X @ turn) < 1e-6


def test_axes_that_only_rounding_fills_are_not_whitened() -> None:
    X, Y = (torch.from_numpy(Z) for Z in two_sets())
    low_rank = X[:, :3] @ torch.randn(3, 20, generator=torch.Generator().manual_seed(0)).double()
    for name in ("regularized_cca", "crossvalidated_cca"):
        measure = measures.get(name, alpha=0.0)
        value = measure(low_rank.float(), Y.float())
        assert value == pytest.approx(measure(X[:, :3], Y), abs=1e-3)


class TestGULP:
    def plain(self, X: Matrix, Y: Matrix, penalty: float) -> float:
        """Boix-Adsera et al. 2022, theorem 1, of covariances with a trace of 1."""
        X, Y = (Z - Z.mean(axis=0) for Z in (X, Y))
        X, Y = (Z / np.linalg.norm(Z) * math.sqrt(len(Z)) for Z in (X, Y))
        A, B, C = (left.T @ right / len(X) for left, right in ((X, X), (Y, Y), (X, Y)))
        inverse_a, inverse_b = (np.linalg.inv(M + penalty * np.eye(len(M))) for M in (A, B))
        own = (np.trace(one @ M @ one @ M) for one, M in ((inverse_a, A), (inverse_b, B)))
        return math.sqrt(sum(own) - 2 * np.trace(inverse_a @ C @ inverse_b @ C.T))

    @pytest.mark.parametrize("penalty", [1e-6, 1e-2, 1.0])
    def test_value(self, penalty: float) -> None:
        X, Y = two_sets()
        value = measures.get("gulp", penalty=penalty)(X, Y)
        assert value == pytest.approx(self.plain(X, Y, penalty), abs=1e-9)

    def test_is_how_far_predictions_of_random_targets_lie_apart(self) -> None:
        X, Y = two_sets()
        penalty, n = 0.05, len(X)
        predict = []
        for Z in (X, Y):
            Z = Z - Z.mean(axis=0)
            Z = Z / np.linalg.norm(Z) * math.sqrt(n)
            predict.append(Z @ np.linalg.solve(Z.T @ Z / n + penalty * np.eye(Z.shape[1]), Z.T) / n)
        rng = np.random.default_rng(0)
        targets = rng.normal(size=(n, 20000))
        apart = np.square((predict[0] - predict[1]) @ targets).sum(axis=0).mean()
        value = measures.get("gulp", penalty=penalty)(X, Y)
        assert value == pytest.approx(math.sqrt(apart), rel=0.01)

    def test_sums_give_the_same(self) -> None:
        X, Y = two_sets(3000)
        held = rs.compare(X, Y, measure="gulp", n_permutations=5)
        summed = rs.compare(X, Y, measure="gulp", n_permutations=5, memory_budget=300_000)
        assert summed.value == pytest.approx(held.value, abs=1e-9)

    def test_a_penalty_must_be_positive(self) -> None:
        with pytest.raises(InvalidInputError, match="penalty"):
            measures.get("gulp", penalty=0.0)
