"""Comparison of two sets of features: a value beside chance, its p-value, interval and ceiling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from relspace._core.arguments import check_fraction, check_random_state, check_resamples
from relspace._core.items import ItemId
from relspace._core.limits import DEFAULT_ALPHA, DEFAULT_PERMUTATIONS
from relspace._core.progress import Progress, as_listener
from relspace._core.result_tables import TabularResult
from relspace.errors import InvalidInputError
from relspace.pictures.html import html_table
from relspace.resampling import (
    interval_within,
    p_value,
    split_halves,
)
from relspace.similarity.held import Held, null_tables
from relspace.similarity.inputs import MeasureLike, as_measure, check_names, open_models
from relspace.similarity.record import Compared, fewest_permutations
from relspace.similarity.summed import Summed
from relspace.similarity.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# For each of the splits that a ceiling is the mean of.
_PERMUTATIONS_FOR_HALVES = 4


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Comparison(Compared, TabularResult):
    """How similar two sets of features are, beside chance and what noise leaves room for.

    Attributes
    ----------
    names : (str, str)
        What the sets are called.
    value : float
        The value.
    chance : float
        Its mean under permutation of the items.
    chance_std : float or None
        Its standard deviation under permutation; None where the mean is known in closed form and
        no permutations were asked for.
    p_value : float or None
        Share of permutations, the identity counted, that are at least as extreme.
    interval : tuple of float or None
        95 % confidence interval over items, or over groups of them.
    ceiling : float or None
        The value that noise in the features allows: how far beyond chance random halves of each
        set's features agree, stepped up from halves to the whole (Spearman 1910, Brown 1910), the
        geometric mean of both sets.
    null : array of shape (n_permutations,)
        Values under permutation.
    n_features : tuple of int
        How wide the sets are.
    n_parts : int or None
        In how many random parts units were summed, of which halves were drawn for the interval;
        None where units were drawn themselves.
    n_bootstraps : int
        On how many halves the interval rests.
    provenance : Provenance
        What was compared and how. Its attributes ``measure``, ``n_items``, ``n_available``,
        ``n_units``, ``matched_by``, ``null_by``, ``n_permutations``, ``random_state``,
        ``recall`` and ``versions`` are attributes of the comparison too.
    """

    names: tuple[str, str]
    value: float
    chance: float
    chance_std: float | None
    p_value: float | None
    interval: tuple[float, float] | None
    ceiling: float | None
    null: Table
    n_features: tuple[int, int]
    n_parts: int | None
    n_bootstraps: int

    @property
    def threshold(self) -> float | None:
        """The value that has to be passed for a p-value of at most ``alpha``.

        See :func:`relspace.resampling.critical_value`. None where no permutations were asked for.
        """
        if not self.n_permutations:
            return None
        return self._threshold(self.value, self.null)

    @property
    def calibrated(self) -> float | None:
        """How far the value lies from the threshold (0) to that of identical sets (1).

        0 where p is above ``alpha``; comparable between numbers of items and of features, which
        raw values are not. See :func:`relspace.resampling.calibrated_score`. None where no
        permutations were asked for; InvalidInputError where identical sets have no value, or
        where permutations are fewer than ``1 / alpha - 1``, so that no p-value reaches ``alpha``.
        """
        if self.threshold is None:
            return None
        return float(self._calibrate(np.array(self.value), np.array(self.threshold)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return self.provenance.to_dict() | {
            "names": list(self.names),
            "value": self.value,
            "chance": self.chance,
            "chance_std": self.chance_std,
            "p_value": self.p_value,
            "threshold": self.threshold,
            "calibrated": self.calibrated if self.is_calibrated else None,
            "interval": None if self.interval is None else list(self.interval),
            "ceiling": self.ceiling,
            "n_features": list(self.n_features),
            "n_parts": self.n_parts,
            "n_bootstraps": self.n_bootstraps,
        }

    @property
    def _columns(self) -> dict[str, list[Any]]:
        """One row."""
        low, high = self.interval or (None, None)
        found = self.to_dict()
        numbers = ("value", "chance", "chance_std", "p_value", "threshold", "calibrated")
        columns = {
            "first": self.names[0],
            "second": self.names[1],
            "measure": found["measure"],
            **{name: found[name] for name in numbers},
            "low": low,
            "high": high,
            **{name: found[name] for name in ("ceiling", "n_items", "n_permutations")},
        }
        return {name: [one] for name, one in columns.items()}

    def __repr__(self) -> str:
        rows = self._lines()
        width = max(len(title) for title, _ in rows)
        return "\n".join(f"{title.ljust(width)}  {value}" for title, value in rows)

    def _repr_html_(self) -> str:
        """A table of the value, chance and intervals, which notebooks show."""
        return html_table("Comparison", ["", ""], self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        spread = "" if self.chance_std is None else f" (sd {self.chance_std:.4f})"
        # Adding 0 to a rounded number turns -0 into 0.
        rows = [
            (self.measure.title, f"{round(self.value, 4) + 0.0:.4f}"),
            ("chance", f"{round(self.chance, 4) + 0.0:.4f}{spread}"),
        ]
        if self.p_value is not None:
            drawn = "permutations" if self.null_by == "permutations" else "draws of their limit"
            rows.append(("p", f"{self.p_value:.4g} ({len(self.null)} {drawn})"))
        if self.is_calibrated:
            beyond = f" (beyond {self.threshold:.4f}, alpha {self.alpha:g})"
            rows.append(("calibrated", f"{self.calibrated:.4f}{beyond}"))
        elif self.n_permutations and math.isfinite(self.measure.identical):
            fewest = fewest_permutations(self.alpha)
            rows.append(("calibrated", f"none (alpha {self.alpha:g} takes {fewest} permutations)"))
        if self.interval is not None:
            low, high = self.interval
            parts = "" if self.n_parts is None else f" (halves of {self.n_parts} random parts)"
            rows.append(("95 % interval", f"{low:.4f} to {high:.4f}{parts}"))
        if self.ceiling is not None:
            rows.append(("ceiling", f"{self.ceiling:.4f}"))
        units = "" if self.n_units == self.n_items else f" in {self.n_units} groups"
        part = "" if self.n_available == self.n_items else f" of {self.n_available}, at random"
        if missing := self.provenance.missing_pairs:
            said = ", ".join(f"{count} of {name}" for name, count in missing.items())
            rows.append(("missing pairs", said))
        rows.append(("items", f"{self.n_items}{part}{units}, matched by {self.matched_by}"))
        if self.recall is not None:
            rows.append(("neighbours", f"approximate, recall {self.recall:.4f}"))
        return rows

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Axes:
        """Draw the value beside its null distribution, interval and ceiling.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        title : str, optional
            The title; by default it names both sets, and says value and chance.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn into; ``axes.figure.savefig(path)`` writes the figure.

        Raises
        ------
        MissingDependencyError
            If matplotlib isn't installed.
        """
        from relspace.pictures.comparison_plots import draw_comparison

        return draw_comparison(
            self.measure.title,
            self.names,
            value=self.value,
            chance=self.chance,
            null=self.null,
            interval=self.interval,
            ceiling=self.ceiling,
            p_value=self.p_value,
            threshold=self.threshold,
            calibrated=self.calibrated if self.is_calibrated else None,
            title=title,
            axes=ax,
        )


def compare(
    X: object,
    Y: object,
    *,
    measure: MeasureLike = "affinity",
    names: Sequence[str] | None = None,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    n_permutations: int = DEFAULT_PERMUTATIONS,
    n_bootstraps: int = 0,
    groups: object | None = None,
    ceiling: bool = False,
    max_items: int | None = None,
    memory_budget: int | str | None = None,
    client: Any | None = None,
    random_state: int = 0,
    alpha: float = DEFAULT_ALPHA,
    progress: Progress = None,
) -> Comparison:
    """Measure how similar two sets of features of the same items are, and compare with chance.

    Features on disk that don't fit into memory are read in blocks: measures that are sums over
    items (``measure.streams``) come out the same, with chance and p-value from the normal limit of
    permutations; others are of a part of the items, if ``max_items`` allows it.

    Parameters
    ----------
    X, Y : array-like of shape (n, d) and (n, e), path, or source of rows
        Features of the same items; widths may differ. What
        :func:`relspace.features.scan` takes is read in blocks.
    measure : str, Measure or callable
        One of :func:`relspace.measures.names`, by name or as made by :func:`relspace.measures.get`;
        or a function (X, Y) -> float, larger for more alike, see
        :func:`relspace.measures.from_function`.
    names : sequence of two str, optional
        What errors call the sets; "X" and "Y" by default.
    ids : mapping of str to sequence, one sequence, or "position", optional
        The items' ids by the sets' names, ``{"X": ..., "Y": ...}``, by which the rows of Y are
        brought into the order of X, or one list for both. By default the ``ids`` that both bring,
        or the labels of their rows (the index of a pandas frame, coordinates of xarray, names of
        AnnData, a column called "id"; numbers that count rows are none). Where
        neither brings some, rows are matched by position; where one does, ``"position"`` must say
        so.
    n_permutations : int
        How many permutations of the items make the null distribution. With 0 there is no p-value,
        and the chance level comes from the closed form, or from a few permutations
        (``measure.permutations_for_chance``). At most 10,000,000.
    n_bootstraps : int
        On how many random halves of the items the interval rests; 0 for none. Items that are
        summed over are drawn in random parts, as many as the budget holds.
    groups : sequence, optional
        A label for each item of X, such as the image a patch is from. Groups are then what is
        permuted and resampled, since the items of one are not independent. Where items are summed
        over, groups can be resampled but not permuted: chance is then of items.
    ceiling : bool
        Whether to compute what split halves of the features reach.
    max_items : int, optional
        Compare this many items at most, chosen at random. All by default.
    memory_budget : int or str, optional
        Bytes that the call may take, or text such as "2 GiB"; by default half of the free memory.
        Features on disk that don't fit, with what is computed of them, are read in blocks. Matrices
        over pairs of items that don't fit are made tile by tile, or refused where they can't be.
    client : distributed.Client, optional
        A Dask cluster whose workers sum over parts of the items; they must reach files by the same
        paths.
    random_state : int
        Seed of everything random.
    alpha : float
        Level of the test that ``threshold`` and ``calibrated`` are of.
    progress : callable or bool, optional
        Told ``(done, total, text)`` as the work goes on; True prints lines on stderr.

    Returns
    -------
    Comparison
        The value beside its chance level, and what else was asked for.

    Raises
    ------
    ItemMismatchError
        If the sets don't hold the same items.
    InvalidInputError
        If features are not finite, constant or too few, or an argument is out of range.
    MemoryBudgetError
        If what the measure needs of all pairs of items, or its sums over items, don't fit.
    UnknownNameError
        If there is no such measure.

    Examples
    --------
    >>> import numpy as np, relspace as rs
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 8))
    >>> rs.compare(X, X @ rng.normal(size=(8, 16)), measure="cka", n_permutations=99)
    Linear CKA  0.8305
    chance      -0.0013 (sd 0.0066)
    p           0.01 (99 permutations)
    calibrated  0.8284 (beyond 0.0125, alpha 0.05)
    items       200, matched by position
    """
    record, tell = as_measure(measure), as_listener(progress)
    seed = check_random_state(random_state)
    level = check_fraction(alpha, "alpha")
    n_permutations = check_resamples(n_permutations, "n_permutations", at_least=0)
    n_bootstraps = check_resamples(n_bootstraps, "n_bootstraps", at_least=0)
    first, second = check_names(names, "sets") or ("X", "Y")
    if ceiling and not math.isfinite(record.identical):
        raise InvalidInputError(
            f"the measure {record.name} has no value of its own for identical sets, which a "
            "ceiling is a share of: leave out ceiling, or take another measure."
        )
    # Two sets are two models of one layer each.
    tables = open_models(
        {first: {"": X}, second: {"": Y}},
        record,
        [(first, second)],
        ids=ids,
        groups=groups,
        seed=seed,
        max_items=max_items,
        memory_budget=memory_budget,
        client=client,
        tell=tell,
        n_permutations=n_permutations,
        n_bootstraps=n_bootstraps,
        ceiling=ceiling,
    )
    found = tables.beside_chance(range(1), range(1, 2), n_permutations, seed, tell)
    value, chance = float(found.values[0, 0]), float(found.chance[0, 0])
    null, interval = found.null[:, 0, 0], None
    if n_bootstraps:
        interval = interval_within(record.range, value, tables.halves(n_bootstraps, seed))
    parts = tables.parts if isinstance(tables, Summed) else None
    return Comparison(
        provenance=tables.provenance(record, n_permutations, seed, level),
        names=(first, second),
        value=value,
        chance=chance,
        chance_std=None if found.chance_std is None else float(found.chance_std[0, 0]),
        p_value=p_value(value, null, larger=record.direction == "similarity")
        if n_permutations
        else None,
        interval=interval,
        ceiling=_ceiling(tables, chance, seed) if isinstance(tables, Held) and ceiling else None,
        null=null,
        n_features=(tables.widths[0], tables.widths[1]),
        n_parts=None if parts is None else len(parts.sums.products),
        n_bootstraps=n_bootstraps,
    )


def _ceiling(tables: Held, chance: float, seed: int) -> float:
    """The value that noise in the features allows.

    Agreement is measured as the share of the way from chance to identical sets, because chance
    depends on the number of features.
    """
    whole = []
    for Z in tables.features:
        assert isinstance(Z, torch.Tensor), "checked where they were opened"
        halves = partial(_share_of_halves, tables, Z, seed)
        half = float(split_halves(halves, Z.shape[1], random_state=seed).mean())
        # Halves that agree less than by chance leave no room above it.
        whole.append(2 * max(0.0, half) / (1 + max(0.0, half)))
    return chance + math.sqrt(whole[0] * whole[1]) * (tables.measure.identical - chance)


def _share_of_halves(
    tables: Held, X: torch.Tensor, seed: int, left: torch.Tensor, right: torch.Tensor
) -> float:
    measure, first, second = tables.measure, tables.prepare(X[:, left]), tables.prepare(X[:, right])
    chance = measure.expected_by_chance(first, second)
    if chance is None:
        families = measure.permutations(len(X), _PERMUTATIONS_FOR_HALVES, random_state=seed)
        chance = float(null_tables(measure, [first], [second], families, as_listener(None)).mean())
    return (measure.from_factors(first, second) - chance) / (measure.identical - chance)
