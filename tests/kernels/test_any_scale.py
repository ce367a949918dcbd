"""No result depends on the scale of the features, over the whole range of their float type."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import relspace as rs
from relspace.errors import InvalidInputError
from relspace.kernels import NORMALIZATIONS, fit_normalization, squared_distances
from relspace.kernels.scale import times_power_of_two
from relspace.measures import get

#: Powers of two of the smallest and the largest magnitudes that a type holds with all digits,
#: of features that reach from 1/64 to 16.
EXPONENTS = {
    torch.float32: [-120, -100, -74, -50, -49, -47, -20, 20, 47, 49, 60, 90, 123],
    torch.float64: [-1015, -900, -700, -530, -300, -60, 60, 300, 500, 700, 900, 1019],
}
SCALES = [(dtype, exponent) for dtype, all_of in EXPONENTS.items() for exponent in all_of]


def features(dtype: torch.dtype, n: int = 40, d: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, generator=generator, dtype=torch.float64)
    X = X * torch.linspace(1, 3, d) + torch.randn(d, generator=generator, dtype=torch.float64)
    return X.clamp(-15.9, 15.9).to(dtype)


def pairwise(X: torch.Tensor) -> torch.Tensor:
    wide = X.double()
    return (wide[:, None] - wide).square().sum(dim=2)


@pytest.mark.parametrize(("dtype", "exponent"), SCALES)
@pytest.mark.parametrize("zero_diagonal", [False, True])
def test_affinity_is_the_same_to_the_bit(
    dtype: torch.dtype, exponent: int, zero_diagonal: bool
) -> None:
    X, Y = features(dtype), features(dtype, n=20, seed=1)
    x, y = (times_power_of_two(Z, exponent) for Z in (X, Y))
    # float32 takes another way, by strips, where squares are safe.
    tolerance = {"rtol": 0, "atol": 0} if dtype == torch.float64 else {"rtol": 3e-6, "atol": 1e-8}
    for sets, scaled in (((X,), (x,)), ((X, Y), (x, y))):
        expected = rs.rbf_affinity(*sets, zero_diagonal=zero_diagonal)
        found = rs.rbf_affinity(*scaled, zero_diagonal=zero_diagonal)
        torch.testing.assert_close(found, expected, **tolerance)
    assert torch.equal(rs.cosine_affinity(x, y), rs.cosine_affinity(X, Y))


@pytest.mark.parametrize(("dtype", "exponent"), SCALES)
def test_bandwidth_is_in_units_of_the_features(dtype: torch.dtype, exponent: int) -> None:
    X = features(dtype)
    expected = rs.solve_bandwidth(X)
    x = times_power_of_two(X, exponent)
    found = rs.solve_bandwidth(x)
    assert found.sigma == math.ldexp(expected.sigma, exponent)
    assert found.density == expected.density
    torch.testing.assert_close(
        rs.rbf_affinity(x, sigma=found), rs.rbf_affinity(X, sigma=expected), rtol=3e-6, atol=1e-8
    )


@pytest.mark.parametrize(("dtype", "exponent"), SCALES)
def test_gradient_is_that_of_unit_scale_times_the_power(dtype: torch.dtype, exponent: int) -> None:
    if (dtype == torch.float32 and exponent > 100) or exponent > 900:
        pytest.skip("the gradient is subnormal")

    def gradient(power: int) -> torch.Tensor:
        X = times_power_of_two(features(dtype), power).requires_grad_()
        rs.rbf_affinity(X).square().sum().backward()
        return times_power_of_two(X.grad, power)

    assert torch.equal(gradient(exponent), gradient(0))


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("exponent", [-90, 0, 90])
def test_a_given_bandwidth_has_a_gradient_at_any_scale(exponent: int, tensor: bool) -> None:
    X = features(torch.float32)
    expected = rs.rbf_affinity(X, sigma=4.0)
    sigma = torch.tensor(math.ldexp(4.0, exponent), requires_grad=tensor)
    x = times_power_of_two(X, exponent).requires_grad_()
    found = rs.rbf_affinity(x, sigma=sigma if tensor else float(sigma))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    found.sum().backward()
    assert x.grad.isfinite().all()
    assert float(x.grad.abs().max()) > 0
    if tensor:
        assert math.isfinite(float(sigma.grad))
        assert float(sigma.grad) > 0


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize(("dtype", "exponent"), SCALES)
def test_relative_features_do_not_depend_on_scale(
    normalize: str, dtype: torch.dtype, exponent: int
) -> None:
    X, new = features(dtype), features(dtype, n=10, seed=2)
    x, of_new = (times_power_of_two(Z, exponent) for Z in (X, new))
    expected, found = (rs.align({"a": Z}, landmarks=20, normalize=normalize) for Z in (X, x))
    tolerance = {"rtol": 0, "atol": 2e-4 if dtype == torch.float32 else 1e-10}
    torch.testing.assert_close(found["a"], expected["a"], **tolerance)
    torch.testing.assert_close(
        found.transform("a", of_new), expected.transform("a", new), **tolerance
    )


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-22, 1e-10, 1e10, 1e25, 1e37])
def test_the_affinity_measure_does_not_depend_on_scale(normalize: str, scale: float) -> None:
    measure = get("affinity", normalize=normalize)
    X, Y = features(torch.float32), features(torch.float32, seed=3)
    Y = Y + X
    expected = measure(X, Y)
    assert 0.05 < expected < 0.95
    assert measure(X * scale, Y) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_saved_space_describes_new_items_at_its_scale(normalize: str, tmp_path: Path) -> None:
    X, new = features(torch.float32) * 1e-32, features(torch.float32, n=10, seed=2) * 1e-32
    space = rs.align({"a": X}, normalize=normalize)
    loaded = rs.load_space(space.save(tmp_path / "space.safetensors"))
    assert torch.equal(loaded.transform("a", new), space.transform("a", new))


@pytest.mark.parametrize("normalize", ["unit", "center+unit", "zscore+unit", "half-whiten+unit"])
def test_rows_of_any_scale_have_unit_norm(normalize: str) -> None:
    X = features(torch.float32)
    X[3] *= 1e-30
    X[5] *= 1e30
    rows = fit_normalization(X, normalize).apply(X)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(40), rtol=1e-6, atol=0.0)
    if normalize == "unit":
        wide = X.double() / X.double().norm(dim=1, keepdim=True)
        torch.testing.assert_close(rows.double(), wide, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("normalize", ["center+unit", "zscore+unit", "half-whiten+unit"])
@pytest.mark.parametrize(("dtype", "offset"), [(torch.float32, 2**20), (torch.float64, 2**49)])
def test_a_large_offset_costs_no_digits(normalize: str, dtype: torch.dtype, offset: int) -> None:
    # Multiples of 1/8, so that the offset is added exactly.
    X = (features(dtype) * 8).round() / 8
    expected = fit_normalization(X, normalize).apply(X)
    found = fit_normalization(X + offset, normalize).apply(X + offset)
    torch.testing.assert_close(torch.pdist(found), torch.pdist(expected), rtol=1e-4, atol=1e-4)


def test_channels_of_any_scale_are_standardised() -> None:
    X = features(torch.float32)
    scales = torch.tensor([1e-30, 1e-20, 1e-10, 1.0, 1e20, 1e35])
    expected = fit_normalization(X, "zscore").apply(X)
    found = fit_normalization(X * scales, "zscore").apply(X * scales)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("outlier", [1e19, 1e25, 3e38])
def test_one_far_row_changes_nothing_between_the_others(outlier: float) -> None:
    X = features(torch.float32)
    X[7] = outlier
    wide = X.double()
    expected = rs.rbf_affinity(wide)
    torch.testing.assert_close(rs.rbf_affinity(X).double(), expected, rtol=1e-4, atol=1e-6)
    small = times_power_of_two(X, -60)
    torch.testing.assert_close(rs.rbf_affinity(small).double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["cka_rbf", "cka_rbf_biased"])
@pytest.mark.parametrize("outlier", [1e4, 1e19, 1e25, 3e38])
def test_one_far_row_does_not_hide_the_median_distance(name: str, outlier: float) -> None:
    X, Y = features(torch.float32), features(torch.float32, seed=5)
    X[7] = outlier
    assert get(name)(X, Y) == pytest.approx(get(name)(X.double(), Y.double()), abs=1e-4)


@pytest.mark.parametrize(
    ("dtype", "scale", "type_"),
    [
        (torch.float32, 1e20, "float32"),
        (torch.float32, 1e-21, "float32"),
        (torch.float16, 1e3, "float16"),
        (torch.bfloat16, 1e20, "bfloat16"),
        (torch.float64, 1e160, "float64"),
        (torch.float64, 1e-160, "float64"),
    ],
)
def test_squared_distances_that_a_type_cannot_hold_are_refused(
    dtype: torch.dtype, scale: float, type_: str
) -> None:
    X = (features(torch.float64) * scale).to(dtype)
    with pytest.raises(InvalidInputError, match=rf"row \d+ and column \d+, .* for {type_}"):
        squared_distances(X)
    if type_ != "float64":
        wide = squared_distances(X.double())
        torch.testing.assert_close(wide, pairwise(X), rtol=1e-10, atol=0.0)


@pytest.mark.parametrize("scale", [1e17, 1e-17])
def test_squared_distances_near_the_limits_are_right(scale: float) -> None:
    X = features(torch.float32) * scale
    expected = pairwise(X)
    found = squared_distances(X)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * float(expected.max()))
    x = X.clone().requires_grad_()
    np.testing.assert_allclose(
        squared_distances(x).detach(), expected, rtol=1e-5, atol=1e-6 * float(expected.max())
    )


def test_features_that_have_lost_digits_are_refused() -> None:
    X = features(torch.float32) * 1e-42
    for call in (rs.rbf_affinity, rs.cosine_affinity, rs.solve_bandwidth, squared_distances):
        with pytest.raises(InvalidInputError, match="digits"):
            call(X)
    with pytest.raises(InvalidInputError, match="digits"):
        rs.align({"a": X})
    row, channel = features(torch.float32), features(torch.float32)
    row[3] *= 1e-42
    channel[:, 2] *= 1e-42
    with pytest.raises(InvalidInputError, match="row 3 holds no number above"):
        rs.align({"a": row}, normalize="unit")
    with pytest.raises(InvalidInputError, match="channel 2 holds no number above"):
        rs.align({"a": channel}, normalize="zscore")


def test_a_token_too_far_from_the_landmarks_is_named() -> None:
    X = features(torch.float32)
    space = rs.align({"a": X}, normalize="none")
    X[4] = 1e30
    with pytest.raises(InvalidInputError, match="row 4 of X lies farther"):
        space.transform("a", X)


def test_bandwidths_beyond_float64_are_refused() -> None:
    X = features(torch.float64, d=600) * 1e307
    X[:, ::2] *= -1
    with pytest.raises(InvalidInputError, match="float64 can't hold their bandwidth"):
        rs.solve_bandwidth(X * 1.0)
    assert rs.rbf_affinity(X).isfinite().all()
