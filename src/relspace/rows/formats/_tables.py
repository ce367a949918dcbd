"""Rows of a Parquet file, decoded a few at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.validation import ItemId
from relspace.errors import FileFormatError
from relspace.rows.identity import Identity, identify_file
from relspace.rows.locations import Locations
from relspace.rows.source import RowSource, reading, tensor_of, torch_dtype

_BATCH_BYTES = 2**22
# Of each column's part of a row group, what is read from the disk at a time.
_BUFFER_BYTES = 2**16


class ParquetRows(RowSource):
    """Rows of the columns of a Parquet file that hold features.

    A row group can only be decoded from its beginning, so that reading in order is fast; blocks
    that follow each other go on where the last one ended.

    Parameters
    ----------
    path : str or Path
        The file.
    columns : sequence of str
        Columns of numbers.
    ids : tuple, optional
        One id for each row.
    """

    lies_in = "files"

    def __init__(
        self, path: str | Path, columns: Sequence[str], ids: tuple[ItemId, ...] | None = None
    ) -> None:
        self.path, self.ids = Path(path), ids
        self._columns = self.feature_names = tuple(columns)
        self._file: Any = None
        with reading(path):
            file = self._opened()
            schema = file.schema_arrow
        counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.shape = (int(self._starts[-1]), len(self._columns))
        kinds = [schema.field(name).type.to_pandas_dtype() for name in self._columns]
        self.stored: np.dtype[Any] = np.result_type(*kinds)
        self.dtype = torch_dtype(self.stored)
        self._lock = threading.Lock()
        self._batches: Iterator[Any] = iter(())
        self._position, self._rest = -1, np.empty((0, self.shape[1]), dtype=self.stored)

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetRows, (self.path, self._columns, self.ids)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return some rows."""
        return tensor_of(self.read_array(start, stop))

    def identity(self) -> Identity:
        """That of the file, and the names of the columns."""
        return identify_file(self.path, list(self._columns))

    def locations(self) -> Locations:
        """The file."""
        return (self.path,)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.read_array(0, self.shape[0]).astype(dtype or self.stored, copy=False)

    def read_array(self, start: int, stop: int) -> NDArray[Any]:
        """Return some rows in the type that holds the values of all columns.

        Raises
        ------
        FileFormatError
            If values are missing.
        """
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        out = np.empty((max(0, stop - start), self.shape[1]), dtype=self.stored)
        with self._lock, reading(self.path):
            if len(out) and not self._lies_ahead(start):
                self._seek(start)
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

    def _opened(self) -> Any:
        import pyarrow.parquet as pq

        if self._file is None:
            self._file = pq.ParquetFile(self.path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        return self._file

    def _lies_ahead(self, start: int) -> bool:
        """Whether a row is the next one, or comes after it in the same row group."""
        if not 0 <= self._position <= start:
            return False
        return start == self._position or self._group(start) == self._group(self._position)

    def _group(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1

    def _seek(self, row: int) -> None:
        group = self._group(row)
        self._batches = self._opened().iter_batches(
            batch_size=max(1, _BATCH_BYTES // (8 * self.shape[1])),
            row_groups=range(group, len(self._starts) - 1),
            columns=list(self._columns),
            use_threads=False,
        )
        self._position, self._rest = int(self._starts[group]), self._rest[:0]

    def _array(self, batch: Any, first_row: int) -> NDArray[Any]:
        rows = np.empty((batch.num_rows, self.shape[1]), dtype=self.stored)
        for number, name in enumerate(self._columns):
            column = batch.column(name)
            if column.null_count:
                row = first_row + int(np.flatnonzero(np.asarray(column.is_null()))[0])
                raise FileFormatError(
                    f"{self.path} has missing values, the first in row {row} of {name!r}: fill "
                    "them in, or leave the rows out"
                )
            rows[:, number] = column.to_numpy()
        return rows
