"""Each measure beside an independent implementation: another library, or its definition in full."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial import procrustes
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import cosine_similarity, linear_kernel, rbf_kernel
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import KernelCenterer

import relspace
from relspace import measures
from relspace.errors import InvalidInputError
from relspace.measures import Measure

Matrix = NDArray[np.float64]


def two_sets(n: int = 30, seed: int = 0) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 3))
    X = np.tanh(shared @ rng.normal(size=(3, 6))) + 0.4 * rng.normal(size=(n, 6)) + 0.2
    Y = shared @ rng.normal(size=(3, 8)) + rng.normal(size=(n, 8))
    return X, Y


def off_diagonal(A: Matrix) -> Matrix:
    return A[~np.eye(len(A), dtype=bool)]


def unbiased_hsic(K: Matrix, L: Matrix) -> float:
    """The U-statistic of Gretton et al. 2005, term by term."""
    terms = [
        K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])
        for i, j, q, r in itertools.permutations(range(len(K)), 4)
    ]
    return float(np.mean(terms))


def plain_affinity(**parameters: Any) -> Measure:
    """Affinities of items as they are, weighed as Lin's concordance does."""
    return measures.get("affinity", **{"normalize": "none", "spread": 1.0, **parameters})


class TestAffinity:
    def test_is_one_minus_distance_over_its_mean_under_permutation(self) -> None:
        X, Y = two_sets(6)
        A, B = (relspace.rbf_affinity(Z, density=0.2) for Z in (X, Y))
        distances = [
            np.sum((A[np.ix_(p, p)] - B) ** 2) for p in map(list, itertools.permutations(range(6)))
        ]
        expected = 1 - np.sum((A - B) ** 2) / np.mean(distances)
        assert plain_affinity(density=0.2)(X, Y) == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("spread", [0.0, 1.0, 4.0])
    def test_is_a_correlation_times_how_alike_entries_spread(self, spread: float) -> None:
        X, Y = two_sets()
        a, b = (off_diagonal(relspace.rbf_affinity(Z)) for Z in (X, Y))
        alike = 2 * a.std() * b.std() / (a.var() + b.var())
        expected = np.corrcoef(a, b)[0, 1] * alike**spread
        measure = plain_affinity(density=0.05, spread=spread)
        assert measure(X, Y) == pytest.approx(expected, abs=1e-6)

    def test_a_negative_spread_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match=r"spread is -1\.0"):
            measures.get("affinity", spread=-1.0)

    def test_rows_are_centred_without_the_diagonal(self) -> None:
        X, Y = two_sets(7)
        A, B = (relspace.rbf_affinity(Z, density=0.2) for Z in (X, Y))
        hsic = [unbiased_hsic(*pair) for pair in ((A, B), (A, A), (B, B))]
        measure = plain_affinity(density=0.2, profile="rows")
        assert measure(X, Y) == pytest.approx(2 * hsic[0] / (hsic[1] + hsic[2]), abs=1e-6)

    @pytest.mark.parametrize("normalize", ["center+unit", "zscore", "zscore+unit", "unit"])
    def test_normalization_comes_first(self, normalize: str) -> None:
        X, Y = (Z + 2 for Z in two_sets())
        done = []
        for Z in (X, Y):
            if normalize.startswith(("center", "zscore")):
                Z = Z - Z.mean(axis=0)
            if normalize.startswith("zscore"):
                Z = Z / Z.std(axis=0)
            if normalize.endswith("unit"):
                Z = Z / np.linalg.norm(Z, axis=1, keepdims=True)
            done.append(Z)
        value = measures.get("affinity", normalize=normalize)(X, Y)
        assert value == pytest.approx(measures.get("affinity", normalize="none")(*done), abs=1e-9)


class TestCKA:
    def kernels(self, X: Matrix, Y: Matrix, kernel: str) -> tuple[Matrix, Matrix]:
        if kernel == "linear":
            return linear_kernel(X), linear_kernel(Y)
        done = []
        for Z in (X, Y):
            distances = pairwise_distances(Z)
            # The root of the median square, where the median lies between two distances.
            median = math.sqrt(np.median(distances[np.triu_indices(len(Z), 1)] ** 2))
            done.append(rbf_kernel(Z, gamma=1 / (2 * (0.4 * median) ** 2)))
        return done[0], done[1]

    @pytest.mark.parametrize(
        ("name", "kernel"), [("cka_biased", "linear"), ("cka_rbf_biased", "rbf")]
    )
    def test_biased(self, name: str, kernel: str) -> None:
        X, Y = two_sets()
        K, L = (KernelCenterer().fit_transform(M) for M in self.kernels(X, Y, kernel))
        expected = np.sum(K * L) / np.linalg.norm(K) / np.linalg.norm(L)
        assert measures.get(name)(X, Y) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize(("name", "kernel"), [("cka", "linear"), ("cka_rbf", "rbf")])
    def test_unbiased(self, name: str, kernel: str) -> None:
        X, Y = two_sets(9)
        K, L = self.kernels(X, Y, kernel)
        hsic = [unbiased_hsic(*pair) for pair in ((K, L), (K, K), (L, L))]
        expected = hsic[0] / math.sqrt(hsic[1] * hsic[2])
        assert measures.get(name)(X, Y) == pytest.approx(expected, abs=1e-9)

    def test_biased_linear_by_features(self) -> None:
        X, Y = two_sets()
        X0, Y0 = X - X.mean(0), Y - Y.mean(0)
        expected = np.linalg.norm(X0.T @ Y0) ** 2 / (
            np.linalg.norm(X0.T @ X0) * np.linalg.norm(Y0.T @ Y0)
        )
        assert measures.get("cka_biased")(X, Y) == pytest.approx(expected, abs=1e-9)

    def test_bandwidth_of_many_items_comes_from_a_sample(self) -> None:
        from relspace.measures.cka import median_distance

        X = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
        exact = float(torch.pdist(X[:2800]).median())
        assert median_distance(X) == pytest.approx(exact, rel=5e-3)


class TestRSA:
    @pytest.mark.parametrize(
        "distance", ["squared_euclidean", "correlation", "euclidean", "cosine"]
    )
    @pytest.mark.parametrize("comparison", ["correlation", "spearman", "kendall", "cosine"])
    def test_is_that_of_rsatoolbox(self, distance: str, comparison: str) -> None:
        import rsatoolbox
        from rsatoolbox.rdm import compare

        X, Y = two_sets()
        methods = {"correlation": "corr", "kendall": "tau-a"}
        rdms = [
            rsatoolbox.rdm.RDMs(pairwise_distances(Z, metric=self.metric(distance))[None])
            for Z in (X, Y)
        ]
        expected = compare(*rdms, method=methods.get(comparison, comparison))[0, 0]
        name = "rsa" if comparison == "correlation" else f"rsa_{comparison}"
        value = measures.get(name, distance=distance)(X, Y)
        assert value == pytest.approx(expected, abs=1e-9)

    @staticmethod
    def metric(distance: str) -> str:
        return "sqeuclidean" if distance == "squared_euclidean" else distance

    @pytest.mark.parametrize("distance", ["squared_euclidean", "correlation"])
    def test_from_features_too(self, distance: str) -> None:
        import rsatoolbox
        from rsatoolbox.rdm import calc_rdm, compare

        methods = {"squared_euclidean": "euclidean", "correlation": "correlation"}
        rdms = [calc_rdm(rsatoolbox.data.Dataset(Z), method=methods[distance]) for Z in two_sets()]
        expected = compare(*rdms, method="corr")[0, 0]
        value = measures.get("rsa", distance=distance)(*two_sets())
        assert value == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("comparison", ["spearman", "kendall"])
    def test_ties_share_their_rank(self, comparison: str) -> None:
        import rsatoolbox
        from rsatoolbox.rdm import compare

        rng = np.random.default_rng(0)
        X, Y = (rng.integers(0, 2, size=(20, 4)).astype(float) for _ in range(2))
        rdms = [
            rsatoolbox.rdm.RDMs(pairwise_distances(Z, metric="sqeuclidean")[None]) for Z in (X, Y)
        ]
        method = "tau-a" if comparison == "kendall" else comparison
        expected = compare(*rdms, method=method)[0, 0]
        measure = measures.get(f"rsa_{comparison}", distance="squared_euclidean")
        assert measure(X, Y) == pytest.approx(expected, abs=1e-9)

    def test_items_without_a_distance_are_named(self) -> None:
        X, Y = two_sets()
        X[[4, 7]] = [[1.0], [0.0]]
        with pytest.raises(relspace.errors.InvalidInputError, match=r"2 items .* rows 4, 7"):
            measures.get("rsa")(X, Y)
        with pytest.raises(relspace.errors.InvalidInputError, match=r"1 rows of zeros, first at 7"):
            measures.get("rsa", distance="cosine")(X, Y)

    def test_items_equally_far_from_each_other(self) -> None:
        _, Y = two_sets()
        measure = measures.get("rsa", distance="euclidean")
        with pytest.raises(relspace.errors.InvalidInputError, match="equally alike"):
            measure(np.eye(30), Y)


def test_distance_correlation_term_by_term() -> None:
    X, Y = two_sets(12)
    n = 12

    def u_centered(D: Matrix) -> Matrix:
        U = np.zeros_like(D)
        for i, j in itertools.permutations(range(n), 2):
            U[i, j] = (
                D[i, j]
                - D[i].sum() / (n - 2)
                - D[:, j].sum() / (n - 2)
                + D.sum() / ((n - 1) * (n - 2))
            )
        return U

    A, B = (u_centered(pairwise_distances(Z)) for Z in (X, Y))
    expected = np.sum(A * B) / np.linalg.norm(A) / np.linalg.norm(B)
    assert measures.get("distance_correlation")(X, Y) == pytest.approx(expected, abs=1e-9)
    A, B = (KernelCenterer().fit_transform(pairwise_distances(Z)) for Z in (X, Y))
    biased = np.sum(A * B) / np.linalg.norm(A) / np.linalg.norm(B)
    measure = measures.get("distance_correlation", estimator="biased")
    assert measure(X, Y) == pytest.approx(biased, abs=1e-9)


class TestProcrustes:
    @pytest.mark.parametrize("n", [30, 5])
    def test_is_that_of_scipy(self, n: int) -> None:
        X, Y = two_sets(n)
        X = np.pad(X, ((0, 0), (0, 2)))
        # scipy also scales the second set, which leaves 1 - nu^2 of the distance.
        nuclear = math.sqrt(1 - procrustes(X, Y)[2])
        value = measures.get("procrustes")(X, Y)
        assert value == pytest.approx(math.sqrt(2 - 2 * nuclear), abs=1e-9)
        assert measures.get("procrustes_angle")(X, Y) == pytest.approx(math.acos(nuclear), abs=1e-9)

    def test_angle_of_a_plane_turned_out_of_itself(self) -> None:
        angle = 0.3
        X = np.array([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])
        Y = math.cos(angle) * X + math.sin(angle) * np.array([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])
        assert measures.get("procrustes_angle")(X, Y) == pytest.approx(angle, abs=1e-9)

    def test_triangle_inequality(self) -> None:
        rng = np.random.default_rng(0)
        for name in ("procrustes", "procrustes_angle"):
            measure = measures.get(name)
            for _ in range(10):
                X, Y, Z = (rng.normal(size=(8, 3)) for _ in range(3))
                assert measure(X, Z) <= measure(X, Y) + measure(Y, Z) + 1e-9


class TestNeighbors:
    def neighborhoods(self, Z: Matrix, k: int, metric: str) -> list[set[int]]:
        search = NearestNeighbors(n_neighbors=k, metric=metric).fit(Z)
        return [set(row) for row in search.kneighbors(return_distance=False).tolist()]

    @pytest.mark.parametrize("metric", ["cosine", "euclidean"])
    @pytest.mark.parametrize("k", [1, 5, 28])
    def test_mutual_and_jaccard(self, metric: str, k: int) -> None:
        X, Y = two_sets()
        pairs = list(
            zip(self.neighborhoods(X, k, metric), self.neighborhoods(Y, k, metric), strict=True)
        )
        mutual = np.mean([len(a & b) / k for a, b in pairs])
        jaccard = np.mean([len(a & b) / len(a | b) for a, b in pairs])
        parameters: dict[str, Any] = {"k": k, "metric": metric}
        assert measures.get("mutual_neighbors", **parameters)(X, Y) == pytest.approx(mutual)
        assert measures.get("jaccard_neighbors", **parameters)(X, Y) == pytest.approx(jaccard)

    def test_second_order_cosine(self) -> None:
        X, Y = two_sets()
        k = 4
        S_x, S_y = cosine_similarity(X), cosine_similarity(Y)
        values = []
        near = zip(
            self.neighborhoods(X, k, "cosine"), self.neighborhoods(Y, k, "cosine"), strict=True
        )
        for i, (a, b) in enumerate(near):
            union = sorted(a | b)
            values.append(cosine_similarity(S_x[[i]][:, union], S_y[[i]][:, union])[0, 0])
        value = measures.get("second_order_cosine", k=k)(X, Y)
        assert value == pytest.approx(np.mean(values), abs=1e-9)


class TestCKAOfASampleOfFeatures:
    def test_is_over_pairs_of_different_features(self) -> None:
        X, Y = two_sets(9, seed=2)
        sizes = []
        for Z in (X, Y):
            kernels = [np.outer(column, column) for column in Z.T]
            pairs = itertools.permutations(kernels, 2)
            sizes.append(np.mean([unbiased_hsic(*pair) for pair in pairs]))
        both = unbiased_hsic(X @ X.T, Y @ Y.T) / (X.shape[1] * Y.shape[1])
        measure = measures.get("cka", features="sample")
        expected = both / math.sqrt(sizes[0] * sizes[1])
        assert measure(X, Y) == pytest.approx(expected, abs=1e-9)
        blocks = [measure.prepare(np.tile(Z, (20, 1)), memory_budget=1) for Z in (X, Y)]
        kept = measure(*(np.tile(Z, (20, 1)) for Z in (X, Y)))
        assert measure.from_factors(*blocks) == pytest.approx(kept, abs=1e-9)

    def test_few_features_of_many_are_as_alike_as_all(self) -> None:
        rng = np.random.default_rng(0)
        population = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 4000))
        population += 0.5 * rng.normal(size=population.shape)
        other = population[:, :2000] + rng.normal(size=(300, 2000)) * 2
        whole = measures.get("cka")(population[:, 2000:], other)
        found: dict[str, list[float]] = {"all": [], "sample": []}
        for _ in range(12):
            X = population[:, 2000 + rng.permutation(2000)[:15]]
            Y = other[:, rng.permutation(2000)[:15]]
            for features, values in found.items():
                values.append(measures.get("cka", features=features)(X, Y))
        assert np.mean(found["all"]) < whole - 0.2
        assert abs(np.mean(found["sample"]) - whole) < 0.06

    def test_a_set_with_itself_is_at_1_and_unrelated_sets_at_chance(self) -> None:
        X, Y = two_sets(60)
        measure = measures.get("cka", features="sample")
        assert measure(X, X) == 1.0
        compared = relspace.compare(X, Y[np.random.default_rng(0).permutation(60)], measure=measure)
        assert abs(compared.chance) < 0.02
        assert compared.p_value is not None
        assert compared.p_value > 0.05

    def test_features_without_anything_in_common_are_refused(self) -> None:
        rng = np.random.default_rng(0)
        measure = measures.get("cka", features="sample")
        crosses = np.repeat(np.concatenate([np.eye(4), -np.eye(4)]), 5, axis=0)
        with pytest.raises(InvalidInputError, match="nothing in common with each other"):
            measure(crosses, rng.normal(size=(40, 3)))
        with pytest.raises(InvalidInputError, match="1 features of Y"):
            measure(two_sets(40)[0], rng.normal(size=(40, 1)))

    @pytest.mark.parametrize("name", ["cka_biased", "cka_rbf"])
    def test_only_the_unbiased_linear_one_is_corrected(self, name: str) -> None:
        with pytest.raises(InvalidInputError, match='features is "sample"'):
            measures.get(name, features="sample")
        assert not measures.get("cka", features="sample").streams


class TestLinearCKAWithoutPairs:
    """Where matrices over pairs don't fit, products of features are what CKA is made of."""

    @pytest.mark.parametrize("name", ["cka", "cka_biased"])
    def test_value_chance_and_permutations_are_the_same(self, name: str) -> None:
        measure = measures.get(name)
        generator = torch.Generator().manual_seed(0)
        X = torch.randn(300, 12, generator=generator) + 50
        Y = torch.tanh(X[:, :5] - 50) @ torch.randn(5, 30, generator=generator)
        wide = torch.randn(300, 400, generator=generator) + Y.repeat(1, 14)[:, :400]
        order = torch.randperm(300, generator=generator)
        for other in (Y, wide):
            kept, made = (
                [measure.prepare(one, memory_budget=budget) for one in (X, other)]
                for budget in (2**30, 1)
            )
            for permutation in (None, order):
                expected = measure.from_factors(*kept, permutation)
                found = measure.from_factors(*made, permutation)
                assert found == pytest.approx(expected, abs=1e-5)
            if other is Y:
                assert measure.expected_by_chance(*made) == pytest.approx(
                    measure.expected_by_chance(*kept), abs=1e-6
                )

    def test_items_as_far_from_each_other_are_refused(self) -> None:
        corners = torch.eye(40, dtype=torch.float64)
        axes = torch.linalg.svd(corners - corners.mean(dim=0)).Vh[:39]
        with pytest.raises(relspace.errors.InvalidInputError, match="equally alike"):
            measures.get("cka").prepare((corners @ axes.T), memory_budget=1)
