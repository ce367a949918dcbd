"""The implemented interface's names, argument order and quick start."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from tests.generators.closed_form import gaussian_cloud, mean_off_diagonal

import ncut_pytorch
import relspace
from ncut_pytorch.utils.math import cosine_affinity, rbf_affinity
from ncut_pytorch.utils.sigma import find_sigma
from relspace.errors import InvalidInputError


def test_quick_start() -> None:
    features_A = torch.randn(100, 768)
    features_B = torch.randn(100, 1024)
    aligned_A = rbf_affinity(features_A)
    aligned_B = rbf_affinity(features_B)
    for aligned in (aligned_A, aligned_B):
        assert isinstance(aligned, torch.Tensor)
        assert aligned.shape == (100, 100)
        assert float((aligned - torch.eye(100)).abs().max()) > 0.05
        assert mean_off_diagonal(aligned) == pytest.approx(relspace.DEFAULT_DENSITY, rel=1e-5)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (rbf_affinity, ["X1", "X2", "sigma", "zero_diag"]),
        (cosine_affinity, ["X1", "X2", "sigma", "repulse", "zero_diag"]),
        (find_sigma, ["anchor", "n_sample", "A_degree", "max_iter", "tol"]),
    ],
)
def test_arguments_keep_their_names_and_order(function, names: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == names


def test_arguments_reach_relspace_by_position_and_by_name() -> None:
    X, Y = gaussian_cloud(20, 4), gaussian_cloud(9, 4, seed=1)
    expected = relspace.rbf_affinity(X, Y, sigma=2.0)
    assert torch.equal(rbf_affinity(X, Y, 2.0), expected)
    assert torch.equal(rbf_affinity(X1=X, X2=Y, sigma=2.0, zero_diag=False), expected)
    looped = relspace.rbf_affinity(X, sigma=2.0, zero_diagonal=True)
    assert torch.equal(rbf_affinity(X, None, 2.0, True), looped)
    assert torch.equal(rbf_affinity(X, X, 2.0, True), looped)
    cosine = relspace.cosine_affinity(X, sigma=0.5, zero_diagonal=True)
    assert torch.equal(cosine_affinity(X, X, 0.5, False, True), cosine)
    assert torch.equal(cosine_affinity(X1=X, sigma=0.5, zero_diag=True), cosine)


def test_arrays_come_back_as_arrays() -> None:
    X = gaussian_cloud(20, 4).numpy()
    assert isinstance(rbf_affinity(X), np.ndarray)
    assert isinstance(cosine_affinity(X), np.ndarray)


def test_repulsion_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidInputError, match="negated features as X2"):
        cosine_affinity(gaussian_cloud(20, 4), repulse=True)


@pytest.mark.parametrize("degree", [0.05, 0.3])
def test_sigma_gives_the_degree_asked_for_despite_outliers(degree: float) -> None:
    X = gaussian_cloud(800, 16, dtype=torch.float32)
    X[::20] *= 20
    sigma = find_sigma(X, A_degree=degree)
    assert isinstance(sigma, float)
    assert mean_off_diagonal(rbf_affinity(X, sigma=sigma)) == pytest.approx(degree, rel=5e-3)


def test_sigma_of_no_degree_is_that_of_the_affinity() -> None:
    X = gaussian_cloud(300, 8)
    given, solved = rbf_affinity(X, sigma=find_sigma(X)), rbf_affinity(X)
    torch.testing.assert_close(given, solved, atol=1e-9, rtol=0)


def test_large_sets_are_sampled_within_half_a_percent() -> None:
    X = gaussian_cloud(4000, 8, dtype=torch.float32)
    sigma = find_sigma(X, n_sample=500, A_degree=0.3)
    assert mean_off_diagonal(rbf_affinity(X, sigma=sigma)) == pytest.approx(0.3, rel=0.015)


def test_the_package_offers_what_its_modules_do() -> None:
    assert ncut_pytorch.rbf_affinity is rbf_affinity
    assert ncut_pytorch.cosine_affinity is cosine_affinity
    assert ncut_pytorch.find_sigma is find_sigma
