"""Ties of distances: exact of whole numbers, and to rounding of others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import kendalltau, kstest, spearmanr

from relspace import measures
from relspace.kernels.ties import cloud_for_ties, mean_ranks, shares_of_pairs


def small_whole_numbers(seed: int, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, size=(n, 3)), rng.integers(0, 4, size=(n, 3))


class TestRanksOfDistances:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
    def test_euclidean_distances_are_ranked_as_their_squares(self, dtype: type) -> None:
        for seed in range(100):
            X, Y = small_whole_numbers(seed)
            expected = spearmanr(pdist(X, "sqeuclidean"), pdist(Y, "sqeuclidean")).statistic
            for distance in ("euclidean", "squared_euclidean"):
                found = measures.get("rsa_spearman", distance=distance)(
                    X.astype(dtype), Y.astype(dtype)
                )
                assert found == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("factor", [0.1, 1 / 3, 2.0**-40, 1e200])
    def test_whole_numbers_times_a_factor(self, factor: float) -> None:
        for seed in range(20):
            X, Y = small_whole_numbers(seed)
            expected = spearmanr(pdist(X, "sqeuclidean"), pdist(Y, "sqeuclidean")).statistic
            measure = measures.get("rsa_spearman", distance="euclidean")
            assert measure(X * factor, Y * factor) == pytest.approx(expected, abs=1e-12)

    def test_kendall(self) -> None:
        X, Y = small_whole_numbers(3)
        a, b = pdist(X, "sqeuclidean"), pdist(Y, "sqeuclidean")
        signs = [np.sign(one[:, None] - one) for one in (a, b)]
        expected = np.sum(signs[0] * signs[1]) / (len(a) * (len(a) - 1))
        found = measures.get("rsa_kendall", distance="euclidean")(X, Y)
        assert found == pytest.approx(expected, abs=1e-12)
        assert abs(kendalltau(a, b).statistic - expected) > 1e-3

    def test_large_whole_numbers_are_not_tied_by_rounding(self) -> None:
        # Squares that differ by 1 beside others of 2^48.
        rng = np.random.default_rng(0)
        X = rng.integers(-(2**23), 2**23, size=(30, 2))
        X[:4] = [[0, 0], [4, 7], [1, 8], [0, 8]]
        Y = rng.integers(0, 3, size=(30, 2))
        expected = spearmanr(pdist(X, "sqeuclidean"), pdist(Y, "sqeuclidean")).statistic
        measure = measures.get("rsa_spearman", distance="euclidean")
        assert measure(X.astype(float), Y) == pytest.approx(expected, abs=1e-12)

    def test_points_without_rounding(self) -> None:
        X = torch.tensor([[3.0, 1e6], [5.0, 1e6 + 1]], dtype=torch.float64)
        for factor in (1.0, 2.0**-1000, 2.0**900):
            cloud, exact = cloud_for_ties(X * factor)
            assert exact
            assert cloud.points.tolist() == [[0.0, 0.0], [2.0, 1.0]]
        assert not cloud_for_ties(torch.rand(9, 2, dtype=torch.float64))[1]
        assert not cloud_for_ties(torch.tensor([[1.0], [1e30]], dtype=torch.float64))[1]

    def test_mean_ranks(self) -> None:
        values = torch.tensor([2.0, 1.0, 2.0, 2.0 + 1e-15, 3.0], dtype=torch.float64)
        assert mean_ranks(values).tolist() == [3.0, 1.0, 3.0, 3.0, 5.0]
        assert mean_ranks(values, exact=True).tolist() == [2.5, 1.0, 2.5, 4.0, 5.0]


class TestSharesOfPairs:
    def test_are_spread_evenly_and_differ_between_seeds(self) -> None:
        pairs = torch.arange(100_000)
        first, second = (shares_of_pairs(pairs, seed) for seed in (1, 2))
        for shares in (first, second):
            assert float(shares.min()) >= 0
            assert float(shares.max()) < 1
            assert kstest(shares.numpy(), "uniform").pvalue > 0.01
        assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.015
        assert torch.equal(first[[5, 7]], shares_of_pairs(pairs[[5, 7]], 1))

    def test_are_those_of_splitmix64(self) -> None:
        # The first number of the generator with seed 0.
        share = float(shares_of_pairs(torch.ones(1, dtype=torch.int64), 0))
        assert share == (0xE220A8397B1DCDAF >> 11) * 2.0**-53
