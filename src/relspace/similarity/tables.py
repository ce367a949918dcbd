"""Tables of layers beside chance: values and their null distribution, for layers held or summed."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relspace._core.arguments import name_some
from relspace._core.items import ItemId
from relspace._core.progress import Listener
from relspace.errors import RelspaceWarning, UndefinedValueError
from relspace.measures import Measure
from relspace.similarity.record import Provenance

Table = NDArray[np.float64]

_REASONS_AT_MOST = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Items:
    """The items that are compared; attributes are those of :class:`Provenance`.

    ``groups`` holds a label for each item, where items are permuted by groups.
    """

    n_items: int
    n_available: int
    n_units: int
    matched_by: str
    ids: tuple[ItemId, ...] | None
    groups: object | None = None
    missing_pairs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class TableBesideChance:
    """Values (L, M) of pairs of layers, with their chance level; NaN where there is none.

    ``chance_std`` is None where means are known in closed form and nothing was permuted; ``null``
    has shape (n_permutations, L, M).
    """

    values: Table
    chance: Table
    chance_std: Table | None
    null: Table


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerTables(ABC):
    """Layers of several models, compared with each other by their numbers, in one measure.

    Values, their null distribution and chance are all asked of one object, for the same pairs of
    layers in the same order.

    Attributes
    ----------
    measure : Measure
        The measure.
    layers : mapping of str to tuple of str
        Layers by model, in the order of their numbers.
    widths : sequence of int
        Features of each layer.
    items : Items
        What is compared.
    left_out : mapping of int to UndefinedValueError
        Layers that have no values, and why.
    undefined : dict of (int, int) to UndefinedValueError
        Other pairs of layers that turned out to have no value, and why.
    """

    measure: Measure
    layers: Mapping[str, tuple[str, ...]]
    widths: Sequence[int]
    items: Items
    left_out: Mapping[int, UndefinedValueError]
    undefined: dict[tuple[int, int], UndefinedValueError] = field(default_factory=dict)

    #: See :class:`Provenance`.
    null_by = "permutations"

    def __post_init__(self) -> None:
        for numbers in self.numbers.values():
            if all(k in self.left_out for k in numbers):
                raise self.left_out[numbers[0]]

    @cached_property
    def names(self) -> list[str]:
        """The full names of the layers."""
        return [full_name(model, one) for model, layers in self.layers.items() for one in layers]

    @cached_property
    def numbers(self) -> dict[str, range]:
        """The numbers of each model's layers."""
        return number_layers(self.layers)

    @property
    def recall(self) -> float | None:
        """See :class:`Provenance`."""
        return None

    @abstractmethod
    def _table(self, rows: Sequence[int], columns: Sequence[int]) -> Table:
        """Values of pairs of layers that are not left out."""

    @abstractmethod
    def _null(
        self,
        rows: range,
        columns: range,
        has_value: NDArray[np.bool_],
        n_permutations: int,
        seed: int,
        tell: Listener,
    ) -> Table:
        """Values under permutation, of the pairs of layers that have one."""

    @abstractmethod
    def _expected(self, row: int, column: int) -> float | None:
        """The exact mean over all permutations of a pair, where it is known."""

    @abstractmethod
    def halves(self, n_draws: int, seed: int) -> Table:
        """The value of the first two layers on random halves of the items."""

    def values(self, rows: range, columns: range) -> Table:
        """Compare some layers with others, (len(rows), len(columns)); NaN where there is none."""
        table = np.full((len(rows), len(columns)), np.nan)
        here, there = ([k for k in one if k not in self.left_out] for one in (rows, columns))
        if not here or not there:
            return table
        try:
            found = self._table(here, there)
        except UndefinedValueError:
            found = np.array([[self._value(i, j) for j in there] for i in here])
        inside = np.ix_([i - rows.start for i in here], [j - columns.start for j in there])
        table[inside] = found
        return table

    def beside_chance(
        self, rows: range, columns: range, n_permutations: int, seed: int, tell: Listener
    ) -> TableBesideChance:
        """Compare some layers with others, and the same under permutations of the items.

        Without permutations asked for, the chance level comes from the closed form, or from as many
        as it needs. UndefinedValueError if no pair of layers has a value.
        """
        values = self.values(rows, columns)
        has_value = ~np.isnan(values)
        if not has_value.any():
            raise next(iter(self.undefined.values()))
        chance, spread = np.full(values.shape, np.nan), None
        null = np.empty((0, *values.shape))
        expected = None
        if not n_permutations:
            pairs = np.argwhere(has_value).tolist()
            expected = [self._expected(rows[i], columns[j]) for i, j in pairs]
        if expected is None or None in expected:
            count = n_permutations or self.measure.permutations_for_chance
            null = self._null(rows, columns, has_value, count, seed, tell)
            chance = null.mean(axis=0)
            # Items of one group are not independent: groups spread wider than the limit of items.
            of_items = self.null_by == "permutations" or self.items.groups is None
            spread = null.std(axis=0, ddof=1) if len(null) > 1 and of_items else None
        else:
            chance[has_value] = expected
        return TableBesideChance(values=values, chance=chance, chance_std=spread, null=null)

    def drift(self, of_model: range) -> Table:
        """Values between consecutive layers of a model."""
        consecutive = [
            self.values(range(i, i + 1), range(j, j + 1))[0, 0] for i, j in pairwise(of_model)
        ]
        return np.array(consecutive, dtype=np.float64)

    def warn_of_gaps(self) -> None:
        """Say which layers and pairs of layers have no value, why, and what can be done."""
        if self.left_out:
            called = [self.names[k] for k in self.left_out]
            reasons = [str(one) for one in self.left_out.values()]
            warnings.warn(
                f"{len(called)} of {len(self.names)} layers are left out, {name_some(called)}: "
                f"{self.measure.name} has no value there, shown as missing (NaN). "
                + " ".join(reasons[:_REASONS_AT_MOST]),
                RelspaceWarning,
                stacklevel=3,
            )
        if self.undefined:
            (i, j), reason = next(iter(self.undefined.items()))
            warnings.warn(
                f"{len(self.undefined)} pairs of layers have no value, shown as missing (NaN); the "
                f"first are {self.names[i]} and {self.names[j]}: {reason}",
                RelspaceWarning,
                stacklevel=3,
            )

    def provenance(
        self,
        measure: Measure,
        n_permutations: int,
        seed: int,
        alpha: float,
        models: Sequence[str] = (),
    ) -> Provenance:
        """Return the provenance of the tables of some models; ``measure`` is the one asked for."""
        own = [k for name in models or self.layers for k in self.numbers[name]]
        return Provenance(
            measure=measure,
            n_items=self.items.n_items,
            n_available=self.items.n_available,
            n_units=self.items.n_units,
            matched_by=self.items.matched_by,
            ids=self.items.ids,
            null_by=self.null_by,
            n_permutations=n_permutations,
            random_state=seed,
            recall=self.recall,
            alpha=alpha,
            missing_pairs=self.items.missing_pairs,
            left_out={self.names[k]: str(self.left_out[k]) for k in own if k in self.left_out},
        )

    def _value(self, row: int, column: int) -> float:
        try:
            return float(self._table([row], [column])[0, 0])
        except UndefinedValueError as error:
            self.undefined[row, column] = error
            return float("nan")


def full_name(model: str, layer: str) -> str:
    """The name of a layer in errors; for a model that is a single matrix, the name of the model."""
    return f"{model}, {layer}" if layer else model


def most_alike(values: Table, axis: int | tuple[int, ...], *, larger: bool) -> Table:
    """The most alike of values along some axes; NaN where there is none."""
    worst = -np.inf if larger else np.inf
    filled = np.where(np.isnan(values), worst, values)
    found = filled.max(axis=axis) if larger else filled.min(axis=axis)
    return np.where(np.isinf(found), np.nan, found)


def number_layers(layers: Mapping[str, Sequence[str]]) -> dict[str, range]:
    """The numbers of each model's layers, where models stand one after the other.

    Examples
    --------
    >>> number_layers({"a": ["in", "out"], "b": ["in", "middle", "out"]})
    {'a': range(0, 2), 'b': range(2, 5)}
    """
    numbers, start = {}, 0
    for name, own in layers.items():
        numbers[name] = range(start, start + len(own))
        start += len(own)
    return numbers


def plain_values(values: Any) -> Any:
    """Lists of numbers, or one number, with None where there is none; others as they are."""
    if isinstance(values, np.ndarray):
        plain = values.astype(object)
        plain[np.isnan(values)] = None
        return plain.tolist()
    return None if isinstance(values, float) and np.isnan(values) else values
