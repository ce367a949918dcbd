"""Relative features in float32, compiled or not: against float64, which torch computes."""

from collections.abc import Iterator

import pytest
import torch

import relspace
from relspace.kernels import fit_normalization
from relspace.kernels.backend import at_most
from relspace.kernels.frame import Cloud, Frame
from relspace.kernels.relative import (
    NO_LANDMARK,
    STANDARDIZATIONS,
    ColumnProfile,
    column_profile,
    relative_rows,
    standardize_rows,
)


@pytest.fixture(params=["loops", "torch"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    with at_most(request.param):
        yield request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("how", STANDARDIZATIONS)
@pytest.mark.parametrize("with_own", [False, True])
@pytest.mark.parametrize("shape", [(40, 7), (33, 70), (5, 600)])
def test_described_rows_are_those_of_float64(
    shape: tuple[int, int], with_own: bool, how: str
) -> None:
    n, m = shape
    generator = torch.Generator().manual_seed(n + m)
    landmarks = torch.randn(m, 8, generator=generator)
    points = torch.randn(n, 8, generator=generator)
    own = torch.arange(n) % m if with_own else None
    if own is not None:
        own[::3] = NO_LANDMARK
        points = torch.where((own < 0)[:, None], points, landmarks[own])
    profile = column_profile(relspace.rbf_affinity(landmarks), standardize=how)

    def cloud(rows: torch.Tensor) -> Cloud:
        return Cloud(rows, rows.square().sum(1) / 2)

    def in_type(dtype: torch.dtype) -> ColumnProfile:
        whitening = None if profile.whitening is None else profile.whitening.to(dtype)
        return ColumnProfile(profile.mean.to(dtype), profile.deviation.to(dtype), whitening)

    def describe(dtype: torch.dtype) -> torch.Tensor:
        frame = Frame(torch.zeros(8, dtype=dtype), 1.0)
        normalization = fit_normalization(points, "none")
        return relative_rows(
            points.to(dtype),
            normalization,
            frame,
            cloud(landmarks.to(dtype)),
            in_type(dtype),
            scale=0.3,
            own=own,
            how=how,
        )

    compiled, reference = describe(torch.float32), describe(torch.float64)
    torch.testing.assert_close(compiled.double(), reference, rtol=0.0, atol=2e-5)
    if own is not None:
        mine = own >= 0
        assert torch.equal(compiled[mine, own[mine]], torch.zeros(int(mine.sum())))
    affinities = torch.rand(n, m, generator=generator)
    alone = standardize_rows(affinities.clone(), profile, own, how=how)
    expected = standardize_rows(affinities.double(), in_type(torch.float64), own, how=how)
    torch.testing.assert_close(alone.double(), expected, rtol=0.0, atol=2e-5)


@pytest.mark.usefixtures("way")
def test_rows_without_anything_stay_at_zero() -> None:
    profile = ColumnProfile(torch.zeros(9), torch.ones(9), None)
    rows = standardize_rows(torch.zeros(2, 9), profile, None, how="none")
    assert torch.equal(rows, torch.zeros(2, 9))
