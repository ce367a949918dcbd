"""Columns of tables: which hold ids and which features, and rows decoded batch by batch."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.items import ItemId
from relspace._core.labelled_tables import (
    ID_COLUMNS,
    counts_rows,
    id_columns,
    index_columns,
    is_index_name,
    only_id_column,
)
from relspace.errors import FileFormatError, InvalidInputError
from relspace.rows.formats._format import (
    IDS,
    ONLY,
    Entries,
    Entry,
    Request,
    missing_package,
    refuse_twice,
    shorten,
)
from relspace.rows.identity import Identity, identify_file
from relspace.rows.locations import Locations, reading
from relspace.rows.source import RowSource, tensor_of, torch_dtype

#: Bytes that are decoded at a time, about.
BATCH_BYTES = 2**22
_NAME_ONE = ("name one by {id_column}", "rename the others")


class BatchRows(RowSource):
    """Rows of columns of an Arrow table in a file, decoded batch by batch.

    Columns of numbers are one feature each; otherwise there is one column of vectors. Reading in
    order is fast, because decoding continues from one block to the next.
    """

    lies_in = "files"
    is_array = True

    def __init__(
        self, path: str | Path, columns: Sequence[str], ids: tuple[ItemId, ...] | None = None
    ) -> None:
        self.path, self.columns, self.ids = Path(path), tuple(columns), ids
        with reading(path):
            schema, counts = self._open()
            self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
            kinds = [schema.field(name).type for name in self.columns]
            self._is_vector = _is_vector(kinds[0])
            if self._is_vector:
                width, kinds = self._width(kinds[0]), [kinds[0].value_type]
            else:
                width, self.feature_names = len(self.columns), self.columns
            self.stored: np.dtype[Any] = np.result_type(*[one.to_pandas_dtype() for one in kinds])
        self.shape = (int(self._starts[-1]), width)
        self.dtype = torch_dtype(self.stored)
        self._lock = threading.Lock()
        self._batches: Iterator[Any] = iter(())
        self._position, self._rest = -1, np.empty((0, width), dtype=self.stored)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.columns, self.ids)

    @abstractmethod
    def _open(self) -> tuple[Any, Sequence[int]]:
        """Open the file; return its schema, and the number of rows in each of its groups."""

    @abstractmethod
    def _stream(self, group: int, batch_rows: int) -> Iterator[Any]:
        """Decode the columns from a group on, in record batches of about ``batch_rows`` rows."""

    def read(self, start: int, stop: int) -> torch.Tensor:
        return tensor_of(self.read_array(start, stop))

    def locations(self) -> Locations:
        return (self.path,)

    def identity(self) -> Identity:
        return identify_file(self.path, list(self.columns))

    def read_array(self, start: int, stop: int) -> NDArray[Any]:
        """Return some rows in the type that holds the values of all columns.

        Missing values, and vectors that are not finite or of another length, are refused.
        """
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        out = np.empty((max(0, stop - start), self.shape[1]), dtype=self.stored)
        with self._lock, reading(self.path):
            if len(out) and not self._lies_ahead(start):
                group = self._group(start)
                self._batches = self._stream(group, max(1, BATCH_BYTES // (8 * self.shape[1])))
                self._position, self._rest = int(self._starts[group]), self._rest[:0]
            while self._position < stop and len(out):
                if not len(self._rest):
                    self._rest = self._array(next(self._batches), self._position)
                first = max(start - self._position, 0)
                taken = self._rest[first : stop - self._position]
                at = self._position + first - start
                out[at : at + len(taken)] = taken
                used = min(first + len(taken), len(self._rest))
                self._rest = self._rest[used:]
                self._position += used
        return out

    def _lies_ahead(self, start: int) -> bool:
        """Whether a row can be decoded by continuing in the same group."""
        if not 0 <= self._position <= start:
            return False
        return start == self._position or self._group(start) == self._group(self._position)

    def _group(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1

    def _width(self, kind: Any) -> int:
        """The length of the first vector, which all others must have."""
        import pyarrow as pa

        if pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        for batch in self._stream(0, 1024) if self._starts[-1] else ():
            if len(vectors := batch.column(self.columns[0]).drop_null()):
                return len(vectors[0])
        return 0

    def _array(self, batch: Any, first_row: int) -> NDArray[Any]:
        columns = [batch.column(name) for name in self.columns]
        for column, name in zip(columns, self.columns, strict=True):
            self._refuse_missing(column, name, first_row)
        if self._is_vector:
            return self._vectors(columns[0], first_row)
        rows = np.empty((batch.num_rows, self.shape[1]), dtype=self.stored)
        for number, column in enumerate(columns):
            rows[:, number] = column.to_numpy()
        return rows

    def _vectors(self, column: Any, first_row: int) -> NDArray[Any]:
        import pyarrow.compute as pc

        name, width = self.columns[0], self.shape[1]
        lengths = pc.list_value_length(column).to_numpy()
        if (other := lengths != width).any():
            row = int(other.argmax())
            raise FileFormatError(
                f"{self.path} has vectors of different lengths: in {name!r}, row "
                f"{first_row + row} has {lengths[row]} numbers, and the first has {width}"
            )
        numbers = column.flatten()
        self._refuse_missing(numbers, name, first_row, width)
        rows: NDArray[Any] = numbers.to_numpy().reshape(len(column), width)
        if not (finite := np.isfinite(rows).all(axis=1)).all():
            raise FileFormatError(
                f"{self.path} holds NaN or infinite values, the first in row "
                f"{first_row + int(finite.argmin())} of {name!r}: repair or remove these rows"
            )
        return rows

    def _refuse_missing(self, values: Any, name: str, first_row: int, width: int = 1) -> None:
        if values.null_count:
            row = first_row + int(np.asarray(values.is_null()).argmax()) // width
            raise FileFormatError(
                f"{self.path} has missing values, the first in row {row} of {name!r}: fill "
                "them in, or leave the rows out"
            )


def entries_of_columns(
    path: Path,
    schema: Any,
    request: Request,
    source: Callable[..., BatchRows],
    load_column: Callable[[str], Sequence[object]],
) -> Entries:
    """The entries of an Arrow table: every column of vectors, or else all columns of numbers.

    ``source(path, columns, ids)`` reads columns in parts, ``load_column(name)`` gives all values.
    """
    names = schema.names
    refuse_twice(path, "columns", names)
    id_index = find_id_column(path, names, request.id_column)
    index = [i for i, name in enumerate(names) if name in index_columns(schema)]
    if request.id_column is None:
        labels = {i: load_column(names[i]) for i in index if i != id_index}
        found = [i for i, one in labels.items() if not counts_rows(one, len(one))]
        found = found if id_index is None else [id_index, *found]
        id_index = only_id_column(str(path), names, found, _NAME_ONE)
    no_features = {id_index, *index}
    vectors = [i for i, kind in enumerate(schema.types) if i != id_index and _is_vector(kind)]

    def entry(columns: list[str]) -> Entry:
        whole = source(path, columns)
        return Entry(
            whole.shape,
            lambda: whole.read_array(0, whole.shape[0]),
            rows=lambda ids: source(path, columns, ids),
            feature_names=whole.feature_names,
        )

    entries = {names[i]: entry([names[i]]) for i in vectors}
    numbers = [
        repr(names[i])
        for i, kind in enumerate(schema.types)
        if i not in no_features and _is_number(kind) and names[i] not in ("", *ID_COLUMNS)
    ]
    if vectors and numbers and request.key is None and not request.every_matrix:
        raise InvalidInputError(
            f"{path} holds vectors in {shorten([repr(names[i]) for i in vectors])} and numbers in "
            f"{shorten(numbers)}, and either could be the features.",
            ways_out=["say which column of vectors by {key}"],
        )
    if not vectors:
        columns = feature_columns(path, names, no_features)
        wrong = [i for i in columns if not _is_number(schema.types[i])]
        if wrong:
            listed = shorten([f"{names[i]!r} ({schema.types[i]})" for i in wrong])
            raise FileFormatError(
                f"{path} has columns that hold no numbers: {listed}: leave them "
                "out, or name the one that holds the ids as the id column"
            )
        entries[ONLY] = entry([names[i] for i in columns])
    if id_index is not None:
        entries[IDS] = Entry.of_list(load_column(names[id_index]))
    return entries


def find_id_column(path: Path, names: Sequence[str], id_column: str | None) -> int | None:
    """Return the number of the column that holds the ids; None if none does."""
    found = id_columns(names)
    if id_column is not None:
        found = [i for i, name in enumerate(names) if name == id_column]
        if not found:
            raise InvalidInputError(
                f"{path} has no column {id_column!r} to read ids from; its columns are "
                f"{shorten([repr(name) for name in names])}"
            )
    return only_id_column(str(path), names, found, _NAME_ONE)


def feature_columns(
    path: Path, names: Sequence[str], no_features: Collection[int | None]
) -> list[int]:
    """Return the numbers of the columns that hold one feature each."""
    columns = [
        i
        for i, name in enumerate(names)
        if i not in no_features and name.casefold() not in ID_COLUMNS
    ]
    if not columns:
        raise FileFormatError(f"{path} has no columns of features beside its ids")
    for i in columns:
        # pandas gives the index of a frame this name; as a feature it would be noise.
        if is_index_name(names[i]):
            raise FileFormatError(
                f"{path}: column {i + 1} is a data frame's index, not a feature: name it as the "
                f"id column ({names[i]!r}), or write the file without index"
            )
    return columns


def import_arrow(suffix: str) -> Any:
    """Return the module pyarrow, or say which extra installs it."""
    try:
        import pyarrow
    except ImportError as error:
        raise missing_package("pyarrow", suffix) from error
    return pyarrow


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_vector(kind: Any) -> bool:
    import pyarrow as pa

    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and _is_number(kind.value_type)
