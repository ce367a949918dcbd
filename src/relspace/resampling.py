"""Permutation, bootstrap and split halves, over any statistic of paired items."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

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
from relspace._core.items import ItemId
from relspace._core.resources import Resources
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError

# A lower bound of what a tensor of one row takes in torch and Python.
_UNIT_BYTES = 200
_INDEX_BYTES = 8
#: The fewest units that can be resampled.
MIN_UNITS = 4


class Permutations(Protocol):
    """Permutations: for each, the item of the first set that is paired with each of the second."""

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[torch.Tensor]:
        """Yield ``size`` permutations at a time, as a tensor (size, n); fewer at the end."""
        ...

    def inverse(self) -> Permutations:
        """The inverse permutations in the same order: the two sets swapped."""
        ...


@dataclass(frozen=True)
class ShiftFamily:
    """Permutations of items that differ by a rotation of one ring.

    Items sit on a ring in a random order. All rotations of the ring are a group of permutations; a
    random relabelling before that gives a coset of it.

    Attributes
    ----------
    order : LongTensor of shape (n,)
        The items of the second set along the ring.
    relabelled : LongTensor of shape (n,)
        The items of the first set along the ring.
    shifts : LongTensor of shape (n_permutations,)
        By how many items the first ring is rotated, for each permutation.
    """

    order: torch.Tensor
    relabelled: torch.Tensor
    shifts: torch.Tensor

    def __len__(self) -> int:
        return len(self.shifts)

    def permutations(self) -> Iterator[torch.Tensor]:
        """Yield the permutations one by one."""
        for batch in self.batches(1):
            yield batch[0]

    def batches(self, size: int) -> Iterator[torch.Tensor]:
        """Yield ``size`` permutations at a time, as a tensor (size, n); fewer at the end."""
        positions = torch.arange(len(self.order))
        for start in range(0, len(self.shifts), size):
            shifts = self.shifts[start : start + size]
            batch = self.order.new_empty(len(shifts), len(self.order))
            batch[:, self.order] = self.relabelled[(positions + shifts[:, None]) % len(positions)]
            yield batch

    def inverse(self) -> ShiftFamily:
        """The inverse permutations in the same order: the two sets swapped."""
        return ShiftFamily(self.relabelled, self.order, -self.shifts % len(self.order))


@dataclass(frozen=True)
class PartitionFamily:
    """Random permutations under which every part of a partition becomes a part of the same size.

    They are drawn with replacement from the group of all such permutations. A statistic that uses
    the partition, such as a cross-validated score, is exchangeable under this group.

    Attributes
    ----------
    part_of : LongTensor of shape (n,)
        The number of each item's part; no part is empty.
    n_permutations : int
        How many are drawn.
    random_state : int
        Seed.
    inverted : bool
        Whether these are the inverses of the permutations that are drawn.
    """

    part_of: torch.Tensor
    n_permutations: int
    random_state: int
    inverted: bool = False

    def __len__(self) -> int:
        return self.n_permutations

    def batches(self, size: int) -> Iterator[torch.Tensor]:
        """Yield ``size`` permutations at a time, as a tensor (size, n); fewer at the end."""
        generator = torch.Generator().manual_seed(self.random_state)
        sizes = self.part_of.bincount()
        by_size = sizes.argsort(stable=True)
        slots = by_size.argsort()[self.part_of].argsort(stable=True)

        def draw() -> torch.Tensor:
            # Parts in a random order among those of the same size, and items within each part.
            noise = torch.rand(len(sizes) + len(slots), dtype=torch.float64, generator=generator)
            rank = (sizes + noise[: len(sizes)]).argsort().argsort()
            items = (rank[self.part_of] + noise[len(sizes) :]).argsort()
            permutation = torch.empty_like(slots)
            if self.inverted:
                permutation[items] = slots
            else:
                permutation[slots] = items
            return permutation

        for start in range(0, self.n_permutations, size):
            yield torch.stack([draw() for _ in range(min(size, self.n_permutations - start))])

    def inverse(self) -> PartitionFamily:
        """The inverse permutations in the same order: the two sets swapped."""
        return replace(self, inverted=not self.inverted)


@dataclass(frozen=True)
class Units:
    """What is resampled as a whole: single items, or groups of them; ``rows`` are those of each."""

    rows: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, n_items: int, groups: object | None = None) -> Units:
        """Make units of single items, or of the items of each group, as :func:`number_units`."""
        if groups is None:
            count = check_count(n_items, "n_items")
            Resources().require(_UNIT_BYTES * count, f"resampling {count} items (n_items)")
        unit_of = number_units(n_items, groups)
        return cls(torch.split(unit_of.argsort(stable=True), unit_of.bincount().tolist()))

    def __len__(self) -> int:
        return len(self.rows)

    def equal(self) -> torch.Tensor:
        """The items as a table (n_units, items_per_unit); refused for units of unequal size."""
        sizes = sorted({len(one) for one in self.rows})
        if len(sizes) > 1:
            raise InvalidInputError(
                f"groups have from {sizes[0]} to {sizes[-1]} items; permutations exchange groups "
                "as a whole, so all must have as many: take the same number of items of each."
            )
        return torch.stack(self.rows)


def labels_by_id(groups: object, ids: Callable[[], Sequence[ItemId] | None]) -> object:
    """Bring labels of a pandas Series into the order of the items; return others as given.

    The index of the Series names the items, unless it only counts them. ``ids()`` gives the items'
    ids, or None.
    """
    if type(groups).__module__.partition(".")[0] != "pandas":
        return groups
    series: Any = groups
    index, labels = series.index.tolist(), series.tolist()
    if index == list(range(len(index))):
        return labels
    known = ids()
    if known is None:
        raise ItemMismatchError(
            f"groups has labels of named items, {name_some(index)}, and the features have no ids.",
            ways_out=["give {ids}", "give labels by position, as groups.tolist() does"],
        )
    label_of = dict(zip(map(str, index), labels, strict=True))
    missing = [item for item in known if str(item) not in label_of]
    if missing or len(label_of) < len(index):
        said = f"has no label for {name_some(missing)}" if missing else "names some items twice"
        raise ItemMismatchError(f"groups {said}; it must have one label for each item.")
    return [label_of[str(item)] for item in known]


def number_units(n_items: int, groups: object | None = None) -> torch.Tensor:
    """Number units from 0 in the order in which they first occur; a LongTensor (n_items,).

    Units are items, or groups of them with the same label, such as the image of a token. Fewer than
    4 are refused.
    """
    check_count(n_items, "n_items")
    if groups is None:
        Resources().require(_INDEX_BYTES * n_items, f"numbering {n_items} items (n_items)")
        if n_items >= MIN_UNITS:
            return torch.arange(n_items)
        labels: Sequence[object] = range(n_items)
    else:
        given = groups.tolist() if isinstance(groups, torch.Tensor | np.ndarray) else groups
        if not isinstance(given, Sequence) or isinstance(given, str | bytes):
            raise InvalidTypeError(
                f"groups is of type {type(groups).__name__}; it must be a list with one label "
                "for each item."
            )
        labels = given
    if len(labels) != n_items:
        raise ItemMismatchError(
            f"there are {n_items} items and {len(labels)} group labels: give one for each."
        )
    odd = [label for label in labels if not isinstance(label, Hashable)]
    if odd:
        raise InvalidTypeError(
            f"groups holds labels of type {type(odd[0]).__name__}; they must be strings or numbers."
        )
    # NaN is no label: it is not even equal to itself.
    missing = [row for row, label in enumerate(labels) if label is None or label != label]
    if missing:
        raise InvalidInputError(
            f"groups has no label for {len(missing)} of {n_items} items, in rows "
            f"{name_some(missing)}."
        )
    numbers: dict[object, int] = {}
    unit_of = torch.tensor([numbers.setdefault(label, len(numbers)) for label in labels])
    if len(numbers) < MIN_UNITS:
        raise InvalidInputError(
            f"there are {len(numbers)} groups, {name_some(list(numbers))}; resampling needs at "
            f"least {MIN_UNITS}."
        )
    return unit_of


def shift_families(
    n_items: int, n_permutations: int, *, groups: object | None = None, random_state: int = 0
) -> list[ShiftFamily]:
    """Draw random permutations of items, or of groups, as rotations of rings.

    Units sit on a ring in random order. Its rotations are a group of permutations; more of them are
    rotations after a random relabelling of the first set (a coset). Every permutation is uniformly
    distributed, and a test that counts them beside the identity is exact (Hemerik and Goeman 2018,
    theorem 2). Measures on pairs of items compute all rotations of a ring at the cost of one.

    Items with the same label in ``groups`` stay together and in order. Returns one family for each
    ring, ``n_permutations`` permutations in all.
    """
    count = check_resamples(n_permutations, "n_permutations")
    generator = torch.Generator().manual_seed(check_random_state(random_state))
    table = Units.of(n_items, groups).equal()
    n_units, size = table.shape
    order = torch.randperm(n_units, generator=generator)
    n_rings = 1 + max(0, math.ceil((count - (n_units - 1)) / n_units))
    turns = [torch.arange(1, n_units)]
    turns += [torch.arange(n_units)] * (n_rings - 1)
    chosen = torch.randperm(sum(map(len, turns)), generator=generator)[:count].sort().values
    families, first = [], 0
    for ring, available in enumerate(turns):
        relabelled = order
        if ring:
            relabelled = torch.randperm(n_units, generator=generator)
        here = chosen[(chosen >= first) & (chosen < first + len(available))] - first
        first += len(available)
        families.append(
            ShiftFamily(table[order].flatten(), table[relabelled].flatten(), available[here] * size)
        )
    return [one for one in families if len(one.shifts)]


def permutation_null(
    statistic: Callable[[torch.Tensor], Any],
    n_items: int,
    n_permutations: int,
    *,
    groups: object | None = None,
    random_state: int = 0,
) -> NDArray[np.float64]:
    """Draw a statistic's null distribution by permuting which items are paired.

    Parameters
    ----------
    statistic : callable
        Takes a LongTensor of shape (n_items,), the item of the first set that is paired with each
        item of the second; returns a number, or several.
    n_items : int
        How many items there are.
    n_permutations : int
        How many permutations are drawn; at most 10,000,000.
    groups : sequence, optional
        A label for each item; groups are exchanged as a whole.
    random_state : int
        Seed.

    Returns
    -------
    array of shape (n_permutations, ...)
        The statistic under each permutation.

    Examples
    --------
    >>> import torch
    >>> x = torch.arange(20.0)
    >>> null = permutation_null(lambda p: float((x[p] * x).mean()), 20, 99)
    >>> p_value(float((x * x).mean()), null)
    0.01
    """
    families = shift_families(n_items, n_permutations, groups=groups, random_state=random_state)
    values = [statistic(one) for family in families for one in family.permutations()]
    return np.asarray([np.asarray(value, dtype=np.float64) for value in values])


def p_value(observed: float, null: NDArray[np.float64], *, larger: bool = True) -> float:
    """Share of the null distribution, with the observed value, at least as extreme as observed.

    .. math:: p = \\frac{1 + \\#\\{\\text{null} \\ge \\text{observed}\\}}{1 + n}

    Parameters
    ----------
    observed : float
        The value.
    null : array of shape (n,)
        Values under permutation.
    larger : bool
        Whether larger values speak against the null hypothesis, or smaller ones.

    Raises
    ------
    InvalidInputError
        If a value is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> p_value(0.5, np.array([0.1, 0.7, 0.2]))
    0.5
    """
    null = _with_ties(observed, null)
    beyond = null >= observed if larger else null <= observed
    return (1 + int(beyond.sum())) / (1 + len(null))


def _with_ties(observed: float, null: NDArray[np.float64]) -> NDArray[np.float64]:
    """The null distribution with values that differ from the observed by rounding set to it."""
    null = np.asarray(null, dtype=np.float64)
    if math.isnan(observed) or bool(np.isnan(null).any()):
        raise InvalidInputError(
            f"observed is {observed} and null holds {int(np.isnan(null).sum())} NaN of {null.size} "
            "values; NaN is neither more nor less extreme than anything."
        )
    # A permutation that changes nothing may differ by rounding; it counts as equal.
    rounding = 1e-6 * float(np.ptp(np.append(null, observed)))
    return np.where(np.abs(null - observed) <= rounding, observed, null)


def critical_value(
    observed: float, null: NDArray[np.float64], *, alpha: float = 0.05, larger: bool = True
) -> float:
    """Value that has to be passed for a p-value of at most ``alpha``.

    It is the 1 - alpha quantile of the null distribution and the observed value together: of K + 1
    values in order, number :math:`K + 1 - \\lfloor \\alpha (K + 1) \\rfloor`. With ties too,
    ``observed`` passes it exactly where ``p_value(observed, null) <= alpha`` (Groeger, Wen and
    Brbic 2026, arXiv 2602.14486).

    Parameters
    ----------
    observed : float
        The value.
    null : array of shape (n,)
        Values under permutation.
    alpha : float
        Level of the test.
    larger : bool
        Whether larger values speak against the null hypothesis, or smaller ones.

    Raises
    ------
    InvalidInputError
        If a value is NaN, or ``alpha`` does not lie between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> critical_value(0.9, np.arange(19) / 20)
    0.9
    >>> critical_value(0.95, np.arange(19) / 20)
    0.9
    """
    ordered = np.sort(np.append(_with_ties(observed, null), observed))
    beyond = _most_beyond(len(ordered), check_fraction(alpha, "alpha"))
    return float(ordered[-1 - beyond] if larger else ordered[beyond])


def _most_beyond(count: int, alpha: float) -> int:
    """How many of all values may be at least as extreme as one that is shown, itself counted."""
    # The product rounds; the quotient is the p-value itself.
    about = math.floor(alpha * count)
    return max(number for number in (about - 1, about, about + 1) if number / count <= alpha)


def calibrated_score(
    observed: float,
    null: NDArray[np.float64],
    best: float,
    *,
    alpha: float = 0.05,
    larger: bool = True,
) -> float:
    """How far a value lies from what chance reaches to the best value there is.

    .. math:: \\frac{s - \\tau}{s_{\\max} - \\tau}

    with :math:`\\tau` of :func:`critical_value`; 0 where s doesn't pass it, which is where
    ``p_value(observed, null) > alpha``, and at most 1 (Groeger, Wen and Brbic 2026, arXiv
    2602.14486).

    Parameters
    ----------
    observed : float
        The value s.
    null : array of shape (n,)
        Values under permutation.
    best : float
        The best value, :math:`s_{\\max}`; that of the measure is ``measure.identical``.
    alpha : float
        Level of the test.
    larger : bool
        Whether larger values speak against the null hypothesis, or smaller ones.

    Raises
    ------
    InvalidInputError
        If a value is NaN, ``best`` isn't finite, or ``alpha`` does not lie between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> round(calibrated_score(0.95, np.arange(19) / 20, best=1.0), 6)
    0.5
    """
    threshold = critical_value(observed, null, alpha=alpha, larger=larger)
    return float(scores_beyond(np.array(observed), np.array(threshold), best, larger=larger))


def scores_beyond(
    values: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    best: float,
    *,
    larger: bool = True,
) -> NDArray[np.float64]:
    """Calibrated scores of values whose thresholds are known, see :func:`calibrated_score`.

    Parameters
    ----------
    values, thresholds : array
        Of shapes that broadcast; NaN gives NaN.
    best : float
        The best value.
    larger : bool
        Whether larger values speak against the null hypothesis, or smaller ones.

    Raises
    ------
    InvalidInputError
        If ``best`` isn't finite.

    Examples
    --------
    >>> import numpy as np
    >>> scores_beyond(np.array([0.1, 0.6, 1.5]), np.array(0.2), best=1.0)
    array([0. , 0.5, 1. ])
    """
    if not math.isfinite(best):
        raise InvalidInputError(
            f"best is {best}; a calibrated score needs the value that identical sets have."
        )
    sign = 1.0 if larger else -1.0
    passed = np.asarray(sign * (values - thresholds))
    room = np.broadcast_to(sign * (best - thresholds), passed.shape)
    # Unbounded measures may pass the value of identical sets.
    scores = np.divide(passed, room, out=np.ones_like(passed), where=~(room <= passed))
    return np.where(passed <= 0, 0.0, scores)


def bootstrap(
    statistic: Callable[[torch.Tensor], Any],
    n_items: int,
    n_bootstraps: int,
    *,
    groups: object | None = None,
    random_state: int = 0,
) -> NDArray[np.float64]:
    """Draw a statistic on random halves of the items, or of the groups.

    Halves are drawn without replacement (the delete-half jackknife, Shao and Wu 1989): to first
    order their spread is the standard error of the statistic on all items, as that of the
    bootstrap is, but no item is drawn twice and becomes its own nearest neighbour at distance 0.

    Parameters
    ----------
    statistic : callable
        Takes a LongTensor of rows; returns a number, or several.
    n_items : int
        How many items there are.
    n_bootstraps : int
        How many halves are drawn; at most 10,000,000.
    groups : sequence, optional
        A label for each item; groups are drawn as a whole.
    random_state : int
        Seed.

    Returns
    -------
    array of shape (n_bootstraps, ...)
        The statistic on each half.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(400, generator=torch.Generator().manual_seed(0))
    >>> draws = bootstrap(lambda rows: float(x[rows].mean()), 400, 500)
    >>> float(round(draws.std() / (float(x.std()) / 20), 1))
    1.0
    """
    count = check_resamples(n_bootstraps, "n_bootstraps")
    generator = torch.Generator().manual_seed(check_random_state(random_state))
    units = Units.of(n_items, groups)
    values = []
    for _ in range(count):
        half = torch.randperm(len(units), generator=generator)[: len(units) // 2]
        rows = torch.cat([units.rows[unit] for unit in half.tolist()])
        values.append(np.asarray(statistic(rows.sort().values), dtype=np.float64))
    return np.asarray(values)


def interval_around(
    observed: float, draws: NDArray[np.float64], *, level: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of a value from its draws by :func:`bootstrap`.

    Draws on half as many items may be biased, so the interval is the value plus the quantiles of
    their deviations from their own mean.

    Parameters
    ----------
    observed : float
        The value on all items.
    draws : array of shape (n_bootstraps,)
        The values on halves.
    level : float
        How often such intervals hold the value of the population.
    """
    tail = (1 - check_fraction(level, "level")) / 2
    low, high = np.quantile(draws - draws.mean(), [tail, 1 - tail])
    return observed + float(low), observed + float(high)


def interval_within(
    bounds: tuple[float, float], observed: float, draws: NDArray[np.float64]
) -> tuple[float, float]:
    """The same interval, clipped to the range of the values."""
    low, high = interval_around(observed, draws)
    return max(low, bounds[0]), min(high, bounds[1])


def split_halves(
    statistic: Callable[[torch.Tensor, torch.Tensor], Any],
    n_features: int,
    n_splits: int = 10,
    *,
    random_state: int = 0,
) -> NDArray[np.float64]:
    """Compare a set with itself: one random half of its features with the other half.

    Parameters
    ----------
    statistic : callable
        Takes the columns of each half as LongTensors; returns a number.
    n_features : int
        How many features there are.
    n_splits : int
        How many times they are split; at most 10,000,000.
    random_state : int
        Seed.

    Returns
    -------
    array of shape (n_splits,)
        The statistic on each split.

    Raises
    ------
    InvalidInputError
        If there are fewer than 2 features.
    """
    check_count(n_features, "n_features", at_least=0)
    if n_features < 2:
        raise InvalidInputError(
            f"there is {n_features} feature; a ceiling needs at least 2 to split in halves."
        )
    count = check_resamples(n_splits, "n_splits")
    generator = torch.Generator().manual_seed(check_random_state(random_state))
    Resources().require(_INDEX_BYTES * n_features, f"splitting {n_features} features (n_features)")
    values = []
    for _ in range(count):
        order = torch.randperm(n_features, generator=generator)
        half = n_features // 2
        values.append(float(statistic(order[:half], order[half:])))
    return np.asarray(values)
