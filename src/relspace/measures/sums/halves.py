"""Random halves of the items by sums over random parts of them, for intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from relspace._core.memory import say_bytes
from relspace._core.progress import Listener
from relspace._core.resources import Resources
from relspace.errors import MemoryBudgetError
from relspace.measures.sums.item_parts import Parts
from relspace.measures.sums.item_sums import ItemSums, sum_over_items
from relspace.measures.sums.stacked_products import StackedProducts, bytes_of_stack, centered_stack
from relspace.rows.source import RowSource

#: The most parts of an interval: more make its width no more precise than the data allow.
MOST_PARTS = 128
#: The fewest, if there are as many units: with fewer the width is too imprecise.
FEWEST_PARTS = 32

_HALVES_AT_ONCE = 8
# Results of a cluster's workers that wait to be added up.
_WAITING_ON_CLUSTER = 4


@dataclass(frozen=True, eq=False)
class SumsOfParts:
    """Sums over random parts of the items, in ``n_folds`` folds; 1 without folds."""

    sums: ItemSums
    n_folds: int

    def whole(self) -> StackedProducts:
        """The products over all items; part k lies in the fold k modulo the number of folds."""
        return next(self._join([torch.arange(len(self.sums.products))]))

    def halves(self, n_draws: int, generator: torch.Generator) -> Iterator[StackedProducts]:
        """The products over random halves of the parts, assigned to folds anew."""
        n_parts, at_once = len(self.sums.products), max(1, _HALVES_AT_ONCE // self.n_folds)
        for start in range(0, n_draws, at_once):
            yield from self._join(
                torch.randperm(n_parts, generator=generator)[: n_parts // 2]
                for _ in range(min(at_once, n_draws - start))
            )

    def _join(self, choices: Iterable[torch.Tensor]) -> Iterator[StackedProducts]:
        """The products over some of the parts, for several choices of them."""
        weights, products = [], self.sums.products
        for parts in choices:
            chosen = torch.zeros(self.n_folds, len(products), dtype=torch.float64)
            chosen[torch.arange(len(parts)) % self.n_folds, parts] = 1.0
            weights.append(chosen)
        # One product for several halves, which reads the sums once.
        joined = torch.cat(weights) @ products.flatten(1)
        for own in joined.view(len(weights), self.n_folds, *products.shape[1:]):
            yield centered_stack(replace(self.sums, products=own))


def n_parts_within(
    widths: Sequence[int],
    n_units: int,
    n_folds: int,
    copies_for_pair: int,
    memory_budget: int | None,
    *,
    on_cluster: bool = False,
) -> int:
    """How many parts fit the memory budget, a multiple of the folds; too few are refused."""
    budget = Resources.of(memory_budget).for_blocks()
    of_part = 8 * (sum(widths) + len(widths) + 1) ** 2
    # The products of all items and of a half of them.
    held = (
        2
        * bytes_of_stack(
            widths,
            n_folds if n_folds > 1 else 0,
            [(range(1), range(1, len(widths)))],
            copies_for_pair,
        )
        + _HALVES_AT_ONCE * of_part
    )
    waiting = _WAITING_ON_CLUSTER if on_cluster else 1
    fewest = min(max(FEWEST_PARTS, 2 * n_folds), n_units)
    if (needed := held + waiting * fewest * of_part) > budget:
        raise MemoryBudgetError(
            f"an interval rests on sums over at least {fewest} parts of the items, which need "
            f"{say_bytes(needed)} for {sum(widths)} features, and {say_bytes(budget)} "
            "may be used.",
            ways_out=[
                "raise {memory_budget}",
                "leave {n_bootstraps} out",
                "compare a part of the items by {max_items=10_000}",
            ],
        )
    most = min(MOST_PARTS, n_units, (budget - held) // (waiting * of_part))
    return most - most % n_folds


def sum_parts(
    x: RowSource,
    y: RowSource,
    parts: Parts,
    n_folds: int,
    *,
    names: tuple[str, str] = ("X", "Y"),
    memory_budget: int | None = None,
    client: Any | None = None,
    progress: Listener | None = None,
) -> SumsOfParts:
    """Sum the products of two sets by parts of the items, in one pass over their rows.

    Items are held out in ``n_folds`` folds, 1 for none; other parameters are those of
    :func:`relspace.measures.sums.stacked_products.sum_stacked_products`.
    """
    widths = (x.shape[1], y.shape[1])
    room = Resources.of(memory_budget).for_blocks() - 8 * parts.n_parts * (sum(widths) + 3) ** 2
    sums = sum_over_items((x, y), names, parts, block_bytes=room, client=client, progress=progress)
    for error in sums.constant.values():
        raise error
    return SumsOfParts(sums, n_folds)
