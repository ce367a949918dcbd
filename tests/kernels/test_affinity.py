"""Affinities: closed forms, references, exact structure, kinds of input, memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import rbf_kernel
from tests.generators.closed_form import (
    gaussian_cloud,
    mean_off_diagonal,
    reference_affinity,
    simplex,
)

from relspace import Bandwidth, cosine_affinity, rbf_affinity, solve_bandwidth
from relspace.errors import BandwidthError, InvalidInputError, InvalidTypeError, MemoryBudgetError
from relspace.kernels import squared_distances

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("density", [1e-4, 0.05, 0.5, 0.999])
@pytest.mark.parametrize("n", [3, 10, 513])
def test_equidistant_points_all_have_the_density_as_affinity(n: int, density: float) -> None:
    A = rbf_affinity(simplex(n), density=density)
    expected = torch.full((n, n), density, dtype=torch.float64).fill_diagonal_(1.0)
    torch.testing.assert_close(A, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(3, 1), (50, 7), (600, 5), (520, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_affinity_equals_direct_computation(
    shape: tuple[int, int], dtype: torch.dtype, device: str
) -> None:
    X = gaussian_cloud(*shape, dtype=dtype).to(device)
    sigma = float(shape[1]) ** 0.5
    A = rbf_affinity(X, sigma=sigma)
    assert A.device == X.device
    tolerance = 2e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(
        A.cpu().double(), reference_affinity(X.cpu(), sigma=sigma), atol=tolerance, rtol=0
    )


def test_affinity_agrees_with_scikit_learn_and_scipy() -> None:
    X, Y = gaussian_cloud(70, 9).numpy(), gaussian_cloud(40, 9, seed=1).numpy()
    np.testing.assert_allclose(
        rbf_affinity(X, Y, sigma=2.0), rbf_kernel(X, Y, gamma=1 / 8), atol=1e-13
    )
    np.testing.assert_allclose(squared_distances(X, Y), cdist(X, Y, "sqeuclidean"), atol=1e-12)
    np.testing.assert_allclose(
        cosine_affinity(X, Y, sigma=0.5), np.exp(-2 * cdist(X, Y, "cosine") ** 2), atol=1e-13
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("function", [rbf_affinity, cosine_affinity])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [3, 100, 512, 1100])
def test_matrix_of_a_set_is_exactly_symmetric_with_unit_diagonal(function, dtype, n, device):
    A = function(gaussian_cloud(n, 6, dtype=dtype).to(device))
    assert torch.equal(A, A.T)
    assert bool((A.diagonal() == 1).all())
    assert float(A.min()) >= 0
    assert float(A.max()) <= 1
    assert mean_off_diagonal(A) == pytest.approx(0.05, rel=2e-6)


@pytest.mark.parametrize("function", [rbf_affinity, cosine_affinity])
def test_zero_diagonal_changes_the_diagonal_only(function) -> None:
    X = gaussian_cloud(30, 4)
    A, B = function(X), function(X, zero_diagonal=True)
    assert torch.equal(B, A - torch.eye(30, dtype=A.dtype))
    with_gradient = function(X.clone().requires_grad_(), zero_diagonal=True)
    assert bool((with_gradient.diagonal() == 0).all())
    Y = gaussian_cloud(30, 4, seed=1)
    assert torch.equal(function(X, Y, zero_diagonal=True), function(X, Y))


@pytest.mark.parametrize("function", [rbf_affinity, cosine_affinity])
@pytest.mark.parametrize(("n", "m"), [(30, 8), (600, 520), (40, 1)])
def test_two_sets_meet_the_density_over_all_pairs_and_transpose(function, n: int, m: int) -> None:
    X, Y = gaussian_cloud(n, 5), gaussian_cloud(m, 5, seed=1)
    A = function(X, Y)
    assert A.shape == (n, m)
    assert float(A.mean()) == pytest.approx(0.05, rel=1e-6)
    torch.testing.assert_close(A, function(Y, X).T, atol=1e-8, rtol=0)


def test_sigma_may_be_a_number_a_tensor_or_a_solved_bandwidth() -> None:
    X = gaussian_cloud(40, 4)
    bandwidth = solve_bandwidth(X)
    solved = rbf_affinity(X)
    for sigma in (bandwidth, bandwidth.sigma, torch.tensor(bandwidth.sigma, dtype=torch.float64)):
        torch.testing.assert_close(rbf_affinity(X, sigma=sigma), solved, atol=1e-9, rtol=0)


@pytest.mark.parametrize("sigma", [1e-200, 1e-30, 1e30, 1e200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_bandwidths_give_the_limits(sigma: float, dtype: torch.dtype) -> None:
    A = rbf_affinity(gaussian_cloud(20, 4, dtype=dtype), sigma=sigma)
    expected = torch.eye(20, dtype=dtype) if sigma < 1 else torch.ones(20, 20, dtype=dtype)
    assert torch.equal(A, expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_float_type_and_kind_are_kept(dtype: torch.dtype) -> None:
    X = gaussian_cloud(60, 8).to(dtype)
    A = rbf_affinity(X)
    assert isinstance(A, torch.Tensor)
    assert A.dtype == dtype
    reference = rbf_affinity(X.double())
    assert float((A.double() - reference).abs().max()) <= 2 * torch.finfo(dtype).eps + 1e-6 * (
        dtype != torch.float64
    )
    if dtype != torch.bfloat16:
        array = rbf_affinity(X.numpy())
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, A.numpy())


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint16, np.uint64])
def test_whole_numbers_count_as_floats(dtype: type) -> None:
    X = np.random.default_rng(0).integers(0, 100, (30, 4)).astype(dtype)
    np.testing.assert_allclose(rbf_affinity(X), rbf_affinity(X.astype(np.float64)), atol=1e-5)


def _readonly(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X.flags.writeable = False
    return X


@pytest.mark.parametrize(
    "view",
    [
        _readonly,
        lambda X: X[::-1].copy()[::-1],
        lambda X: np.asfortranarray(X),
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: X.astype(">f4"),
        lambda X: X.tolist(),
    ],
    ids=["readonly", "negative stride", "fortran", "strided", "big-endian", "nested list"],
)
def test_layout_of_an_array_changes_nothing(view) -> None:
    X = gaussian_cloud(30, 4, dtype=torch.float32).numpy()
    given = view(X)
    np.testing.assert_allclose(rbf_affinity(given), rbf_affinity(X), atol=1e-6)


def test_input_is_left_as_it_was() -> None:
    X = gaussian_cloud(30, 4)
    before = X.clone()
    for function in (rbf_affinity, cosine_affinity, squared_distances, solve_bandwidth):
        function(X)
        function(X, X[:9])
        assert torch.equal(X, before)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_matmul_precision_is_neither_used_nor_changed(precision: str) -> None:
    X = gaussian_cloud(100, 32, dtype=torch.float32)
    expected = rbf_affinity(X)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert torch.equal(rbf_affinity(X), expected)
        assert torch.get_float32_matmul_precision() == precision
        with pytest.raises(BandwidthError):
            rbf_affinity(torch.ones(10, 3))
        assert torch.get_float32_matmul_precision() == precision
        solve_bandwidth(X, max_items=70, tolerance=0.2)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("function", [rbf_affinity, cosine_affinity, squared_distances])
def test_matrix_that_does_not_fit_is_refused(function, assume_free: Callable[..., None]) -> None:
    assume_free(1000)
    many = gaussian_cloud(2100, 4)
    with pytest.raises(MemoryBudgetError, match=r"shape \(2100, 2100\) needs .* MiB .*landmarks"):
        function(many)
    with pytest.raises(MemoryBudgetError, match=r"shape \(2100, 2090\), with the .* needs"):
        function(many.clone().requires_grad_(), many[:2090])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sigma": 0.0}, InvalidInputError, "sigma is 0.0"),
        ({"sigma": -1}, InvalidInputError, "sigma is -1"),
        ({"sigma": float("nan")}, InvalidInputError, "sigma is nan"),
        ({"sigma": float("inf")}, InvalidInputError, "sigma is inf"),
        ({"sigma": "1"}, InvalidTypeError, "sigma is of type str"),
        ({"sigma": True}, InvalidTypeError, "sigma is True"),
        ({"sigma": torch.ones(2)}, InvalidTypeError, "sigma is of type Tensor"),
        ({"density": 0}, InvalidInputError, "density is 0; .* between 0 and 1"),
        ({"density": 1.0}, InvalidInputError, "density is 1.0"),
        ({"density": float("nan")}, InvalidInputError, "density is nan"),
        ({"density": None}, InvalidTypeError, "density is of type NoneType"),
        ({"Y": torch.ones(4, 3)}, InvalidInputError, "X has 4 features and Y has 3"),
    ],
)
@pytest.mark.parametrize("function", [rbf_affinity, cosine_affinity])
def test_bad_arguments_are_named(function, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        function(gaussian_cloud(10, 4), **arguments)


def test_bandwidth_needs_three_items_but_a_given_sigma_does_not() -> None:
    with pytest.raises(InvalidInputError, match="X has 2 items"):
        rbf_affinity(torch.eye(2))
    assert rbf_affinity(torch.eye(2), sigma=1.0)[0, 1] == pytest.approx(np.exp(-1), rel=1e-6)
    assert rbf_affinity(torch.ones(1, 4), sigma=1.0).item() == 1


def test_cosine_refuses_rows_of_zeros() -> None:
    X = gaussian_cloud(10, 4)
    X[[2, 5]] = 0
    with pytest.raises(InvalidInputError, match="2 rows of zeros, first at 2, 5"):
        cosine_affinity(X)


def test_solved_bandwidth_is_what_the_affinity_uses() -> None:
    X = gaussian_cloud(5000, 4, dtype=torch.float32)
    bandwidth = solve_bandwidth(X)
    assert isinstance(bandwidth, Bandwidth)
    assert bandwidth.converged
    A = rbf_affinity(X)
    assert mean_off_diagonal(A) == pytest.approx(0.05, rel=1e-6)
    rows = slice(0, 20)
    expected = reference_affinity(X[rows], X, sigma=bandwidth.sigma)
    torch.testing.assert_close(A[rows].double(), expected, atol=1e-5, rtol=0)
