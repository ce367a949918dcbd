"""Exact scaling of features by powers of two, so that no result depends on their scale.

Products and squares of very large or small numbers overflow or underflow long before the numbers
do. A float that is multiplied by a power of two keeps all its digits.
"""

from __future__ import annotations

import math

import torch


def largest_magnitude(X: torch.Tensor) -> float:
    """The largest absolute value of finite features."""
    low, high = torch.aminmax(X.detach())
    return max(-float(low), float(high))


def exponent_of(value: float) -> int:
    """The exponent e of a number in 2^e [1, 2); 0 for 0, which has none.

    >>> exponent_of(1.0), exponent_of(-0.75), exponent_of(1e300), exponent_of(0.0)
    (0, -1, 996, 0)
    """
    return math.frexp(value)[1] - 1 if value else 0


def exponents_of(values: torch.Tensor) -> torch.Tensor:
    """The exponent of every number, as :func:`exponent_of`, in whole numbers of the same shape."""
    exponents = torch.frexp(values).exponent - 1
    return torch.where(values == 0, torch.zeros_like(exponents), exponents)


def times_power_of_two(X: torch.Tensor, exponent: int | torch.Tensor) -> torch.Tensor:
    """Features times 2^exponent; exact unless the result overflows or is subnormal.

    The exponent is an int, of which 0 gives ``X`` itself, or a tensor that broadcasts with X.
    """
    if isinstance(exponent, int):
        if exponent == 0:
            return X
        for part in _parts(exponent, X.dtype):
            X = X * math.ldexp(1.0, part)
        return X
    # In two factors, because the power itself may overflow.
    half = torch.div(exponent, 2, rounding_mode="floor")
    return X * _powers(half).to(X.dtype) * _powers(exponent - half).to(X.dtype)


def scale_in_place(X: torch.Tensor, exponent: int) -> torch.Tensor:
    """Features times 2^exponent, overwritten; see :func:`times_power_of_two`."""
    for part in _parts(exponent, X.dtype):
        X.mul_(math.ldexp(1.0, part))
    return X


def to_unit_scale(X: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Scale finite features so that their largest magnitude is in [1, 2); return the exponent too.

    Numbers that are smaller by more than the type's range become subnormal or 0.

    Examples
    --------
    >>> import torch
    >>> to_unit_scale(torch.tensor([[3e30, -1e30]], dtype=torch.float64))
    (tensor([[ 1.1833, -0.3944]], dtype=torch.float64), 101)
    """
    exponent = exponent_of(largest_magnitude(X))
    return times_power_of_two(X, -exponent), exponent


def _parts(exponent: int, dtype: torch.dtype) -> list[int]:
    """Split an exponent into exponents of powers that the type can hold."""
    most = 126 if dtype == torch.float32 else 1022
    whole, rest = divmod(abs(exponent), most)
    sign = 1 if exponent > 0 else -1
    return [sign * part for part in [most] * whole + [rest] if part]


def _powers(exponents: torch.Tensor) -> torch.Tensor:
    """2^exponent in float64, from its bits, because functions of powers may round."""
    return ((exponents.to(torch.int64) + 1023) << 52).view(torch.float64)
