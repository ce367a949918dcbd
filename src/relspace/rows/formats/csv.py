"""Tables as text: ``.csv`` with commas, ``.tsv`` with tabs, with or without a line of names."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np

from relspace._core.arguments import say_count
from relspace._core.items import ids_of_text
from relspace.errors import FileFormatError
from relspace.rows.formats._format import IDS, ONLY, Entries, Entry, FileFormat, Request, shorten
from relspace.rows.formats._tables import feature_columns, find_id_column


@contextmanager
def _open(path: Path, request: Request) -> Iterator[Entries]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = reader = csv.reader(stream, delimiter=delimiter)
        first = next((row for row in rows if row), None)
        if first is None:
            raise FileFormatError(f"{path} is empty: it has no lines with values")
        if len(first) > 1 and first == [str(i) for i in range(len(first))]:
            raise FileFormatError(
                f"{path}: the first line is 0, 1, 2, ..., which could be data or the numbers of "
                "the columns: give the columns names"
            )
        names = first
        is_named = not all(_is_number(cell) for cell in first)
        if not is_named:
            names = [f"column {i + 1}" for i in range(len(first))]
            rows = chain([first], rows)  # type: ignore[assignment]
        id_index = find_id_column(path, names, request.id_column)
        columns = feature_columns(path, names, {id_index})
        ids: list[str] = []
        values = array("d")
        n_rows = 0
        for row in rows:
            if not row:
                continue
            n_rows += 1
            if len(row) != len(names):
                raise FileFormatError(
                    f"{path}, line {reader.line_num}: {say_count(len(row), 'cell')} where "
                    f"{len(names)} are expected; cells are separated by "
                    + ("commas" if delimiter == "," else "tabs")
                )
            cells = [row[i] for i in columns]
            try:
                # float() takes digits of any script, and underscores between them.
                if not (joined := "".join(cells)).isascii() or "_" in joined:
                    raise ValueError("no number of ASCII digits")
                values.extend(map(float, cells))
            except ValueError as error:
                wrong = [i for i in columns if not _is_number(row[i])]
                raise FileFormatError(
                    f"{path}, line {reader.line_num}: {row[wrong[0]][:40]!r} is no number, in "
                    f"{shorten([repr(names[i]) for i in wrong])}: leave columns without numbers "
                    "out, or name the one that holds the ids as the id column"
                ) from error
            if id_index is not None:
                ids.append(row[id_index])
    features = np.frombuffer(values, dtype=np.float64).reshape(n_rows, len(columns))
    called = tuple(names[i] for i in columns) if is_named else None
    entries = {ONLY: Entry(features.shape, lambda: features, feature_names=called)}
    yield entries if id_index is None else entries | {IDS: Entry.of_list(ids_of_text(ids))}


def _is_number(cell: str) -> bool:
    """Whether a cell is a number in ASCII digits; Python's float() accepts more."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


FORMAT = FileFormat(suffixes=(".csv", ".tsv"), open=_open, is_table=True)
