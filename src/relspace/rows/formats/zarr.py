"""Zarr arrays and groups, in folders or at URLs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.items import ItemId, as_ids
from relspace.errors import FileFormatError, MissingDependencyError
from relspace.rows.formats._format import (
    IDS,
    ONLY,
    Entries,
    Entry,
    FileFormat,
    Request,
    obstacle_of,
)
from relspace.rows.formats.memory import identify_stored
from relspace.rows.identity import Identity, hash_rows, identify_url
from relspace.rows.ledger import KEY, ROWS
from relspace.rows.locations import Locations, is_url, located, reading
from relspace.rows.source import RowSource, check_matrix, tensor_of, torch_dtype


class ZarrRows(RowSource):
    """Rows of a Zarr array, or of the array ``key`` of a group, in a folder or at a URL.

    Their ids are by default those in the group.
    """

    lies_in = "files"
    is_array = True

    def __init__(
        self, path: str | Path, key: str | None = None, ids: tuple[ItemId, ...] | None = None
    ) -> None:
        self.path = str(path)
        with reading(path, "Zarr"):
            node = _open_node(path)
            self.attributes = dict(node.attrs)
            self._array = node if key is None else node[key]
            if ids is None and key is not None and IDS in node:
                ids = as_ids(np.asarray(node[IDS][...]), str(path), self._array.shape[0])
            self.ids = ids
            check_matrix(self._array.shape)
            self.shape = (int(self._array.shape[0]), int(self._array.shape[1]))
            self.dtype = torch_dtype(self._array.dtype)
            self.chunk_rows = int(self._array.chunks[0])
        own = self._array.path.rpartition("/")[2]
        self._is_output = KEY in self.attributes and own == ROWS

    def read(self, start: int, stop: int) -> torch.Tensor:
        with reading(self.path, "Zarr"):
            return tensor_of(self.read_array(slice(start, stop)))

    def read_array(self, rows: slice) -> NDArray[Any]:
        """Return some rows as they are stored."""
        values = np.asarray(self._array[rows])
        # Outputs hold no NaN: it is the fill value, which Zarr gives for missing chunks.
        if self._is_output and (missing := np.isnan(values[:, 0])).any():
            first = rows.indices(self.shape[0])[0] + int(missing.argmax())
            raise FileFormatError(
                f"{self.path} is unfinished or damaged: row {first} is missing.",
                ways_out=["write it again"],
            )
        return values

    def identity(self) -> Identity:
        if isinstance(location := located(self.path), str):
            return identify_url(f"{location.rstrip('/')}/{self._array.path}".rstrip("/"))
        return identify_stored(self._array) or hash_rows(self)

    def locations(self) -> Locations:
        return (located(self.path),)

    def __repr__(self) -> str:
        return f"ZarrRows({self.path}: {self.shape[0]} x {self.shape[1]}, {self._array.dtype})"


def import_zarr() -> Any:
    """Return the module zarr, or say which extra installs it."""
    try:
        import zarr
    except ImportError as error:
        raise MissingDependencyError(
            "Zarr stores need zarr: pip install 'relspace[files]'."
        ) from error
    return zarr


def is_zarr(location: Path | str) -> bool:
    """Whether a location is read as Zarr: a URL, or a folder by its suffix or content."""
    if isinstance(location, str):
        return True
    if location.suffix.lower() == ".zarr" and not location.is_file():
        return True
    return any((location / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def _open_node(path: Path | str) -> Any:
    zarr = import_zarr()
    if not is_url(path) and not Path(path).exists():
        raise FileFormatError(f"there is no Zarr array or group {path}.")
    return zarr.open(str(path), mode="r")


@contextmanager
def _open(path: Path | str, request: Request) -> Iterator[Entries]:
    zarr = import_zarr()
    node = _open_node(path)
    if isinstance(node, zarr.Array):
        yield {ONLY: _entry(path, node, None)}
        return
    header = dict(node.attrs).get(KEY)
    if isinstance(header, dict) and header.get("kind") == "feature set":
        raise FileFormatError(f"{path} is a feature store, which relspace.features opens.")
    arrays = dict(sorted(node.arrays()))
    if request.key is not None and isinstance(chosen := node.get(request.key), zarr.Array):
        # In a subgroup.
        arrays[request.key] = chosen
    yield {name: _entry(path, array, name) for name, array in arrays.items()}


def _entry(path: Path | str, array: Any, key: str | None) -> Entry:
    if key == IDS:
        return Entry(array.shape, lambda: np.asarray(array[...]), obstacle_of(array.dtype))
    return Entry(
        array.shape,
        lambda: ZarrRows(path, key).read_array(slice(None)),
        obstacle_of(array.dtype),
        rows=lambda ids: ZarrRows(path, key, ids),
    )


FORMAT = FileFormat(
    suffixes=(".zarr",),
    open=_open,
    in_parts=True,
    has_layers=True,
    keeps_order=False,
    recognizes=is_zarr,
    called="Zarr",
)
