"""What users call against the formulas in plain torch, on every backend and float type."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import relspace as rs
from relspace.kernels import (
    NORMALIZATIONS,
    correlation_blocks,
    correlation_of_pairs,
    fit_normalization,
    reference,
    squared_distances,
)
from relspace.kernels.backend import at_most
from relspace.kernels.relative import STANDARDIZATIONS

N, M, D = 90, 40, 7


@pytest.fixture(params=["torch", "loops", "strips"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    with at_most(request.param):
        yield request.param


def draw(n: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=generator, dtype=torch.float64).mul_(3).to(dtype)


pytestmark = [
    pytest.mark.usefixtures("way"),
    pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-11)], ids=str
    ),
]


@pytest.mark.parametrize("of_one_set", [True, False])
def test_distances_bandwidths_and_affinities(
    dtype: torch.dtype, tolerance: float, of_one_set: bool
) -> None:
    X = draw(N, dtype)
    Y = None if of_one_set else draw(M, dtype, 1)
    for function, formula in (
        (rs.rbf_affinity, reference.squared_distances),
        (rs.cosine_affinity, reference.squared_cosine_distances),
    ):
        squared = formula(X, X if Y is None else Y)
        sigma = reference.bandwidth(squared, 0.1, of_one_set=of_one_set)
        expected = reference.affinity(squared, sigma)
        assert reference.density(expected, of_one_set=of_one_set) == pytest.approx(0.1)
        found = torch.as_tensor(function(X, Y, density=0.1))
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=max(tolerance, 3e-7))
        if function is rs.rbf_affinity:
            solved = rs.solve_bandwidth(X, Y, density=0.1)
            assert solved.sigma == pytest.approx(sigma, rel=1e-5)
            distances = torch.as_tensor(squared_distances(X, Y)).double()
            torch.testing.assert_close(distances, squared, rtol=tolerance, atol=100 * tolerance)


@pytest.mark.parametrize("method", NORMALIZATIONS)
def test_normalizations(dtype: torch.dtype, tolerance: float, method: str) -> None:
    landmarks, X = draw(M, dtype), draw(N, dtype, 1)
    found = fit_normalization(landmarks, method).apply(X)
    expected = reference.normalize(X, landmarks, method)
    # Principal axes have no order and no sign: what must be the same is products of rows.
    torch.testing.assert_close(
        (found.double() @ found.double().T),
        expected @ expected.T,
        rtol=10 * tolerance,
        atol=100 * tolerance,
    )


@pytest.mark.parametrize("how", STANDARDIZATIONS)
def test_relative_rows(dtype: torch.dtype, tolerance: float, how: str) -> None:
    landmarks, X = draw(M, dtype), draw(N, dtype, 1)
    own = torch.full((N,), -1)
    X[:20], own[:20] = landmarks[:20], torch.arange(20)
    aligner = rs.Aligner(density=0.2, normalize="center", standardize=how).fit(landmarks)
    squared = reference.squared_distances(landmarks, landmarks)
    sigma = reference.bandwidth(squared, 0.2, of_one_set=True)
    of_landmarks = reference.affinity(squared, sigma)
    A = reference.affinity(reference.squared_distances(X, landmarks), sigma)
    torch.testing.assert_close(
        torch.as_tensor(aligner.affinity(X)).double(), A, rtol=0, atol=max(tolerance, 3e-7)
    )
    found = aligner.standardize_in_place(torch.as_tensor(aligner.affinity(X)), own)
    expected = reference.relative_rows(A, of_landmarks, own, how)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=max(5 * tolerance, 1e-5))
    if how != "none":
        found = torch.as_tensor(aligner.transform(X))
        expected = reference.relative_rows(A, of_landmarks, torch.full((N,), -1), how)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=max(5 * tolerance, 1e-5))


def test_correlations_leave_out_the_columns_of_both_items(
    dtype: torch.dtype, tolerance: float
) -> None:
    sets, owns = [], []
    for seed, first in ((0, 0), (1, 3)):
        aligner = rs.Aligner(density=0.2).fit(draw(M, dtype, seed))
        own = torch.full((12,), -1)
        own[:6] = torch.arange(first, first + 6)
        rows = torch.where((own >= 0)[:, None], draw(M, dtype, seed)[own], draw(12, dtype, 9))
        affinities = torch.as_tensor(aligner.affinity(rows))
        sets.append(aligner.standardize_in_place(affinities, own))
        owns.append(own)
    columns = torch.arange(M)
    expected = [
        [
            reference.correlation(sets[0][i], sets[1][j], (columns == a) | (columns == b))
            for j, b in enumerate(owns[1].tolist())
        ]
        for i, a in enumerate(owns[0].tolist())
    ]
    found = torch.cat([block for _, block in correlation_blocks(*sets, *owns)]).double()
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)
    pairs = correlation_of_pairs(*sets, *owns).double()
    torch.testing.assert_close(pairs, wanted.diagonal(), rtol=0, atol=tolerance)
