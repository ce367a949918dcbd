"""Tables whose rows and columns have labels, as pandas, polars, Arrow, xarray and AnnData hold.

Such a table is three things: features, the labels of its rows, which are the ids of items, and the
names of its columns, which are the names of features.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from relspace._core.arguments import name_some, say_count
from relspace._core.arrays import refuse_missing, tensor_from
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError

#: Columns with these names (in any case) hold ids and never features.
ID_COLUMNS = ("id", "ids")
# Other names of coordinates and levels that hold ids, alone or followed by "_id" or "_name".
_ITEMS = (
    "item",
    "image",
    "stimulus",
    "sentence",
    "text",
    "word",
    "trial",
    "sample",
    "cell",
    "name",
)
_WAYS_OUT = ("give {ids}", "match rows by position with {ids='position'}")
# How pandas calls a level of an index that has no name, where it becomes a column.
_INDEX_LEVEL = re.compile(r"__index_level_\d+__")
_ENDS = ("_id", "_ids", "_name", "_names")


@dataclass(frozen=True)
class LabelledTable:
    """A table of features with labels.

    Attributes
    ----------
    n_rows : int
        How many rows there are.
    read_labels : callable
        Gives the labels of the rows, as they are, or None if there are none.
    feature_names : tuple or None
        Names of the columns that hold features.
    read_features : callable
        Gives the features without labels, as :func:`relspace._core.arrays.tensor_from` takes them.
    """

    n_rows: int
    read_labels: Callable[[], Sequence[object] | None]
    feature_names: tuple[Hashable, ...] | None
    read_features: Callable[[], object]


@runtime_checkable
class NamesFeatures(Protocol):
    """An object that has names for its columns, such as a table or a source of rows."""

    @property
    def feature_names(self) -> Sequence[Hashable] | None:
        """One name for each column, or None."""


def as_labelled_table(features: object, name: str) -> LabelledTable | None:
    """Return features as a table with labels; None if they have none.

    Tables are recognised by their attributes, so that no library is imported. Tables that are
    computed later (Dask) or hold several arrays are refused, as are those with several candidates
    for ids.
    """
    if isinstance(features, torch.Tensor | np.ndarray):
        # Looking for attributes that they lack takes longer than a small affinity matrix.
        return None
    if _offers(features, "data_vars"):
        raise InvalidTypeError(
            f"{name} is a {type(features).__name__} of several arrays; give one of them."
        )
    if _offers(features, "obs_names", "var_names", "X"):
        return _of_anndata(features, name)
    if _offers(features, "coords", "dims", "values"):
        return _of_xarray(features, name)
    if _offers(features, "iloc", "columns", "index"):
        if hasattr(features, "compute"):
            raise InvalidTypeError(
                f"{name} is a {type(features).__name__} that is computed later, and the labels of "
                "its rows with it: compute it first, or give its values as a Dask array."
            )
        return _of_pandas(features, name)
    if _offers(features, "get_column", "null_count", "schema"):
        return _of_polars(features, name)
    if _offers(features, "schema", "column", "num_rows", "to_pydict"):
        return _of_arrow(features, name)
    return None


def labels_of_tables(tables: Sequence[LabelledTable]) -> list[object] | None:
    """Return the labels of tables that follow each other; None where rows are only counted.

    Row numbers, which pandas gives to every frame, identify no item. They may continue from one
    table to the next, or begin again.
    """
    labels = [table.read_labels() for table in tables]
    if all(
        one is None or counts_rows(one, table.n_rows)
        for one, table in zip(labels, tables, strict=True)
    ):
        return None
    if any(one is None for one in labels):
        number = next(i for i, one in enumerate(labels) if one is None)
        raise InvalidInputError(
            f"part {number} has no labels of its rows and others have: give them to all parts, or "
            "to none."
        )
    joined = [label for one in labels for label in one or ()]
    return None if counts_rows(joined, len(joined)) else joined


def id_columns(columns: Sequence[object]) -> list[int]:
    """Return the numbers of the columns called like ids."""
    return [
        number
        for number, column in enumerate(columns)
        if isinstance(column, str) and column.casefold() in ID_COLUMNS
    ]


def only_id_column(
    name: str,
    columns: Sequence[object],
    found: Sequence[int],
    ways_out: Sequence[str] = ("rename all but one", "drop all but one"),
) -> int | None:
    """Return the number of the only column that may hold ids, or None; several are refused."""
    if len(found) > 1:
        raise InvalidInputError(
            f"{name} has {len(found)} columns that could hold the ids, "
            f"{_listed(columns[number] for number in found)}.",
            ways_out=ways_out,
        )
    return found[0] if found else None


def find_id_column(columns: Sequence[object], name: str) -> int | None:
    """Return the number of the column called like ids, or None; several are refused."""
    return only_id_column(name, columns, id_columns(columns))


def _offers(features: object, *attributes: str) -> bool:
    # Looked up on the type: an attribute may be computed when it is asked for.
    kind = type(features)
    return all(hasattr(kind, one) for one in attributes)


def counts_rows(labels: Sequence[object], n_rows: int) -> bool:
    """Whether labels are the row numbers 0, 1, 2, ..."""
    if isinstance(labels, range):
        return labels == range(n_rows)
    return len(labels) == n_rows and all(
        type(label) is int and label == row for row, label in enumerate(labels)
    )


def _of_pandas(frame: Any, name: str) -> LabelledTable:
    columns = list(frame.columns)
    id_column = find_id_column(columns, name)
    kept = [number for number in range(len(columns)) if number != id_column]

    def read_labels() -> Sequence[object] | None:
        own = _labels_of_index(frame.index, name, "index")
        if id_column is None:
            return own
        if not counts_rows(own, len(frame)):
            raise _labels_twice(name, columns[id_column])
        return list(frame.iloc[:, id_column].tolist())

    return LabelledTable(
        len(frame),
        read_labels,
        tuple(columns[number] for number in kept),
        lambda: frame if id_column is None else frame.iloc[:, kept],
    )


def _labels_twice(name: str, column: object) -> InvalidInputError:
    return InvalidInputError(
        f"{name} has labels in its index and in its column {column!r}.",
        ways_out=[
            "drop one of them, as by frame.reset_index(drop=True)",
            "match rows by position with {ids='position'}",
        ],
    )


def _labels_of_index(index: Any, name: str, called: str) -> Sequence[object]:
    if getattr(index, "nlevels", 1) > 1:
        levels = {
            str(level): list(index.get_level_values(number).tolist())
            for number, level in enumerate(index.names)
        }
        return _labels_of_levels(levels, name, f"{called} of {index.nlevels} levels")
    if all(hasattr(index, one) for one in ("start", "stop", "step")):
        return range(index.start, index.stop, index.step)
    return list(index.tolist())


def _labels_of_levels(
    levels: Mapping[str, Sequence[object]], name: str, called: str
) -> Sequence[object]:
    if (chosen := _choose_labels(levels, name)) is not None:
        return chosen
    raise InvalidInputError(
        f"{name} has an {called}, {_listed(levels)}, none of which is "
        "called like ids and tells all items apart.",
        ways_out=[
            "join the levels into one, as by "
            'frame.set_axis(["/".join(map(str, one)) for one in frame.index])',
            *_WAYS_OUT,
        ],
    )


def _choose_labels(columns: Mapping[str, Sequence[object]], name: str) -> Sequence[object] | None:
    """Choose the ids among labels of items: those named like ids, or the only text, or None.

    Only labels that are unique can be ids; several candidates are refused.
    """
    unique = {
        column: labels
        for column, labels in columns.items()
        if all(isinstance(one, str | int) and not isinstance(one, bool) for one in labels)
        and len(set(labels)) == len(labels)
    }
    called = {column: labels for column, labels in unique.items() if _is_called_like_ids(column)}
    texts = {
        column: labels
        for column, labels in unique.items()
        if any(isinstance(one, str) for one in labels)
    }
    found = called or texts
    if len(found) > 1:
        raise InvalidInputError(
            f"{name} has {len(found)} coordinates that could hold the ids of items, "
            f"{_listed(found)}.",
            ways_out=["drop all but one", *_WAYS_OUT],
        )
    return next(iter(found.values()), None)


def _is_called_like_ids(column: str) -> bool:
    plain = column.casefold()
    stem = next((plain.removesuffix(end) for end in _ENDS if plain.endswith(end)), plain)
    return plain in ID_COLUMNS or stem in _ITEMS or stem.removesuffix("s") in _ITEMS


def _listed(columns: Iterable[object]) -> str:
    return ", ".join(map(repr, columns))


def _of_xarray(array: Any, name: str) -> LabelledTable:
    dims = list(array.dims)

    def read_labels() -> Sequence[object] | None:
        if not dims:
            return None
        own = None
        if dims[0] in array.coords:
            index = array.coords[dims[0]].to_index()
            own = _labels_of_index(index, name, f"index {dims[0]!r}")
        if own is not None and not counts_rows(own, len(own)):
            return own
        beside = {
            str(key): list(coord.values.tolist())
            for key, coord in array.coords.items()
            if key != dims[0] and coord.dims == (dims[0],)
        }
        return _choose_labels(beside, name) or own

    names = None
    if len(dims) == 2 and dims[1] in array.coords:
        index = array.coords[dims[1]].to_index()
        names = tuple(index.tolist())
    n_rows = int(array.shape[0]) if dims else 0
    return LabelledTable(n_rows, read_labels, names, lambda: array.values)


def _of_anndata(data: Any, name: str) -> LabelledTable:
    n_rows = int(data.X.shape[0])

    def read_labels() -> Sequence[object] | None:
        labels = list(data.obs_names)
        if labels != [str(row) for row in range(n_rows)]:
            return labels
        # Without names AnnData counts, in text; what is said of the rows may still name them.
        beside = data.obs if _offers(data, "obs") else {}
        return _choose_labels({str(key): list(beside[key].tolist()) for key in beside}, name)

    def read_features() -> object:
        if hasattr(data.X, "toarray"):
            raise InvalidTypeError(
                f"{name} holds a sparse matrix; make it dense first: data.X = data.X.toarray()."
            )
        return data.X

    return LabelledTable(n_rows, read_labels, tuple(data.var_names), read_features)


def _of_polars(frame: Any, name: str) -> LabelledTable:
    columns = list(frame.columns)
    id_column = find_id_column(columns, name)
    kept = [number for number in range(len(columns)) if number != id_column]
    names = [columns[number] for number in kept]

    def read_features() -> object:
        series = [frame.get_column(one) for one in names]
        for label, one in zip(names, series, strict=True):
            if not (one.dtype.is_integer() or one.dtype.is_float()):
                raise InvalidTypeError(
                    f"column {label!r} of {name} holds values of type {one.dtype}; features must "
                    "be real numbers: leave this column out, or convert it by .cast(float)."
                )
        if any(one.null_count() for one in series):
            missing = np.stack([one.is_null().to_numpy() for one in series], axis=1)
            refuse_missing(missing, name, "missing values (nulls)", "fill", columns=names)
        return np.stack([one.to_numpy() for one in series], axis=1)

    return LabelledTable(
        len(frame),
        lambda: None if id_column is None else frame.get_column(columns[id_column]).to_list(),
        tuple(names),
        read_features,
    )


def _of_arrow(table: Any, name: str) -> LabelledTable:
    columns = list(table.schema.names)
    id_column = find_id_column(columns, name)
    index = [one for one in index_columns(table.schema) if one != _at(columns, id_column)]
    kept = [i for i, one in enumerate(columns) if i != id_column and one not in index]

    def read_labels() -> Sequence[object] | None:
        levels = {one: table.column(one).to_pylist() for one in index}
        if id_column is None:
            if len(levels) > 1:
                return _labels_of_levels(levels, name, f"index of {len(levels)} levels")
            return next(iter(levels.values()), None)
        if any(not counts_rows(one, table.num_rows) for one in levels.values()):
            raise _labels_twice(name, columns[id_column])
        labels: list[object] = table.column(id_column).to_pylist()
        return labels

    return LabelledTable(
        int(table.num_rows),
        read_labels,
        tuple(columns[number] for number in kept),
        lambda: table if len(kept) == len(columns) else table.select(kept),
    )


def _at(columns: Sequence[str], number: int | None) -> str | None:
    return None if number is None else columns[number]


def index_columns(schema: Any) -> list[str]:
    """The columns of an Arrow schema in which pandas keeps the index of a frame."""
    said = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", ())
    return [name for name in schema.names if name in said or is_index_name(name)]


def is_index_name(column: str) -> bool:
    """Whether a column is called as pandas calls an index without a name."""
    return not column or _INDEX_LEVEL.fullmatch(column) is not None


def without_labels(features: object, name: str) -> object:
    """Return the features that a table with labels holds, without them; else what was given."""
    table = as_labelled_table(features, name)
    return features if table is None else tensor_from(table.read_features(), name)[0].numpy()


def feature_names(features: object) -> tuple[str, ...] | None:
    """Return the names of the features, where they are columns of a table; None if they have none.

    Numbers that only count columns are no names.
    """
    table = as_labelled_table(features, "the features") or features
    names = table.feature_names if isinstance(table, NamesFeatures) else None
    if names is None or all(name == number for number, name in enumerate(names)):
        return None
    return tuple(map(str, names))


def refuse_other_features(
    found: tuple[str, ...] | None, wanted: tuple[str, ...] | None, name: str
) -> None:
    """Refuse features whose names differ from those wanted, or are in another order."""
    if found is None or wanted is None or found == wanted:
        return
    if sorted(found) == sorted(wanted):
        column = next(
            i for i, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other
        )
        raise InvalidInputError(
            f"{name} has the same features in another order: column {column} is {found[column]!r} "
            f"and was {wanted[column]!r}.",
            ways_out=["bring the columns into the order that they had"],
        )
    said = [
        f"{say_count(len(ones), 'feature')} {what}: {name_some(ones)}"
        for ones, what in (
            ([one for one in wanted if one not in found], "missing"),
            ([one for one in found if one not in wanted], "new"),
        )
        if ones
    ]
    raise InvalidInputError(
        f"{name} has other features than before; {'; '.join(said) or 'some occur again'}.",
        ways_out=["give the same features in the same order"],
    )


def refuse_other_labels(X: object, Y: object, names: tuple[str, str]) -> None:
    """Refuse two tables whose labels say that rows of one number are different items."""
    tables = [as_labelled_table(Z, name) for Z, name in zip((X, Y), names, strict=True)]
    first, second = (None if one is None else labels_of_tables([one]) for one in tables)
    if first is not None and second is not None and list(first) != list(second):
        raise ItemMismatchError(
            f"the rows of {names[0]} and {names[1]} have different labels, or the same in another "
            "order, and they are compared row by row.",
            ways_out=[
                "bring them into one order",
                "use relspace.compare, which matches rows by their labels",
            ],
        )
