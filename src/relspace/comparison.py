"""Comparison of two sets of features: a value beside chance, its p-value, interval and ceiling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace import measures
from relspace._html import html_table
from relspace._validation import (
    ItemId,
    as_features,
    as_ids,
    check_count,
    check_random_state,
    pair_items,
)
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.measures import Measure, ShiftFamily
from relspace.resampling import (
    Units,
    bootstrap,
    interval_around,
    p_value,
    shift_families,
    split_halves,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Permutations drawn for the chance level alone, where no p-value is asked for and the mean over
#: all permutations is not known in closed form.
PERMUTATIONS_FOR_CHANCE = 20
#: The same, for each of the splits that a ceiling is the mean of.
PERMUTATIONS_FOR_HALVES = 4


@dataclass(frozen=True, repr=False)
class Comparison:
    """How similar two sets of features are, and what that is to be read beside.

    Attributes
    ----------
    measure : Measure
        What was measured; its record says what the value means.
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
        What noise in the features leaves room for: how far beyond chance random halves of each
        set's features agree, stepped up from halves to the whole (Spearman 1910, Brown 1910), the
        geometric mean of both sets.
    null : array of shape (n_permutations,)
        Values under permutation.
    n_items, n_features : int and tuple of int
        What was compared.
    n_units : int
        How many groups were resampled; the items, where there are no groups.
    matched_by : str
        Whether rows were matched by ``"ids"`` or by ``"position"``.
    n_bootstraps, random_state : int
        How the interval was made, and the seed.
    versions : dict of str to str
        Of the libraries.
    """

    measure: Measure
    value: float
    chance: float
    chance_std: float | None
    p_value: float | None
    interval: tuple[float, float] | None
    ceiling: float | None
    null: NDArray[np.float64] = field(repr=False)
    n_items: int
    n_features: tuple[int, int]
    n_units: int
    matched_by: str
    n_bootstraps: int
    random_state: int
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "measure": self.measure.name,
            "parameters": self.measure.parameters,
            "direction": self.measure.direction,
            "value": self.value,
            "chance": self.chance,
            "chance_std": self.chance_std,
            "p_value": self.p_value,
            "interval": None if self.interval is None else list(self.interval),
            "ceiling": self.ceiling,
            "n_items": self.n_items,
            "n_features": list(self.n_features),
            "n_units": self.n_units,
            "matched_by": self.matched_by,
            "n_permutations": len(self.null) if self.p_value is not None else 0,
            "n_bootstraps": self.n_bootstraps,
            "random_state": self.random_state,
            "versions": dict(self.versions),
        }

    def __repr__(self) -> str:
        rows = self._lines()
        width = max(len(title) for title, _ in rows)
        return "\n".join(f"{title.ljust(width)}  {value}" for title, value in rows)

    def _repr_html_(self) -> str:
        """The value and what it is to be read beside as a table, which notebooks show."""
        return html_table("Comparison", ["", ""], self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        spread = "" if self.chance_std is None else f" (sd {self.chance_std:.4f})"
        # Adding 0 to a rounded number turns -0 into 0.
        rows = [
            (self.measure.title, f"{round(self.value, 4) + 0.0:.4f}"),
            ("chance", f"{round(self.chance, 4) + 0.0:.4f}{spread}"),
        ]
        if self.p_value is not None:
            rows.append(("p", f"{self.p_value:.4g} ({len(self.null)} permutations)"))
        if self.interval is not None:
            low, high = self.interval
            rows.append(("95 % interval", f"{low:.4f} to {high:.4f}"))
        if self.ceiling is not None:
            rows.append(("ceiling", f"{self.ceiling:.4f}"))
        units = "" if self.n_units == self.n_items else f" in {self.n_units} groups"
        rows.append(("items", f"{self.n_items}{units}, matched by {self.matched_by}"))
        return rows

    def plot(self) -> Figure:
        """Draw the value beside its null distribution, interval and ceiling.

        Returns
        -------
        Figure
            A matplotlib figure; ``figure.savefig(path)`` writes it.

        Raises
        ------
        MissingDependencyError
            If matplotlib isn't installed.
        """
        from relspace.figures.comparison_plots import draw_comparison

        return draw_comparison(
            self.measure.title,
            value=self.value,
            chance=self.chance,
            null=self.null,
            interval=self.interval,
            ceiling=self.ceiling,
            p_value=self.p_value,
        )


def compare(
    X: object,
    Y: object,
    *,
    measure: str | Measure = "affinity",
    ids: Mapping[str, object] | Sequence[ItemId] | None = None,
    n_permutations: int = 0,
    n_bootstraps: int = 0,
    groups: object | None = None,
    ceiling: bool = False,
    random_state: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Measure how similar two sets of features of the same items are, and compare with chance.

    Parameters
    ----------
    X, Y : array-like of shape (n, d) and (n, e)
        Features of the same items; widths may differ.
    measure : str or Measure
        One of :func:`relspace.measures.list`, by name or as made by :func:`relspace.measures.get`.
    ids : mapping of str to sequence, or one sequence, optional
        The items' ids: ``{"X": ..., "Y": ...}``, by which the rows of Y are brought into the order
        of X, or one list for both. By default the ``ids`` that both bring, else rows are matched
        by position.
    n_permutations : int
        How many permutations of the items make the null distribution. With 0 there is no p-value,
        and the chance level comes from the closed form, or from 20 permutations.
    n_bootstraps : int
        On how many random halves of the items the interval rests; 0 for none.
    groups : sequence, optional
        A label for each item of X, such as the image a patch is from. Groups are then what is
        permuted and resampled, since the items of one are not independent.
    ceiling : bool
        Whether to compute what split halves of the features reach.
    random_state : int
        Seed of everything random.
    progress : callable, optional
        Called with a line of text as permutations go on.

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
    items       200, matched by position
    """
    record = as_measure(measure)
    seed = check_random_state(random_state)
    n_permutations = check_count(n_permutations, "n_permutations", at_least=0)
    n_bootstraps = check_count(n_bootstraps, "n_bootstraps", at_least=0)
    x, y, matched_by = paired_features(X, Y, ids)
    units = Units.of(len(x), groups) if groups is not None else None
    x_factor, y_factor = record.prepare(x, "X"), record.prepare(y, "Y")
    value = record.from_factors(x_factor, y_factor)

    chance, chance_std = record.expected_by_chance(x_factor, y_factor), None
    null = np.empty(0)
    if n_permutations or chance is None:
        drawn = null_tables(
            record,
            [x_factor],
            [y_factor],
            shift_families(
                len(x), n_permutations or PERMUTATIONS_FOR_CHANCE, groups=groups, random_state=seed
            ),
            progress=progress,
        )
        null = drawn.ravel()
        chance, chance_std = float(null.mean()), float(null.std(ddof=1)) if len(null) > 1 else None
    larger = record.direction == "similarity"
    interval = None
    if n_bootstraps:
        draws = bootstrap(
            lambda rows: record(x[rows], y[rows]),
            len(x),
            n_bootstraps,
            groups=groups,
            random_state=seed,
        )
        low, high = interval_around(value, draws)
        interval = (max(low, record.range[0]), min(high, record.range[1]))
    return Comparison(
        measure=record,
        value=value,
        chance=chance,
        chance_std=chance_std,
        p_value=p_value(value, null, larger=larger) if n_permutations else None,
        interval=interval,
        ceiling=_ceiling(record, x, y, chance, seed) if ceiling else None,
        null=null,
        n_items=len(x),
        n_features=(x.shape[1], y.shape[1]),
        n_units=len(x) if units is None else len(units),
        matched_by=matched_by,
        n_bootstraps=n_bootstraps,
        random_state=seed,
        versions=library_versions(),
    )


def null_tables(
    measure: Measure,
    x: Sequence[Any],
    y: Sequence[Any],
    families: Sequence[ShiftFamily],
    *,
    progress: Callable[[str], None] | None = None,
) -> NDArray[np.float64]:
    """Compare every set of one list with every set of another under all permutations.

    Returns
    -------
    array of shape (n_permutations, len(x), len(y))
        Values.
    """
    total = sum(len(family.shifts) for family in families)
    done, tables = 0, []
    step = max(1, total // 20)
    for family in families:

        def tell(of_family: int, before: int = done) -> None:
            count = before + of_family
            if progress is not None and (count % step == 0 or count == total):
                progress(f"Permutation {count} of {total}")

        tables.append(measure.null_table(x, y, family, on_progress=tell))
        done += len(family.shifts)
    return torch.cat(tables).numpy()


def as_measure(measure: object) -> Measure:
    """Look a measure up by its name, or take it as it is."""
    if isinstance(measure, Measure):
        return measure
    if not isinstance(measure, str):
        raise InvalidTypeError(
            f"measure is of type {type(measure).__name__}; it must be the name of a measure or "
            "what relspace.measures.get gives."
        )
    return measures.get(measure)


def paired_features(
    X: object, Y: object, ids: Mapping[str, object] | Sequence[ItemId] | None
) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Check two sets and bring the rows of the second into the order of the first."""
    x, y = as_features(X, "X").tensor.detach(), as_features(Y, "Y").tensor.detach()
    sizes = {"X": len(x), "Y": len(y)}
    given: dict[str, object]
    if ids is None:
        given = {"X": getattr(X, "ids", None), "Y": getattr(Y, "ids", None)}
        if given["X"] is None or given["Y"] is None:
            given = {"X": None, "Y": None}
    elif isinstance(ids, Mapping):
        odd = [str(name) for name in ids if name not in sizes]
        if odd:
            raise InvalidInputError(f"ids names {', '.join(odd)}; the sets are X and Y.")
        given = {name: ids.get(name) for name in sizes}
    else:
        given = dict.fromkeys(sizes, ids)
    checked = {
        name: None if own is None else as_ids(own, name, sizes[name]) for name, own in given.items()
    }
    shared, order = pair_items(sizes, checked)
    if order["Y"] is not None:
        y = y[order["Y"]]
    return x, y.to(x.device), "position" if shared is None else "ids"


def _ceiling(measure: Measure, x: torch.Tensor, y: torch.Tensor, chance: float, seed: int) -> float:
    """The value that noise in the features leaves room for.

    Everything is counted as the share of the way from chance to identical sets, since chance
    depends on how many features there are.
    """
    whole = []
    for Z in (x, y):
        halves = partial(_share_of_halves, measure, Z, seed)
        half = float(split_halves(halves, Z.shape[1], random_state=seed).mean())
        # Halves that agree less than by chance leave no room above it.
        whole.append(2 * max(0.0, half) / (1 + max(0.0, half)))
    return chance + math.sqrt(whole[0] * whole[1]) * (measure.identical - chance)


def _share_of_halves(
    measure: Measure, X: torch.Tensor, seed: int, left: torch.Tensor, right: torch.Tensor
) -> float:
    first, second = measure.prepare(X[:, left]), measure.prepare(X[:, right])
    chance = measure.expected_by_chance(first, second)
    if chance is None:
        families = shift_families(len(X), PERMUTATIONS_FOR_HALVES, random_state=seed)
        chance = float(null_tables(measure, [first], [second], families).mean())
    value = measure.from_factors(first, second)
    return (value - chance) / (measure.identical - chance)


def library_versions() -> dict[str, str]:
    """Versions of what a number depends on."""
    return {
        "relspace": version("relspace"),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
