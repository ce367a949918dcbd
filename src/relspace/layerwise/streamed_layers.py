"""Tables of layers that memory can't hold, by sums over their items."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._blocks import free_memory_bytes
from relspace._validation import pair_items
from relspace.errors import InvalidInputError, ItemMismatchError
from relspace.layerwise.model_layers import ModelLayers, Progress
from relspace.measures import MIN_ITEMS, Measure
from relspace.measures.stacked_products import (
    PermutedProducts,
    StackedProducts,
    sum_stacked_products,
)
from relspace.row_sources import RowSource, as_rows

Table = NDArray[np.float64]


def fit_in_memory(
    models: Sequence[ModelLayers], measure: Measure, memory_budget: int | None
) -> bool:
    """Whether all layers can be compared as matrices in memory; those that are there already can.

    A budget is kept to by sums where the measure streams; others are asked only to fit.
    """
    on_disk = [
        layer for model in models for layer in model.layers.values() if isinstance(layer, RowSource)
    ]
    needed = sum(8 * layer.shape[0] * layer.shape[1] for layer in on_disk)
    if memory_budget is not None and measure.streams:
        return needed <= memory_budget
    return needed <= free_memory_bytes() // 2


def tables_by_sums(
    a: ModelLayers,
    b: ModelLayers,
    measure: Measure,
    *,
    groups: object | None,
    n_draws: int,
    seed: int,
    memory_budget: int | None,
    client: Any | None,
    progress: Progress | None,
) -> tuple[Table, Table, tuple[Table, Table], str]:
    """Compare all layers of two models by sums over their items.

    Parameters
    ----------
    a, b : ModelLayers
        Layers over the same items in the same order.
    measure : Measure
        One that streams.
    groups : object or None
        Labels of items, which sums know nothing of.
    n_draws : int
        How many permutations are drawn, from the normal distribution that is their limit.
    seed : int
        Of the draws.
    memory_budget : int, optional
        Bytes that sums and blocks of rows may take.
    client : distributed.Client, optional
        A cluster that sums parts of the rows.
    progress : callable, optional
        Called with a line of text.

    Returns
    -------
    values : array of shape (L, M)
        The table.
    null : array of shape (n_draws, L, M)
        Tables under permutation.
    drift : arrays of shape (L - 1,) and (M - 1,)
        Values between consecutive layers of each model.
    matched_by : str
        ``"ids"`` or ``"position"``.

    Raises
    ------
    InvalidInputError
        If the measure doesn't stream, there are groups, or features are not finite or constant.
    ItemMismatchError
        If items are not the same in the same order.
    """
    if not measure.streams:
        raise measure.needs_items()
    if groups is not None or a.images is not None:
        raise InvalidInputError(
            "items in groups (tokens of images are) are permuted group by group, which sums over "
            "items can't tell: pool the tokens of images, compare a random part of the items by "
            "max_items=10_000, or raise memory_budget."
        )
    matched_by = _matched_by(a, b)
    if a.n_items < MIN_ITEMS:
        raise InvalidInputError(
            f"{a.name} has {a.n_items} items; a comparison needs at least {MIN_ITEMS}."
        )
    products = sum_stacked_products(
        [as_rows(layer) for model in (a, b) for layer in model.layers.values()],
        [f"{model.name}, {layer}" for model in (a, b) for layer in model.layers],
        folds=measure.folds(a.n_items),
        memory_budget=memory_budget,
        client=client,
        progress=progress,
    )
    rows, columns = range(len(a.layers)), range(len(a.layers), len(products.widths))

    def table(of: StackedProducts | PermutedProducts) -> Table:
        return np.array(
            [[measure.from_cross_products(of.pair(i, j)) for j in columns] for i in rows]
        )

    null = []
    drawn = products.permutations(rows, columns, n_draws, torch.Generator().manual_seed(seed))
    for number, permuted in enumerate(drawn, start=1):
        null.append(table(permuted))
        if progress is not None:
            progress(f"Permutation {number} of {n_draws}")
    drift = [
        np.array([measure.from_cross_products(products.pair(*pair)) for pair in pairwise(of_model)])
        for of_model in (rows, columns)
    ]
    return table(products), np.array(null), (drift[0], drift[1]), matched_by


def _matched_by(a: ModelLayers, b: ModelLayers) -> str:
    ids = {a.name: a.ids, b.name: b.ids}
    if any(own is None for own in ids.values()):
        ids = dict.fromkeys(ids)
    shared, order = pair_items({a.name: a.n_items, b.name: b.n_items}, ids)
    if order[b.name] is not None:
        raise ItemMismatchError(
            f"the items of {a.name} and {b.name} are in different orders: features larger than "
            "memory are read side by side; store both in one order, or compare a random part of "
            "the items by max_items=10_000."
        )
    return "position" if shared is None else "ids"
