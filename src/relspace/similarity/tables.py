"""Tables of layers beside chance: values, their null distribution and its mean, of one measure."""

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

from relspace._core.progress import Listener
from relspace._core.validation import name_some
from relspace.errors import RelspaceWarning, UndefinedValueError
from relspace.measures import Measure
from relspace.resampling import p_value

Table = NDArray[np.float64]

_REASONS_AT_MOST = 3


@dataclass(frozen=True, eq=False)
class TableBesideChance:
    """A table of layers, and what permuted items make of it; NaN where there is no value.

    Attributes
    ----------
    values, chance : array of shape (L, M)
        Values, and their means under permutation.
    chance_std : array of shape (L, M) or None
        Standard deviations under permutation; None where means are known in closed form and no
        permutations were asked for.
    null : array of shape (n_permutations, L, M)
        Values under permutation.
    larger : bool
        Whether larger values mean more alike.
    """

    values: Table
    chance: Table
    chance_std: Table | None
    null: Table
    larger: bool

    @property
    def extreme_null(self) -> Table:
        """The most alike value of the table under each permutation, of shape (n_permutations,)."""
        if len(self.null) == 0:
            return np.empty(0)
        return most_alike(self.null, (1, 2), larger=self.larger)

    @property
    def p_values(self) -> Table:
        """Each value against the null distribution of the most alike pair of the table."""
        extreme = self.extreme_null
        tested = [self._p_value(float(one), extreme) for one in self.values.flat]
        return np.reshape(tested, self.values.shape)

    @property
    def smallest_p(self) -> float:
        """That of the most alike pair."""
        best = float(most_alike(self.values, (0, 1), larger=self.larger))
        return self._p_value(best, self.extreme_null)

    def _p_value(self, value: float, extreme: Table) -> float:
        return float("nan") if np.isnan(value) else p_value(value, extreme, larger=self.larger)


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
    n_items, n_units, n_available : int
        Items compared, groups of them that are permuted, and how many items there were.
    matched_by : str
        ``"ids"`` or ``"position"``.
    null_by : str
        What a null distribution is made by, see :class:`relspace.LayerComparison`.
    left_out : mapping of int to str
        Layers that have no values, and why.
    undefined : dict of (int, int) to str
        Other pairs of layers that turned out to have no value, and why.
    """

    measure: Measure
    layers: Mapping[str, tuple[str, ...]]
    n_items: int
    n_units: int
    n_available: int
    matched_by: str
    null_by: str
    left_out: dict[int, str] = field(default_factory=dict)
    undefined: dict[tuple[int, int], str] = field(default_factory=dict)

    @cached_property
    def names(self) -> list[str]:
        """What layers are called, with their models."""
        return [f"{model}, {layer}" for model, layers in self.layers.items() for layer in layers]

    @cached_property
    def places(self) -> dict[str, range]:
        """The numbers of each model's layers."""
        return places_of({model: len(layers) for model, layers in self.layers.items()})

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
        progress: Listener,
    ) -> Table:
        """Values under permutation, of the pairs of layers that have one."""

    @abstractmethod
    def _expected(self, row: int, column: int) -> float | None:
        """The exact mean over all permutations of a pair, where it is known."""

    def values(self, rows: range, columns: range) -> Table:
        """Compare some layers with others.

        Returns
        -------
        array of shape (len(rows), len(columns))
            Values; NaN where there is none.
        """
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
        self,
        rows: range,
        columns: range,
        n_permutations: int,
        seed: int,
        progress: Listener,
    ) -> TableBesideChance:
        """Compare some layers with others, and the same under permutations of the items.

        Parameters
        ----------
        rows, columns : range
            Numbers of layers.
        n_permutations : int
            How many permutations; with 0 as many as chance needs, none where it is known.
        seed : int
            Of the permutations.
        progress : callable
            Told ``(done, total, text)``.

        Raises
        ------
        UndefinedValueError
            If no pair of layers has a value.
        """
        values = self.values(rows, columns)
        has_value = ~np.isnan(values)
        if not has_value.any():
            raise UndefinedValueError(next(iter([*self.undefined.values(), *self._reasons()])))
        chance, spread = np.full(values.shape, np.nan), None
        null = np.empty((0, *values.shape))
        pairs = np.argwhere(has_value).tolist()
        expected = None
        if not n_permutations:
            expected = [self._expected(rows[i], columns[j]) for i, j in pairs]
        if expected is None or None in expected:
            count = n_permutations or self.measure.permutations_for_chance
            null = self._null(rows, columns, has_value, count, seed, progress)
            chance = null.mean(axis=0)
            spread = null.std(axis=0, ddof=1) if len(null) > 1 else None
        else:
            chance[has_value] = expected
        larger = self.measure.direction == "similarity"
        return TableBesideChance(values, chance, spread, null, larger)

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
            warnings.warn(
                f"{len(called)} of {len(self.names)} layers are left out, {name_some(called)}: "
                f"{self.measure.name} has no value there, shown as missing (NaN). "
                + " ".join(self._reasons()[:_REASONS_AT_MOST]),
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

    def missing_layers(self) -> dict[str, str]:
        """The layers that are left out by name, and why."""
        return {self.names[k]: reason for k, reason in self.left_out.items()}

    def _reasons(self) -> list[str]:
        return list(self.left_out.values())

    def _value(self, row: int, column: int) -> float:
        try:
            return float(self._table([row], [column])[0, 0])
        except UndefinedValueError as error:
            self.undefined[row, column] = str(error)
            return float("nan")


def most_alike(values: Table, axis: int | tuple[int, ...], *, larger: bool) -> Table:
    """The most alike of values along some axes; NaN where there is none."""
    worst = -np.inf if larger else np.inf
    filled = np.where(np.isnan(values), worst, values)
    found = filled.max(axis=axis) if larger else filled.min(axis=axis)
    return np.where(np.isinf(found), np.nan, found)


def places_of(sizes: Mapping[str, int]) -> dict[str, range]:
    """The numbers of each model's layers, where models stand one after the other.

    Examples
    --------
    >>> places_of({"a": 2, "b": 3})
    {'a': range(0, 2), 'b': range(2, 5)}
    """
    places, start = {}, 0
    for name, size in sizes.items():
        places[name] = range(start, start + size)
        start += size
    return places


def plain_values(values: Any) -> Any:
    """Lists of numbers, or one number, with None where there is none; others as they are."""
    if isinstance(values, np.ndarray):
        plain = values.astype(object)
        plain[np.isnan(values)] = None
        return plain.tolist()
    return None if isinstance(values, float) and np.isnan(values) else values
