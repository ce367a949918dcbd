"""Values don't depend on the features' scale, or grow with it, from the smallest floats on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relspace import measures
from relspace.errors import InvalidInputError
from relspace.measures import Measure
from relspace.measures.sums.stacked_products import sum_stacked_products
from relspace.rows.formats.memory import ArrayRows

N = 40
MEASURES = [pytest.param(one, id=one.name) for one in map(measures.get, measures.names())]
EVERY = pytest.mark.parametrize("measure", MEASURES)
INVARIANT = pytest.mark.parametrize(
    "measure", [case for case in MEASURES if "scale" in case.values[0].invariances]
)
GROWING = pytest.mark.parametrize(
    "measure", [case for case in MEASURES if "scale" not in case.values[0].invariances]
)


def two_sets(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(N, 4, generator=generator, dtype=torch.float64)
    X = torch.tanh(shared @ torch.randn(4, 6, generator=generator, dtype=torch.float64)) + 0.3
    Y = X[:, :5] + 0.5 * torch.randn(N, 5, generator=generator, dtype=torch.float64)
    return X.to(dtype), Y.to(dtype)


@INVARIANT
@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-160, 1e-22, 1e22, 1e154, 1e200, 1e300])
def test_float64(measure: Measure, scale: float) -> None:
    X, Y = two_sets()
    value = measure(X, Y)
    assert measure(X * scale, Y) == pytest.approx(value, abs=1e-9)
    assert measure(X, Y * scale) == pytest.approx(value, abs=1e-9)
    assert measure(X * scale, Y * scale) == pytest.approx(value, abs=1e-9)


@INVARIANT
@pytest.mark.parametrize("scale", [1e-39, 1e-37, 1e-30, 1e-20, 1e19, 1e25, 1e37])
def test_float32(measure: Measure, scale: float) -> None:
    X, Y = two_sets(torch.float32)
    value = measure(X, Y)
    assert measure(X * scale, Y) == pytest.approx(value, abs=1e-4)
    assert measure(X * scale, Y / scale if scale > 1e-36 else Y) == pytest.approx(value, abs=1e-4)


@INVARIANT
@pytest.mark.parametrize("exponent", [-900, -126, 126, 900])
def test_powers_of_two_change_no_bit(measure: Measure, exponent: int) -> None:
    X, Y = two_sets()
    assert measure(X * 2.0**exponent, Y) == measure(X, Y)


@GROWING
@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-22, 1e22, 1e200, 1e300])
def test_values_grow_with_both_sets(measure: Measure, scale: float) -> None:
    X, Y = two_sets()
    value = measure(X, Y)
    assert measure(X * scale, Y * scale) == pytest.approx(scale * value, rel=1e-9)
    assert measure(X * 2.0**900, Y * 2.0**900) == value * 2.0**900
    small, large = (measure(one, Y) for one in (X * 1e-200, X * 1e200))
    assert small == pytest.approx(measure(X * 1e-100, Y), rel=1e-9)
    assert large == pytest.approx(1e100 * measure(X * 1e100, Y), rel=1e-9)


@EVERY
@pytest.mark.parametrize("scale", [1e-44, 1e-42, 1e-41])
def test_what_float32_does_not_hold_is_refused(measure: Measure, scale: float) -> None:
    X, Y = two_sets()
    small = (X * scale).to(torch.float32)
    with pytest.raises(InvalidInputError, match=r"X holds no number above .*float32 loses"):
        measure(small, Y.to(torch.float32))
    with pytest.raises(InvalidInputError, match=r"Y holds no number above .*float64 loses"):
        measure(X, Y * 1e-315)


@EVERY
def test_whole_numbers_and_constant_columns(measure: Measure) -> None:
    X, Y = two_sets()
    whole = (100 * X).round()
    constant = torch.full((N, 2), 7.0, dtype=torch.float64)
    value = measure(whole, Y)
    assert measure(whole.to(torch.int64).numpy(), Y.numpy()) == pytest.approx(value, abs=1e-4)
    if "shift" in measure.invariances:
        padded = torch.cat([X, constant], dim=1)
        assert measure(padded, Y) == pytest.approx(measure(X, Y), abs=1e-9)
        scaled = measure(X * 1e200, Y)
        assert measure(padded * 1e200, Y) == pytest.approx(scaled, abs=1e-9, rel=1e-12)


@EVERY
def test_zeros_are_constant_whatever_the_scale(measure: Measure) -> None:
    X, _ = two_sets()
    with pytest.raises(InvalidInputError, match="Y is constant"):
        measure(X, torch.zeros(N, 3, dtype=torch.float64))
    with pytest.raises(InvalidInputError, match="Y is constant"):
        measure(X, np.full((N, 3), 1e300))


STREAMED = [one for one in map(measures.get, measures.names()) if one.streams]


@pytest.mark.parametrize("measure", [pytest.param(one, id=one.name) for one in STREAMED])
@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e154, 1e300])
def test_sums_over_items(measure: Measure, scale: float) -> None:
    X, Y = two_sets()

    def by_sums(x: torch.Tensor, y: torch.Tensor) -> float:
        stack = sum_stacked_products(
            [ArrayRows(x), ArrayRows(y)], ("X", "Y"), folds=measure.folds(len(x))
        )
        return measure.from_cross_products(stack.pair(0, 1))

    for x, y in ((X, Y), (X * scale, Y), (X, Y * scale)):
        assert by_sums(x, y) == pytest.approx(measure(x, y), abs=1e-9, rel=1e-12)


def test_sums_over_items_that_floats_do_not_hold_are_refused() -> None:
    X, Y = (ArrayRows(one) for one in two_sets())
    small = ArrayRows((two_sets()[0] * 1e-43).to(torch.float32))
    with pytest.raises(InvalidInputError, match=r"features of X are below .*float32"):
        sum_stacked_products([small, Y], ("X", "Y"))
    far = torch.zeros(1000, 3, dtype=torch.float64)
    far[50] = 1e100
    far[::7, 0] = 1e-100
    others = ArrayRows(torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(InvalidInputError, match=r"features of Y span more than floats"):
        sum_stacked_products([others, ArrayRows(far)], ("X", "Y"))
    assert X.shape[0] == N
