"""Comparison of two sets of features: a value beside chance, its p-value, interval and ceiling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace import measures
from relspace._core.memory import memory_budget_bytes
from relspace._core.pairing import is_by_position, pair_sets, refuse_another_order
from relspace._core.progress import Listener, Progress, as_listener
from relspace._core.validation import (
    ItemId,
    as_features,
    as_ids,
    check_count,
    check_random_state,
    check_resamples,
    own_ids,
    without_labels,
)
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.features import contents_of
from relspace.measures import MIN_ITEMS, Measure
from relspace.resampling import (
    Permutations,
    Units,
    bootstrap,
    interval_within,
    p_value,
    split_halves,
)
from relspace.rows.source import RowSource
from relspace.similarity.by_sums import (
    check_same_items,
    compare_by_sums,
    draw_items,
    fits_in_memory,
    needs_items_again,
    open_pair,
    select_labels,
)
from relspace.similarity.record import Comparison, library_versions

#: The same, for each of the splits that a ceiling is the mean of.
PERMUTATIONS_FOR_HALVES = 4


def compare(
    X: object,
    Y: object,
    *,
    measure: str | Measure = "affinity",
    names: Sequence[str] | None = None,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    n_permutations: int = 0,
    n_bootstraps: int = 0,
    groups: object | None = None,
    ceiling: bool = False,
    max_items: int | None = None,
    memory_budget: int | None = None,
    client: Any | None = None,
    random_state: int = 0,
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
    measure : str or Measure
        One of :func:`relspace.measures.names`, by name or as made by :func:`relspace.measures.get`.
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
    memory_budget : int, optional
        Bytes that comparing may take. Features on disk are loaded where they, and what is
        computed of them, fit in; half of the free memory by default. Matrices over pairs of items
        that don't fit are made tile by tile, or refused where they can't be.
    client : distributed.Client, optional
        A Dask cluster whose workers sum over parts of the items; they must reach files by the same
        paths.
    random_state : int
        Seed of everything random.
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
    items       200, matched by position
    """
    record, tell = as_measure(measure), as_listener(progress)
    seed = check_random_state(random_state)
    n_permutations = check_resamples(n_permutations, "n_permutations", at_least=0)
    n_bootstraps = check_resamples(n_bootstraps, "n_bootstraps", at_least=0)
    if max_items is not None:
        max_items = check_count(max_items, "max_items", at_least=MIN_ITEMS)
    called = _set_names(names)
    if ids is not None:
        X, Y = (without_labels(Z, name) for Z, name in zip((X, Y), called, strict=True))
    pair = open_pair(X, Y, always=client is not None)

    def check_number(n_items: int) -> None:
        # A ceiling prepares halves beside the whole.
        record.refuse_too_many(
            min(n_items, max_items or n_items), 4 if ceiling else 2, memory_budget
        )

    if memory_budget is not None:
        memory_budget_bytes(memory_budget)
    if pair is None or (client is None and fits_in_memory(*pair, memory_budget)):
        if pair is not None:
            check_number(pair[0].shape[0])
        x, y, matched_by = paired_features(*(pair or (X, Y)), ids, called)
        n_available = len(x)
        check_number(n_available)
        if max_items is not None and max_items < n_available:
            items = draw_items(n_available, max_items, seed, groups)
            x, y, groups = x[items], y[items], select_labels(groups, items)
    else:
        matched_by, n_available = check_same_items(*pair, ids, called), pair[0].shape[0]
        if max_items is None or max_items >= n_available:
            if ceiling:
                raise needs_items_again("ceiling")
            return compare_by_sums(
                record,
                *pair,
                matched_by,
                names=called,
                groups=groups,
                n_permutations=n_permutations,
                n_bootstraps=n_bootstraps,
                random_state=seed,
                memory_budget=memory_budget,
                client=client,
                progress=tell,
            )
        check_number(n_available)
        items = draw_items(n_available, max_items, seed, groups)
        x, y = (
            as_features(one.read_at(items), name).tensor
            for one, name in zip(pair, called, strict=True)
        )
        groups = select_labels(groups, items)
    units = Units.of(len(x), groups) if groups is not None else None
    # Half of a budget for the factors of both sets, as without one.
    of_factor = None if memory_budget is None else memory_budget // 4
    x_factor, y_factor = (
        record.prepare(one, name, memory_budget=of_factor)
        for one, name in zip((x, y), called, strict=True)
    )
    value = record.from_factors(x_factor, y_factor)

    chance, chance_std = record.expected_by_chance(x_factor, y_factor), None
    null = np.empty(0)
    if n_permutations or chance is None:
        drawn = null_tables(
            record,
            [x_factor],
            [y_factor],
            record.permutations(
                len(x),
                n_permutations or record.permutations_for_chance,
                groups=groups,
                random_state=seed,
            ),
            tell=tell,
        )
        null = drawn.ravel()
        chance, chance_std = float(null.mean()), float(null.std(ddof=1)) if len(null) > 1 else None
    larger = record.direction == "similarity"
    interval = None
    if n_bootstraps:

        def of_half(rows: torch.Tensor) -> float:
            of_x, of_y = (record.prepare(one[rows], memory_budget=of_factor) for one in (x, y))
            return record.from_factors(of_x, of_y)

        draws = bootstrap(
            of_half,
            len(x),
            n_bootstraps,
            groups=groups,
            random_state=seed,
        )
        interval = interval_within(record.range, value, draws)
    return Comparison(
        measure=record,
        value=value,
        chance=chance,
        chance_std=chance_std,
        p_value=p_value(value, null, larger=larger) if n_permutations else None,
        interval=interval,
        ceiling=_ceiling(record, x, y, chance, seed, of_factor) if ceiling else None,
        null=null,
        n_items=len(x),
        n_features=(x.shape[1], y.shape[1]),
        n_available=n_available,
        null_by="permutations",
        n_units=len(x) if units is None else len(units),
        n_parts=None,
        matched_by=matched_by,
        n_bootstraps=n_bootstraps,
        random_state=seed,
        versions=library_versions(),
    )


def null_tables(
    measure: Measure,
    x: Sequence[Any],
    y: Sequence[Any],
    families: Sequence[Permutations],
    *,
    tell: Listener | None = None,
) -> NDArray[np.float64]:
    """Compare every set of one list with every set of another under all permutations.

    Returns
    -------
    array of shape (n_permutations, len(x), len(y))
        Values.
    """
    total = sum(len(family) for family in families)
    done, tables = 0, []
    for family in families:

        def count(of_family: int, before: int = done) -> None:
            if tell is not None:
                tell(before + of_family, total, "Permutations")

        tables.append(measure.null_table(x, y, family, on_progress=count))
        done += len(family)
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


def _set_names(names: Sequence[str] | None) -> tuple[str, str]:
    """Check what the two sets are called."""
    if names is None:
        return ("X", "Y")
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
        raise InvalidTypeError(f"names is {names!r}; it must be a list of two strings.")
    if len(names) != 2 or names[0] == names[1]:
        raise InvalidInputError(f"names is {names!r}; give each of the two sets a name of its own.")
    return names[0], names[1]


def paired_features(
    X: object,
    Y: object,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None,
    names: tuple[str, str] = ("X", "Y"),
) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Check two sets and bring the rows of the second into the order of the first."""
    first, second = names
    x, y = (_whole(Z, name).detach() for Z, name in ((X, first), (Y, second)))
    sizes = {first: len(x), second: len(y)}
    given: dict[str, object]
    contents = dict.fromkeys(sizes)
    if is_by_position(ids):
        given = dict.fromkeys(sizes)
    elif ids is None:
        given = {name: own_ids(Z, name) for name, Z in ((first, X), (second, Y))}
        contents = {name: contents_of(Z) for name, Z in ((first, X), (second, Y))}
    elif isinstance(ids, Mapping):
        odd = [str(name) for name in ids if name not in sizes]
        if odd:
            raise InvalidInputError(
                f"ids names {', '.join(odd)}; the sets are {first} and {second}."
            )
        given = {name: ids.get(name) for name in sizes}
    else:
        given = dict.fromkeys(sizes, ids)
    checked = {
        name: None if own is None else as_ids(own, name, sizes[name]) for name, own in given.items()
    }
    if ids is not None:
        for name, Z in ((first, X), (second, Y)):
            refuse_another_order(name, checked[name], partial(own_ids, Z, name))
    shared, order = pair_sets(sizes, checked, contents)
    rows = order[second]
    if rows is not None:
        y = y[rows]
    return x, y.to(x.device), "position" if shared is None else "ids"


def _whole(X: object, name: str) -> torch.Tensor:
    # A tensor is no source, and some have no shape to look at.
    if not isinstance(X, torch.Tensor) and isinstance(X, RowSource):
        X = X.read(0, X.shape[0])
    return as_features(X, name).tensor


def _ceiling(
    measure: Measure,
    x: torch.Tensor,
    y: torch.Tensor,
    chance: float,
    seed: int,
    memory_budget: int | None,
) -> float:
    """The value that noise in the features leaves room for.

    Everything is counted as the share of the way from chance to identical sets, since chance
    depends on how many features there are.
    """
    whole = []
    for Z in (x, y):
        halves = partial(_share_of_halves, measure, Z, seed, memory_budget)
        half = float(split_halves(halves, Z.shape[1], random_state=seed).mean())
        # Halves that agree less than by chance leave no room above it.
        whole.append(2 * max(0.0, half) / (1 + max(0.0, half)))
    return chance + math.sqrt(whole[0] * whole[1]) * (measure.identical - chance)


def _share_of_halves(
    measure: Measure,
    X: torch.Tensor,
    seed: int,
    memory_budget: int | None,
    left: torch.Tensor,
    right: torch.Tensor,
) -> float:
    first, second = (
        measure.prepare(X[:, half], memory_budget=memory_budget) for half in (left, right)
    )
    chance = measure.expected_by_chance(first, second)
    if chance is None:
        families = measure.permutations(len(X), PERMUTATIONS_FOR_HALVES, random_state=seed)
        chance = float(null_tables(measure, [first], [second], families).mean())
    value = measure.from_factors(first, second)
    return (value - chance) / (measure.identical - chance)
