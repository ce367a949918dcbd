"""CKNNA: kernel alignment over the pairs of items that are neighbours in both sets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from relspace._blocks import row_slices
from relspace._validation import check_choice, check_count
from relspace.errors import UndefinedValueError
from relspace.measures._base import Measure
from relspace.measures.neighbors import (
    BLOCK_BYTES,
    NeighborhoodMeasure,
    Neighborhoods,
    shared_neighbors,
    similarities,
)


@dataclass(frozen=True, kw_only=True, repr=False)
class CKNNA(NeighborhoodMeasure):
    r"""Centred kernel nearest-neighbour alignment.

    .. math::
        \frac{\mathrm{Align}(K, L)}{\sqrt{\mathrm{Align}(K, K)\,\mathrm{Align}(L, L)}}, \qquad
        \mathrm{Align}(K, L) = \mathrm{HSIC}(M \odot K, M \odot L)

    with the cosines K and L of items, the mask M
    of pairs (i, j) with j among the k nearest of i in both sets, and the unbiased estimator of
    HSIC (Song et al. 2012, equation 5). The masked kernels are not symmetric, so the order of the
    sets matters a little. Huh et al. 2024, appendix on alignment metrics.
    """

    metric: Literal["cosine"] = "cosine"

    def __post_init__(self) -> None:
        check_count(self.k, "k")
        check_choice(self.metric, "metric", ("cosine",))

    @property
    def range(self) -> tuple[float, float]:
        # Masks differ between numerator and denominator, so few items can go below -1.
        return (-math.inf, 1.0)

    @property
    def symmetric(self) -> bool:
        # Being a neighbour is not mutual, so the masked kernels are not symmetric.
        return False

    @property
    def chance(self) -> str:
        return "near 0"

    def from_factors(
        self, x: Neighborhoods, y: Neighborhoods, permutation: torch.Tensor | None = None
    ) -> float:
        """Compare two sets by their neighbourhoods."""
        x = x.permuted(permutation)
        sizes = [_aligned(one, one) for one in (x, y)]
        if min(sizes) <= 0.0:
            raise UndefinedValueError(
                f"with k = {self.k} the neighbours of {len(x.indices)} items are mostly not "
                "mutual, so CKNNA is undefined: use a smaller k or more items."
            )
        return _aligned(x, y) / math.sqrt(sizes[0] * sizes[1])


def _aligned(x: Neighborhoods, y: Neighborhoods) -> float:
    """Unbiased HSIC of two kernels on the pairs that are neighbours in both sets, up to a factor.

    The masked kernels hold at most k entries in a row, so sums over them are all that is needed.
    """
    n, k = x.indices.shape
    device = x.indices.device
    row = torch.arange(n, device=device)[:, None].expand(n, k)
    shared = torch.empty((n, k), dtype=torch.bool, device=device)
    left, right = (torch.empty((n, k), dtype=torch.float64, device=device) for _ in range(2))
    width = k * (k + x.points.shape[1] + y.points.shape[1])
    for rows in row_slices(n, 8 * width, BLOCK_BYTES):
        shared[rows] = shared_neighbors(x, y, rows)
        left[rows] = similarities(x.points, rows, x.indices[rows]).to(torch.float64)
        right[rows] = similarities(y.points, rows, x.indices[rows]).to(torch.float64)
    i, j, left, right = row[shared], x.indices[shared], left[shared], right[shared]
    # The HSIC of Song et al. multiplies entry (i, j) of one kernel with (j, i) of the other.
    keys, order = (i * n + j).sort()
    place = torch.searchsorted(keys, j * n + i).clamp_max(max(0, len(keys) - 1))
    mutual = keys[place] == j * n + i if len(keys) else torch.zeros_like(i, dtype=torch.bool)
    products = float((left[mutual] * right[order[place[mutual]]]).sum())
    columns = torch.zeros(n, dtype=torch.float64, device=device).index_add_(0, j, left)
    sums = torch.zeros(n, dtype=torch.float64, device=device).index_add_(0, i, right)
    of_all = float(left.sum()) * float(right.sum()) / ((n - 1) * (n - 2))
    return products + of_all - 2 * float(columns @ sums) / (n - 2)


MEASURES: tuple[Measure, ...] = (
    CKNNA(name="cknna", title="CKNNA", source="Huh et al. 2024, CKNNA"),
)
