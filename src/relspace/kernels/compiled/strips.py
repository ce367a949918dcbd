"""Affinities of a small set with itself, in one compiled call from features to matrix.

Threads take strips of 16 rows. Distances lie where affinities will be.
"""

from __future__ import annotations

import ctypes
import math

import torch

from relspace._core.memory import empty_matrix
from relspace.kernels.compiled.library import LIBRARY, WholeSet
from relspace.kernels.density import Root, last_step
from relspace.kernels.frame import NEGLIGIBLE, is_safe
from relspace.kernels.tiles import Scratch

# Up to this many items, threads would wait for each other longer than they work.
_ITEMS_OF_ONE_THREAD = 256
# The same as in powers.h.
_ROWS_OF_STRIP = 16
# Times the largest half squared norm: sigma^2 below which float32 may be too coarse.
_ROUNDING = 2 * torch.finfo(torch.float32).eps / NEGLIGIBLE


def affinities_in_strips(
    X: torch.Tensor, sigma: float | None, density: float, *, level: int | None = None
) -> tuple[torch.Tensor, Root | None] | None:
    """Compute the affinities of a set with itself, and its bandwidth where none is given.

    ``X`` are features for which :func:`relspace.kernels.backend.backend` gives "strips"; sigma and
    the root are in units of the features. The result is None where features are not finite, where
    float32 is too coarse, or their size not safe to square: the tiles then say why, or are exact.
    """
    assert LIBRARY is not None
    out = empty_matrix(len(X), len(X), like=X)
    whole = describe(X, sigma, density, out, LIBRARY.level if level is None else level)
    LIBRARY.affinities_of_set(ctypes.byref(whole))
    if not whole.done or not is_safe(whole.unit):
        return None
    if sigma is not None:
        return out, None
    return out, Root(whole.log_variance + 2 * math.log(whole.unit), whole.iterations)


def describe(
    X: torch.Tensor, sigma: float | None, density: float, out: torch.Tensor, level: int
) -> WholeSet:
    """Describe the set, the memory of the result, and working memory."""
    n, width = X.shape
    n_strips = -(-n // _ROWS_OF_STRIP)
    n_placed = n_strips * _ROWS_OF_STRIP
    # Sums, 8 of float64 for each strip; points; half their squared norms; the origin.
    room = Scratch(X, "set").of(16 * n_strips + n_placed * width + n_placed + width)
    sums = room.data_ptr()
    panels = sums + 64 * n_strips
    half_norms = panels + 4 * n_placed * width
    assert LIBRARY is not None
    n_threads = torch.get_num_threads()
    shared = n_threads > 1 and n > _ITEMS_OF_ONE_THREAD
    team, wait = (LIBRARY.team if shared else None) or (None, None)
    whole = WholeSet(
        **{"rows": X.data_ptr(), "n": n, "width": width, "stride": X.stride(0)},
        **{"sigma": sigma or 0.0, "density": density, "level": level},
        **{"last_step": last_step(X.dtype), "rounding": _ROUNDING},
        **{"matrix": out.data_ptr(), "origin": half_norms + 4 * n_placed},
        **{"half_norms": half_norms, "panels": panels, "sums": sums},
        **{"n_threads": n_threads, "team": team, "wait": wait},
    )
    whole.memory = X, out, room
    return whole


def projected_strips(n: int, width: int) -> int:
    """Bytes that :func:`affinities_in_strips` takes, its result included."""
    n_strips = -(-n // _ROWS_OF_STRIP)
    n_placed = n_strips * _ROWS_OF_STRIP
    return 4 * (n * n + 16 * n_strips + n_placed * width + n_placed + width)
