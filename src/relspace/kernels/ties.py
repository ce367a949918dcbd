"""Ties among distances: values that differ only by rounding, and exact distances."""

from __future__ import annotations

from hashlib import blake2b

import torch

from relspace.kernels.frame import Cloud, Frame
from relspace.kernels.scale import exponents_of, to_unit_scale

#: Roundings of the largest value by which two values may differ and still be tied.
ROUNDINGS = 64

_DIGITS = 53
_ROWS_FOR_A_LOOK = 32


def cloud_for_ties(X: torch.Tensor) -> tuple[Cloud, bool]:
    """Points in float64 whose squared distances are tied where those of the features are.

    The second result is whether squared distances are exact: features are multiples of one power of
    two, such as whole numbers, and not too large.
    """
    wide = to_unit_scale(X.to(torch.float64))[0]
    whole = _as_whole_numbers(wide)
    if whole is not None:
        # Halves of whole numbers are exact too.
        return Cloud(whole, whole.square().sum(dim=1) / 2), True
    return Frame.of(wide).place(wide), False


def _as_whole_numbers(X: torch.Tensor) -> torch.Tensor | None:
    """Differences from the first item in units that make all of them whole numbers, if any do."""
    for rows in (X[:_ROWS_FOR_A_LOOK], X):
        unit = _last_digit(rows)
        if unit < -_DIGITS:
            # The largest feature is in [1, 2): its difference from another would be rounded.
            return None
        whole = (rows - X[0]) * 2.0**-unit
        # A squared distance is at most four squared norms.
        if not float(whole.square().sum(dim=1).max()) < 2.0 ** (_DIGITS - 3):
            return None
    return whole


def _last_digit(X: torch.Tensor) -> int:
    """The exponent of the largest power of two of which all numbers are whole multiples."""
    mantissas, exponents = torch.frexp(X[X != 0])
    if not len(mantissas):
        return 0
    digits = (mantissas * 2.0**_DIGITS).to(torch.int64)
    lowest = exponents_of((digits & -digits).to(torch.float64))
    return int((exponents - _DIGITS + lowest).min())


def seed_of_ties(ranks: torch.Tensor, random_state: int) -> int:
    """A seed by which ties of one set are broken, by the ranks of its distances.

    Sets with other orders of distances get other seeds, so that unrelated sets don't break their
    ties alike. Rotations, units and dtypes that keep the order keep the seed.
    """
    data = ranks.cpu().contiguous().numpy().data
    digest = blake2b(data, digest_size=7, salt=int(random_state).to_bytes(16, "big")).digest()
    return int.from_bytes(digest, "big")


def shares_of_pairs(pairs: torch.Tensor, seed: int) -> torch.Tensor:
    """Random numbers in [0, 1) for numbers of pairs, each by itself (SplitMix64): float64."""
    mixed = pairs * _signed(0x9E3779B97F4A7C15) + seed
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ _shifted(mixed, shift)) * _signed(factor)
    mixed = mixed ^ _shifted(mixed, 31)
    return _shifted(mixed, 64 - _DIGITS).to(torch.float64) * 2.0**-_DIGITS


def _signed(number: int) -> int:
    """The int64 with the bits of an unsigned number."""
    return number - 2**64 if number >= 2**63 else number


def _shifted(numbers: torch.Tensor, by: int) -> torch.Tensor:
    """Shift bits to the right, zeros coming in; torch's operator repeats the sign."""
    return (numbers >> by) & ((1 << (64 - by)) - 1)


def mean_ranks(values: torch.Tensor, *, exact: bool = False, off: float = 0.0) -> torch.Tensor:
    """Ranks of float64 values from 1 on; tied values share their mean rank.

    Values are tied that differ by at most 64 roundings of the largest, or are equal if they are
    ``exact``; and ``off`` more, if they were computed from rounded numbers.

    Examples
    --------
    >>> import torch
    >>> mean_ranks(torch.tensor([0.3, 0.1, 0.1 + 1e-16, 0.2], dtype=torch.float64)).tolist()
    [4.0, 1.5, 1.5, 3.0]
    """
    ordered, order = values.sort()
    rounding = off
    if not exact:
        rounding += ROUNDINGS * torch.finfo(values.dtype).eps * float(values.abs().max())
    group = (ordered.diff(prepend=ordered[:1]) > rounding).cumsum(0)
    counts = group.bincount()
    ranks = torch.empty_like(values)
    ranks[order] = (counts.cumsum(0) - (counts - 1) / 2).to(values.dtype)[group]
    return ranks
