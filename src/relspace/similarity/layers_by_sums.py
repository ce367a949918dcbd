"""Tables of layers that memory can't hold, by sums over their items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.pairing import pair_sets
from relspace._core.progress import Listener
from relspace._core.resources import Resources
from relspace._core.threads import side_by_side
from relspace.errors import InvalidInputError, ItemMismatchError
from relspace.features import scan
from relspace.measures import MIN_ITEMS, Measure
from relspace.measures.sums.stacked_products import (
    PermutedProducts,
    StackedProducts,
    sum_stacked_products,
)
from relspace.rows.source import RowSource
from relspace.similarity.inputs import ModelLayers
from relspace.similarity.tables import LayerTables, Table, places_of


def is_summed(
    models: Sequence[ModelLayers],
    measure: Measure,
    max_items: int | None,
    memory_budget: int | None,
    client: Any | None,
) -> bool:
    """Whether layers are compared by sums over their items, rather than as matrices in memory.

    A budget is kept to by sums where the measure streams; others are asked only to fit. Layers that
    are in memory stay there.

    Raises
    ------
    InvalidInputError
        If a part of the items is asked for, and a cluster.
    """
    if max_items is not None and max_items < models[0].n_items:
        if client is not None:
            raise InvalidInputError(
                "max_items chooses a part that one machine compares, and a cluster sums over all "
                "items: give max_items or client, not both."
            )
        return False
    if client is not None:
        return True
    on_disk = [
        layer for model in models for layer in model.layers.values() if isinstance(layer, RowSource)
    ]
    needed = sum(8 * layer.shape[0] * layer.shape[1] for layer in on_disk)
    return not Resources.of(memory_budget if measure.streams else None).holds(needed)


@dataclass(frozen=True, eq=False, kw_only=True)
class TablesBySums(LayerTables):
    """Tables over the layers of models, from the products of all of them.

    Attributes
    ----------
    products : StackedProducts
        Of all layers of all models, model by model.
    """

    products: StackedProducts

    def _table(self, rows: Sequence[int], columns: Sequence[int]) -> Table:
        values = self._of(self.products, [(i, j) for i in rows for j in columns])
        return values.reshape(len(rows), len(columns))

    def _null(
        self,
        rows: range,
        columns: range,
        has_value: NDArray[np.bool_],
        n_permutations: int,
        seed: int,
        progress: Listener,
    ) -> Table:
        """Draws from the normal distribution that permutations tend to, one for all pairs."""
        draw = self.products.permutations(rows, columns, torch.Generator().manual_seed(seed))
        null = np.full((n_permutations, *has_value.shape), np.nan)
        pairs = [(rows[i], columns[j]) for i, j in np.argwhere(has_value).tolist()]
        for number in range(n_permutations):
            null[number, has_value] = self._of(draw(), pairs)
            progress(number + 1, n_permutations, "Permutations")
        return null

    def _expected(self, row: int, column: int) -> float | None:
        return None

    def _of(
        self, products: StackedProducts | PermutedProducts, pairs: Sequence[tuple[int, int]]
    ) -> Table:
        """Values of pairs of layers, each on one core."""

        def compare(pair: tuple[int, int]) -> float:
            return self.measure.from_cross_products(products.pair(*pair))

        return np.array(side_by_side(lambda: compare, pairs, self.products.products.device))


def sum_layers(
    models: Sequence[ModelLayers],
    measure: Measure,
    blocks: Sequence[tuple[str, str]],
    *,
    groups: object | None,
    memory_budget: int | None,
    client: Any | None,
    progress: Listener,
) -> TablesBySums:
    """Sum over items what all layers of models are compared by.

    Parameters
    ----------
    models : sequence of ModelLayers
        Layers over the same items in the same order.
    measure : Measure
        One that streams.
    blocks : sequence of (str, str)
        Models whose layers will be compared under permutations, the first ones' items permuted.
    groups : object or None
        Labels of items, which sums know nothing of.
    memory_budget : int, optional
        Bytes that sums and blocks of rows may take.
    client : distributed.Client, optional
        A cluster that sums parts of the rows.
    progress : callable
        Told ``(done, total, text)``.

    Raises
    ------
    InvalidInputError
        If the measure doesn't stream, there are groups, or features are not finite or constant.
    ItemMismatchError
        If items are not the same in the same order.
    MemoryBudgetError
        If the sums don't fit.
    """
    if not measure.streams:
        raise measure.needs_items()
    first = models[0]
    if groups is not None or first.images is not None:
        raise InvalidInputError(
            "items in groups (tokens of images are) are permuted group by group, which sums over "
            "items can't tell.",
            ways_out=[
                "pool the tokens of images",
                "compare a random part of the items by {max_items=10_000}",
                "raise {memory_budget}",
            ],
        )
    matched_by = _matched_by(models)
    if first.n_items < MIN_ITEMS:
        raise InvalidInputError(
            f"{first.name} has {first.n_items} items; a comparison needs at least {MIN_ITEMS}."
        )
    names = [f"{model.name}, {layer}" for model in models for layer in model.layers]
    places = places_of({model.name: len(model.layers) for model in models})
    products = sum_stacked_products(
        [scan(layer) for model in models for layer in model.layers.values()],
        names,
        folds=measure.folds(first.n_items),
        permuted=[(places[one], places[other]) for one, other in blocks],
        copies_for_pair=measure.copies_of_products,
        memory_budget=memory_budget,
        client=client,
        progress=progress,
    )
    return TablesBySums(
        measure=measure,
        layers={model.name: tuple(model.layers) for model in models},
        n_items=first.n_items,
        n_units=first.n_items,
        n_available=first.n_items,
        matched_by=matched_by,
        null_by="limit",
        products=products,
    )


def _matched_by(models: Sequence[ModelLayers]) -> str:
    shared, order = pair_sets(
        {model.name: model.n_items for model in models},
        {model.name: model.ids for model in models},
        {model.name: model.contents for model in models},
    )
    turned = [name for name, own in order.items() if own is not None]
    if turned:
        raise ItemMismatchError(
            f"the items of {models[0].name} and {turned[0]} are in different orders: features "
            "larger than memory are read side by side.",
            ways_out=[
                "store both in one order",
                "compare a random part of the items by {max_items=10_000}",
            ],
        )
    return "position" if shared is None else "ids"
