"""What must not change an affinity, and by how much rounding may."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.generators.closed_form import gaussian_cloud, mean_off_diagonal
from tests.generators.strategies import feature_sets, rotations

from relspace import cosine_affinity, rbf_affinity

SEEDS = st.integers(0, 2**32 - 1)
TOLERANCE = {"atol": 1e-7, "rtol": 0.0}
quick = settings(max_examples=40, deadline=None)


@quick
@given(feature_sets(), SEEDS)
def test_rotation_and_reflection(X: torch.Tensor, seed: int) -> None:
    Q = rotations(X.shape[1], seed)
    mirror = torch.ones(X.shape[1], dtype=X.dtype)
    mirror[0] = -1
    for function in (rbf_affinity, cosine_affinity) if X.shape[1] > 1 else (rbf_affinity,):
        expected = function(X)
        torch.testing.assert_close(function(X @ Q), expected, **TOLERANCE)
        torch.testing.assert_close(function(X * mirror), expected, **TOLERANCE)


@quick
@given(feature_sets(), st.floats(-1e4, 1e4))
def test_shift(X: torch.Tensor, shift: float) -> None:
    torch.testing.assert_close(rbf_affinity(X + shift), rbf_affinity(X), **TOLERANCE)


@quick
@given(feature_sets(), st.floats(-150, 150))
def test_scale(X: torch.Tensor, exponent: float) -> None:
    torch.testing.assert_close(rbf_affinity(X * 10**exponent), rbf_affinity(X), **TOLERANCE)


@quick
@given(feature_sets(), SEEDS)
def test_permutation_of_items_permutes_rows_and_columns(X: torch.Tensor, seed: int) -> None:
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        rbf_affinity(X[order]), rbf_affinity(X)[order][:, order], **TOLERANCE
    )


@quick
@given(feature_sets(), st.integers(1, 20))
def test_padding_with_zero_columns(X: torch.Tensor, width: int) -> None:
    padded = torch.cat([X, X.new_zeros(len(X), width)], dim=1)
    torch.testing.assert_close(rbf_affinity(padded), rbf_affinity(X), **TOLERANCE)


@quick
@given(feature_sets(max_items=60))
def test_float32_within_its_precision(X: torch.Tensor) -> None:
    X = X.to(torch.float32)
    torch.testing.assert_close(
        rbf_affinity(X).double(), rbf_affinity(X.double()), atol=1e-4, rtol=0
    )


@quick
@given(feature_sets(), SEEDS)
def test_cosine_ignores_the_scale_of_every_row(X: torch.Tensor, seed: int) -> None:
    X = torch.cat([X, torch.ones(len(X), 1, dtype=X.dtype)], dim=1)
    scales = torch.rand(len(X), 1, generator=torch.Generator().manual_seed(seed)).double() + 0.01
    torch.testing.assert_close(cosine_affinity(X * scales), cosine_affinity(X), **TOLERANCE)


@pytest.mark.parametrize("offset", [1e3, 1e4])
@pytest.mark.parametrize("width", [8, 256])
def test_offset_on_float32(offset: float, width: int) -> None:
    # Features on a grid that float32 holds exactly with the offset: rounding is the kernel's own.
    X = (gaussian_cloud(200, width) * 512).round().div(512).float()
    assert torch.equal((X + offset) - offset, X)
    torch.testing.assert_close(rbf_affinity(X + offset), rbf_affinity(X), atol=1e-6, rtol=0)


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_offset_on_float32_within_what_float32_represents(offset: float) -> None:
    X = gaussian_cloud(200, 768, dtype=torch.float32)
    torch.testing.assert_close(rbf_affinity(X + offset), rbf_affinity(X), atol=1e-4, rtol=0)


@pytest.mark.parametrize("exponent", [-38, -30, -20, -9, 9, 20, 30, 37])
@pytest.mark.parametrize("function", [rbf_affinity, cosine_affinity])
def test_any_scale_of_float32(function, exponent: int) -> None:
    X = gaussian_cloud(100, 8, dtype=torch.float32)
    scaled = X * 10.0**exponent
    torch.testing.assert_close(function(scaled), function(X), atol=2e-6, rtol=0)
    with_gradient = function(scaled.requires_grad_()).detach()
    torch.testing.assert_close(with_gradient, function(X), atol=2e-6, rtol=0)


@pytest.mark.parametrize("density", [0.05, 0.3])
@pytest.mark.parametrize("size", [10.0, 1e3, 1e9])
def test_outliers_do_not_move_the_density(density: float, size: float) -> None:
    X = gaussian_cloud(1000, 32, dtype=torch.float32)
    X[::20] *= size
    assert mean_off_diagonal(rbf_affinity(X, density=density)) == pytest.approx(density, rel=5e-6)


@pytest.mark.parametrize("separation", [1e2, 1e3, 1e4])
@pytest.mark.parametrize("share", [2, 3, 10])
def test_far_clusters_keep_their_inner_structure(separation: float, share: int) -> None:
    X = gaussian_cloud(300, 16, dtype=torch.float32)
    X[::share] += separation * gaussian_cloud(1, 16, seed=1).sign().float()
    expected = rbf_affinity(X.double())
    torch.testing.assert_close(rbf_affinity(X).double(), expected, atol=1e-5, rtol=0)
    with_gradient = rbf_affinity(X.requires_grad_()).detach()
    torch.testing.assert_close(with_gradient.double(), expected, atol=1e-5, rtol=0)


def test_nearly_parallel_rows_keep_their_cosines() -> None:
    X = (gaussian_cloud(200, 16) * 1e-2 + 1).float()
    expected = cosine_affinity(X.double())
    torch.testing.assert_close(cosine_affinity(X).double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [1e15, 1e30])
def test_one_huge_outlier_leaves_the_others_as_they_are(size: float) -> None:
    X = gaussian_cloud(100, 8, dtype=torch.float32)
    X[7] = size
    A = rbf_affinity(X)
    assert mean_off_diagonal(A) == pytest.approx(0.05, rel=5e-6)
    assert float(A[7].sum()) == 1.0


@pytest.mark.parametrize("degrees", [0.3, 1.0, 2.0])
def test_heavy_tails_meet_the_density(degrees: float) -> None:
    uniform = torch.rand(400, 1, generator=torch.Generator().manual_seed(0))
    X = gaussian_cloud(400, 6, dtype=torch.float32) * uniform ** (-1 / degrees)
    assert mean_off_diagonal(rbf_affinity(X)) == pytest.approx(0.05, rel=5e-6)
