"""Powers of two: exact over the whole range of the float types, and undone by their inverse."""

from __future__ import annotations

import math

import pytest
import torch

from relspace.kernels.scale import (
    exponent_of,
    exponents_of,
    largest_magnitude,
    times_power_of_two,
    to_unit_scale,
)

LIMITS = {torch.float32: (-126, 127), torch.float64: (-1022, 1023)}


def some_features(dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("dtype", LIMITS)
def test_every_scale_that_the_type_holds_gives_the_same_to_the_bit(dtype: torch.dtype) -> None:
    X = some_features(dtype)
    expected, own = to_unit_scale(X)
    assert 1.0 <= largest_magnitude(expected) < 2.0
    lowest, highest = LIMITS[dtype]
    for exponent in (lowest + 24, lowest // 2, -1, 1, highest // 2, highest - own):
        scaled = torch.from_numpy(X.numpy().copy())
        scaled = times_power_of_two(scaled, exponent)
        assert torch.equal(times_power_of_two(scaled, -exponent), X)
        found, e = to_unit_scale(scaled)
        assert torch.equal(found, expected)
        assert e == exponent + own


@pytest.mark.parametrize("dtype", LIMITS)
def test_subnormal_numbers_reach_unit_scale(dtype: torch.dtype) -> None:
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    found, e = to_unit_scale(torch.tensor([[smallest, -3 * smallest]], dtype=dtype))
    assert torch.equal(found, torch.tensor([[0.5, -1.5]], dtype=dtype))
    assert math.ldexp(1.5, e) == 3 * smallest


@pytest.mark.parametrize("dtype", LIMITS)
def test_exponents_of_rows_are_those_of_their_numbers(dtype: torch.dtype) -> None:
    lowest, highest = LIMITS[dtype]
    powers = list(range(lowest - 20, highest + 1))
    values = torch.tensor([math.ldexp(1.25, p) for p in powers], dtype=dtype)
    assert exponents_of(values).tolist() == powers == [exponent_of(v) for v in values.tolist()]
    back = times_power_of_two(values[:, None], -exponents_of(values)[:, None])
    assert torch.equal(back[20:], torch.full_like(back[20:], 1.25))
    assert exponents_of(torch.zeros(2)).tolist() == [0, 0]


def test_what_is_zero_has_no_scale() -> None:
    X = torch.zeros(2, 2)
    found, e = to_unit_scale(X)
    assert found is X
    assert e == 0


def test_the_gradient_goes_through() -> None:
    X = some_features(torch.float64).requires_grad_()
    times_power_of_two(X, 3).sum().backward()
    assert torch.equal(X.grad, torch.full_like(X, 8.0))
