"""CKNNA: kernel alignment over the pairs of items that are neighbours in both sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from relspace._core.arguments import check_choice
from relspace._core.memory import row_slices
from relspace.errors import UndefinedValueError
from relspace.kernels.ties import ROUNDINGS
from relspace.measures._measure import Measure, Range
from relspace.measures.neighborhoods import BLOCK_BYTES, Lookup, Neighborhoods, Paired
from relspace.measures.neighbors import NeighborhoodMeasure


@dataclass(frozen=True, kw_only=True, repr=False)
class CKNNA(NeighborhoodMeasure):
    r"""Centred kernel nearest-neighbour alignment.

    .. math::
        \frac{\mathrm{Align}(K, L)}{\sqrt{\mathrm{Align}(K, K)\,\mathrm{Align}(L, L)}}, \qquad
        \mathrm{Align}(K, L) = \mathrm{HSIC}(M \odot K, M \odot L)

    with the cosines K and L of items, the mask M of pairs (i, j) with j among the k nearest of i
    in both sets, and the unbiased estimator of HSIC (Song et al. 2012, equation 5). See Huh et al.
    2024, appendix on alignment metrics. The masked kernels are not symmetric, so the order of the
    sets matters a little. Of tied items the mask holds the probabilities that they are neighbours.

    The mask of two sets differs from that of each set alone, so the ratio is not bounded: it can
    exceed 1 where what is not shared is noise, as between two sets with the same few clusters whose
    items have more neighbours than their cluster has items.
    """

    metric: Literal["cosine"] = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.metric, "metric", ("cosine",))

    @property
    def range(self) -> Range:
        return (-math.inf, math.inf)

    @property
    def symmetric(self) -> bool:
        return False

    @property
    def chance(self) -> str:
        return "near 0"

    def _compare(
        self, x: Sequence[Neighborhoods], y: Sequence[Neighborhoods], permutations: torch.Tensor
    ) -> torch.Tensor:
        sizes_x, sizes_y = (
            torch.tensor([self._size(one) for one in of], dtype=torch.float64) for of in (x, y)
        )
        b, n = permutations.shape
        shape = (len(x), len(y), n, b)
        # Sums of the masked kernels: over the columns of one, over the rows of the other.
        columns, sums = (
            torch.zeros(shape, dtype=torch.float64, device=permutations.device) for _ in range(2)
        )
        products = columns.new_zeros(len(x), len(y), b)
        for rows in row_slices(n, 32 * n, BLOCK_BYTES):
            paired = [Paired.by(one, permutations, rows) for one in x]
            own = [
                (one.take(one.of.weights * one.of.similarities), one.take(one.of.weights))
                for one in paired
            ]
            both = [one.take(one.of.mutual_weights * one.of.similarities) for one in paired]
            for j, second in enumerate(y):
                lookup = Lookup(second, rows)
                weighted = lookup.table(second.weights * second.similarities)
                mutual = lookup.table(second.mutual_weights * second.similarities)
                for i, first in enumerate(paired):
                    left = own[i][0] * lookup.at(lookup.weights, first)
                    right = own[i][1] * lookup.at(weighted, first)
                    columns[i, j].scatter_add_(0, first.partners.flatten(0, 1), left.flatten(0, 1))
                    sums[i, j, rows] = right.sum(dim=0)
                    products[i, j] += (both[i] * lookup.at(mutual, first)).sum(dim=(0, 1))
        of_all = columns.sum(dim=2) * sums.sum(dim=2) / ((n - 1) * (n - 2))
        aligned = products + of_all - 2 * (columns * sums).sum(dim=2) / (n - 2)
        size = (sizes_x[:, None] * sizes_y).sqrt().to(aligned.device)
        return (aligned / size[:, :, None]).permute(2, 0, 1)

    def _size(self, x: Neighborhoods) -> float:
        """The alignment of a set's kernel with itself, up to the factor of :meth:`_compare`."""
        n = len(x)
        masked = x.weights * x.similarities
        columns = masked.new_zeros(n).index_add_(0, x.candidates.flatten(), masked.flatten())
        sums = masked.sum(dim=1)
        products = float((x.mutual_weights * x.similarities.square()).sum())
        total = float(sums.sum())
        of_all, of_items = total**2 / ((n - 1) * (n - 2)), 2 * float(columns @ sums) / (n - 2)
        size = products + of_all - of_items
        rounding = ROUNDINGS * torch.finfo(x.points.dtype).eps
        if abs(size) <= rounding * (abs(products) + of_all + abs(of_items)):
            raise UndefinedValueError(
                f"with k = {self.k} the neighbours of {n} items, most of them tied, have no "
                "structure beyond rounding, so CKNNA is undefined: use a smaller k, subtract from "
                "each feature its mean over items, or use another measure."
            )
        if size <= 0.0:
            raise UndefinedValueError(
                f"with k = {self.k} the neighbours of {n} items are mostly not mutual, so CKNNA is "
                "undefined: use a smaller k or more items."
            )
        return size


MEASURES: tuple[Measure, ...] = (
    CKNNA(name="cknna", title="CKNNA", source="Huh et al. 2024, CKNNA"),
)
