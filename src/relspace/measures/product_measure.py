"""Measures that are functions of the products X'Y of two sets, permuted in batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from relspace.measures._measure import Measure

# Entries of one set under several permutations at once.
_ENTRIES_AT_ONCE = 2**18
# Sets of unit norm whose products fall short of 1 by less are identical.
_ROUNDING = 32 * torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Points:
    """Centred features (n, r) of one set, and its size: what the measure takes of the set alone."""

    points: torch.Tensor
    size: float = 1.0


@dataclass(frozen=True, kw_only=True, repr=False)
class ProductMeasure(Measure):
    """A measure that is a function of the products of two sets, and of the size of each."""

    @abstractmethod
    def _of_products(self, products: torch.Tensor, size_x: float, size_y: float) -> torch.Tensor:
        """The values (b,) for products (b, r, s) under each of some permutations."""

    def from_factors(self, x: Points, y: Points, permutation: torch.Tensor | None = None) -> float:
        left = x.points if permutation is None else x.points[permutation.to(x.points.device)]
        return float(self._of_products((left.T @ y.points)[None], x.size, y.size))

    def _permutations_at_once(self, x: Sequence[Points], y: Sequence[Points]) -> int:
        largest = max(
            max(a.points.numel(), a.points.shape[1] * b.points.shape[1]) for a in x for b in y
        )
        return max(1, _ENTRIES_AT_ONCE // largest)

    def _tables(
        self, x: Sequence[Points], y: Sequence[Points], permutations: torch.Tensor
    ) -> torch.Tensor:
        permutations = permutations.to(x[0].points.device)
        rows = []
        for a in x:
            left = a.points[permutations].mT
            rows.append([self._of_products(left @ b.points, a.size, b.size) for b in y])
        return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1).cpu()


def far_apart(alike: torch.Tensor) -> torch.Tensor:
    """1 minus how alike sets of unit norm are; 0 where only rounding tells them apart."""
    apart = 1 - alike
    return torch.where(apart > _ROUNDING, apart, torch.zeros_like(apart))
