"""Tables of layers larger than memory, from sums over their items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.progress import Listener
from relspace._core.threads import on_one_core, side_by_side
from relspace.errors import InvalidInputError, ItemMismatchError
from relspace.features import scan
from relspace.measures import MIN_ITEMS, Measure
from relspace.measures.sums.halves import SumsOfParts, n_parts_within, sum_parts
from relspace.measures.sums.item_parts import Parts, PartsOfGroups, RandomParts
from relspace.measures.sums.stacked_products import (
    PermutedProducts,
    StackedProducts,
    sum_stacked_products,
)
from relspace.resampling import number_units
from relspace.rows.source import RowSource
from relspace.similarity.model_layers import ModelLayers
from relspace.similarity.tables import Items, LayerTables, Table, full_name, number_layers

# With so few features, cores that share an operation wait longer than they compute.
_FEATURES_OF_ONE_CORE = 512


@dataclass(frozen=True, eq=False, kw_only=True)
class Summed(LayerTables):
    """Tables over the layers of models, from the products of all of them.

    Attributes
    ----------
    products : StackedProducts
        Of all layers of all models, model by model.
    parts : SumsOfParts or None
        The same of two layers by random parts of the items, where halves of them are asked for:
        the delete-half jackknife of groups (Shao and Tu 1995, *The jackknife and bootstrap*).
    """

    products: StackedProducts
    parts: SumsOfParts | None = None

    null_by = "limit"

    def halves(self, n_draws: int, seed: int) -> Table:
        """The value of the first two layers on random halves of the parts of the items."""
        assert self.parts is not None
        drawn = self.parts.halves(n_draws, torch.Generator().manual_seed(seed))
        return np.array([self.measure.from_cross_products(one.pair(0, 1)) for one in drawn])

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
        tell: Listener,
    ) -> Table:
        """Draws from the normal distribution that permutations tend to, one for all pairs."""
        draw = self.products.permutations(rows, columns, torch.Generator().manual_seed(seed))
        null = np.full((n_permutations, *has_value.shape), np.nan)
        pairs = [(rows[i], columns[j]) for i, j in np.argwhere(has_value).tolist()]

        def fill() -> None:
            for number in range(n_permutations):
                null[number, has_value] = self._of(draw(), pairs)
                tell(number + 1, n_permutations, "Permutations")

        if len(pairs) == 1 and sum(self.widths) <= _FEATURES_OF_ONE_CORE:
            on_one_core(fill, self.products.products.device)
        else:
            fill()
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
    items: Items,
    order: Mapping[str, torch.Tensor | None],
    blocks: Sequence[tuple[str, str]],
    *,
    memory_budget: int | None,
    client: Any | None,
    tell: Listener,
    n_permutations: int,
    n_bootstraps: int,
    ceiling: bool,
    seed: int,
) -> Summed:
    """Sum the products of all layers of models over their items; see ``open_models``."""
    if not measure.streams:
        error = measure.needs_items()
        further = ["raise {memory_budget}"] if client is None else []
        raise InvalidInputError(error.message, ways_out=[*error.ways_out, *further])
    if ceiling:
        raise needs_items_again("a ceiling")
    if items.groups is not None:
        if n_permutations:
            raise needs_items_again(
                "a p-value by groups (tokens of an image are one)",
                "leave p-values out by {n_permutations=0}",
                "pool the tokens of images",
            )
        if measure.folds(items.n_items) is not None:
            raise needs_items_again(f"{measure.name} by groups")
    _refuse_another_order(models, order)
    if items.n_items < MIN_ITEMS:
        raise InvalidInputError(
            f"{models[0].name} has {items.n_items} items; a comparison needs at least {MIN_ITEMS}."
        )
    layers = {model.name: tuple(model.layers) for model in models}
    names = [full_name(model, layer) for model, own in layers.items() for layer in own]
    sources = [scan(layer) for model in models for layer in model.layers.values()]
    reading: dict[str, Any] = {"memory_budget": memory_budget, "client": client, "progress": tell}
    parts = None
    if n_bootstraps:
        parts = _sum_parts(sources, names, measure, items, seed, reading)
        products = parts.whole()
    else:
        numbers = number_layers(layers)
        products = sum_stacked_products(
            sources,
            names,
            folds=measure.folds(items.n_items),
            permuted=[(numbers[one], numbers[other]) for one, other in blocks],
            copies_for_pair=measure.copies_of_products,
            **reading,
        )
    return Summed(
        measure=measure,
        layers=layers,
        widths=products.widths,
        items=items,
        left_out=products.constant,
        products=products,
        parts=parts,
    )


def _sum_parts(
    sources: Sequence[RowSource],
    names: Sequence[str],
    measure: Measure,
    items: Items,
    seed: int,
    reading: dict[str, Any],
) -> SumsOfParts:
    """Sum two layers by random parts of the items, as many as the budget holds."""
    x, y = sources
    folds = measure.folds(items.n_items)
    n_folds = 1 if folds is None else folds.n_parts
    n_parts = n_parts_within(
        (x.shape[1], y.shape[1]),
        items.n_units,
        n_folds,
        measure.copies_of_products,
        reading["memory_budget"],
        on_cluster=reading["client"] is not None,
    )
    parts: Parts
    if items.groups is not None:
        parts = PartsOfGroups(number_units(items.n_items, items.groups), n_parts, seed)
    else:
        parts = (folds or RandomParts(items.n_items, 1, seed)).finer(n_parts)
    return sum_parts(x, y, parts, n_folds, names=(names[0], names[1]), **reading)


def needs_items_again(what: str, *ways_out: str) -> InvalidInputError:
    """The error that something can't be summed over items."""
    return InvalidInputError(
        f"{what} needs items again and again, and these features don't fit into the memory budget.",
        ways_out=[
            *ways_out,
            "compare a random part of them by {max_items=10_000}",
            "raise {memory_budget}",
        ],
    )


def _refuse_another_order(
    models: Sequence[ModelLayers], order: Mapping[str, torch.Tensor | None]
) -> None:
    """Refuse items in different orders: features larger than memory are read side by side."""
    first = models[0]
    for model in models[1:]:
        rows = order[model.name]
        if rows is None or first.ids is None or model.ids is None:
            continue
        row = int((rows != torch.arange(len(rows))).nonzero()[0])
        raise ItemMismatchError(
            f"the items of {first.name} and {model.name} are in different orders (row {row} is "
            f"{first.ids[row]!r} in {first.name} and {model.ids[row]!r} in {model.name}), and "
            "features larger than memory are read side by side.",
            ways_out=[
                "store both in one order",
                "compare a random part of the items by {max_items=10_000}",
            ],
        )
