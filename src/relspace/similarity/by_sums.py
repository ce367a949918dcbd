"""Comparison of features that memory can't hold: by sums over items, or of a part of the items."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.pairing import is_by_position, pair_sets
from relspace._core.progress import Listener
from relspace._core.resources import Resources
from relspace._core.threads import on_one_core
from relspace.errors import InvalidInputError, ItemMismatchError
from relspace.features import is_held, scan
from relspace.kernels.landmarks import draw_distinct
from relspace.measures import Measure
from relspace.measures.sums.halves import n_parts_within, sum_parts
from relspace.measures.sums.item_parts import Parts, PartsOfGroups, RandomParts
from relspace.measures.sums.stacked_products import StackedProducts, sum_stacked_products
from relspace.resampling import Units, interval_within, number_units, p_value
from relspace.rows.source import RowSource
from relspace.similarity.record import Comparison, library_versions

# Cores that share operations on so few features wait for each other longer than they work.
_FEATURES_OF_ONE_CORE = 512
# Comparing takes copies of the features in float64.
_COPIES_IN_MEMORY = 4


def open_pair(X: object, Y: object, *, always: bool = False) -> tuple[RowSource, RowSource] | None:
    """Open two sets as sources of rows; None where neither is read in blocks, or always."""
    if not always and is_held(X) and is_held(Y):
        return None
    x, y = scan(X), scan(Y)
    return x, y


def fits_in_memory(x: RowSource, y: RowSource, memory_budget: int | None) -> bool:
    """Whether two sets can be compared as matrices in memory."""
    needed = _COPIES_IN_MEMORY * 8 * sum(source.shape[0] * source.shape[1] for source in (x, y))
    return Resources.of(memory_budget).holds(needed)


def check_same_items(
    x: RowSource, y: RowSource, ids: object = None, names: tuple[str, str] = ("X", "Y")
) -> str:
    """Say what rows are matched by; items must be in one order, since rows are read side by side.

    Raises
    ------
    InvalidInputError
        If ids are given apart from the features.
    ItemMismatchError
        If the sets differ in their items, or in the order of these, or only one has ids.
    """
    if ids is not None and not is_by_position(ids):
        raise InvalidInputError(
            "ids can't be given for features larger than memory, which are read side by side: "
            "store both in one order, and ids with them."
        )
    if x.shape[0] != y.shape[0]:
        raise ItemMismatchError(
            f"{names[0]} has {x.shape[0]} items and {names[1]} has {y.shape[0]}: a comparison is "
            "of features of the same items; store the shared ones."
        )
    told = is_by_position(ids)
    given = dict(zip(names, (x, y), strict=True))
    shared, order = pair_sets(
        {name: one.shape[0] for name, one in given.items()},
        {name: None if told else one.ids for name, one in given.items()},
        {name: None if told else one.contents for name, one in given.items()},
    )
    for number, (one, other) in enumerate(zip(x.ids or (), y.ids or (), strict=False)):
        if order[names[1]] is not None and one != other:
            raise ItemMismatchError(
                f"row {number} is {one!r} in {names[0]} and {other!r} in {names[1]}: features "
                "larger than memory are read side by side; store both in one order."
            )
    return "position" if shared is None else "ids"


def needs_items_again(name: str, *ways_out: str) -> InvalidInputError:
    """The error that something needs items again and again, where they are read once."""
    return InvalidInputError(
        f"{name} needs items again and again, and these features don't fit into the memory budget.",
        ways_out=[
            *ways_out,
            "compare a random part of them by {max_items=10_000}",
            "raise {memory_budget}",
        ],
    )


def draw_items(
    n_items: int, max_items: int, seed: int, groups: object | None = None
) -> torch.Tensor:
    """Choose items at random, or whole groups of them, in the order they are stored."""
    generator = torch.Generator().manual_seed(seed)
    if groups is None:
        return draw_distinct(n_items, max_items, generator)
    units = Units.of(n_items, groups)
    order = torch.randperm(len(units), generator=generator)
    ends = torch.tensor([len(units.rows[unit]) for unit in order]).cumsum(0)
    chosen = order[: int((ends <= max_items).sum())].tolist()
    if not chosen:
        raise InvalidInputError(f"max_items={max_items} is less than the items of one group.")
    return torch.cat([units.rows[unit] for unit in chosen]).sort().values


def select_labels(labels: object, items: torch.Tensor) -> object:
    """The labels of chosen items; None stays None."""
    return None if labels is None else np.asarray(labels)[items.numpy()]


def compare_by_sums(
    measure: Measure,
    x: RowSource,
    y: RowSource,
    matched_by: str,
    *,
    names: tuple[str, str],
    groups: object | None,
    n_permutations: int,
    n_bootstraps: int,
    random_state: int,
    memory_budget: int | None,
    client: Any | None,
    progress: Listener | None,
) -> Comparison:
    """Compare two sets by sums over their items, with chance from the limit of permutations.

    The interval rests on halves of random parts of the items, each a sum over many: the
    delete-half jackknife of groups (Shao and Tu 1995, *The jackknife and bootstrap*).

    Parameters
    ----------
    measure : Measure
        One that streams.
    x, y : RowSource
        Features of the same items in the same order.
    matched_by : str
        By what they are the same.
    names : (str, str)
        What errors call the sets.
    groups : sequence, optional
        A label for each item; groups lie in one part as a whole.
    n_permutations : int
        How many permutations are drawn, from the normal distribution that is their limit.
    n_bootstraps : int
        On how many halves the interval rests; 0 for none.
    random_state : int
        Seed of the draws.
    memory_budget : int, optional
        Bytes that sums and blocks of rows may take.
    client : distributed.Client, optional
        A cluster that sums parts of the rows.
    progress : callable, optional
        Told ``(done, total, text)``.

    Raises
    ------
    InvalidInputError
        If the measure doesn't stream, groups are to be permuted or held out, or features are not
        finite or constant.
    MemoryBudgetError
        If the sums don't fit.
    """
    if not measure.streams:
        raise measure.needs_items()
    n, folds, unit_of = x.shape[0], measure.folds(x.shape[0]), None
    if groups is not None:
        if n_permutations:
            raise needs_items_again("a p-value by groups", "leave {n_permutations} at 0")
        if folds is not None:
            raise needs_items_again(f"{measure.name} by groups")
        unit_of = number_units(n, groups)
    n_units = n if unit_of is None else int(unit_of.max()) + 1
    reading: dict[str, Any] = {
        "memory_budget": memory_budget,
        "client": client,
        "progress": progress,
    }
    halves, n_parts = np.empty(0), None
    if n_bootstraps:
        n_folds = 1 if folds is None else folds.n_parts
        n_parts = n_parts_within(
            (x.shape[1], y.shape[1]),
            n_units,
            n_folds,
            measure.copies_of_products,
            memory_budget,
            on_cluster=client is not None,
        )
        parts: Parts
        if unit_of is not None:
            parts = PartsOfGroups(unit_of, n_parts, random_state)
        else:
            parts = (folds or RandomParts(n, 1, random_state)).finer(n_parts)
        sums = sum_parts(x, y, parts, n_folds, names=names, **reading)
        products = sums.whole()
        drawn = sums.halves(n_bootstraps, torch.Generator().manual_seed(random_state))
        halves = np.array([measure.from_cross_products(one.pair(0, 1)) for one in drawn])
        del sums
    else:
        products = sum_stacked_products(
            (x, y),
            names,
            folds=folds,
            copies_for_pair=measure.copies_of_products,
            **reading,
        )
    value = measure.from_cross_products(products.pair(0, 1))
    null = draw_null(
        measure, products, n_permutations or measure.permutations_for_chance, random_state
    )
    # Items of one group are not independent, so that those of all spread wider than this.
    has_spread = len(null) > 1 and groups is None
    return Comparison(
        measure=measure,
        value=value,
        chance=float(null.mean()),
        chance_std=float(null.std(ddof=1)) if has_spread else None,
        p_value=p_value(value, null, larger=measure.direction == "similarity")
        if n_permutations
        else None,
        interval=interval_within(measure.range, value, halves) if n_bootstraps else None,
        ceiling=None,
        null=null,
        n_items=n,
        n_features=(x.shape[1], y.shape[1]),
        n_available=n,
        null_by="limit",
        n_units=n_units,
        n_parts=n_parts,
        matched_by=matched_by,
        n_bootstraps=n_bootstraps,
        random_state=random_state,
        versions=library_versions(),
    )


def draw_null(
    measure: Measure, products: StackedProducts, n_permutations: int, random_state: int
) -> NDArray[np.float64]:
    """Values under permutations of the items, drawn from their normal limit."""
    generator = torch.Generator().manual_seed(random_state)
    draw = products.permutations(range(1), range(1, 2), generator)

    def values() -> NDArray[np.float64]:
        pairs = (draw().pair(0, 1) for _ in range(n_permutations))
        return np.array([measure.from_cross_products(one) for one in pairs])

    device = products.products.device
    small = sum(products.widths) <= _FEATURES_OF_ONE_CORE
    return on_one_core(values, device) if small else values()
