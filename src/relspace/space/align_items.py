"""Alignment of sets that have one row for each item: landmarks are items that all sets share."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import torch

from relspace._core.arguments import check_count, name_some
from relspace._core.arrays import bytes_in_floats, refuse_non_finite
from relspace._core.items import ItemId, as_item_indices
from relspace._core.pairing import INTERSECT, ItemContents, pair_sets
from relspace._core.progress import Listener, prefixed
from relspace._core.resources import Resources
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    ItemMismatchError,
    NonFiniteError,
)
from relspace.features import Positions
from relspace.kernels.landmarks import choose_landmarks
from relspace.kernels.relative import NO_LANDMARK
from relspace.rows.fitted import OpenedSet
from relspace.rows.formats.dask import DaskRows
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.source import RowSource, tensor_of
from relspace.space.aligned_set import AlignedSet, fit_aligner, refuse_few_landmarks
from relspace.space.aligner import RelativeRows
from relspace.space.defaults import Settings
from relspace.space.held_rows import MadeRows
from relspace.space.item_space import ItemSpace


def align_items(
    sets: Mapping[str, OpenedSet],
    *,
    ids: Mapping[str, Sequence[ItemId] | None],
    contents: Mapping[str, ItemContents | None],
    columns: Mapping[str, tuple[str, ...] | None],
    landmarks: object,
    on_missing: str,
    settings: Settings,
    parameters: Mapping[str, Any],
    random_state: int,
    memory_budget: int | None,
    tell: Listener,
) -> ItemSpace:
    """Bring sets of the same items into one common space, see :func:`relspace.align`.

    ``columns`` names the features of each set, and ``parameters`` are further entries of
    ``space.parameters``.
    """
    sizes = {name: one.rows.shape[0] for name, one in sets.items()}
    shared, order = pair_sets(sizes, ids, contents, on_missing)
    first = next(iter(sizes))
    n = sizes[first] if shared is None else len(shared)
    chosen = _chosen_landmarks(landmarks, n, shared, random_state, order[first], sizes[first])
    own = torch.full((n,), NO_LANDMARK)
    own[chosen] = torch.arange(len(chosen))
    row_bytes = sum(bytes_in_floats(one.rows.dtype) for one in sets.values()) * len(chosen)
    held = Resources.of(memory_budget).holds(n * row_bytes)
    aligned = {}
    for name, one in sets.items():
        tell(0, 0, f"Aligning {name}")
        try:
            rows, whole = order[name], _held_matrix(one.rows)
            at = chosen if rows is None else rows[chosen]
            some = one.rows.read_at(at) if whole is None else whole[at]
            aligner = fit_aligner(settings, some, name)
            aligner.feature_names_in_ = columns[name]
            relative: torch.Tensor | RowSource
            if held:
                relative = _hold(RelativeRows(aligner, own), one.rows, rows, prefixed(tell, name))
            else:
                relative = MadeRows(one.rows, aligner, own, rows)
        except NonFiniteError:
            _refuse_non_finite_rows(one.rows, name)
            raise
        dtype = one.dtype if one.dtype.is_floating_point else relative.dtype
        aligned[name] = AlignedSet(
            aligner, relative, one.is_array, dtype, features=some.to(aligner.landmarks_)
        )
    if on_missing == INTERSECT:
        parameters = {**parameters, "n_given": sizes}
    return ItemSpace(
        aligned,
        ids=shared,
        landmarks=chosen,
        parameters={**asdict(settings), "random_state": random_state, **parameters},
    )


def _chosen_landmarks(
    landmarks: object,
    n_items: int,
    ids: Sequence[ItemId] | None,
    seed: int,
    kept: torch.Tensor | None,
    n_rows: int,
) -> torch.Tensor:
    """Items that are landmarks, by their numbers in the space.

    ``kept`` are the rows of the first set, of ``n_rows``, that the space holds, None for all.
    """
    if isinstance(landmarks, numbers.Real):
        wanted = check_count(landmarks, "landmarks", at_least=3)
        chosen = choose_landmarks(n_items, wanted, random_state=seed)
    elif landmarks is None or isinstance(landmarks, str | Positions):
        raise InvalidTypeError(
            f"landmarks is of type {type(landmarks).__name__}; for sets of one row for each item "
            "it must be how many items are landmarks, or their row numbers."
        )
    else:
        if isinstance(landmarks, Sequence) and any(isinstance(one, str) for one in landmarks):
            return refuse_few_landmarks(_items_called(landmarks, ids))
        chosen = as_item_indices(landmarks, "landmarks", n_rows)
        if kept is not None:
            item_of_row = torch.full((n_rows,), -1)
            item_of_row[kept] = torch.arange(n_items)
            lost = chosen[item_of_row[chosen] < 0].tolist()
            if lost:
                raise ItemMismatchError(
                    f"landmarks holds rows {name_some(lost)} of the first set, which other sets "
                    "lack; landmarks must be in all sets."
                )
            chosen = item_of_row[chosen]
    return refuse_few_landmarks(chosen)


def _items_called(names: Sequence[object], ids: Sequence[ItemId] | None) -> torch.Tensor:
    """The numbers of items that are named by their ids."""
    if ids is None:
        raise InvalidInputError(
            "landmarks are named by ids, and the sets have none; give ids, or row numbers."
        )
    number_of = {item: number for number, item in enumerate(ids)}
    unknown = [one for one in names if one not in number_of]
    if unknown:
        raise ItemMismatchError(
            f"landmarks names {name_some(unknown)}, which are not in all of the sets."
        )
    numbers_of = [number_of[cast("ItemId", one)] for one in names]
    return as_item_indices(numbers_of, "landmarks", len(ids))


def _held_matrix(rows: RowSource) -> torch.Tensor | None:
    """All rows, where they are one matrix in memory."""
    in_memory = isinstance(rows, ArrayRows) and rows.lies_in == "memory"
    return rows.read(0, rows.shape[0]) if in_memory else None


def _hold(
    relative: RelativeRows, rows: RowSource, order: torch.Tensor | None, tell: Listener
) -> torch.Tensor:
    """Compute all relative features, in the order of the first set."""
    if (whole := _held_matrix(rows)) is not None:
        return relative(whole if order is None else whole[order])
    fitted = relative.aligner
    if order is not None:
        assert relative.own is not None
        # Files are read in their own order.
        mine = torch.full((rows.shape[0],), NO_LANDMARK)
        mine[order] = relative.own
        relative = RelativeRows(fitted, mine)
    found = relative.row_map()
    found.check(rows.shape, None)
    if isinstance(rows, DaskRows):
        lazy: Any = found.lazily(rows.array)
        held = tensor_of(lazy.compute()).to(fitted.landmarks_.dtype)
    else:
        held = found.collect(rows, dtype=fitted.landmarks_.dtype, tell=tell)
    return held if order is None else held[order]


def _refuse_non_finite_rows(rows: RowSource, name: str) -> None:
    """Raise an error that names the set and its rows that are not finite, not those of a block."""
    if _held_matrix(rows) is not None:
        return
    row_bytes = rows.shape[1] * rows.dtype.itemsize
    for part in Resources().blocks(rows.shape[0], row_bytes):
        refuse_non_finite(rows.read(part.start, part.stop), name, first_row=part.start)
