"""Arrow IPC files (``.arrow``, ``.feather``), whether written as a file or as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relspace.errors import FileFormatError
from relspace.rows.formats._format import Entries, FileFormat, Request
from relspace.rows.formats._tables import BatchRows, entries_of_columns, import_arrow

_MAGIC = b"ARROW1"


class ArrowRows(BatchRows):
    """Rows of columns of an Arrow file, of which a record batch is read at a time."""

    def _open(self) -> tuple[Any, Sequence[int]]:
        schema, batches = _schema_of(self.path), _batches(self.path, 0, [self.columns[0]])
        return schema, [batch.num_rows for batch in batches]

    def _stream(self, group: int, batch_rows: int) -> Iterator[Any]:
        for batch in _batches(self.path, group, self.columns):
            for start in range(0, batch.num_rows, batch_rows):
                yield batch.slice(start, batch_rows)


def _schema_of(path: Path) -> Any:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        return _reader(source, None).schema


def _batches(path: Path, first: int, columns: Sequence[str]) -> Iterator[Any]:
    """The record batches from one on, with some columns, checked for damage."""
    import pyarrow as pa

    schema = _schema_of(path)
    options = pa.ipc.IpcReadOptions(
        included_fields=[schema.get_field_index(name) for name in columns], use_threads=False
    )
    with pa.memory_map(str(path)) as source:
        reader = _reader(source, options)
        if isinstance(reader, pa.ipc.RecordBatchFileReader):
            found = (reader.get_batch(i) for i in range(first, reader.num_record_batches))
        else:
            found = (batch for i, batch in enumerate(reader) if i >= first)
        try:
            for batch in found:
                # Offsets of a damaged file may point anywhere.
                batch.validate(full=True)
                yield batch
        except pa.ArrowMemoryError as error:
            raise FileFormatError(
                f"{path} has a record batch that memory doesn't hold, or is damaged ({error})."
            ) from error


def _reader(source: Any, options: Any) -> Any:
    import pyarrow as pa

    magic = source.read(len(_MAGIC))
    source.seek(0)
    opened = pa.ipc.open_file if magic == _MAGIC else pa.ipc.open_stream
    return opened(source, options=options)


@contextmanager
def _open(path: Path, request: Request) -> Iterator[Entries]:
    import_arrow(path.suffix)

    def load(name: str) -> list[object]:
        batches = _batches(path, 0, [name])
        return [one for batch in batches for one in batch.column(name).to_pylist()]

    yield entries_of_columns(path, _schema_of(path), request, ArrowRows, load)


FORMAT = FileFormat(
    suffixes=(".arrow", ".feather"), open=_open, in_parts=True, is_table=True, has_layers=True
)
