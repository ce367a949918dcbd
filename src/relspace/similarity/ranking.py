"""Rival models beside one or several references: which is closer, and is the difference shown?"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from relspace._core.arguments import (
    check_choice,
    check_fraction,
    check_random_state,
    check_resamples,
)
from relspace._core.items import ItemId
from relspace._core.limits import DEFAULT_ALPHA, DEFAULT_PERMUTATIONS
from relspace._core.progress import Listener, Progress, as_listener
from relspace._core.resources import Resources
from relspace._core.result_tables import TabularResult
from relspace._core.text_tables import text_table
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    RelspaceWarning,
    UndefinedValueError,
)
from relspace.measures import MIN_ITEMS
from relspace.pictures.html import html_table
from relspace.resampling import bootstrap, p_value
from relspace.similarity.ceilings import NoiseCeiling, noise_ceiling
from relspace.similarity.held import Held
from relspace.similarity.inputs import MeasureLike, as_measure, open_models
from relspace.similarity.paired_tests import CORRECTIONS, Spread, adjust, spread_of_means
from relspace.similarity.record import Compared
from relspace.similarity.tables import Table, plain_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from relspace.pictures.theme import Theme

_DEFAULT_BOOTSTRAPS = 200
_FEWEST_BOOTSTRAPS = 20
# Values of equal sets may differ by so much of the largest one.
_ROUNDING = 1e-6

Columns = dict[str, list[Any]]


@dataclass(frozen=True, repr=False, eq=False)
class PairedDifferences(TabularResult):
    """The differences of every two models as a table, best models first: rows as it has them."""

    rows: Columns

    @property
    def _columns(self) -> Columns:
        return self.rows


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class ModelRanking(Compared, TabularResult):
    """How close models are to references, and which differences between them are shown.

    Arrays are in the order of ``models``; tables and figures begin with the best one.

    Attributes
    ----------
    models, references : tuple of str
        Names.
    by_reference : array of shape (n_references, n_models)
        The value of each model with each reference.
    chance : array of shape (n_models,)
        Means under permutation of the models' items, the same for all references.
    null : array of shape (n_permutations, n_models)
        Values under permutation.
    standard_errors : array of shape (n_models,)
        Of the values, for other items and, where there are several, other references.
    intervals : array of shape (n_models, 2)
        1 - alpha confidence intervals of the values.
    difference_intervals : array of shape (n_models, n_models, 2)
        Those of the value of the first model less that of the second; each by itself, uncorrected.
    p_differences : array of shape (n_models, n_models)
        p-values of the differences, two-sided, corrected for all pairs; 1 on the diagonal.
    p_above_chance : array of shape (n_models,)
        p-values of being more alike than by chance, for other items and references, corrected for
        all models. Conservative where a model has nothing to do with the references.
    p_permuted : array of shape (n_models,) or None
        Share of permutations, the identity counted, at least as extreme, corrected: whether a model
        has anything to do with these references. None without permutations. With Holm's correction
        it is at least n_models / (n_permutations + 1), so that many models need many permutations;
        ``calibrated`` is not corrected.
    ceiling : NoiseCeiling or None
        What several references leave room for; None with one, or if it is undefined (see
        :func:`compare_to`).
    correction : str
        How p-values were corrected, one of ``"holm"``, ``"benjamini_hochberg"`` and ``"none"``.
    n_bootstraps : int
        On how many halves of the items intervals and tests rest.
    provenance : Provenance
        As in :class:`relspace.Comparison`.
    """

    models: tuple[str, ...]
    references: tuple[str, ...]
    by_reference: Table
    chance: Table
    null: Table
    standard_errors: Table
    intervals: Table
    difference_intervals: Table
    p_differences: Table
    p_above_chance: Table
    p_permuted: Table | None
    ceiling: NoiseCeiling | None
    correction: str
    n_bootstraps: int

    @property
    def values(self) -> Table:
        """Mean value of each model over the references, (n_models,)."""
        mean: Table = self.by_reference.mean(axis=0)
        return mean

    @property
    def differences(self) -> Table:
        """The value of the first model less that of the second, (n_models, n_models)."""
        found: Table = self.values[:, None] - self.values
        return found

    @property
    def thresholds(self) -> Table | None:
        """What values have to pass for a p-value of at most alpha, uncorrected.

        None without permutations.
        """
        if not self.n_permutations:
            return None
        pairs = zip(self.values.tolist(), self.null.T, strict=True)
        return np.array([self._threshold(value, null) for value, null in pairs])

    @property
    def calibrated(self) -> Table | None:
        """See :attr:`relspace.Comparison.calibrated`; None without permutations."""
        thresholds = self.thresholds
        return None if thresholds is None else self._calibrate(self.values, thresholds)

    @property
    def ranking(self) -> tuple[str, ...]:
        """The models, best first."""
        return tuple(self.models[i] for i in self._order)

    @property
    def _order(self) -> list[int]:
        worst_last = -self.values if self._larger else self.values
        order: list[int] = np.argsort(worst_last, kind="stable").tolist()
        return order

    @property
    def _columns(self) -> Columns:
        order = self._order
        calibrated = self.calibrated if self.is_calibrated else None
        return {
            "model": list(self.ranking),
            "value": self.values[order].tolist(),
            "low": self.intervals[order, 0].tolist(),
            "high": self.intervals[order, 1].tolist(),
            "chance": self.chance[order].tolist(),
            "calibrated": _in_order(calibrated, order),
            "p_above_chance": self.p_above_chance[order].tolist(),
            "p_permuted": _in_order(self.p_permuted, order),
        }

    @property
    def pairs(self) -> PairedDifferences:
        """The difference of every two models with interval and p-value, as a table."""
        pairs = list(combinations(self._order, 2))
        low_high = [self.difference_intervals[pair].tolist() for pair in pairs]
        return PairedDifferences(
            {
                "model": [self.models[i] for i, _ in pairs],
                "other": [self.models[j] for _, j in pairs],
                "difference": [float(self.differences[pair]) for pair in pairs],
                "low": [low for low, _ in low_high],
                "high": [high for _, high in low_high],
                "p": [float(self.p_differences[pair]) for pair in pairs],
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        ceiling = self.ceiling
        return self.provenance.to_dict() | {
            "references": list(self.references),
            "models": _rows(self._columns),
            "differences": _rows(self.pairs.rows),
            "by_reference": {
                name: plain_values(column)
                for name, column in zip(self.models, self.by_reference.T, strict=True)
            },
            "ceiling": None
            if ceiling is None
            else {"lower": ceiling.lower, "upper": ceiling.upper, "pooled": ceiling.pooled},
            "correction": self.correction,
            "n_bootstraps": self.n_bootstraps,
        }

    def __repr__(self) -> str:
        tables = [self._title, *text_table(*_cells(self._columns))]
        if len(self.models) > 1:
            tables += ["", *text_table(*_cells(self.pairs.rows))]
        return "\n".join([*tables, "", *self._notes])

    @property
    def _title(self) -> str:
        several = len(self.references) > 1
        of = f"{len(self.references)} references" if several else self.references[0]
        return f"{self.measure.title} with {of}, {self.n_items} items{self._said_of_recall}"

    @property
    def _confidence(self) -> str:
        return f"{100 * (1 - self.alpha):g}%"

    @property
    def _notes(self) -> list[str]:
        notes = []
        if self.ceiling is not None:
            upper = "" if self.ceiling.upper is None else f" to {self.ceiling.upper:.4f}"
            what = "noise ceiling" if self.ceiling.pooled else "references with each other"
            notes.append(f"{what}  {self.ceiling.lower:.4f}{upper}")
        over = "items and references" if len(self.references) > 1 else "items"
        notes.append(
            f"{self._confidence} intervals and {_said_of_correction(self.correction)}p over "
            f"{over}, {self.n_bootstraps} halves"
        )
        return notes

    def _repr_html_(self) -> str:
        """The models and their differences, which notebooks show."""
        models = html_table(self._title, *_cells(self._columns), note="; ".join(self._notes))
        if len(self.models) == 1:
            return models
        return models + html_table("Differences", *_cells(self.pairs.rows))

    def plot(
        self, *, ax: Axes | None = None, title: str | None = None, theme: Theme | None = None
    ) -> Axes:
        """Draw the models, best first, with intervals, chance, ceiling, and which of them differ.

        A filled point is above chance, a filled cell to the right a difference that is shown, both
        at the level alpha after correction.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw, without the table of differences; a new figure with it by default.
        title : str, optional
            The title; by default it names the measure and the references.
        theme : Theme, optional
            Colours; dark ink on white by default.

        Returns
        -------
        matplotlib.axes.Axes
            Those of the models; ``axes.figure.savefig(path)`` writes the figure.

        Raises
        ------
        MissingDependencyError
            If matplotlib isn't installed.
        """
        from relspace.pictures.ranking_plots import draw_ranking
        from relspace.pictures.theme import LIGHT, Look

        order = self._order
        ceiling = self.ceiling
        return draw_ranking(
            self._title,
            f"{self.measure.title}, {self._confidence} interval",
            [f"{name}  {rank}" for rank, name in enumerate(self.ranking, start=1)],
            values=self.values[order],
            intervals=self.intervals[order],
            chance=self.chance[order],
            by_reference=self.by_reference[:, order],
            above_chance=self.p_above_chance[order] <= self.alpha,
            differs=self.p_differences[np.ix_(order, order)] <= self.alpha,
            ceiling=None if ceiling is None else (ceiling.lower, ceiling.upper),
            said_of_tests=f"differs, {_said_of_correction(self.correction)}p <= {self.alpha:g}",
            look=Look(ax, title, theme=theme or LIGHT),
        )


def _said_of_correction(correction: str) -> str:
    names = {"holm": "Holm's ", "benjamini_hochberg": "Benjamini-Hochberg ", "none": "uncorrected "}
    return names[correction]


def _in_order(values: Table | None, order: list[int]) -> list[float | None]:
    return [None] * len(order) if values is None else values[order].tolist()


def _rows(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _cells(columns: Columns) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text, without columns that hold nothing."""
    shown = {key: cells for key, cells in columns.items() if cells[0] is not None}
    said = {"p_above_chance": "p above chance", "p_permuted": "p permuted"}
    texts = [[_cell(key, cell) for cell in cells] for key, cells in shown.items()]
    return [said.get(key, key) for key in shown], [list(row) for row in zip(*texts, strict=True)]


def _cell(column: str, cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    # Adding 0 to a rounded number turns -0 into 0.
    return f"{cell:.3g}" if column.startswith("p") else f"{round(cell, 4) + 0.0:.4f}"


def compare_to(
    references: object,
    models: Mapping[str, object],
    *,
    measure: MeasureLike = "affinity",
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    n_permutations: int = DEFAULT_PERMUTATIONS,
    n_bootstraps: int = _DEFAULT_BOOTSTRAPS,
    groups: object | None = None,
    correction: str = "holm",
    alpha: float = DEFAULT_ALPHA,
    ceiling: bool = True,
    max_items: int | None = None,
    memory_budget: int | str | None = None,
    random_state: int = 0,
    progress: Progress = None,
) -> ModelRanking:
    """Rank models by how close they are to one or several references of the same items.

    Differences are tested as pairs: all models are compared on the same random halves of the items.
    With several references (subjects, seeds, days) results are for other references too, with the
    corrected variance of Schuett et al. (2023, eLife 12:e82566).

    Parameters
    ----------
    references : array-like of shape (n, d), Dissimilarities, path, or several of them
        What models are compared with; several as a list, or as a mapping of names.
    models : mapping of str to array-like of shape (n, e), Dissimilarities, or path
        Features of the same items.
    measure : str, Measure or function
        As in :func:`relspace.compare`; models come first, so that ``linear_predictivity`` predicts
        the references.
    ids : mapping of str to sequence, one sequence, or "position", optional
        The items' ids by the names of models and references, as in :func:`relspace.compare`. One
        reference is called "reference", those of a list "reference 1" and so on.
    n_permutations : int
        How many permutations of the items give ``p_permuted``, ``calibrated`` and the chance level;
        with 0, as in :func:`relspace.compare`.
    n_bootstraps : int
        On how many random halves of the items intervals and tests rest; at least 20.
    groups : sequence, optional
        A label for each item of the first model: groups are permuted and resampled as a whole.
    correction : "holm", "benjamini_hochberg" or "none"
        How p-values are corrected, those of differences for all pairs, those beside chance for all
        models; see :func:`relspace.similarity.paired_tests.adjust`.
    alpha : float
        Level of tests and of ``calibrated``; intervals hold 1 - alpha.
    ceiling : bool
        Whether to compute the noise ceiling of several references. Where pairs of items are
        missing, it is that of the pairs that all references have; where these are too few, a
        warning says so and there is none.
    max_items, memory_budget, random_state, progress
        As in :func:`relspace.compare`; what is ranked is held in memory.

    Returns
    -------
    ModelRanking
        Values with intervals, chance, tests and ceiling.

    Raises
    ------
    ItemMismatchError
        If sets don't hold the same items.
    InvalidInputError
        If features can't be compared, there are fewer than 8 items or groups, or an argument is out
        of range.

    Examples
    --------
    >>> import numpy as np, relspace as rs
    >>> rng = np.random.default_rng(0)
    >>> brain = rng.normal(size=(80, 5))
    >>> subjects = [brain + rng.normal(size=brain.shape) for _ in range(6)]
    >>> near, far = (brain + noise * rng.normal(size=brain.shape) for noise in (0.5, 2))
    >>> found = rs.compare_to(subjects, {"far": far, "near": near}, measure="cka")
    >>> found.ranking, found.values.round(2)
    (('near', 'far'), array([0.07, 0.39]))
    >>> bool(found.p_differences[0, 1] < 0.001)
    True
    """
    record, tell = as_measure(measure), as_listener(progress)
    seed = check_random_state(random_state)
    level = check_fraction(alpha, "alpha")
    count = check_resamples(n_permutations, "n_permutations", at_least=0)
    n_draws = check_resamples(n_bootstraps, "n_bootstraps", at_least=_FEWEST_BOOTSTRAPS)
    check_choice(correction, "correction", CORRECTIONS)
    named, rivals = _named_references(references), _named_models(models)
    both = sorted(named.keys() & rivals.keys())
    if both:
        raise InvalidInputError(
            f"{', '.join(both)} is the name of a model and of a reference; give other names."
        )
    tables = open_models(
        {name: {"": one} for name, one in (rivals | named).items()},
        record,
        [],
        ids=ids,
        groups=groups,
        seed=seed,
        max_items=max_items,
        memory_budget=memory_budget,
        client=None,
        tell=tell,
        n_permutations=count,
        n_bootstraps=n_draws,
        held=True,
    )
    assert isinstance(tables, Held)
    n_units = tables.items.n_units
    if n_units < 2 * MIN_ITEMS:
        what = "items" if tables.items.groups is None else "groups of items"
        raise InvalidInputError(
            f"there are {n_units} {what}; tests rest on random halves, so there must be at least "
            f"{2 * MIN_ITEMS}."
        )
    rows, columns = range(len(rivals)), range(len(rivals), len(rivals) + len(named))
    found = tables.beside_chance(rows, columns, count, seed, tell)
    values, chance, null = found.values.T, found.chance.mean(axis=1), found.null.mean(axis=2)
    draws = _draw(tables, len(rivals), n_draws, seed, tell)
    means, rounding = values.mean(axis=0), _ROUNDING * float(np.abs(values).max())
    of_models = spread_of_means(values, draws, n_units)
    half = of_models.half_width(1 - level, rounding)
    low, high = record.range
    p_differences, difference_intervals = _pairs(
        means, values, draws, n_units, level, rounding, correction
    )
    larger = record.direction == "similarity"
    excess = means - chance if larger else chance - means
    return ModelRanking(
        provenance=tables.provenance(record, count, seed, level),
        models=tuple(rivals),
        references=tuple(named),
        by_reference=values,
        chance=chance,
        null=null,
        standard_errors=of_models.standard_error(rounding),
        intervals=np.stack([means - half, means + half], axis=1).clip(low, high),
        difference_intervals=difference_intervals,
        p_differences=p_differences,
        p_above_chance=adjust(of_models.p_above(excess, rounding), correction),
        p_permuted=adjust(
            [p_value(s, n, larger=larger) for s, n in zip(means.tolist(), null.T, strict=True)],
            correction,
        )
        if count
        else None,
        ceiling=_ceiling(tables, len(rivals)) if ceiling and len(named) > 1 else None,
        correction=correction,
        n_bootstraps=n_draws,
    )


def _ceiling(tables: Held, n_models: int) -> NoiseCeiling | None:
    try:
        return noise_ceiling(tables.measure, tables.factors[n_models:])
    except UndefinedValueError as error:
        warnings.warn(RelspaceWarning(f"there is no noise ceiling: {error}"), stacklevel=3)
        return None


def _named_references(given: object) -> dict[str, object]:
    """References by name: those of a mapping, of a list, or the only one."""
    if isinstance(given, Mapping):
        named = _by_text(given, "references")
    elif isinstance(given, list | tuple) and not (given and all(map(_is_row, given))):
        # A list of lists of numbers is a matrix.
        named = {f"reference {number}": one for number, one in enumerate(given, start=1)}
    else:
        named = {"reference": given}
    if not named:
        raise InvalidInputError("references is empty; give one reference or more.")
    return named


def _is_row(one: object) -> bool:
    return isinstance(one, list | tuple | np.ndarray | torch.Tensor) and np.ndim(one) == 1


def _named_models(given: object) -> dict[str, object]:
    if not isinstance(given, Mapping):
        raise InvalidTypeError(
            f"models is of type {type(given).__name__}; it must be a mapping of names to features."
        )
    named = _by_text(given, "models")
    if not named:
        raise InvalidInputError("models holds nothing; give one or more.")
    return named


def _by_text(given: Mapping[object, object], what: str) -> dict[str, object]:
    """Sets by their names as text, which must differ: 1 and "1" would be one."""
    named = {str(name): one for name, one in given.items()}
    if len(named) < len(given):
        raise InvalidInputError(
            f"{what} holds {', '.join(map(repr, given))}; each must have a name of its own."
        )
    return named


def _draw(tables: Held, n_models: int, n_draws: int, seed: int, tell: Listener) -> Table:
    """Values of all models with all references on the same halves, (n_draws, R, M)."""
    done = 0
    # Asked for once: how much memory is free takes longer to read than a small half to prepare.
    budget = Resources.of(tables.memory_budget).for_blocks() // (2 * len(tables.features))
    names = tables.names

    def of_half(rows: torch.Tensor) -> Table:
        nonlocal done
        tell(done, n_draws, "Random halves of the items")
        done += 1
        factors = [
            tables.measure.prepare(one[rows], name, memory_budget=budget)
            for one, name in zip(tables.features, names, strict=True)
        ]
        table: Table = tables.measure.table(factors[:n_models], factors[n_models:]).T.numpy()
        return table

    return bootstrap(
        of_half, tables.items.n_items, n_draws, groups=tables.items.groups, random_state=seed
    )


def _pairs(
    means: Table,
    values: Table,
    draws: Table,
    n_units: int,
    alpha: float,
    rounding: float,
    correction: str,
) -> tuple[Table, Table]:
    """Corrected p-values of all differences (M, M), and their intervals (M, M, 2)."""
    count = len(means)
    p, intervals = np.ones((count, count)), np.zeros((count, count, 2))
    if count == 1:
        return p, intervals
    i, j = np.triu_indices(count, 1)
    spread: Spread = spread_of_means(
        values[:, i] - values[:, j], draws[:, :, i] - draws[:, :, j], n_units
    )
    difference = means[i] - means[j]
    p[i, j] = p[j, i] = adjust(spread.p_two_sided(difference, rounding), correction)
    half = spread.half_width(1 - alpha, rounding)
    intervals[i, j] = np.stack([difference - half, difference + half], axis=1)
    intervals[j, i] = -intervals[i, j][:, ::-1]
    return p, intervals
