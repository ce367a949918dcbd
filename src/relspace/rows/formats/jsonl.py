"""JSON lines (``.jsonl``): one object in each line, with vectors as lists of numbers."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from relspace._core.arguments import say_count
from relspace.errors import FileFormatError
from relspace.rows.formats._format import IDS, NO_NUMBERS, Entries, Entry, FileFormat, Request
from relspace.rows.formats._tables import find_id_column


class _Column:
    """The vectors of one field, up to the first value that is not a vector."""

    def __init__(self, name: str, width: int) -> None:
        self.name, self.width = name, width
        self.values, self.n_rows = array("d"), 0
        self.obstacle: str | None = None

    def add(self, row: int, vector: object) -> None:
        """Take the vector of the next row."""
        self.n_rows += 1
        if self.obstacle is None:
            self.obstacle = self._obstacle(row, vector)
        if self.obstacle is None:
            self.values.extend(vector)  # type: ignore[arg-type]

    def _obstacle(self, row: int, vector: object) -> str | None:
        if not isinstance(vector, list) or not all(type(one) in (int, float) for one in vector):
            if row == 0:
                return NO_NUMBERS
            return f"has a missing value or one that is no number in row {row}"
        if len(vector) != self.width:
            return (
                f"has vectors of different lengths: row {row} has "
                f"{say_count(len(vector), 'number')}, and row 0 has {self.width}"
            )
        if not all(map(isfinite, vector)):
            return f"holds NaN or infinite values, the first in row {row}"
        return None

    def entry(self) -> Entry:
        """The entry that the vectors make."""
        shape = (self.n_rows, self.width)
        if self.obstacle not in (None, NO_NUMBERS):
            # It was meant as features, so that no other field is chosen instead.
            return Entry(None, lambda: (), self.obstacle)
        features = np.frombuffer(self.values, dtype=np.float64)
        return Entry(shape, lambda: features.reshape(shape), self.obstacle)


@contextmanager
def _open(path: Path, request: Request) -> Iterator[Entries]:
    columns: dict[str, _Column] = {}
    ids: list[object] = []
    id_name: str | None = None
    with path.open(encoding="utf-8-sig") as stream:
        lines = ((number, line) for number, line in enumerate(stream, 1) if line.strip())
        for row, (number, line) in enumerate(lines):
            found = _object(path, number, line)
            if row == 0:
                names = list(found)
                index = find_id_column(path, names, request.id_column)
                id_name = None if index is None else names[index]
                columns = {
                    name: _Column(name, len(value))
                    for name, value in found.items()
                    if isinstance(value, list) and name != id_name
                }
            for name, column in columns.items():
                column.add(row, found.get(name))
            if id_name is not None:
                if id_name not in found:
                    raise FileFormatError(f"{path}, line {number}: there is no {id_name!r}")
                ids.append(found[id_name])
    entries = {name: column.entry() for name, column in columns.items()}
    yield entries if id_name is None else entries | {IDS: Entry.of_list(ids)}


def _object(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line, object_pairs_hook=_fields)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}, line {number}: this is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise FileFormatError(f"{path}, line {number}: each line must be one JSON object")
    return found


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is there twice")
    return found


FORMAT = FileFormat(suffixes=(".jsonl",), open=_open, is_table=True, has_layers=True)
