"""``.npz`` archives of arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relspace.errors import FileFormatError
from relspace.rows.formats._format import (
    PICKLED_ARRAY,
    Entries,
    Entry,
    FileFormat,
    Request,
    native,
    obstacle_of,
    refuse_twice,
)
from relspace.rows.formats.npy import read_npy_header


@contextmanager
def _open(path: Path, request: Request) -> Iterator[Entries]:
    # zipfile, not numpy.load, because the headers tell the shapes without loading the arrays.
    with zipfile.ZipFile(path) as archive:

        def entry(member: zipfile.ZipInfo) -> Entry:
            with archive.open(member) as stream:
                shape, dtype = read_npy_header(stream)
            # A header may claim more than the file has; nothing may be allocated for it then.
            if not dtype.hasobject and dtype.itemsize * prod(shape) > member.file_size:
                raise ValueError(f"{member.filename} is shorter than its header says")

            def load() -> NDArray[Any]:
                if dtype.hasobject:
                    raise FileFormatError(f"{path}::{_key(member)} {PICKLED_ARRAY}")
                with archive.open(member) as stream:
                    values: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
                return native(values)

            return Entry(shape, load, obstacle_of(dtype))

        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        refuse_twice(path, "entries", [_key(info) for info in members])
        yield {_key(info): entry(info) for info in members}


def _key(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


FORMAT = FileFormat(suffixes=(".npz",), open=_open, has_layers=True)
