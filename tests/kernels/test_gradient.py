"""Gradients of affinities: against finite differences, and orthogonal to what changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.generators.closed_form import gaussian_cloud, mean_off_diagonal
from tests.generators.strategies import feature_sets

from relspace import cosine_affinity, rbf_affinity, solve_bandwidth
from relspace.kernels import squared_distances

FUNCTIONS = [rbf_affinity, cosine_affinity]


@pytest.mark.parametrize("zero_diagonal", [False, True])
@pytest.mark.parametrize("sigma", [None, 0.8])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradient_of_one_set(function, sigma, zero_diagonal) -> None:
    X = gaussian_cloud(7, 3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda Z: function(Z, sigma=sigma, density=0.2, zero_diagonal=zero_diagonal), X
    )


@pytest.mark.parametrize("sigma", [None, 0.8])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradient_of_two_sets(function, sigma) -> None:
    X = gaussian_cloud(6, 3).requires_grad_()
    Y = gaussian_cloud(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda A, B: function(A, B, sigma=sigma, density=0.2), (X, Y))
    assert torch.autograd.gradcheck(
        lambda B: function(X.detach(), B, sigma=sigma, density=0.2), (Y,)
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradient_of_a_given_sigma(function) -> None:
    X = gaussian_cloud(6, 3).requires_grad_()
    sigma = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda Z, s: function(Z, sigma=s), (X, sigma))
    assert torch.autograd.gradcheck(lambda s: function(X.detach(), sigma=s), (sigma,))


def test_gradient_of_squared_distances() -> None:
    X = gaussian_cloud(6, 3).requires_grad_()
    Y = gaussian_cloud(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(squared_distances, X)
    assert torch.autograd.gradcheck(squared_distances, (X, Y))


@settings(max_examples=30, deadline=None)
@given(feature_sets(min_items=5), st.integers(0, 2**32 - 1))
def test_gradient_is_orthogonal_to_scale_shift_and_rotation(X: torch.Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    X = X.requires_grad_()
    A = rbf_affinity(X)
    weights = torch.randn(A.shape, generator=generator, dtype=A.dtype)
    (gradient,) = torch.autograd.grad((A * weights).sum(), X)
    d = X.shape[1]
    turn = torch.randn(d, d, generator=generator, dtype=X.dtype)
    with torch.no_grad():
        centred = X - X.mean(0)
        directions = [centred, torch.ones_like(X), centred @ (turn - turn.T)]
        directions.append(torch.randn(d, generator=generator, dtype=X.dtype).expand_as(X))
        for direction in directions:
            product = float((gradient * direction).sum())
            size = float(gradient.norm() * direction.norm())
            assert abs(product) <= 1e-7 * size + 1e-10


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_value_with_gradient_is_the_value_without(function, dtype) -> None:
    X, Y = gaussian_cloud(50, 5).to(dtype), gaussian_cloud(20, 5, seed=1).to(dtype)
    tolerance = {torch.float16: 1e-3, torch.float32: 2e-6, torch.float64: 1e-12}[dtype]
    for other in (None, Y):
        plain = function(X, other)
        graph = function(X.clone().requires_grad_(), other)
        assert graph.requires_grad
        assert graph.dtype == dtype
        torch.testing.assert_close(graph.detach(), plain, atol=tolerance, rtol=0)
    A = function(X.clone().requires_grad_())
    assert bool((A.diagonal() == 1).all())
    assert torch.equal(A, A.T)


def test_no_graph_without_need() -> None:
    X = gaussian_cloud(20, 3).requires_grad_()
    with torch.no_grad():
        assert not rbf_affinity(X).requires_grad
    assert not rbf_affinity(X.detach()).requires_grad
    assert isinstance(solve_bandwidth(X).sigma, float)


def test_coincident_rows_have_a_finite_gradient() -> None:
    X = gaussian_cloud(20, 3)
    X[1] = X[0]
    X.requires_grad_()
    for function in FUNCTIONS:
        (gradient,) = torch.autograd.grad(function(X).square().sum(), X)
        assert bool(gradient.isfinite().all())


def test_features_can_be_trained_towards_an_affinity() -> None:
    target = rbf_affinity(gaussian_cloud(30, 4))
    X = gaussian_cloud(30, 4, seed=1).requires_grad_()
    optimizer = torch.optim.Adam([X], lr=0.05)
    losses = []
    for _ in range(60):
        A = rbf_affinity(X)
        assert mean_off_diagonal(A) == pytest.approx(0.05, rel=1e-8)
        loss = (A - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
