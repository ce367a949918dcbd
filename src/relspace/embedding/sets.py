"""Sets of tokens of one space as sources of rows, and where what is made of each of them goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from relspace._core.validation import Array, as_features, name_some, to_numpy
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    NonFiniteError,
)
from relspace.features.row_files import is_read_in_blocks, open_rows
from relspace.rows.source import ArrayRows, RowSource
from relspace.rows.transform import Output, check_outputs

#: A single feature set is kept under this name.
SINGLE = "features"

#: Where a result goes: one output, or one for each set.
Outputs = Mapping[str, str | Path | Output] | str | Path | Output


@dataclass(frozen=True)
class OpenedSet:
    """Tokens of a set as a source of rows, and whether they were an array: then results are too."""

    rows: RowSource
    is_array: bool


def restored(result: torch.Tensor, *, is_array: bool) -> Array:
    """Give a result the kind, array or tensor, of the set that it is of."""
    return to_numpy(result) if is_array else result


def check_set_names(names: object, arrays: object) -> list[str]:
    """Refuse names of sets in a file that are no text, occur twice, or are arrays of no set."""
    for listed in (names, arrays):
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise FileFormatError(f"the names of sets must be a list of text, not {listed!r}.")
    checked = cast("list[str]", names)
    if not checked or len(set(checked)) < len(checked):
        raise FileFormatError(f"the names of sets are {checked}; each must be there once.")
    if unknown := sorted(set(cast("list[str]", arrays)) - set(checked)):
        raise FileFormatError(f"it calls {unknown} arrays, of which there is no set.")
    return checked


def open_sets(sets: Mapping[str, object] | object) -> dict[str, OpenedSet]:
    """Open the tokens of one or several sets; what is in memory is checked at once.

    Parameters
    ----------
    sets : space, mapping of str to array-like or source of rows, or one of these
        Tokens; all sets have the same columns.
    """
    if not isinstance(sets, Mapping):
        return {SINGLE: _open(sets, "sets")}
    if not sets:
        raise InvalidInputError("sets is empty; give at least one set of tokens.")
    # A common space may make its rows only as they are read.
    space: Any = sets if hasattr(sets, "aligned_set") else None
    opened = {}
    for name in sets:
        if not isinstance(name, str) or not name:
            raise InvalidTypeError(f"sets has the name {name!r}; names must be strings.")
        if space is None:
            opened[name] = _open(sets[name], name)
        else:
            opened[name] = OpenedSet(space.rows(name), space.aligned_set(name).is_array)
    first = next(iter(opened))
    width = opened[first].rows.shape[1]
    for name, one in opened.items():
        if one.rows.shape[1] != width:
            raise InvalidInputError(
                f"{name} has {one.rows.shape[1]} columns and {first} has {width}; bring both into "
                "one space with align() first."
            )
    return opened


def outputs_of(
    out: Outputs | None, sources: Mapping[str, RowSource], checkpoint: str | Path | None = None
) -> dict[str, Output] | None:
    """Where the result of each set goes; None where it is held.

    Parameters
    ----------
    out : path or Output, mapping of str to these, or None
        One output will do for one set.
    sources : mapping of str to RowSource
        What the results are made of.
    checkpoint : str or Path, optional
        What is written beside.

    Raises
    ------
    InvalidInputError
        If a set has no output, or an output of one is an input or the output of another.
    """
    names = tuple(sources)
    if out is None:
        return None
    if not isinstance(out, Mapping):
        if len(names) > 1:
            raise InvalidTypeError(
                f"out is one output and there are {len(names)} sets; give each its own: "
                f"out={{{names[0]!r}: 'embedding.zarr', ...}}."
            )
        out = {names[0]: out}
    if set(out) != set(names):
        raise InvalidInputError(
            f"out names {name_some(list(out))}; the sets are {name_some(names)}."
        )
    outputs = {name: one if isinstance(one, Output) else Output(one) for name, one in out.items()}
    read = [location for source in sources.values() for location in source.locations()]
    check_outputs(outputs, read, {} if checkpoint is None else {"checkpoint": checkpoint})
    return outputs


def some_tokens(source: RowSource, rows: torch.Tensor, name: str) -> torch.Tensor:
    """Some tokens of a set in float32 or float64, checked."""
    tokens = as_features(source.read_at(rows), name, check_finite=False).tensor
    bad = rows[~tokens.isfinite().all(dim=1).cpu()]
    if len(bad):
        raise NonFiniteError(
            f"{name} holds NaN or infinite values, among others in row {int(bad[0])}; remove or "
            "repair these rows."
        )
    return tokens


def _open(tokens: object, name: str) -> OpenedSet:
    if is_read_in_blocks(tokens):
        return OpenedSet(open_rows(tokens), hasattr(tokens, "__array__"))
    given = as_features(tokens, name)
    return OpenedSet(ArrayRows(given.tensor.detach()), given.is_array)
