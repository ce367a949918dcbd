"""How a value and its chance level change with the number of items, from 100 to all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import (
    check_count,
    check_fraction,
    check_random_state,
    check_resamples,
    name_some,
)
from relspace._core.items import ItemId, own_ids
from relspace._core.limits import DEFAULT_PERMUTATIONS
from relspace._core.matrices import as_features
from relspace._core.progress import Progress, as_listener
from relspace._core.result_tables import TabularResult
from relspace._core.text_tables import text_table
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    ItemMismatchError,
)
from relspace.measures import MIN_ITEMS, Measure
from relspace.measures.common_pairs import on_common_pairs
from relspace.measures.from_function import FunctionMeasure
from relspace.measures.group_neighborhoods import GroupNeighborhoods, find_group_neighborhoods
from relspace.measures.neighbors import MutualNeighbors
from relspace.pictures.html import html_table
from relspace.resampling import critical_value, number_units, shift_families
from relspace.similarity.held import null_tables, worst_recall
from relspace.similarity.inputs import Ids, MeasureLike, as_measure, check_names, pair_models
from relspace.similarity.record import Compared, Provenance, fewest_permutations
from relspace.similarity.tables import Table, plain_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST = 100
_MOST_SIZES = 12
_LEVEL = 0.95

# Of the items or groups with these numbers: the value, its null (n_permutations,), and the recall.
_OfGallery = Callable[[torch.Tensor], tuple[float, Table, float | None]]


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class SimilarityCurve(Compared, TabularResult):
    """A value for galleries of rising size, beside chance.

    Attributes
    ----------
    names : (str, str)
        What the sets are called.
    sizes : tuple of int
        How many items, or groups of them, the galleries have.
    values : array of shape (n_sizes, n_draws)
        The value of every gallery. Column d is of prefixes of one random order of the items, each
        of which holds the one before.
    chances : array of shape (n_sizes, n_draws)
        Means under permutation.
    thresholds : array of shape (n_sizes, n_draws)
        See :func:`relspace.resampling.critical_value`; ``alpha`` is that of the provenance.
    exponent : float or None
        The slope of log value against log size, by least squares on the means of the draws; None
        where a mean is not above 0.
    exponent_interval : tuple of float or None
        The exponent plus and minus what the exponents of single draws vary by (95 %, Student's t).
        It is wider than needed, about twice in simulations: a single draw varies more than the mean
        of several, which makes up for the items that large galleries share. None with one draw, or
        where one has values that are not above 0.
    provenance : Provenance
        As in :class:`relspace.Comparison`; ``n_items`` are all that galleries are drawn from.
    """

    names: tuple[str, str]
    sizes: tuple[int, ...]
    values: Table
    chances: Table
    thresholds: Table
    exponent: float | None
    exponent_interval: tuple[float, float] | None

    @property
    def n_draws(self) -> int:
        """How many random orders of the items galleries are from."""
        return len(self.values[0])

    @property
    def value(self) -> Table:
        """Mean value of the galleries of each size, (n_sizes,)."""
        return _mean(self.values)

    @property
    def chance(self) -> Table:
        """Mean chance level of the galleries of each size, (n_sizes,)."""
        return _mean(self.chances)

    @property
    def calibrated_values(self) -> Table:
        """The calibrated value of every gallery, (n_sizes, n_draws).

        See :func:`relspace.resampling.calibrated_score`; InvalidInputError where identical sets
        have no value.
        """
        return self._calibrate(self.values, self.thresholds)

    @property
    def calibrated(self) -> Table:
        """Mean calibrated value of the galleries of each size, (n_sizes,)."""
        return _mean(self.calibrated_values)

    @property
    def misfit(self) -> float | None:
        """How far means are from the power law at most, as a share of it; None without exponent.

        A curve that bends has no exponent, however narrow its interval.
        """
        if self.exponent is None:
            return None
        rest = np.log(self.value) - self.exponent * np.log(self.sizes)
        return float(np.exp(np.abs(rest - rest.mean()).max()) - 1)

    @property
    def _unit(self) -> str:
        return "groups" if self.matched_by == "groups" else "items"

    @property
    def _columns(self) -> dict[str, list[Any]]:
        """One row for each size: means over draws, and the range of values over them."""
        low, high = np.quantile(self.values, [0.025, 0.975], axis=1)
        return {
            "size": list(self.sizes),
            "value": self.value.tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "chance": self.chance.tolist(),
            "threshold": _mean(self.thresholds).tolist(),
            **({"calibrated": self.calibrated.tolist()} if self.is_calibrated else {}),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        interval = self.exponent_interval
        return self.provenance.to_dict() | {
            "n_draws": self.n_draws,
            "sizes_of": self._unit,
            "curve": self._columns,
            "draws": plain_values(self.values),
            "exponent": self.exponent,
            "exponent_interval": None if interval is None else list(interval),
            "misfit": self.misfit,
        }

    def __repr__(self) -> str:
        cells = [
            [str(size), *(f"{round(one, 4) + 0.0:.4f}" for one in numbers)]
            for size, *numbers in zip(*self._columns.values(), strict=True)
        ]
        header = [self._unit, *list(self._columns)[1:]]
        return "\n".join([self._title, *text_table(header, cells), self._said_of_exponent])

    @property
    def _title(self) -> str:
        draws = "1 draw" if self.n_draws == 1 else f"{self.n_draws} draws"
        tested = f"{self.n_permutations} permutations of each"
        return f"{self.measure.title}, {draws}, {tested}{self._said_of_recall}"

    @property
    def _said_of_exponent(self) -> str:
        if self.exponent is None:
            return "exponent  none: values are not above 0"
        said = f"exponent  {self.exponent:.3f}"
        if self.exponent_interval is not None:
            low, high = self.exponent_interval
            said += f" ({low:.3f} to {high:.3f})"
        return f"{said}; values are up to {self.misfit:.0%} off this power law"

    def _repr_html_(self) -> str:
        """The curve as a table, which notebooks show."""
        rows = list(map(list, zip(*self._columns.values(), strict=True)))
        header = [self._unit, *list(self._columns)[1:]]
        return html_table(self._title, header, rows, note=self._said_of_exponent)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Axes:
        """Draw value, chance and calibrated value on a logarithmic axis of the size.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        title : str, optional
            The title; by default it names both sets, and says the exponent.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn into; ``axes.figure.savefig(path)`` writes the figure.

        Raises
        ------
        MissingDependencyError
            If matplotlib isn't installed.
        """
        from relspace.pictures.curve_plots import draw_curve
        from relspace.pictures.theme import drawn_name

        slope = None
        if self.exponent is not None:
            slope = (self.exponent, self.exponent_interval)
        return draw_curve(
            f"{' and '.join(map(drawn_name, self.names))}: {self.measure.title}",
            f"{self._unit} in the gallery",
            np.array(self.sizes),
            values=self.values,
            chance=self.chance,
            thresholds=_mean(self.thresholds),
            calibrated=self.calibrated if self.is_calibrated else None,
            slope=slope,
            title=title,
            axes=ax,
        )


def similarity_curve(
    X: object,
    Y: object,
    *,
    measure: MeasureLike = "mutual_neighbors",
    sizes: Sequence[int] | None = None,
    n_draws: int = 10,
    n_permutations: int = DEFAULT_PERMUTATIONS,
    alpha: float = 0.05,
    names: Sequence[str] | None = None,
    ids: Ids = None,
    groups: Mapping[str, object] | Sequence[ItemId] | None = None,
    random_state: int = 0,
    progress: Progress = None,
) -> SimilarityCurve:
    """Compare two sets of features on galleries of rising size, each beside its chance level.

    A value of few items says little about many: mutual neighbours get fewer as items get more. Each
    draw is a random order of the items, the same in both sets; its galleries are the first items of
    this order, so that each holds the one before. All items are one gallery, compared once.

    Parameters
    ----------
    X, Y : array-like of shape (n, d) and (n, e), path, or source of rows
        Features of the same items; with ``groups``, any numbers of items. They are held in memory.
    measure : str, Measure or callable
        One of :func:`relspace.measures.names`, by name or as made by :func:`relspace.measures.get`;
        or a function (X, Y) -> float, larger for more alike, see
        :func:`relspace.measures.from_function`.
    sizes : sequence of int, optional
        How many items, or groups, galleries have. By default from 100 to all, each about twice the
        one before (12 at most).
    n_draws : int
        How many random orders.
    n_permutations : int
        How many permutations of its items give each gallery's chance and threshold; at least
        1 / alpha - 1.
    alpha : float
        The threshold is the 1 - alpha quantile of value and null.
    names, ids
        As in :func:`relspace.compare`; ids don't go with ``groups``.
    groups : mapping of str to sequence, or one sequence, optional
        A label for each item, by the sets' names, or one list for both: items of X and Y with the
        same label are right answers to each other, such as a photograph and its five captions.
        Galleries are then of groups, and ``mutual_neighbors`` is the share of the k nearest other
        groups (by their nearest item) that an item of X and one of Y in the same group share, the
        mean over all such pairs of items and over groups; ties are broken at random in each set.
        By chance it is k / (n_groups - 1). Other measures need pairs, and are refused.
    random_state : int
        Seed of draws, permutations and ties.
    progress : callable or bool, optional
        Told ``(done, total, text)`` as the work goes on; True prints lines on stderr.

    Returns
    -------
    SimilarityCurve
        Values, chance and calibrated values by size, with the exponent of a power law.

    Raises
    ------
    ItemMismatchError
        If the sets don't hold the same items, or groups.
    InvalidInputError
        If features can't be compared, or an argument is out of range.

    Examples
    --------
    >>> import numpy as np, relspace as rs
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 8))
    >>> Y = X + 0.5 * rng.normal(size=X.shape)
    >>> curve = rs.similarity_curve(X, Y, n_draws=4)
    >>> curve.sizes
    (100, 200, 400)
    >>> curve.value.round(2), curve.chance.round(2)
    (array([0.54, 0.44, 0.37]), array([0.1 , 0.05, 0.03]))
    >>> round(curve.exponent, 2)
    -0.28
    """
    record, tell = as_measure(measure), as_listener(progress)
    seed = check_random_state(random_state)
    n_draws = check_count(n_draws, "n_draws")
    alpha = check_fraction(alpha, "alpha")
    n_permutations = check_resamples(n_permutations, "n_permutations")
    fewest = fewest_permutations(alpha)
    if n_permutations < fewest:
        raise InvalidInputError(
            f"n_permutations is {n_permutations}; a threshold that unrelated features exceed with "
            f"probability {alpha:g} needs at least {fewest}."
        )
    both = check_names(names, "sets") or ("X", "Y")
    if groups is None:
        of_gallery, n_units, found = _of_pairs(X, Y, record, both, ids, n_permutations, seed)
    else:
        if ids is not None:
            raise InvalidInputError("give ids or groups, not both: groups say which items belong.")
        of_gallery, n_units, found = _of_groups(X, Y, record, both, groups, n_permutations, seed)
    checked = _check_sizes(sizes, n_units, "items" if groups is None else "groups")
    record.refuse_too_many(checked[-1], 2, None)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(n_units, generator=generator) for _ in range(n_draws)]
    shape = (len(checked), n_draws)
    values, chances, thresholds = (np.empty(shape) for _ in range(3))
    recalls: list[float] = []
    larger = record.direction == "similarity"
    for i, size in enumerate(checked):
        for draw, order in enumerate(orders):
            if size == n_units and draw:
                # All items are one gallery.
                for table in (values, chances, thresholds):
                    table[i, draw] = table[i, 0]
                continue
            tell(i * n_draws + draw, len(checked) * n_draws, f"Galleries of {size}")
            value, null, recall = of_gallery(order[:size].sort().values)
            recalls += [] if recall is None else [recall]
            values[i, draw], chances[i, draw] = value, null.mean()
            thresholds[i, draw] = critical_value(value, null, alpha=alpha, larger=larger)
    exponent, interval = _power_law(np.array(checked), values)
    return SimilarityCurve(
        provenance=Provenance(
            measure=record,
            null_by="permutations",
            n_permutations=n_permutations,
            random_state=seed,
            recall=min(recalls, default=None),
            alpha=alpha,
            **found,
        ),
        names=both,
        sizes=checked,
        values=values,
        chances=chances,
        thresholds=thresholds,
        exponent=exponent,
        exponent_interval=interval,
    )


def _of_pairs(
    X: object,
    Y: object,
    measure: Measure,
    names: tuple[str, str],
    ids: Ids,
    n_permutations: int,
    seed: int,
) -> tuple[_OfGallery, int, dict[str, Any]]:
    """Compare items that are paired: of a gallery, how many there are, and what they are."""
    opened, shared, order = pair_models({names[0]: {"": X}, names[1]: {"": Y}}, ids)
    if any(one.missing_pairs for one in opened):
        measure = on_common_pairs(measure)
    x, y = (one.read("", order[one.name], measure.computed_in).detach() for one in opened)
    y = y.to(x.device)
    if isinstance(measure, FunctionMeasure):
        measure.warn_of_direction(measure.prepare(x, names[0]))

    def of_gallery(rows: torch.Tensor) -> tuple[float, Table, float | None]:
        factors = [measure.prepare(z[rows], name) for z, name in zip((x, y), names, strict=True)]
        families = measure.permutations(len(rows), n_permutations, random_state=seed)
        null = null_tables(measure, factors[:1], factors[1:], families, lambda *_: None)
        value = measure.from_factors(*factors)
        return value, null[:, 0, 0], worst_recall(measure, factors)

    n = len(x)
    matched = "position" if shared is None else "ids"
    return (
        of_gallery,
        n,
        {"n_items": n, "n_available": n, "n_units": n, "matched_by": matched, "ids": shared},
    )


def _of_groups(
    X: object,
    Y: object,
    measure: Measure,
    names: tuple[str, str],
    groups: object,
    n_permutations: int,
    seed: int,
) -> tuple[_OfGallery, int, dict[str, Any]]:
    """Compare items whose right answers are those of their group, as :func:`_of_pairs` does."""
    if not isinstance(measure, MutualNeighbors):
        raise InvalidInputError(
            f"groups pair sets of items, and {measure.name} compares items one to one.",
            ways_out=["use mutual_neighbors", "average each group to one item and give {ids}"],
        )
    if measure.index != "exact":
        raise InvalidInputError(
            "neighbours of groups are exact, and the measure asks for an approximate index.",
            ways_out=["use the exact neighbours: {index='exact'}"],
        )
    labels = _labels_by_set(groups, names, (X, Y))
    features, numbers = [], []
    known: dict[object, int] = {}
    for given, name, own in zip((X, Y), names, labels, strict=True):
        x = as_features(given, name).tensor.detach()
        unit_of = number_units(len(x), own).tolist()
        listed = own.tolist() if isinstance(own, torch.Tensor | np.ndarray) else list(own)
        here = dict(zip(listed, unit_of, strict=True))
        if not known:
            known = here
        elif here.keys() != known.keys():
            missing = [*(known.keys() - here.keys()), *(here.keys() - known.keys())]
            raise ItemMismatchError(
                f"{len(missing)} groups are in one of {names[0]} and {names[1]} only, "
                f"{name_some(sorted(missing, key=str))}; each must be in both."
            )
        features.append(x)
        numbers.append(torch.tensor([known[label] for label in listed]))
    n_groups = len(known)

    def of_gallery(chosen: torch.Tensor) -> tuple[float, Table, float | None]:
        number_of = torch.full((n_groups,), -1)
        number_of[chosen] = torch.arange(len(chosen))
        sides: list[GroupNeighborhoods] = []
        for side, (x, number) in enumerate(zip(features, numbers, strict=True)):
            rows = (number_of[number] >= 0).nonzero().flatten()
            sides.append(
                find_group_neighborhoods(
                    x[rows],
                    number_of[number[rows]],
                    measure.k,
                    measure.metric,
                    names[side],
                    seed + side,
                )
            )
        families = shift_families(len(chosen), n_permutations, random_state=seed)
        null = sides[0].null(sides[1], families).numpy()
        return sides[0].agreement(sides[1]), null, None

    n = len(features[0])
    return (
        of_gallery,
        n_groups,
        {"n_items": n, "n_available": n, "n_units": n_groups, "matched_by": "groups", "ids": None},
    )


def _labels_by_set(
    groups: object, names: tuple[str, str], sets: tuple[object, object]
) -> list[Any]:
    """The labels of both sets, where they are given by the sets' names or for both."""
    if not isinstance(groups, Mapping):
        first, second = (own_ids(one, name) for one, name in zip(sets, names, strict=True))
        if first is not None and second is not None and first != second:
            raise ItemMismatchError(
                f"groups is one list, and the rows of {names[0]} and {names[1]} are of other items "
                "or in another order.",
                ways_out=[f"give a list for each: groups={{{names[0]!r}: ..., {names[1]!r}: ...}}"],
            )
        return [groups, groups]
    if set(groups) != set(names):
        raise InvalidInputError(
            f"groups has labels of {name_some(list(groups))}; give those of {names[0]} and of "
            f"{names[1]}."
        )
    return [groups[name] for name in names]


def _check_sizes(sizes: object, n_units: int, what: str) -> tuple[int, ...]:
    if sizes is None:
        if n_units <= _SMALLEST:
            raise InvalidInputError(
                f"galleries have from {_SMALLEST} {what} to all, and there are {n_units}.",
                ways_out=["give smaller {sizes}"],
            )
        steps = min(_MOST_SIZES - 1, max(1, round(math.log2(n_units / _SMALLEST))))
        found = np.geomspace(_SMALLEST, n_units, steps + 1).round().astype(int)
        return tuple(found.tolist())
    if isinstance(sizes, str) or not isinstance(sizes, Sequence | np.ndarray):
        raise InvalidTypeError(f"sizes is of type {type(sizes).__name__}; it must be a list.")
    given = [check_count(one, "a size", at_least=MIN_ITEMS) for one in sizes]
    if len(given) < 2 or any(a >= b for a, b in pairwise(given)):
        raise InvalidInputError(f"sizes is {given}; give two or more numbers in rising order.")
    if given[-1] > n_units:
        raise InvalidInputError(
            f"a gallery of {given[-1]} is asked for; there are {n_units} {what}."
        )
    return tuple(given)


def _mean(of_draws: Table) -> Table:
    mean: Table = of_draws.mean(axis=1)
    return mean


def _power_law(
    sizes: NDArray[np.int64], values: Table
) -> tuple[float | None, tuple[float, float] | None]:
    """The exponent of the mean of the draws, and an interval from those of single draws."""
    from scipy.stats import t

    def slope(column: Table) -> float:
        return float(np.polyfit(np.log(sizes), np.log(column), 1)[0])

    mean = _mean(values)
    if (mean <= 0).any():
        return None, None
    exponent, n_draws = slope(mean), values.shape[1]
    if n_draws == 1 or (values <= 0).any():
        return exponent, None
    spread = float(np.std([slope(column) for column in values.T], ddof=1))
    half = float(t.ppf((1 + _LEVEL) / 2, n_draws - 1)) * spread
    return exponent, (exponent - half, exponent + half)
