"""Items of one set: their ids in one normal form, and the numbers of their rows."""

from __future__ import annotations

import numbers
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from relspace._core.arguments import name_some, say_count
from relspace._core.labelled_tables import as_labelled_table, labels_of_tables
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError

ItemId = str | int
# What str() makes of an int; ASCII digits only.
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]*")


@runtime_checkable
class HasIds(Protocol):
    """An object that has ids for its rows, such as a source of rows or a feature set."""

    @property
    def ids(self) -> tuple[ItemId, ...] | None:
        """One id for each row, or None."""


def own_ids(features: object, name: str) -> tuple[ItemId, ...] | None:
    """Return the ids that features bring, their ``ids`` or the labels of a table's rows, or None.

    Ids are in their normal form (:func:`as_ids`). Labels that only count rows (0, 1, 2, ...) are
    none. Labels that can't be ids are refused, and the error says how to match rows by position.
    """
    parts = features if isinstance(features, list | tuple) else [features]
    tables = [as_labelled_table(part, name) for part in parts]
    labelled = [table for table in tables if table is not None]
    if not labelled or len(labelled) < len(parts):
        if isinstance(features, np.ndarray | torch.Tensor) or not isinstance(features, HasIds):
            return None
        ids = features.ids
        return None if ids is None else as_ids(ids, name, len(ids))
    labels = labels_of_tables(labelled)
    return None if labels is None else as_ids(labels, name, len(labels))


def ids_of_layers(layers: Mapping[str, object], name: str) -> tuple[ItemId, ...] | None:
    """Return the ids that all layers of a model bring, or None; different ones are refused."""
    found = {layer: own_ids(one, f"{name}, {layer}") for layer, one in layers.items()}
    first = next(iter(found.values()), None)
    others = [layer for layer, ids in found.items() if ids != first]
    if others:
        raise ItemMismatchError(
            f"the layers {name_some(others)} of {name} have other ids than its first layer; all "
            "layers of a model must be of the same items in one order.",
            ways_out=["match rows by position with {ids='position'}"],
        )
    return first


def as_ids(ids: object, name: str, n_items: int) -> tuple[ItemId, ...]:
    """Convert the ids of ``n_items`` items to their normal form: all ``int`` or ``str``, unique.

    Whole numbers of any library become ``int``, text becomes ``str``, and bytes are decoded as
    UTF-8. Nothing else changes: "7" stays text, and spaces are kept. Too few or too many ids,
    duplicates and mixed kinds raise ItemMismatchError.

    Examples
    --------
    >>> import numpy as np
    >>> as_ids(np.array([7, 8]), "sam", 2), as_ids(np.array([b"cat", b"dog"]), "sam", 2)
    ((7, 8), ('cat', 'dog'))
    """
    if len(shape := getattr(ids, "shape", (0,))) != 1:
        raise InvalidInputError(
            f"the ids of {name} have shape {tuple(shape)}; they must be one list."
        )
    for convert in ("tolist", "to_pylist", "to_list"):
        if hasattr(ids, convert):
            ids = getattr(ids, convert)()
            break
    if not isinstance(ids, Sequence) or isinstance(ids, str | bytes):
        raise InvalidTypeError(
            f"the ids of {name} are of type {type(ids).__name__}; they must be a list of strings "
            "or of whole numbers."
        )
    if len(ids) != n_items:
        raise ItemMismatchError(
            f"{name} has {say_count(n_items, 'item')} and {say_count(len(ids), 'id')}."
        )
    found = tuple(ids)
    if set(map(type, found)) not in ({int}, {str}) or "" in found:
        found = tuple(_as_id(item, name, number) for number, item in enumerate(ids))
    if len({type(item) for item in found}) > 1:
        raise ItemMismatchError(
            f"the ids of {name} mix strings and whole numbers, so that '1' and 1 can't be told "
            "apart; use one kind."
        )
    if len(set(found)) < len(found):
        twice = [item for item, count in Counter(found).items() if count > 1]
        raise ItemMismatchError(
            f"the ids of {name} name {say_count(len(twice), 'item')} more than once: "
            f"{name_some(twice)}; every item needs an id of its own."
        )
    return found


def _as_id(item: object, name: str, number: int) -> ItemId:
    if isinstance(item, str) and item:
        return str(item)
    if isinstance(item, numbers.Integral) and not isinstance(item, bool):
        return int(item)
    if isinstance(item, bytes) and item:
        try:
            return item.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"id {number + 1} of {name} is {item!r:.60}, which is no text in UTF-8."
            ) from error
    raise InvalidTypeError(
        f"id {number + 1} of {name} is {item!r:.60}, of type {type(item).__name__}; ids are text "
        "that is not empty, or whole numbers.",
        ways_out=["give others with {ids}", "match rows by position with {ids='position'}"],
    )


def are_whole_numbers(ids: Sequence[object]) -> bool:
    """Whether all ids are text that is what ``str`` makes of a whole number.

    >>> are_whole_numbers(["7", "-12"]), are_whole_numbers(["007"]), are_whole_numbers(["1_000"])
    (True, False, False)
    """
    return all(isinstance(one, str) and _WHOLE_NUMBER.fullmatch(one) for one in ids)


def ids_of_text(ids: Sequence[str]) -> Sequence[ItemId]:
    """Take ids from text: whole numbers, where all of them are written as whole numbers are.

    >>> ids_of_text(["7", "12"]), ids_of_text(["7", "012"])
    ([7, 12], ['7', '012'])
    """
    return [int(one) for one in ids] if are_whole_numbers(ids) else ids


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8, which names of files and broken texts may not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_item_indices(items: object, name: str, n_items: int) -> torch.Tensor:
    """Check row numbers: whole, in range, none twice."""
    try:
        indices = torch.as_tensor(items)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidTypeError(f"{name} must be a list of row numbers: {error}.") from error
    if indices.ndim != 1 or indices.is_floating_point() or indices.dtype == torch.bool:
        raise InvalidTypeError(
            f"{name} has shape {tuple(indices.shape)} and type {indices.dtype}; it must be a list "
            "of row numbers."
        )
    indices = indices.to(torch.long).cpu()
    outside = indices[(indices < 0) | (indices >= n_items)].tolist()
    if outside:
        raise InvalidInputError(
            f"{name} holds {name_some(outside)}; rows go from 0 to {n_items - 1}."
        )
    if len(set(indices.tolist())) < len(indices):
        raise InvalidInputError(f"{name} holds some rows more than once.")
    return indices
