"""The mean of both orders of a measure for which the order of the two sets matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from relspace.measures._measure import Measure
from relspace.measures.derived import DerivedMeasure
from relspace.measures.linear_predictivity import LinearPredictivity
from relspace.measures.sums.cross_products import CrossProducts
from relspace.measures.sums.item_parts import RandomParts
from relspace.resampling import Permutations


def symmetrized(measure: Measure) -> Measure:
    """The mean of a measure over both orders of the sets; the measure itself if it is symmetric.

    Value, null distribution and chance are all means of both orders.
    """
    if measure.symmetric:
        return measure
    if isinstance(measure, LinearPredictivity):
        # The same mean; its permutations keep to one set of folds for both orders.
        return replace(measure, predicted="both")
    return Symmetrized(
        name=measure.name,
        title=measure.title,
        source=measure.source,
        direction=measure.direction,
        identical=measure.identical,
        base=measure,
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class Symmetrized(DerivedMeasure):
    r"""The mean of a measure over both orders of the sets.

    .. math:: \tfrac{1}{2} \bigl(m(X, Y) + m(Y, X)\bigr)

    with ``base`` as the measure m.
    """

    @property
    def permutations_for_chance(self) -> int:
        return self.base.permutations_for_chance

    def prepare(self, X: object, name: str = "X", *, memory_budget: int | None = None) -> Any:
        return self.base.prepare(X, name, memory_budget=memory_budget)

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Any:
        return self.base._factor(X, name, memory_budget)

    def warn_of_direction(self, x: Any) -> None:
        self.base.warn_of_direction(x)

    def from_factors(self, x: Any, y: Any, permutation: torch.Tensor | None = None) -> float:
        back = None if permutation is None else permutation.argsort()
        there = self.base.from_factors(x, y, permutation)
        return (there + self.base.from_factors(y, x, back)) / 2

    def table(
        self, x: Sequence[Any], y: Sequence[Any], permutation: torch.Tensor | None = None
    ) -> torch.Tensor:
        back = None if permutation is None else permutation.argsort()
        return (self.base.table(x, y, permutation) + self.base.table(y, x, back).T) / 2

    def null_table(
        self,
        x: Sequence[Any],
        y: Sequence[Any],
        family: Permutations,
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> torch.Tensor:
        there = self.base.null_table(x, y, family, on_progress=on_progress)
        return (there + self.base.null_table(y, x, family.inverse()).mT) / 2

    def permutations(
        self,
        n_items: int,
        n_permutations: int,
        *,
        groups: object | None = None,
        random_state: int = 0,
    ) -> Sequence[Permutations]:
        return self.base.permutations(
            n_items, n_permutations, groups=groups, random_state=random_state
        )

    def bytes_per_pair(self, n_sets: int) -> int:
        return self.base.bytes_per_pair(n_sets)

    @property
    def streams(self) -> bool:
        return self.base.streams

    def from_cross_products(self, products: CrossProducts) -> float:
        there = self.base.from_cross_products(products)
        return (there + self.base.from_cross_products(products.swapped())) / 2

    def folds(self, n_items: int) -> RandomParts | None:
        return self.base.folds(n_items)

    @property
    def copies_of_products(self) -> int:
        return self.base.copies_of_products

    def recall(self, factor: Any) -> float | None:
        return self.base.recall(factor)

    def expected_by_chance(self, x: Any, y: Any) -> float | None:
        there, back = self.base.expected_by_chance(x, y), self.base.expected_by_chance(y, x)
        return None if there is None or back is None else (there + back) / 2
