"""CCA, CKNNA and linear predictivity beside their definitions and scikit-learn's regression."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import KFold
from tests.measures.test_references import Matrix, two_sets

import relspace
from relspace import measures
from relspace.kernels.ridge import PENALTIES
from relspace.measures.sums.item_parts import RandomParts
from relspace.measures.sums.stacked_products import sum_stacked_products
from relspace.rows.formats.memory import ArrayRows


def canonical(X: Matrix, Y: Matrix) -> tuple[Matrix, Matrix]:
    """Canonical correlations and the first set's variates, by the eigenvalue problem of CCA."""
    X, Y = X - X.mean(0), Y - Y.mean(0)
    S = np.linalg.solve(X.T @ X, X.T @ Y) @ np.linalg.solve(Y.T @ Y, Y.T @ X)
    values, vectors = np.linalg.eig(S)
    order = np.argsort(-values.real)[: min(X.shape[1], Y.shape[1])]
    variates = X @ vectors.real[:, order]
    return np.sqrt(values.real[order]), variates / np.linalg.norm(variates, axis=0)


class TestCCA:
    def test_mean_of_canonical_correlations(self) -> None:
        X, Y = two_sets()
        assert measures.get("cca")(X, Y) == pytest.approx(canonical(X, Y)[0].mean(), abs=1e-9)

    def test_projection_weights(self) -> None:
        X, Y = two_sets()
        for first, second in ((X, Y), (Y, X)):
            correlations, variates = canonical(first, second)
            weights = np.abs(variates.T @ (first - first.mean(0))).sum(axis=1)
            expected = weights @ correlations / weights.sum()
            assert measures.get("pwcca")(first, second) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("variance", [0.5, 0.9, 0.99])
    def test_svcca_keeps_enough_axes(self, variance: float) -> None:
        kept = []
        for Z in two_sets():
            values, vectors = np.linalg.eigh(np.cov(Z.T))
            values, vectors = values[::-1], vectors[:, ::-1]
            explained = np.cumsum(values) / values.sum()
            kept.append(Z @ vectors[:, : np.searchsorted(explained, variance) + 1])
        expected = canonical(*kept)[0].mean()
        value = measures.get("svcca", variance=variance)(*two_sets())
        assert value == pytest.approx(expected, abs=1e-9)

    def test_features_that_others_make_up_do_not_count(self) -> None:
        X, Y = two_sets()
        again = np.hstack([X, X @ np.ones((6, 2))])
        assert measures.get("cca")(again, Y) == pytest.approx(measures.get("cca")(X, Y), abs=1e-9)

    def test_too_few_items_are_refused(self) -> None:
        X, Y = two_sets(14)
        with pytest.raises(relspace.errors.InvalidInputError, match="6 and 8 dimensions and 14"):
            measures.get("cca")(X, Y)


@pytest.mark.parametrize("k", [3, 10])
def test_cknna_on_whole_matrices(k: int) -> None:
    X, Y = two_sets(60)
    K, L = cosine_similarity(X), cosine_similarity(Y)
    n = len(K)

    def mask(S: Matrix) -> Matrix:
        result = np.zeros_like(S)
        nearest = np.argsort(-(S - 9 * np.eye(n)), axis=1)[:, :k]
        np.put_along_axis(result, nearest, 1.0, axis=1)
        return result

    def hsic(A: Matrix, B: Matrix) -> float:
        both = np.sum(A * B.T) + A.sum() * B.sum() / ((n - 1) * (n - 2))
        return float(both - 2 * np.sum(A @ B) / (n - 2))

    M, N = mask(K), mask(L)
    expected = hsic(M * N * K, M * N * L) / math.sqrt(hsic(M * K, M * K) * hsic(N * L, N * L))
    assert measures.get("cknna", k=k)(X, Y) == pytest.approx(expected, abs=1e-9)


class TestLinearPredictivity:
    @pytest.mark.parametrize("n", [60, 12])
    @pytest.mark.parametrize("predicted", ["first", "second"])
    def test_is_cross_validated_ridge_regression(self, n: int, predicted: str) -> None:
        X, Y = two_sets(n)
        features, targets = (X, Y) if predicted == "second" else (Y, X)
        fold_of = RandomParts(n, 5, 0)(0, n).numpy()
        missed = total = 0.0
        for fold in range(5):
            train, part = fold_of != fold, fold_of == fold
            known, wanted = features[train] - features[train].mean(0), targets[train]
            penalties = np.array(PENALTIES) * np.sum(known**2)
            errors = []
            for penalty in penalties:
                gram = known.T @ known + penalty * np.eye(known.shape[1])
                hat = known @ np.linalg.solve(gram, known.T) + 1 / len(known)
                errors.append(
                    np.sum((wanted - hat @ wanted) ** 2) / (1 - np.trace(hat) / len(known)) ** 2
                )
            model = Ridge(alpha=penalties[np.argmin(errors)]).fit(features[train], wanted)
            missed += np.sum((targets[part] - model.predict(features[part])) ** 2)
            total += np.sum((targets[part] - wanted.mean(0)) ** 2)
        value = measures.get("linear_predictivity", predicted=predicted)(X, Y)
        assert value == pytest.approx(1 - missed / total, abs=1e-6)

    def test_the_penalty_is_nearly_that_of_leave_one_out(self) -> None:
        X, Y = two_sets(400)
        fold_of = RandomParts(400, 5, 0)(0, 400).numpy()
        missed = total = 0.0
        for fold in range(5):
            train, part = fold_of != fold, fold_of == fold
            model = RidgeCV(alphas=np.array(PENALTIES) * np.sum((X[train] - X[train].mean(0)) ** 2))
            model.fit(X[train], Y[train])
            missed += np.sum((Y[part] - model.predict(X[part])) ** 2)
            total += np.sum((Y[part] - Y[train].mean(0)) ** 2)
        value = measures.get("linear_predictivity", predicted="second")(X, Y)
        assert value == pytest.approx(1 - missed / total, abs=2e-3)

    def test_both_directions_are_the_mean(self) -> None:
        X, Y = two_sets(60)
        one_way = [
            measures.get("linear_predictivity", predicted=which)(X, Y)
            for which in ("first", "second")
        ]
        assert measures.get("linear_predictivity")(X, Y) == pytest.approx(np.mean(one_way))

    def test_a_part_predicts_less_than_the_whole(self) -> None:
        X, _ = two_sets(60)
        part = X[:, :2]
        forward = measures.get("linear_predictivity", predicted="second")
        assert forward(X, part) == pytest.approx(1.0, abs=1e-6)
        assert forward(part, X) < 0.8

    def test_too_few_items_for_the_folds(self) -> None:
        X, Y = two_sets(9)
        with pytest.raises(relspace.errors.InvalidInputError, match="smaller n_folds"):
            measures.get("linear_predictivity")(X, Y)


class TestEachTarget:
    @pytest.mark.parametrize("n", [60, 12])
    @pytest.mark.parametrize("predicted", ["first", "second"])
    def test_is_the_mean_over_targets_with_a_penalty_each(self, n: int, predicted: str) -> None:
        X, Y = two_sets(n)
        # Targets that differ in size and in how much of them is noise.
        X = X * np.logspace(0, 1, X.shape[1])
        Y = Y + np.random.default_rng(5).normal(size=Y.shape) * np.linspace(0, 3, Y.shape[1])
        features, targets = (X, Y) if predicted == "second" else (Y, X)
        of_each = [
            measures.get("linear_predictivity", predicted="second")(features, targets[:, [k]])
            for k in range(targets.shape[1])
        ]
        value = measures.get("target_predictivity", predicted=predicted)(X, Y)
        assert value == pytest.approx(np.mean(of_each), abs=1e-9)
        one_way = [
            measures.get("target_predictivity", predicted=which)(X, Y)
            for which in ("first", "second")
        ]
        both = measures.get("target_predictivity")(X, Y)
        assert both == pytest.approx(np.mean(one_way), abs=1e-9)

    def test_himalaya_predicts_the_same(self) -> None:
        ridge = pytest.importorskip("himalaya.ridge")
        X, Y = two_sets(200)
        Y = Y + np.random.default_rng(5).normal(size=Y.shape) * np.linspace(0, 3, Y.shape[1])
        fold_of = RandomParts(200, 5, 0)(0, 200).numpy()
        missed, total = np.zeros((2, Y.shape[1]))
        for fold in range(5):
            train, part = fold_of != fold, fold_of == fold
            alphas = np.array(PENALTIES) * np.sum((X[train] - X[train].mean(0)) ** 2)
            # Cross-validated, of which generalized cross-validation is nearly the same.
            model = ridge.RidgeCV(
                alphas=alphas,
                fit_intercept=True,
                solver_params={"warn": False},
                cv=KFold(20),
            )
            model.fit(X[train], Y[train])
            missed += np.sum((Y[part] - model.predict(X[part])) ** 2, axis=0)
            total += np.sum((Y[part] - Y[train].mean(0)) ** 2, axis=0)
        value = measures.get("target_predictivity", predicted="second")(X, Y)
        assert value == pytest.approx(np.mean(1 - missed / total), abs=2e-3)

    def test_sums_give_the_same(self) -> None:
        X, Y = two_sets(3000)
        Y[:, 2] = 0.1
        measure = measures.get("target_predictivity")
        stack = sum_stacked_products(
            [ArrayRows(X), ArrayRows(Y)], ["X", "Y"], folds=measure.folds(3000)
        )
        expected = measure(X, Y)
        assert measure.from_cross_products(stack.pair(0, 1)) == pytest.approx(expected, abs=1e-9)
        assert expected == pytest.approx(measure(X, np.delete(Y, 2, axis=1)), abs=1e-9)

    def test_choices_are_checked(self) -> None:
        with pytest.raises(relspace.errors.InvalidInputError, match="targets is 'all'"):
            measures.get("linear_predictivity", targets="all")
