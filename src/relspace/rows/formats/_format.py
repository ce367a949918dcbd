"""Declarations of file formats: suffixes, and how a file is opened as named entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from relspace._core.items import ItemId
from relspace.errors import FileFormatError, MissingDependencyError
from relspace.rows.source import RowSource

#: The name of the entry in a file without keys (.npy, .csv, one tensor in a .pt).
ONLY = ""
#: The entry that item ids are read from unless another one is named.
IDS = "ids"
NO_NUMBERS = "holds no integers or floats of 8 to 64 bits, which features must be"
PICKLED_ARRAY = (
    "is an array of Python objects, which only unpickling can read, and unpickling can run any "
    "code: save it again as numbers or text, array.astype(float) or array.astype(str)"
)


@dataclass(frozen=True)
class Request:
    """Which entry of a file holds the features (or all matrices do), and where the ids are."""

    key: str | None = None
    ids: str | Path | None = None
    id_column: str | None = None
    every_matrix: bool = False


@dataclass(frozen=True)
class Entry:
    """One array of a file.

    Attributes
    ----------
    shape : tuple of int or None
        Known before it is loaded; None if the entry may be a matrix, but can't be opened.
    load : callable
        Gives the whole array, tensor or list.
    obstacle : str or None
        Why it can't be features, as a clause after the entry's name.
    rows : callable or None
        ``rows(ids)`` gives a source that reads its rows in parts, if the format can.
    feature_names : tuple of str or None
        The names of a table's columns.
    is_alias : bool
        Whether it is another name of an entry, which is only chosen by its key.
    """

    shape: tuple[int, ...] | None
    load: Callable[[], NDArray[Any] | Tensor | Sequence[object]]
    obstacle: str | None = None
    rows: Callable[[tuple[ItemId, ...] | None], RowSource] | None = None
    feature_names: tuple[str, ...] | None = None
    is_alias: bool = False

    @property
    def is_other(self) -> bool:
        """Whether it was not meant to hold numbers, such as text."""
        return self.obstacle == NO_NUMBERS

    @classmethod
    def of_list(cls, values: Sequence[object]) -> Entry:
        """The entry of values that are not numbers, such as ids."""
        return cls((len(values),), lambda: values, NO_NUMBERS)


Entries = Mapping[str, Entry]


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """A format of files.

    Attributes
    ----------
    suffixes : tuple of str
        Endings in lower case, such as ``".npz"``.
    open : callable
        ``open(location, request)``, a context manager, yields the entries by name.
    in_parts : bool
        Whether entries have ``rows``; other files are loaded whole.
    is_table : bool
        Whether ids are a column.
    has_layers : bool
        Whether a file can hold several matrices.
    keeps_order : bool
        Whether entries come in the order that they were written in.
    recognizes : callable or None
        For stores that are folders or lie at URLs: whether a location is one.
    called : str or None
        The name in errors; by default the file's suffix.
    """

    suffixes: tuple[str, ...]
    open: Callable[[Any, Request], AbstractContextManager[Entries]]
    in_parts: bool = False
    is_table: bool = False
    has_layers: bool = False
    keeps_order: bool = True
    recognizes: Callable[[Path | str], bool] | None = None
    called: str | None = None


def obstacle_of(dtype: np.dtype[Any]) -> str | None:
    """Say why arrays of a type can't be features; None if they can."""
    if dtype.hasobject:
        return PICKLED_ARRAY
    is_real = dtype.kind in "iuf" and dtype.itemsize <= 8
    return None if is_real else NO_NUMBERS


def native(values: NDArray[Any]) -> NDArray[Any]:
    """Convert values to the native byte order, which torch needs."""
    if values.dtype.isnative:
        return values
    return values.astype(values.dtype.newbyteorder("="))


def refuse_twice(path: Path, what: str, names: Sequence[str]) -> None:
    """Refuse a file that has two entries of one name."""
    twice = [f"{name!r}" for name, count in Counter(names).items() if count > 1]
    if twice:
        raise FileFormatError(
            f"{path} has several {what} of one name, {shorten(twice)}, which can't be told apart: "
            "give each its own name."
        )


def shorten(names: Sequence[str]) -> str:
    """Join the first 8 names of a list, and say how many are left."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def missing_package(package: str, suffix: str) -> MissingDependencyError:
    """Return the error for a format whose reader is not installed."""
    return MissingDependencyError(
        f"reading {suffix} files needs {package}, which is not installed: "
        'pip install "relspace[files]"'
    )
