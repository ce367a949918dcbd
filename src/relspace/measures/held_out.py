"""Cross-validated measures: parts of the items are held out, and permutations keep the parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from relspace._core.arguments import check_count, check_random_state, check_resamples
from relspace.errors import InvalidInputError
from relspace.measures._measure import Measure
from relspace.measures.sums.item_parts import RandomParts
from relspace.resampling import PartitionFamily, Permutations


@dataclass(frozen=True, kw_only=True, repr=False)
class HeldOutMeasure(Measure):
    """A measure of items that are held out, by what is fitted to the others.

    Attributes
    ----------
    n_folds : int
        Number of parts of the items, each held out in turn.
    random_state : int
        Seed of the parts.
    """

    n_folds: int = 5
    random_state: int = 0

    def __post_init__(self) -> None:
        check_count(self.n_folds, "n_folds", at_least=2)
        check_random_state(self.random_state)

    def permutations(
        self,
        n_items: int,
        n_permutations: int,
        *,
        groups: object | None = None,
        random_state: int = 0,
    ) -> Sequence[Permutations]:
        """Draw permutations that keep the folds, or permute groups."""
        if groups is not None:
            return super().permutations(
                n_items, n_permutations, groups=groups, random_state=random_state
            )
        count = check_resamples(n_permutations, "n_permutations")
        return [PartitionFamily(self._part_of(n_items), count, check_random_state(random_state))]

    def folds(self, n_items: int) -> RandomParts:
        if n_items < 2 * self.n_folds:
            raise InvalidInputError(
                f"there are {n_items} items, too few to hold out {self.n_folds} parts of at least "
                "2; give more items or ask for a smaller n_folds."
            )
        return RandomParts(n_items, self.n_folds, self.random_state)

    def _part_of(self, n_items: int) -> torch.Tensor:
        """The part (n,) that holds out each item."""
        return self.folds(n_items)(0, n_items)


def same_parts(own: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two assignments (n,) of items to parts differ in the numbers of parts at most."""
    n_parts = int(own.max()) + 1
    both = torch.stack([own, other], dim=1)
    return len(torch.unique(both, dim=0)) == n_parts == int(other.max()) + 1
