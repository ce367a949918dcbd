"""``.npy`` files, with the ids of their rows in a JSON file beside them.

Beside ``NAME.npy`` lies ``NAME.ids.json``, which keeps numbers and text apart:
``{"kind": "ids", "rows": n, "ids": [...]}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from relspace._core.files import write_whole
from relspace._core.items import ItemId
from relspace.errors import FileFormatError
from relspace.rows.formats._format import (
    IDS,
    NO_NUMBERS,
    ONLY,
    Entries,
    Entry,
    FileFormat,
    Request,
    native,
    obstacle_of,
)
from relspace.rows.identity import Identity, identify_file
from relspace.rows.locations import Locations, reading
from relspace.rows.source import RowSource, check_matrix, tensor_of, torch_dtype

_KIND = "ids"


class NpyRows(RowSource):
    """Rows of an ``.npy`` file, with the ids of the file beside it unless others are given.

    The file is read rather than mapped, so that no more memory is used than for the rows.
    """

    lies_in = "files"
    is_array = True

    def __init__(self, path: str | Path, ids: tuple[ItemId, ...] | None = None) -> None:
        with reading(path):
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            check_matrix(mapped.shape)
        if mapped.flags.f_contiguous and not mapped.flags.c_contiguous:
            raise FileFormatError(
                f"{path} is stored column by column, so that its rows can't be read in parts; "
                "save it again: np.save(path, np.ascontiguousarray(array))."
            )
        self.path = Path(path)
        self.shape = (int(mapped.shape[0]), int(mapped.shape[1]))
        self.dtype = torch_dtype(mapped.dtype)
        self.ids = read_ids(path, self.shape[0]) if ids is None else ids
        self._stored, self._offset = mapped.dtype, int(mapped.offset)

    def read(self, start: int, stop: int) -> torch.Tensor:
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        width = self.shape[1]
        offset = self._offset + start * width * self._stored.itemsize
        count = max(0, stop - start) * width
        with reading(self.path):
            rows = np.fromfile(self.path, dtype=self._stored, count=count, offset=offset)
            # Fails if the file has become shorter.
            return tensor_of(rows.reshape(max(0, stop - start), width))

    def locations(self) -> Locations:
        ids = ids_file_of(self.path)
        return (self.path, ids) if ids.is_file() else (self.path,)

    def identity(self) -> Identity:
        return identify_file(self.path)


def read_npy_header(stream: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the shape and type of an array from its header."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_2_0
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    shape, _, dtype = read(stream)
    return shape, dtype


def ids_file_of(path: str | Path) -> Path:
    """Return the location of the ids of an ``.npy`` file."""
    return Path(path).with_suffix(".ids.json")


def write_ids(path: str | Path, ids: Sequence[ItemId] | None) -> None:
    """Write the ids beside an ``.npy`` file; None removes those that are there."""
    location = ids_file_of(path)
    if ids is None:
        location.unlink(missing_ok=True)
        return
    write_whole(location, json.dumps({"kind": _KIND, "rows": len(ids), "ids": list(ids)}))


def refuse_other_file(path: str | Path) -> None:
    """Refuse an ``.npy`` output whose ids would overwrite a file that holds something else."""
    beside = ids_file_of(path)
    if not beside.exists():
        return
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("kind") != _KIND:
        raise FileFormatError(
            f"{beside}, where ids of the output's rows go, holds something else.",
            ways_out=["name another output"],
        )


def read_ids(path: str | Path, n_rows: int) -> tuple[ItemId, ...] | None:
    """Read the ids beside an ``.npy`` file; None if there are none."""
    location = ids_file_of(path)
    if not location.is_file():
        return None
    ways_out = ["remove it", "name the ids with {ids}"]
    try:
        found = json.loads(location.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(
            f"{location} can't be read as ids ({error}).", ways_out=ways_out
        ) from error
    ids = found.get("ids") if isinstance(found, dict) and found.get("kind") == _KIND else None
    if not isinstance(ids, list) or {type(item) for item in ids} not in ({int}, {str}):
        raise FileFormatError(
            f"{location} holds no list of ids that are all text or all whole numbers.",
            ways_out=ways_out,
        )
    if len(ids) != n_rows:
        raise FileFormatError(
            f"{location} holds {len(ids)} ids, and {Path(path).name} beside it {n_rows} rows.",
            ways_out=ways_out,
        )
    return tuple(ids)


@contextmanager
def _open(path: Path, request: Request) -> Iterator[Entries]:
    with path.open("rb") as stream:
        shape, dtype = read_npy_header(stream)
    entries = {
        ONLY: Entry(
            shape,
            lambda: native(np.lib.format.open_memmap(path, mode="c")),
            obstacle_of(dtype),
            rows=lambda ids: NpyRows(path, ids),
        )
    }
    if shape and ids_file_of(path).is_file():
        entries[IDS] = Entry(shape[:1], lambda: read_ids(path, shape[0]) or (), NO_NUMBERS)
    yield entries


FORMAT = FileFormat(suffixes=(".npy",), open=_open, in_parts=True)
