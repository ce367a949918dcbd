"""Outputs written chunk by chunk that survive being killed: Zarr stores and ``.npy`` files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.files import check_writable
from relspace._core.items import ItemId
from relspace._core.memory import chunk_slices
from relspace.errors import FileFormatError, InvalidInputError, NonFiniteError
from relspace.rows.formats.npy import NpyRows, refuse_other_file, write_ids
from relspace.rows.formats.zarr import ZarrRows, import_zarr
from relspace.rows.ledger import (
    KEY,
    LEDGER,
    ROWS,
    WAYS_OUT,
    FileLedger,
    Ledger,
    Resume,
    ZarrLedger,
    checksum_of,
    damaged_chunks,
    glance_at_files,
    glance_at_folder,
    glance_at_url,
    job_digest,
    job_header,
    make_durable,
    refuse_another_job,
)
from relspace.rows.locations import file_system, located, missing_file_system
from relspace.rows.locks import BothLocks, Lease, PathLock, StoreLock
from relspace.rows.replacing import discard_new, lock_folder, new_of, replace_folder
from relspace.rows.source import RowSource

_IDS = "ids"
_KIND = "rows"
#: What a group says of itself until it has its header.
_BEGUN = "output that was begun"
#: Version 1 counted finished chunks, and knew its source by a few rows.
FORMAT_VERSION = 2
#: Types that a result can be stored in.
STORED_TYPES = ("float16", "float32", "float64")

#: What becomes of what is there.
_State = Literal["begin", "resume", "replace"]


class RowsWriter(Protocol):
    """A matrix that is written in chunks of rows, and knows which ones it has."""

    def missing(self) -> list[slice]:
        """The chunks that are still to be written."""

    def write(self, rows: slice, values: torch.Tensor) -> None:
        """Write one of the missing chunks."""

    def finish(self) -> RowSource:
        """Complete what has all its chunks and return it as a source of rows."""


class _LockedWriter:
    """What writers have in common: a lock, and a ledger of chunks of so many rows.

    While a writer is open nobody else writes: it is closed by leaving its ``with`` block.
    """

    _shape: tuple[int, int]
    _chunk_rows: int
    _ledger: Ledger

    def __init__(self, lock: StoreLock | None) -> None:
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.release()

    def missing(self) -> list[slice]:
        """The chunks that are still to be written."""
        finished = self._ledger.finished()
        return [rows for number, rows in enumerate(self._chunks()) if number not in finished]

    def _chunks(self) -> list[slice]:
        return chunk_slices(self._shape[0], self._chunk_rows)

    def _number(self, rows: slice) -> int:
        return int(rows.start) // self._chunk_rows

    def _refuse_holes(self, place: str | Path) -> None:
        missing = self.missing()
        if missing:
            raise FileFormatError(
                f"{place} lacks {len(missing)} chunks, the first with rows {missing[0].start} to "
                f"{missing[0].stop}: whoever wrote them does not write where it is read."
            )

    def _check_lock(self) -> None:
        if self._lock is not None:
            self._lock.check()

    def _damaged(self, read: Callable[[slice], NDArray[Any]]) -> list[int]:
        chunks = self._chunks()

        def checksum(number: int) -> str | None:
            if number >= len(chunks):
                return None
            try:
                return checksum_of(read(chunks[number]))
            except Exception:
                # What a damaged chunk makes a decoder raise; it is written again.
                return None

        return damaged_chunks(self._ledger.finished(), checksum)


class ZarrWriter(_LockedWriter):
    """Writes rows into a Zarr group, on disk or at an fsspec URL; workers of a cluster may join.

    The group holds ``rows`` (n, m), chunked by rows and compressed, ``ledger``
    (:class:`relspace.rows.ledger.ZarrLedger`), ``ids`` where there are some, and a header among its
    attributes.

    Parameters
    ----------
    place : str or Path
        The group, a folder or a URL.
    lock : StoreLock or None
        The right to write it; None for a worker that joins.
    replaces : Path, optional
        The folder that gets this one's content when it is complete.
    """

    def __init__(
        self, place: str | Path, lock: StoreLock | None, replaces: Path | None = None
    ) -> None:
        super().__init__(lock)
        self._replaces = replaces
        self._open(place)

    def _open(self, place: str | Path) -> None:
        root = import_zarr().open_group(place, mode="r+")
        self.header: dict[str, Any] = dict(root.attrs)[KEY]
        # Or every chunk is compared with the fill value before it is written.
        self._rows = root[ROWS].with_config({"write_empty_chunks": True})
        self._ledger = self._zarr_ledger = ZarrLedger(root)
        self.place = place
        self._shape, self._chunk_rows = self._rows.shape, self._rows.chunks[0]

    @classmethod
    def create(
        cls,
        place: str | Path,
        shape: tuple[int, int],
        dtype: str,
        chunk_rows: int,
        columns: str,
        header: Mapping[str, Any],
        ids: Sequence[ItemId] | None,
        lock: StoreLock,
        replaces: Path | None = None,
    ) -> ZarrWriter:
        """Make an empty store; the header comes last, so that a store with one is whole."""
        zarr = import_zarr()
        root = empty_group(place, _BEGUN)
        chunks = (min(chunk_rows, shape[0]), shape[1])
        root.create_array(
            ROWS,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            fill_value=float("nan"),
            compressors=[
                zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
                # Blosc decodes some damaged chunks to other values.
                zarr.codecs.Crc32cCodec(),
            ],
            dimension_names=("item", columns),
        )
        ZarrLedger.create(root, -(-shape[0] // chunks[0]))
        if ids is not None:
            values = _stored_ids(ids)
            kind = str if values.dtype == object else values.dtype
            listed = root.create_array(_IDS, shape=(len(ids),), chunks=(len(ids),), dtype=kind)
            listed[...] = values
        root.attrs[KEY] = dict(header)
        return cls(place, lock, replaces)

    @classmethod
    def join(cls, place: str, digest: str) -> ZarrWriter:
        """Open a store to write chunks that the process with the lock hands out.

        Parameters
        ----------
        place : str
            The store.
        digest : str
            That of its job, see :attr:`digest`.

        Raises
        ------
        InvalidInputError
            If the store is by now of another job.
        """
        writer = cls(place, None)
        if writer.digest != digest:
            raise InvalidInputError(f"{place} became the output of another job.")
        return writer

    @property
    def digest(self) -> str:
        """What tells its job from others."""
        return job_digest(self.header)

    @property
    def is_settled(self) -> bool:
        """Whether it is complete, and its files are as they were when it became so."""
        settled = self._ledger.settled()
        return bool(settled) and settled == self._glance()

    def resume(self, *, overwrite: bool = False) -> Self:
        """Have damaged chunks written again.

        Parameters
        ----------
        overwrite : bool
            Whether those of a complete output are, too.

        Raises
        ------
        InvalidInputError
            If the output was complete, and its values were changed since.
        """
        if self.is_settled:
            return self
        damaged = self._damaged(lambda rows: np.asarray(self._rows[rows]))
        if damaged and self._ledger.settled():
            if not overwrite:
                raise _changed_since(self.place, damaged)
            self._ledger.settle("")
        for number in damaged:
            self._ledger.forget(number)
        return self

    def has(self, rows: slice) -> bool:
        """Whether a chunk is there."""
        return self._zarr_ledger.has(self._number(rows))

    def write(self, rows: slice, values: torch.Tensor) -> None:
        """Write one of the missing chunks."""
        stored = _stored(values, self._rows.dtype, rows.start)
        self._check_lock()
        self._rows[rows] = stored
        self._ledger.finish(self._number(rows), checksum_of(stored))

    def finish(self) -> RowSource:
        """Return the complete store."""
        self._refuse_holes(self.place)
        if not self.is_settled:
            if isinstance(self.place, Path):
                files = [path for path in self.place.rglob("*") if path.is_file()]
                make_durable(path for path in files if not path.is_relative_to(self.place / LEDGER))
            self._check_lock()
            if glance := self._glance():
                self._ledger.settle(glance)
        if self._replaces is not None:
            folder, self._replaces = self._replaces, None
            replace_folder(folder)
            self._open(folder)
        return ZarrRows(str(self.place), ROWS)

    def _glance(self) -> str:
        if isinstance(self.place, Path):
            return glance_at_folder(self.place)
        return glance_at_url(*file_system(self.place))


class NpyWriter(_LockedWriter):
    """Writes rows into an ``.npy`` file, which has its name only when it is complete.

    One that it replaces is kept until then. Beside it lie ``.NAME.partial`` with the rows, and
    ``.NAME.progress``, its ledger (:class:`relspace.rows.ledger.FileLedger`), which is also what is
    locked. The ledger stays, so that the same job finds the file done.
    """

    def __init__(
        self, path: Path, ledger: FileLedger, ids: Sequence[ItemId] | None, lock: StoreLock
    ) -> None:
        self._path, self._ids = path, ids
        self._partial = _beside(path)[0]
        with (self._partial if self._partial.exists() else path).open("rb") as stream:
            np.lib.format.read_magic(stream)
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            self._offset = stream.tell()
        self._dtype = dtype
        self.header: dict[str, Any] = dict(ledger.header or {})
        super().__init__(lock)
        self._ledger, self._shape = ledger, (shape[0], shape[1])
        self._chunk_rows = self.header["chunk_rows"]

    @classmethod
    def create(
        cls,
        path: Path,
        shape: tuple[int, int],
        dtype: str,
        ledger: FileLedger,
        header: Mapping[str, Any],
        ids: Sequence[ItemId] | None,
        lock: StoreLock,
    ) -> NpyWriter:
        """Begin an empty file; the header comes last, so that what has one is whole."""
        partial = _beside(path)[0]
        ledger.erase()
        described = np.lib.format.header_data_from_array_1_0(np.empty((0, 0), dtype=dtype))
        with partial.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, {**described, "shape": shape})
        ledger.begin(header)
        return cls(path, ledger, ids, lock)

    @property
    def is_settled(self) -> bool:
        """Whether the file is complete, and as it was when it became so."""
        settled = self._ledger.settled()
        return bool(settled) and self._path.exists() and settled == self._glance()

    def resume(self) -> Self:
        """Have damaged chunks written again.

        Raises
        ------
        InvalidInputError
            If the file was complete, and its values were changed since.
        """
        if self.is_settled:
            return self
        damaged = self._damaged(self._read)
        if damaged and not self._partial.exists():
            raise _changed_since(self._path, damaged)
        for number in damaged:
            self._ledger.forget(number)
        return self

    def write(self, rows: slice, values: torch.Tensor) -> None:
        """Write one of the missing chunks."""
        stored = _stored(values, self._dtype, rows.start)
        with self._partial.open("r+b") as stream:
            stream.seek(self._at(rows))
            stream.write(stored.data)
            stream.flush()
            os.fsync(stream.fileno())
        self._ledger.finish(self._number(rows), checksum_of(stored))

    def finish(self) -> RowSource:
        """Give the complete file its name."""
        self._refuse_holes(self._path)
        if self._partial.exists():
            # At no moment have rows the ids of others.
            write_ids(self._path, None)
            self._partial.replace(self._path)
        if not self.is_settled:
            write_ids(self._path, self._ids)
            self._ledger.settle(self._glance())
        return NpyRows(self._path)

    def _glance(self) -> str:
        return glance_at_files([self._path], self._path.parent)

    def _at(self, rows: slice) -> int:
        return self._offset + int(rows.start) * self._shape[1] * self._dtype.itemsize

    def _read(self, rows: slice) -> NDArray[Any]:
        place = self._partial if self._partial.exists() else self._path
        count = (rows.stop - rows.start) * self._shape[1]
        found = np.fromfile(place, dtype=self._dtype, count=count, offset=self._at(rows))
        return found.reshape(-1, self._shape[1])


def open_writer(
    path: str | Path,
    shape: tuple[int, int],
    *,
    dtype: str,
    chunk_rows: int,
    job: Mapping[str, Any],
    ids: Sequence[ItemId] | None,
    columns: str = "column",
    overwrite: bool = False,
    resume: Resume = "identified",
) -> ZarrWriter | NpyWriter:
    """Begin an output, or resume one that the same job began.

    Parameters
    ----------
    path : str or Path
        Ending in ``.zarr`` (a folder or an fsspec URL) or ``.npy``.
    shape : (int, int)
        Of the whole matrix.
    dtype : str
        One of :data:`STORED_TYPES`.
    chunk_rows : int
        Rows of a chunk; an output that is resumed keeps its own.
    job : mapping
        What the result depends on: plain values, and identities of data
        (:class:`relspace.rows.identity.Identity`).
    ids : sequence or None
        One id for each row.
    columns : str
        What one column is, such as ``"landmark"``: the name of the second dimension in Zarr.
    overwrite : bool
        Whether an output of another job is replaced rather than refused: once the new one is
        complete, but at a URL, which can't be renamed, before the new one is begun.
    resume : {"identified", "trust"}
        Whether an output is resumed only where its data is identified, or the caller vouches for
        it.

    Raises
    ------
    InvalidInputError
        If the path has another ending, or holds the output of another job.
    FileFormatError
        If what is there is something else.
    StoreLockedError
        If another process is writing it.
    """
    header = job_header(_KIND, FORMAT_VERSION, job, chunk_rows=chunk_rows)
    place = _checked_place(path)
    if isinstance(place, Path) and place.suffix == ".npy":
        return _open_npy(place, shape, dtype, header, job, ids, overwrite, resume)
    return _open_zarr(place, shape, dtype, chunk_rows, columns, header, job, ids, overwrite, resume)


def _open_zarr(
    place: str | Path,
    shape: tuple[int, int],
    dtype: str,
    chunk_rows: int,
    columns: str,
    header: Mapping[str, Any],
    job: Mapping[str, Any],
    ids: Sequence[ItemId] | None,
    overwrite: bool,
    resume: Resume,
) -> ZarrWriter:
    def state() -> _State:
        return _state_of_zarr(place, job, overwrite, resume)

    # Looked at first, for what is refused is neither locked nor made.
    if state() == "resume" and not isinstance(place, Path):
        complete = ZarrWriter(place, None)
        if complete.is_settled:
            return complete
    lock: StoreLock = lock_folder(place) if isinstance(place, Path) else Lease(place)
    try:
        found, made, replaces = state(), place, None
        if isinstance(place, Path):
            if found == "replace":
                made, replaces = new_of(place), place
                lock = BothLocks(lock, lock_folder(made))
                found = _state_of_new(made, job, resume)
            else:
                discard_new(place)
        if found == "resume":
            for leftover in made.rglob("*.partial") if isinstance(made, Path) else ():
                leftover.unlink()
            return ZarrWriter(made, lock, replaces).resume(overwrite=overwrite)
        return ZarrWriter.create(
            made, shape, dtype, chunk_rows, columns, header, ids, lock, replaces
        )
    except BaseException:
        lock.release()
        raise


def _state_of_new(new: Path, job: Mapping[str, Any], resume: Resume) -> _State:
    """Whether what a killed run wrote beside an output is resumed; else it is removed."""
    with suppress(FileFormatError):
        if _state_of_zarr(new, job, True, resume) == "resume":
            return "resume"
    for one in new.iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    return "begin"


def _open_npy(
    path: Path,
    shape: tuple[int, int],
    dtype: str,
    header: Mapping[str, Any],
    job: Mapping[str, Any],
    ids: Sequence[ItemId] | None,
    overwrite: bool,
    resume: Resume,
) -> NpyWriter:
    partial, progress = _beside(path)
    _is_npy_resumed(path, FileLedger(progress), job, overwrite, resume)
    if not progress.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        progress.touch()
    lock = PathLock(progress)
    try:
        ledger = FileLedger(progress)
        if _is_npy_resumed(path, ledger, job, overwrite, resume):
            writer = NpyWriter(path, ledger, ids, lock).resume()
            if partial.exists() or not writer.missing():
                return writer
            # Somebody removed what was written, and left what was to be replaced.
            if not overwrite:
                raise InvalidInputError(f"{path} exists.", ways_out=WAYS_OUT)
        return NpyWriter.create(path, shape, dtype, ledger, header, ids, lock)
    except BaseException:
        lock.release()
        raise


def check_location(path: str | Path) -> None:
    """Refuse what no output can be, or where none can be written, whatever the job.

    Raises
    ------
    InvalidInputError
        If it has another ending.
    FileFormatError
        If there is something else.
    OSError
        If nothing can be written there.
    """
    place = _checked_place(path)
    if isinstance(place, Path) and place.suffix == ".npy":
        if place.is_dir():
            raise FileFormatError(f"{place} is a folder.", ways_out=["name a file"])
    else:
        _zarr_header(place)
    if isinstance(place, Path) and not place.exists():
        check_writable(place)


def check_place(
    path: str | Path,
    job: Mapping[str, Any],
    *,
    overwrite: bool = False,
    resume: Resume = "identified",
) -> None:
    """Refuse an output that :func:`open_writer` would, before the whole job is known.

    Parameters
    ----------
    path, overwrite, resume
        As for :func:`open_writer`.
    job : mapping
        What is known of it so far.
    """
    place = _checked_place(path)
    if isinstance(place, Path) and place.suffix == ".npy":
        ledger = FileLedger(_beside(place)[1])
        _is_npy_resumed(place, ledger, job, overwrite, resume, partly=True)
    else:
        _state_of_zarr(place, job, overwrite, resume, partly=True)


def remove_output(path: str | Path, writer: ZarrWriter | NpyWriter | None = None) -> None:
    """Remove an output, complete or begun, with what lies beside it; nothing if there is none.

    Parameters
    ----------
    path : str or Path
        The output.
    writer : ZarrWriter or NpyWriter, optional
        Its open writer; without one it is locked meanwhile.

    Raises
    ------
    FileFormatError
        If what is there is something else, which is never removed.
    StoreLockedError
        If another process is writing it.
    """
    place = _checked_place(path)
    if writer is None:
        if isinstance(place, Path):
            locked = place if place.suffix == ".zarr" else _beside(place)[1]
            if not locked.exists():
                return
        elif not _holds_something(place):
            return
        if isinstance(place, str) or place.suffix == ".zarr":
            # Raises for what is somebody else's.
            _zarr_header(place)
        lock: StoreLock = Lease(place) if isinstance(place, str) else PathLock(locked)
        try:
            _remove(place)
        finally:
            lock.release()
        return
    _remove(place)


def _remove(place: str | Path) -> None:
    if isinstance(place, str):
        system, own = file_system(place)
        if system.exists(own):
            empty_group(place, _BEGUN)
            system.rm(own, recursive=True)
    elif place.suffix == ".npy":
        write_ids(place, None)
        partial, progress = _beside(place)
        for one in (place, partial, progress):
            one.unlink(missing_ok=True)
    elif place.exists():
        discard_new(place)
        empty_group(place, _BEGUN)
        shutil.rmtree(place)


def _checked_place(path: str | Path) -> str | Path:
    place = located(path)
    name = str(place).rstrip("/")
    if name.endswith(".zarr") or (name.endswith(".npy") and isinstance(place, Path)):
        return place
    hint = ", a URL in .zarr" if name.endswith(".npy") else ""
    raise InvalidInputError(f"out is {str(path)!r}; it must end in .zarr or .npy{hint}.")


def _state_of(
    place: str | Path,
    header: dict[str, Any] | None,
    job: Mapping[str, Any],
    overwrite: bool,
    resume: Resume,
    *,
    is_empty: Callable[[], bool],
    partly: bool = False,
) -> _State:
    """Whether an output is resumed, begun or replaced; else it is refused.

    One in which no chunk is whole, such as that of a run that was refused at its first rows, holds
    nothing that could be lost.
    """
    if header is None:
        return "begin"
    try:
        refuse_another_job(
            place, header, job, format_version=FORMAT_VERSION, resume=resume, partly=partly
        )
    except InvalidInputError:
        if header.get("format_version") == FORMAT_VERSION and is_empty():
            return "begin"
        if overwrite:
            return "replace"
        raise
    return "resume"


def _state_of_zarr(
    place: str | Path,
    job: Mapping[str, Any],
    overwrite: bool,
    resume: Resume,
    *,
    partly: bool = False,
) -> _State:
    def is_empty() -> bool:
        return not ZarrLedger(import_zarr().open_group(place, mode="r")).finished()

    header = _zarr_header(place)
    return _state_of(place, header, job, overwrite, resume, is_empty=is_empty, partly=partly)


def _is_npy_resumed(
    path: Path,
    ledger: FileLedger,
    job: Mapping[str, Any],
    overwrite: bool,
    resume: Resume,
    *,
    partly: bool = False,
) -> bool:
    """Whether a file is resumed, rather than begun or replaced."""
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder.", ways_out=["name a file"])
    refuse_other_file(path)
    partial = _beside(path)[0]
    if ledger.header is None or not (path.exists() or partial.exists()):
        if path.exists() and not overwrite:
            raise InvalidInputError(f"{path} exists.", ways_out=WAYS_OUT)
        return False
    found = _state_of(
        path,
        ledger.header,
        job,
        overwrite,
        resume,
        is_empty=lambda: not path.exists() and not ledger.finished(),
        partly=partly,
    )
    if found == "resume" and overwrite and not partial.exists():
        # Another file of that name is replaced, too.
        return bool(ledger.settled()) and ledger.settled() == glance_at_files([path], path.parent)
    return found == "resume"


def _zarr_header(place: str | Path) -> dict[str, Any] | None:
    """The header of a store that is there, None where there is nothing, or an unfinished start."""
    zarr = import_zarr()
    if isinstance(place, Path) and place.exists() and not place.is_dir():
        raise FileFormatError(f"{place} is a file; a Zarr store is a folder.")
    try:
        root = zarr.open_group(place, mode="r")
    except ImportError as error:
        raise missing_file_system(place, error) from error
    except FileNotFoundError:
        if _holds_something(place):
            raise FileFormatError(
                f"{place} is a folder that is no Zarr store.", ways_out=["name another output"]
            ) from None
        return None
    except zarr.errors.ContainsArrayError:
        raise FileFormatError(
            f"{place} is a Zarr array of something else.", ways_out=["name another output"]
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileFormatError(
            f"{place} can't be read as a Zarr store ({reason}).",
            ways_out=["name another output", "remove it"],
        ) from error
    header = dict(root.attrs).get(KEY)
    if not isinstance(header, dict):
        raise FileFormatError(
            f"{place} is a Zarr store of something else.", ways_out=["name another output"]
        )
    if header.get("kind") == _BEGUN:
        return None
    if header.get("kind") != _KIND:
        raise FileFormatError(
            f"{place} holds a {header.get('kind')}.", ways_out=["name another output"]
        )
    return header


def _holds_something(place: str | Path) -> bool:
    if isinstance(place, Path):
        return place.exists() and any(place.iterdir())
    system, own = file_system(place)
    return bool(system.exists(own) and system.find(own))


def empty_group(place: str | Path, begun: str) -> Any:
    """Make a Zarr group with nothing in it but a mark, or empty one that is there.

    Parameters
    ----------
    place : str or Path
        The group, a folder or a URL.
    begun : str
        The mark, which stands where the header will: a group without one is somebody else's.

    Returns
    -------
    zarr.Group
        The group, to be written.
    """
    zarr = import_zarr()
    try:
        root = zarr.open_group(place, mode="r+")
    except FileNotFoundError:
        return zarr.create_group(place, attributes={KEY: {"kind": begun}})
    # Said first, so that what is half removed is not taken for a whole.
    root.attrs[KEY] = {"kind": begun}
    system, group = file_system(str(place))
    for one in system.ls(group, detail=False):
        if not str(one).endswith("/zarr.json"):
            system.rm(one, recursive=True)
    return root


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.progress")


def _stored(values: torch.Tensor, dtype: Any, first_row: int) -> NDArray[Any]:
    """Values in the type of the output, refused where it doesn't hold them."""
    computed = values.detach().cpu().numpy()
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(computed.astype(dtype, copy=False))
    finite = np.isfinite(stored)
    if finite.all():
        return stored
    row, column = (int(i) for i in np.argwhere(~finite)[0])
    value = float(computed[row, column])
    where = f"row {first_row + row}, column {column}"
    if not np.isfinite(value):
        raise NonFiniteError(f"the result is {value} in {where}.", ways_out=["repair the input"])
    raise NonFiniteError(
        f"the result is {value:g} in {where}, and {stored.dtype} holds values up to "
        f"{np.finfo(stored.dtype).max:g}.",
        ways_out=[f"write {{dtype='{'float32' if stored.dtype == np.float16 else 'float64'}'}}"],
    )


def _stored_ids(ids: Sequence[ItemId]) -> NDArray[Any]:
    """Ids in the type that keeps them: whole numbers, or text."""
    if isinstance(ids[0], str):
        return np.asarray(ids, dtype=object)
    try:
        return np.asarray(ids, dtype=np.int64)
    except OverflowError as error:
        raise InvalidInputError(
            "ids are whole numbers beyond 64 bits, which Zarr doesn't store.",
            ways_out=["give them as text"],
        ) from error


def _changed_since(place: str | Path, damaged: Sequence[int]) -> InvalidInputError:
    some = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
    return InvalidInputError(
        f"{place} exists, and was changed after it was complete (chunks {some}).",
        ways_out=WAYS_OUT,
    )
