"""Tables of layers that memory holds, by factors that are made of each layer once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relspace._core.progress import Listener
from relspace.measures import Measure
from relspace.resampling import Units
from relspace.similarity.compare import null_tables
from relspace.similarity.inputs import ModelLayers, Undefined, prepare_models
from relspace.similarity.tables import LayerTables, Table


@dataclass(frozen=True, eq=False, kw_only=True)
class TablesOfFactors(LayerTables):
    """Tables over the layers of models, from one factor of each.

    Attributes
    ----------
    factors : sequence
        Of all layers, model by model; those left out are none.
    groups : object or None
        A label for each item, by which items are permuted.
    """

    factors: Sequence[Any]
    groups: object | None

    def _table(self, rows: Sequence[int], columns: Sequence[int]) -> Table:
        table: Table = self.measure.table(self._of(rows), self._of(columns)).numpy()
        return table

    def _null(
        self,
        rows: range,
        columns: range,
        has_value: NDArray[np.bool_],
        n_permutations: int,
        seed: int,
        progress: Listener,
    ) -> Table:
        families = self.measure.permutations(
            self.n_items, n_permutations, groups=self.groups, random_state=seed
        )
        null = np.full((n_permutations, *has_value.shape), np.nan)
        # Rows that have values in the same columns make a table without gaps.
        patterns, of_row = np.unique(has_value, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            here, there = np.flatnonzero(of_row.ravel() == number), np.flatnonzero(pattern)
            if len(there):
                x, y = self._of([rows[i] for i in here]), self._of([columns[j] for j in there])
                drawn = null_tables(self.measure, x, y, families, tell=progress)
                null[:, here[:, None], there] = drawn
        return null

    def _expected(self, row: int, column: int) -> float | None:
        return self.measure.expected_by_chance(self.factors[row], self.factors[column])

    def _of(self, layers: Sequence[int]) -> list[Any]:
        return [self.factors[k] for k in layers]


def hold_layers(
    models: Sequence[ModelLayers],
    measure: Measure,
    *,
    groups: object | None,
    max_items: int | None,
    seed: int,
    memory_budget: int | None,
    progress: Listener,
) -> TablesOfFactors:
    """Pair the models' items and prepare all their layers, each once; at most so many items.

    Raises
    ------
    ItemMismatchError
        If the models don't hold the same items.
    InvalidInputError
        If features are not finite, constant or too few, or the measure has no value on any layer
        of a model.
    MemoryBudgetError
        If what the measure needs of all pairs of items doesn't fit.
    """
    prepared = prepare_models(
        models,
        measure,
        groups=groups,
        memory_budget=memory_budget,
        progress=progress,
        max_items=max_items,
        seed=seed,
    )
    n_units = prepared.n_items
    if prepared.groups is not None:
        n_units = len(Units.of(prepared.n_items, prepared.groups))
    factors = [one for of_model in prepared.factors for one in of_model]
    return TablesOfFactors(
        measure=measure,
        layers={model.name: tuple(model.layers) for model in models},
        n_items=prepared.n_items,
        n_units=n_units,
        n_available=prepared.n_available,
        matched_by=prepared.matched_by,
        null_by="permutations",
        left_out={k: one.reason for k, one in enumerate(factors) if isinstance(one, Undefined)},
        factors=factors,
        groups=prepared.groups,
    )
