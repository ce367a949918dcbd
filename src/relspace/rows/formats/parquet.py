"""Parquet files: columns of numbers, or columns of vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relspace.rows.formats._format import Entries, FileFormat, Request
from relspace.rows.formats._tables import BatchRows, entries_of_columns, import_arrow

# Bytes of a column that are read from the disk at a time.
_BUFFER_BYTES = 2**16


class ParquetRows(BatchRows):
    """Rows of columns of a Parquet file; a row group can only be decoded from its beginning."""

    def _open(self) -> tuple[Any, Sequence[int]]:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(self.path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        groups = range(self._file.num_row_groups)
        return self._file.schema_arrow, [self._file.metadata.row_group(i).num_rows for i in groups]

    def _stream(self, group: int, batch_rows: int) -> Iterator[Any]:
        found: Iterator[Any] = self._file.iter_batches(
            batch_size=batch_rows,
            row_groups=range(group, self._file.num_row_groups),
            columns=list(self.columns),
            use_threads=False,
        )
        return found


@contextmanager
def _open(path: Path, request: Request) -> Iterator[Entries]:
    import_arrow(path.suffix)
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:

        def load(name: str) -> list[object]:
            return file.read(columns=[name]).column(0).to_pylist()  # type: ignore[no-any-return]

        schema = file.schema_arrow
        yield entries_of_columns(path, schema, request, ParquetRows, load)


FORMAT = FileFormat(
    suffixes=(".parquet",), open=_open, in_parts=True, is_table=True, has_layers=True
)
