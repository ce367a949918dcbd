"""Outputs written chunk by chunk that survive being killed: Zarr stores and ``.npy`` files."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._blocks import chunk_slices
from relspace._validation import ItemId
from relspace.errors import FileFormatError, InvalidInputError
from relspace.locations import file_system, missing_file_system
from relspace.row_sources import NpyRows, RowSource, ZarrRows, import_zarr

KEY = "relspace"
ROWS = "rows"
_DONE = "done"
#: Types that a result can be stored in.
STORED_TYPES = ("float16", "float32", "float64")


class RowsWriter(Protocol):
    """A matrix that is written in chunks of rows, and knows which ones it has.

    A chunk is marked as done after it was written, so that what is marked is whole.
    """

    def missing(self) -> list[slice]:
        """The chunks that are still to be written."""

    def write(self, rows: slice, values: torch.Tensor) -> None:
        """Write one of the missing chunks."""

    def finish(self) -> RowSource:
        """Close what is complete and return it as a source of rows."""


class ZarrWriter:
    """Writes rows into a Zarr group, on disk or at an fsspec URL; several processes may at once.

    The group holds ``rows`` (n, m), chunked by rows and compressed, ``done`` with one flag per
    chunk, ``ids`` where there are some, and a header among its attributes.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        root = import_zarr().open_group(path, mode="r+")
        self.header: dict[str, Any] = dict(root.attrs)[KEY]
        # Or every chunk is compared with the fill value before it is written.
        self._rows = root[ROWS].with_config({"write_empty_chunks": True})
        self._done = root[_DONE]

    @classmethod
    def create(
        cls,
        path: str,
        shape: tuple[int, int],
        dtype: str,
        chunk_rows: int,
        header: Mapping[str, Any],
        ids: Sequence[ItemId] | None,
    ) -> ZarrWriter:
        """Make an empty store; the header comes last, so that a store with one is whole."""
        zarr = import_zarr()
        root = zarr.create_group(path, overwrite=True)
        chunks = (min(chunk_rows, shape[0]), shape[1])
        root.create_array(
            ROWS,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            fill_value=float("nan"),
            compressors=[zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")],
            dimension_names=("item", "landmark"),
        )
        n_chunks = -(-shape[0] // chunks[0])
        root.create_array(
            _DONE, shape=(n_chunks,), chunks=(1,), dtype="uint8", fill_value=0, compressors=None
        )
        if ids is not None:
            values = np.asarray(ids, dtype=np.int64 if isinstance(ids[0], int) else object)
            kind = np.dtype(np.int64) if isinstance(ids[0], int) else str
            listed = root.create_array("ids", shape=(len(ids),), chunks=(len(ids),), dtype=kind)
            listed[...] = values
        root.attrs[KEY] = dict(header)
        return cls(path)

    def missing(self) -> list[slice]:
        """The chunks that are still to be written."""
        chunks = chunk_slices(self._rows.shape[0], self._rows.chunks[0])
        done = np.asarray(self._done[...])
        return [rows for rows, flag in zip(chunks, done, strict=True) if not flag]

    def has(self, rows: slice) -> bool:
        """Whether a chunk is there."""
        return bool(self._done[rows.start // self._rows.chunks[0]])

    def write(self, rows: slice, values: torch.Tensor) -> None:
        """Write one of the missing chunks."""
        self._rows[rows] = _stored(values, self._rows.dtype)
        self._done[rows.start // self._rows.chunks[0]] = 1

    def finish(self) -> RowSource:
        """Return the complete store."""
        return ZarrRows(self._path, ROWS)


class NpyWriter:
    """Writes rows into an ``.npy`` file, which has its name only when it is complete.

    Beside it lie, until then, ``.NAME.partial`` with the rows, and ``.NAME.progress`` with the
    header in its first line and a byte for each chunk that is done. The latter stays, with the time
    of the complete file, so that the same job finds it done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial, self._progress = _beside(path)
        first, _, done = self._progress.read_bytes().partition(b"\n")
        self.header: dict[str, Any] = json.loads(first)
        self._n_done = done.count(b".")
        with (self._partial if self._partial.exists() else path).open("rb") as stream:
            np.lib.format.read_magic(stream)
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            self._offset = stream.tell()
        self._shape, self._dtype = shape, dtype

    @classmethod
    def create(
        cls,
        path: Path,
        shape: tuple[int, int],
        dtype: str,
        chunk_rows: int,
        header: Mapping[str, Any],
        ids: Sequence[ItemId] | None,
    ) -> NpyWriter:
        """Begin an empty file."""
        partial, progress = _beside(path)
        progress.unlink(missing_ok=True)
        described = np.lib.format.header_data_from_array_1_0(np.empty((0, 0), dtype=dtype))
        with partial.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, {**described, "shape": shape})
        if ids is not None:
            lines = "".join(f"{item}\n" for item in ids)
            path.with_suffix(".ids.txt").write_text(lines, encoding="utf-8")
        fresh = progress.with_suffix(".new")
        fresh.write_bytes(json.dumps(dict(header)).encode() + b"\n")
        fresh.replace(progress)
        return cls(path)

    def missing(self) -> list[slice]:
        """The chunks that are still to be written; they are written in order."""
        return chunk_slices(self._shape[0], self.header["chunk_rows"])[self._n_done :]

    def write(self, rows: slice, values: torch.Tensor) -> None:
        """Write the first of the missing chunks."""
        stored = _stored(values, self._dtype)
        with self._partial.open("r+b") as stream:
            stream.seek(self._offset + rows.start * self._shape[1] * self._dtype.itemsize)
            stream.write(stored.data)
            stream.flush()
            os.fsync(stream.fileno())
        with self._progress.open("ab") as stream:
            stream.write(b".")
        self._n_done += 1

    def finish(self) -> RowSource:
        """Give the complete file its name."""
        if self._partial.exists():
            with self._progress.open("ab") as stream:
                stream.write(f"\n{self._partial.stat().st_mtime_ns}".encode())
            self._partial.replace(self._path)
        return NpyRows(self._path)


def open_writer(
    path: str | Path,
    shape: tuple[int, int],
    *,
    dtype: str,
    chunk_rows: int,
    job: Mapping[str, Any],
    ids: Sequence[ItemId] | None,
    overwrite: bool = False,
) -> RowsWriter:
    """Begin an output, or go on with one that the same job began.

    Parameters
    ----------
    path : str or Path
        Ending in ``.zarr`` (a folder or an fsspec URL) or ``.npy``.
    shape : (int, int)
        Of the whole matrix.
    dtype : str
        One of :data:`STORED_TYPES`.
    chunk_rows : int
        Rows of a chunk; an output that is gone on with keeps its own.
    job : mapping
        What the result depends on, as plain values; two jobs are the same if these are.
    ids : sequence or None
        One id for each row.
    overwrite : bool
        Whether an output of another job is replaced rather than refused.

    Raises
    ------
    InvalidInputError
        If the path has another ending, or holds the output of another job.
    FileFormatError
        If what is there is something else.
    """
    place = str(path)
    is_zarr = _is_zarr(place)
    found = refuse_another_job(path, job, overwrite=overwrite)
    if found is not None and found["job"] == dict(job):
        for leftover in Path(place).rglob("*.partial") if is_zarr else ():
            leftover.unlink()
        return ZarrWriter(place) if is_zarr else NpyWriter(Path(place))
    header = {
        "kind": "rows",
        "format_version": 1,
        "chunk_rows": chunk_rows,
        "job": dict(job),
        "versions": _versions(),
    }
    if is_zarr:
        return ZarrWriter.create(place, shape, dtype, chunk_rows, header, ids)
    return NpyWriter.create(Path(place), shape, dtype, chunk_rows, header, ids)


def refuse_another_job(
    path: str | Path, job: Mapping[str, Any], *, overwrite: bool, partly: bool = False
) -> dict[str, Any] | None:
    """Raise what :func:`open_writer` would; the header of what is there, None for nothing.

    Parameters
    ----------
    path, job, overwrite
        As for :func:`open_writer`.
    partly : bool
        Whether the job is only what is known of it so far.
    """
    place = str(path)
    if not _is_zarr(place) and not place.endswith(".npy"):
        raise InvalidInputError(f"out is {place!r}; it must end in .zarr or .npy.")
    found = _zarr_header(place) if _is_zarr(place) else _npy_header(Path(place))
    if overwrite:
        return found
    if found is None:
        if not _is_zarr(place) and Path(place).exists():
            raise InvalidInputError(f"{place} exists; name another file, or overwrite it.")
        return None
    keys = job if partly else {**found["job"], **job}
    different = [key for key in keys if found["job"].get(key) != job.get(key)]
    if different:
        raise InvalidInputError(
            f"{place} holds the output of another job; different are {', '.join(different)}. "
            "Name another output, or overwrite it."
        )
    return found


def remove_output(path: str | Path) -> None:
    """Remove an output, complete or begun, with what lies beside it; nothing if there is none."""
    if str(path).endswith(".npy"):
        for one in (Path(path), *_beside(Path(path))):
            one.unlink(missing_ok=True)
        return
    system, place = file_system(str(path))
    if system.exists(place):
        # What is half removed is an output that was begun, which has no header yet.
        import_zarr().open_group(str(path), mode="a").attrs.pop(KEY, None)
        remove_arrays(system, place)
        system.rm(place, recursive=True)


def _is_zarr(place: str) -> bool:
    return place.rstrip("/").endswith(".zarr")


def _zarr_header(path: str) -> dict[str, Any] | None:
    """The header of a store that is there, None where there is nothing, or an unfinished start."""
    zarr = import_zarr()
    local = Path(path)
    if "://" not in path and local.exists() and not local.is_dir():
        raise FileFormatError(f"{path} is a file; a Zarr store is a folder.")
    try:
        root = zarr.open_group(path, mode="r")
    except ImportError as error:
        raise missing_file_system(path, error) from error
    except FileNotFoundError:
        if _holds_something(path):
            raise FileFormatError(
                f"{path} is a folder that is no Zarr store; name another output."
            ) from None
        return None
    header = dict(root.attrs).get(KEY)
    if header is None and not set(root.array_keys()) <= {ROWS, _DONE, "ids"}:
        raise FileFormatError(f"{path} is a Zarr store of something else; name another output.")
    if header is not None and header.get("kind") != "rows":
        raise FileFormatError(f"{path} holds a {header.get('kind')}; name another output.")
    return header


def _holds_something(path: str) -> bool:
    system, place = file_system(path)
    return bool(system.exists(place) and system.find(place))


def remove_arrays(system: Any, group: str) -> None:
    """Remove what a Zarr group at a path of a file system holds, but not what it says of itself."""
    for one in system.ls(group, detail=False):
        if not str(one).endswith("/zarr.json"):
            system.rm(one, recursive=True)


def _npy_header(path: Path) -> dict[str, Any] | None:
    """The header of a file that was begun, or is complete and as it was left; None for others."""
    partial, progress = _beside(path)
    if not progress.exists():
        return None
    first, *rest = progress.read_bytes().splitlines()
    if not partial.exists():
        finished = str(path.stat().st_mtime_ns).encode() if path.exists() else b""
        if len(rest) < 2 or rest[-1] != finished:
            return None
    header: dict[str, Any] = json.loads(first)
    return header


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.progress")


def _stored(values: torch.Tensor, dtype: Any) -> NDArray[Any]:
    return np.ascontiguousarray(values.detach().cpu().numpy().astype(dtype, copy=False))


def _versions() -> dict[str, str]:
    names = ("relspace", "torch", "numpy", "zarr")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
