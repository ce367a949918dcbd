"""Affinities of a set with itself while the matrix fits the caches: compiled strips of rows.

All threads share each product, as torch's do, and then the strips of what came out of it. Distances
lie where affinities will be. Larger matrices are better worked on in tiles, one in each core.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress

import torch

from relspace.errors import BandwidthError
from relspace.kernels import fused
from relspace.kernels.bandwidth import Bandwidth, exact_bandwidth
from relspace.kernels.density import LOG2_E, Moments, Root, last_step, solve_root
from relspace.kernels.distances import NEGLIGIBLE, Cloud, rows_for_location
from relspace.kernels.precision import full_precision

# 2,896 items; of more, memory is slower than the product.
_LARGEST_BYTES = 2**25
# What a panel computes below the diagonal is for nothing; calls for fewer rows cost more.
# So many rows of a set that is not small tell where to begin. If they don't, all go on from there.
_MANY_ITEMS, _ROWS_TO_START = 512, 32
_MANY_FEATURES, _ROWS_OF_PANEL, _ROWS_OF_LONG_PANEL = 128, 256, 128


def suit(X: torch.Tensor) -> bool:
    """Whether strips are the way to the affinities of these items."""
    return fused.suits(X) and 4 * len(X) ** 2 <= _LARGEST_BYTES


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
        does not do: what to do then is decided by who can say why.
    """
    placed = _place(X)
    if placed is None:
        return None
    cloud, unit = placed
    lowest = _finest_log_variance(float(cloud.half_norms.max()))
    # The typical half squared norm in this frame is 1/2, and that of a difference 1.
    start = -math.log(math.log(1 / density)) if sigma is None else 2 * math.log(sigma / unit)
    if not lowest <= start:
        return None
    n = len(X)
    out = X.new_empty(n, n)
    sums = X.new_empty(-(-n // fused.ROWS_OF_STRIP), 4, dtype=torch.float64)
    strips = fused.Strips(
        matrix=out.data_ptr(),
        half_norms=cloud.half_norms.data_ptr(),
        n=n,
        factor=math.exp(-start) * LOG2_E,
        fresh=True,
        sums=sums.data_ptr(),
    )
    if sigma is not None:
        for _ in _panels_of_products(cloud.points, out):
            pass
        fused.share("exponentiate_strips", strips)
        return out, None

    def sum_up(first: int, end: int) -> None:
        strips.first, strips.end = first, end
        fused.share("sum_strips", strips)

    def solve(rows: int, start: float) -> Root:
        """Solve the bandwidth of the pairs of the first rows, which are summed at the start."""
        n_pairs = rows * (n - 1) - rows * (rows - 1) // 2
        summed = True

        def moments(scale: float) -> Moments:
            nonlocal summed
            if not summed:
                strips.fresh, strips.factor = False, scale * LOG2_E
                sum_up(0, rows)
            summed = False
            of_strips = sums[: -(-rows // fused.ROWS_OF_STRIP)]
            zeroth, first, second, third = of_strips.sum(0).tolist()
            return Moments(
                zeroth, first / -LOG2_E, second / LOG2_E**2, third / -(LOG2_E**3), n_pairs
            )

        return solve_root(
            moments, density, start=start, lowest=lowest, last_step=last_step(X.dtype)
        )

    for rows in _panels_of_products(cloud.points, out):
        begun = rows.start
        if rows.start == 0 and n >= _MANY_ITEMS:
            begun = _ROWS_TO_START
            sum_up(0, begun)
            with suppress(BandwidthError):
                start = max(lowest, solve(begun, start).log_variance)
            strips.factor, strips.fresh = math.exp(-start) * LOG2_E, False
            sum_up(0, begun)
            strips.fresh = True
        sum_up(begun, rows.stop)
    try:
        root = solve(n, start)
    except BandwidthError:
        return None
    if root.log_variance < lowest:
        return None
    strips.factor, strips.fresh = math.exp(-root.log_variance) * LOG2_E, False
    fused.share("exponentiate_strips", strips)
    n_pairs = n * (n - 1) // 2
    reached = float(sums[:, 0].sum()) / n_pairs
    return out, exact_bandwidth(root, reached, density, unit=unit, n_pairs=n_pairs, n_items=n)


def _place(X: torch.Tensor) -> tuple[Cloud, float] | None:
    """Bring points into the frame of `Frame.of`; None where what it measures says too little."""
    n, width = X.shape
    origin, half_norms, points = X.new_empty(width), X.new_empty(n), X.new_empty(n, width)
    unit = fused.locate(rows_for_location(X), origin)
    if not unit > 0:
        return None
    placing = fused.Placing(
        rows=X.data_ptr(),
        origin=origin.data_ptr(),
        n_rows=n,
        n_columns=width,
        stride=X.stride(0),
        scale=1 / unit,
        points=points.data_ptr(),
        half_norms=half_norms.data_ptr(),
    )
    fused.share("place_rows", placing)
    return Cloud(points, half_norms), unit


def _panels_of_products(points: torch.Tensor, out: torch.Tensor) -> Iterator[slice]:
    """Write scalar products on and above the diagonal, and say which rows are there."""
    n, width = points.shape
    height = _ROWS_OF_LONG_PANEL if width >= _MANY_FEATURES else _ROWS_OF_PANEL
    for top in range(0, n, height):
        rows = slice(top, min(n, top + height))
        with full_precision():
            torch.mm(points[rows], points[top:].T, out=out[rows, top:])
        yield rows


def _finest_log_variance(farthest: float) -> float:
    """The bandwidth, as log sigma^2, below which float32 may be too coarse; NaN if it always is."""
    if not farthest < math.inf:
        return math.nan
    return math.log(2 * torch.finfo(torch.float32).eps * farthest / NEGLIGIBLE)
