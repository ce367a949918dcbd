"""Affinities of a set with itself, in one compiled call from features to matrix.

Its threads go through the same steps, and take strips of 16 rows in each. Distances lie where
affinities will be. Of more items, tiles are as fast.
"""

from __future__ import annotations

import math

import torch

from relspace._core.memory import empty_matrix
from relspace.kernels.bandwidth import Bandwidth, exact_bandwidth
from relspace.kernels.compiled import fused
from relspace.kernels.density import Root, last_step
from relspace.kernels.distances import Scratch
from relspace.kernels.frame import NEGLIGIBLE, is_safe

_MOST_ITEMS = 8192
# The same as in powers.h.
_ROWS_OF_STRIP = 16
# Times the largest half squared norm: sigma^2 below which float32 may be too coarse.
_ROUNDING = 2 * torch.finfo(torch.float32).eps / NEGLIGIBLE


def suit(X: torch.Tensor) -> bool:
    """Whether strips are the way to the affinities of these items."""
    return fused.suits_whole_set(X) and len(X) <= _MOST_ITEMS


def affinities_in_strips(
    X: torch.Tensor, sigma: float | None, density: float
) -> tuple[torch.Tensor, Bandwidth | None] | None:
    """Compute the affinities of a set with itself, and its bandwidth where none is given.

    Parameters
    ----------
    X : tensor of shape (n, d)
        Features that suit, see :func:`suit`; they may hold NaN or infinity.
    sigma : float or None
        A given bandwidth, in units of the features.
    density : float
        The mean affinity that is solved for otherwise.

    Returns
    -------
    tensor of shape (n, n) and Bandwidth or None; or None instead of both
        None where the features are not finite, or where float32, or the first guess of their size,
        does not do, or is not safe to square: what to do then is decided by who can say why.
    """
    n = len(X)
    out = empty_matrix(n, n, like=X)
    whole = describe(X, sigma, density, out)
    if not fused.affinities_of_set(whole) or not is_safe(whole.unit):
        return None
    if sigma is not None:
        return out, None
    root = Root(whole.log_variance, whole.iterations)
    counts = {"n_pairs": n * (n - 1) // 2, "n_items": n}
    return out, exact_bandwidth(
        root, whole.reached, density, sigma=whole.unit * math.exp(root.log_variance / 2), **counts
    )


def describe(
    X: torch.Tensor, sigma: float | None, density: float, out: torch.Tensor
) -> fused.WholeSet:
    """Say what is asked for, where it goes, and where there is room to work in."""
    n, width = X.shape
    n_strips = -(-n // _ROWS_OF_STRIP)
    n_placed = n_strips * _ROWS_OF_STRIP
    # Sums, 8 of float64 for each strip; points; half their squared norms; the origin.
    room = Scratch(X, "set").of(16 * n_strips + n_placed * width + n_placed + width)
    sums = room.data_ptr()
    panels = sums + 64 * n_strips
    half_norms = panels + 4 * n_placed * width
    whole = fused.WholeSet(
        rows=X.data_ptr(),
        n=n,
        width=width,
        stride=X.stride(0),
        sigma=sigma or 0.0,
        density=density,
        last_step=last_step(X.dtype),
        rounding=_ROUNDING,
        matrix=out.data_ptr(),
        origin=half_norms + 4 * n_placed,
        half_norms=half_norms,
        panels=panels,
        sums=sums,
    )
    whole.memory = X, out, room
    return whole
