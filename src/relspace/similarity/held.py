"""Tables of layers in memory, from factors that are computed once for each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.progress import Listener
from relspace._core.resources import Resources
from relspace.errors import UndefinedValueError
from relspace.measures import Measure
from relspace.measures.dissimilarities import Dissimilarities
from relspace.resampling import Permutations, bootstrap
from relspace.similarity.model_layers import ModelLayers
from relspace.similarity.tables import Items, LayerTables, Table, full_name


@dataclass(frozen=True, eq=False, kw_only=True)
class Held(LayerTables):
    """Tables over the layers of models, from one factor of each.

    Attributes
    ----------
    factors : sequence
        Of all layers, model by model; None of those left out.
    features : sequence of tensor of shape (n_items, d)
        The features of the layers, where intervals or ceilings need them.
    memory_budget : int or None
        Bytes that all factors may take.
    """

    factors: Sequence[Any]
    features: Sequence[torch.Tensor | Dissimilarities]
    memory_budget: int | None

    @property
    def recall(self) -> float | None:
        return worst_recall(self.measure, [one for one in self.factors if one is not None])

    def prepare(self, features: torch.Tensor | Dissimilarities) -> Any:
        """Make the factor of other features, within the memory budget of one layer."""
        return _prepare(self.measure, features, "X", self.memory_budget, len(self.factors))

    def halves(self, n_draws: int, seed: int) -> Table:
        """The value of the first two layers on random halves of the items."""
        x, y = self.features[:2]

        def of_half(rows: torch.Tensor) -> float:
            return self.measure.from_factors(self.prepare(x[rows]), self.prepare(y[rows]))

        return bootstrap(
            of_half, self.items.n_items, n_draws, groups=self.items.groups, random_state=seed
        )

    def _table(self, rows: Sequence[int], columns: Sequence[int]) -> Table:
        x, y = self._of(rows), self._of(columns)
        if len(x) == len(y) == 1:
            # One pair has all cores to itself.
            return np.array([[self.measure.from_factors(x[0], y[0])]])
        table: Table = self.measure.table(x, y).numpy()
        return table

    def _null(
        self,
        rows: range,
        columns: range,
        has_value: NDArray[np.bool_],
        n_permutations: int,
        seed: int,
        tell: Listener,
    ) -> Table:
        families = self.measure.permutations(
            self.items.n_items, n_permutations, groups=self.items.groups, random_state=seed
        )
        null = np.full((n_permutations, *has_value.shape), np.nan)
        # Rows that have values in the same columns make a table without gaps.
        patterns, of_row = np.unique(has_value, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            here, there = np.flatnonzero(of_row.ravel() == number), np.flatnonzero(pattern)
            if len(there):
                x, y = self._of([rows[i] for i in here]), self._of([columns[j] for j in there])
                null[:, here[:, None], there] = null_tables(self.measure, x, y, families, tell)
        return null

    def _expected(self, row: int, column: int) -> float | None:
        return self.measure.expected_by_chance(self.factors[row], self.factors[column])

    def _of(self, layers: Sequence[int]) -> list[Any]:
        return [self.factors[k] for k in layers]


def hold_layers(
    models: Sequence[ModelLayers],
    measure: Measure,
    items: Items,
    order: Mapping[str, torch.Tensor | None],
    *,
    memory_budget: int | None,
    tell: Listener,
    keep_features: bool,
) -> Held:
    """Prepare all layers of models, each once, with the rows of each model in ``order``."""
    n_layers = sum(len(model.layers) for model in models)
    factors: list[Any] = []
    kept: list[torch.Tensor | Dissimilarities] = []
    widths: list[int] = []
    left_out: dict[int, UndefinedValueError] = {}
    device: torch.device | None = None
    for model in models:
        for number, layer in enumerate(model.layers, start=1):
            tell(number, len(model.layers), f"Preparing layers of {model.name}")
            features = model.read(layer, order[model.name], measure.computed_in).detach()
            device = features.device if device is None else device
            features = features.to(device)
            name = full_name(model.name, layer)
            widths.append(features.shape[1])
            try:
                factors.append(_prepare(measure, features, name, memory_budget, n_layers))
            except UndefinedValueError as error:
                left_out[len(factors)] = error
                factors.append(None)
            if keep_features:
                kept.append(features)
    held = Held(
        measure=measure,
        layers={model.name: tuple(model.layers) for model in models},
        widths=widths,
        items=items,
        left_out=left_out,
        factors=factors,
        features=kept,
        memory_budget=memory_budget,
    )
    measure.warn_of_direction(next(one for one in factors if one is not None))
    return held


def worst_recall(measure: Measure, factors: Sequence[Any]) -> float | None:
    """The least recall of approximate indices of some sets; None where there are none."""
    found = (measure.recall(one) for one in factors)
    return min((one for one in found if one is not None), default=None)


def _prepare(
    measure: Measure,
    features: torch.Tensor | Dissimilarities,
    name: str,
    memory_budget: int | None,
    n_sets: int,
) -> Any:
    # Half of a budget for the factors of all sets.
    budget = Resources.of(memory_budget, device=features.device).for_blocks() // (2 * n_sets)
    return measure.prepare(features, name, memory_budget=budget)


def null_tables(
    measure: Measure,
    x: Sequence[Any],
    y: Sequence[Any],
    families: Sequence[Permutations],
    tell: Listener,
) -> Table:
    """Tables of every set of one list with every set of another under all permutations."""
    total, done, tables = sum(map(len, families)), 0, []
    for family in families:

        def count(of_family: int, before: int = done) -> None:
            tell(before + of_family, total, "Permutations")

        tables.append(measure.null_table(x, y, family, on_progress=count))
        done += len(family)
    return torch.cat(tables).numpy()
