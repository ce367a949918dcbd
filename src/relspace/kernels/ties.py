"""Ties among distances: which values differ by rounding alone, and points that have no rounding."""

from __future__ import annotations

import torch

from relspace.kernels.frame import Cloud, Frame
from relspace.kernels.scale import exponents_of, to_unit_scale

#: Roundings of the largest value by which two values may differ and still be tied.
ROUNDINGS = 64

_DIGITS = 53
_ROWS_FOR_A_LOOK = 32


def cloud_for_ties(X: torch.Tensor) -> tuple[Cloud, bool]:
    """Points in float64 whose squared distances tie where those of the features do.

    Parameters
    ----------
    X : tensor of shape (n, d)
        Features.

    Returns
    -------
    cloud : Cloud
        The points.
    exact : bool
        Whether their squared distances are computed without any rounding: features are whole
        multiples of one power of two, as whole numbers are, and don't spread too far for it.
    """
    wide = to_unit_scale(X.to(torch.float64))[0]
    whole = _as_whole_numbers(wide)
    if whole is not None:
        # Halves of whole numbers are exact too.
        return Cloud(whole, whole.square().sum(dim=1) / 2), True
    return Frame.of(wide).place(wide), False


def _as_whole_numbers(X: torch.Tensor) -> torch.Tensor | None:
    """Features about the first item, in units that make whole numbers of them all; None if none."""
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


def mean_ranks(values: torch.Tensor, *, exact: bool = False, off: float = 0.0) -> torch.Tensor:
    """Ranks from 1 on; tied values share their mean rank.

    Parameters
    ----------
    values : tensor of shape (m,)
        What is ranked, in float64.
    exact : bool
        Whether only equal values are tied. By default also those that differ by rounding alone: by
        no more than 64 roundings of the largest.
    off : float
        By how much more they may differ and be tied, where they were made from rounded numbers.

    Returns
    -------
    tensor of shape (m,)
        The ranks.

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
