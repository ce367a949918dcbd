"""Sets of tokens of one space as sources of rows, and the outputs of each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from relspace._core.arguments import name_some
from relspace._core.arrays import refuse_non_finite
from relspace._core.matrices import Array, as_features, to_numpy
from relspace.errors import FileFormatError, InvalidInputError, InvalidTypeError
from relspace.rows.fitted import OpenedSet, OpensSets, open_set
from relspace.rows.output import Output
from relspace.rows.source import RowSource
from relspace.rows.transform import check_outputs

#: A single feature set is kept under this name.
SINGLE = "features"

#: One output, or one for each set.
Outputs = Mapping[str, str | Path | Output] | str | Path | Output


def restored(result: torch.Tensor, *, is_array: bool) -> Array:
    """Convert a result to an array if the set was one."""
    return to_numpy(result) if is_array else result


def stored_results(
    names: Iterable[str], results: Mapping[str, object], key: str
) -> dict[str, torch.Tensor]:
    """The results of sets in memory, as tensors for a file."""
    numbered = {f"{key}.{number}": results.get(name) for number, name in enumerate(names)}
    return {
        name: torch.as_tensor(one)
        for name, one in numbered.items()
        if isinstance(one, torch.Tensor | np.ndarray)
    }


def restored_results(
    tensors: Mapping[str, torch.Tensor], key: str, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Restore the results of sets from the tensors of a file."""
    arrays = metadata.get("arrays", ())
    return {
        name: restored(tensors[f"{key}.{number}"], is_array=name in arrays)
        for number, name in enumerate(metadata["names"])
        if f"{key}.{number}" in tensors
    }


def shapes_of_results(
    tensors: Mapping[str, torch.Tensor], key: str, n_sets: int, width: int
) -> dict[str, tuple[int, ...]]:
    """The shapes that the results of sets in a file must have."""
    names = [f"{key}.{number}" for number in range(n_sets)]
    return {name: (tensors[name].shape[0], width) for name in names if name in tensors}


def locations_of_results(results: Mapping[str, object]) -> list[str | Path]:
    """The files of results that are not in memory."""
    sources = [one for one in results.values() if isinstance(one, RowSource)]
    return [location for one in sources for location in one.locations()]


def check_set_names(names: object, arrays: object) -> list[str]:
    """Check the names of sets in a file, and of those that are arrays."""
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
    """Open the tokens of a space, of several sets by name, or of one; all have the same columns."""
    if not isinstance(sets, Mapping):
        return {SINGLE: open_set(sets, "sets")}
    if not sets:
        raise InvalidInputError("sets is empty; give at least one set of tokens.")
    # The rows of a common space may not be in memory.
    space = sets if isinstance(sets, OpensSets) else None
    opened = {}
    for name in sets:
        if not isinstance(name, str) or not name:
            raise InvalidTypeError(f"sets has the name {name!r}; names must be strings.")
        opened[name] = open_set(sets[name], name) if space is None else space.open_set(name)
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
    """The output of each set, or None; a single output is enough for one set.

    Refused are outputs that would overwrite an input, each other, or the checkpoint.
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
    """Read some tokens of a set in float32 or float64, and check them."""
    tokens = as_features(source.read_at(rows), name, check_finite=False).tensor
    refuse_non_finite(tokens, name, rows=rows)
    return tokens
