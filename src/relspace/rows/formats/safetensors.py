"""Matrices in ``.safetensors`` files, which are mapped into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from relspace._core.arrays import readable
from relspace._core.items import ItemId
from relspace.errors import FileFormatError
from relspace.rows.formats._format import IDS, Entries, Entry, FileFormat, Request
from relspace.rows.identity import Identity, identify_file
from relspace.rows.locations import Locations, reading
from relspace.rows.source import RowSource, check_matrix, torch_dtype

# Types, by their names in the files, that are read without conversion.
_READ_AS_THEY_STAND = {
    *("F16", "BF16", "F32", "F64"),
    *("U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"),
}


class SafetensorsRows(RowSource):
    """Rows of a tensor in a safetensors file."""

    lies_in = "files"

    def __init__(self, path: str | Path, key: str, ids: tuple[ItemId, ...] | None = None) -> None:
        self.path, self.key, self.ids = Path(path), key, ids
        with reading(path), self._open() as file:
            part = file.get_slice(key)
            shape = tuple(part.get_shape())
            check_matrix(shape)
            self.shape = (int(shape[0]), int(shape[1]))
            self.dtype = torch_dtype(part[:0].dtype)

    def _open(self) -> Any:
        # Opened for every block, so that the pages of the file can be released.
        return safe_open(self.path, framework="pt")

    def read(self, start: int, stop: int) -> torch.Tensor:
        with reading(self.path), self._open() as file:
            return readable(file.get_slice(self.key)[start:stop].clone(), "the features")

    def locations(self) -> Locations:
        return (self.path,)

    def identity(self) -> Identity:
        return identify_file(self.path, self.key)


@contextmanager
def _open(path: Path, request: Request) -> Iterator[Entries]:
    with safe_open(path, framework="pt") as file:
        entries = {key: _entry(path, file, key) for key in file.keys()}  # noqa: SIM118
        # Tensors hold no text, so text ids travel as a JSON list in the metadata.
        metadata = file.metadata() or {}
        if IDS in metadata and IDS not in entries:
            ids = json.loads(metadata[IDS])
            if not isinstance(ids, list):
                raise FileFormatError(f'{path}: the metadata entry "{IDS}" must be a JSON list')
            entries[IDS] = Entry.of_list(ids)
        yield entries


def _entry(path: Path, file: Any, key: str) -> Entry:
    part = file.get_slice(key)
    return Entry(
        tuple(part.get_shape()),
        lambda: readable(file.get_tensor(key), key),
        _obstacle(part.get_dtype()),
        rows=lambda ids: SafetensorsRows(path, key, ids),
    )


def _obstacle(kind: str) -> str | None:
    if kind in _READ_AS_THEY_STAND:
        return None
    if kind.startswith(("F8", "F6", "F4")):
        return (
            f"holds values of type {kind}, floats of few bits, which are numbers only together "
            "with their scale: convert them by tensor.to(torch.float32), multiply them by their "
            "scale if any, and save them again"
        )
    if kind == "BOOL":
        return "holds values of type BOOL: save 0 and 1 as numbers, tensor.float()"
    return f"holds values of type {kind}, which are no real numbers"


FORMAT = FileFormat(
    suffixes=(".safetensors",), open=_open, in_parts=True, has_layers=True, keeps_order=False
)
