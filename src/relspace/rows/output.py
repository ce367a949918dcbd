"""Outputs written chunk by chunk that survive being killed: Zarr stores and ``.npy`` files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import check_choice
from relspace._core.files import check_writable
from relspace._core.items import ItemId
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    NonFiniteError,
)
from relspace.rows.formats.npy import NpyRows, read_npy_header, refuse_other_file, write_ids
from relspace.rows.formats.zarr import ZarrRows, import_zarr
from relspace.rows.groups import empty_group, group_header, holds_something
from relspace.rows.ledger import (
    KEY,
    RESUME,
    ROWS,
    WAYS_OUT,
    FileLedger,
    Resume,
    ZarrLedger,
    checksum_of,
    fingerprint_of,
    job_digest,
    job_header,
    make_durable,
    refuse_another_job,
)
from relspace.rows.locations import file_system, located
from relspace.rows.locks import BothLocks, Lease, PathLock, StoreLock
from relspace.rows.replacing import (
    discard_new,
    empty_folder,
    lock_folder,
    lock_store,
    new_of,
    replace_folder,
)
from relspace.rows.source import RowSource
from relspace.rows.writer import ChunkWriter

_IDS = "ids"
_KIND = "rows"
#: The kind of a group until its header is written.
_BEGUN = "output that was begun"
#: Version 1 counted finished chunks, and identified its source by a few rows.
FORMAT_VERSION = 2
#: Types of results.
STORED_TYPES = ("float16", "float32", "float64")

#: What is done with an output that may be there already.
_State = Literal["begin", "resume", "replace"]


@dataclass(frozen=True)
class Output:
    """Where a streamed result is written, and how; for any argument ``out``.

    A path alone stands for ``Output(path)``. An output that is there already is resumed if it is of
    the same job, over the same rows, and refused otherwise.

    Attributes
    ----------
    path : str or Path
        Ending in ``.zarr`` (a folder, or a URL that fsspec knows) or ``.npy``.
    dtype : str or None
        "float16", "float32" or "float64"; that of the input by default.
    memory_budget : int or None
        Bytes that working memory may take, and on a GPU as many again; by default a quarter of what
        is free in each.
    chunk_rows : int or None
        Rows of a chunk; by default as many as make 32 MiB, of which 128 MiB are read, or fewer if
        the budget is small.
    overwrite : bool
        Whether the output of another job is replaced rather than refused.
    resume : {"identified", "trust"}
        Rows are identified by their values or files (:func:`relspace.rows.identity.identify`). If
        they can't be, such as rows that code computes, an output is resumed only with "trust", by
        which the caller vouches that they are the same. Rows that are known to have changed are
        refused all the same.

    Examples
    --------
    >>> import tempfile, torch, relspace
    >>> X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    >>> space = relspace.align({"a": X, "b": -X}, landmarks=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     out = relspace.Output(folder + "/aligned.npy", dtype="float16", chunk_rows=16)
    ...     space.transform("a", X, out=out).shape
    (60, 20)
    """

    path: str | Path
    dtype: str | None = None
    memory_budget: int | None = None
    chunk_rows: int | None = None
    overwrite: bool = False
    resume: Resume = "identified"

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | Path) or not str(self.path) or "\0" in str(self.path):
            raise InvalidTypeError(
                f"the output is {self.path!r}; it must be the path or URL of a .zarr store, or of "
                "an .npy file."
            )
        check_choice(self.resume, "resume", RESUME)
        if self.dtype is not None:
            check_choice(self.dtype, "dtype", STORED_TYPES)


class RowsWriter(Protocol):
    """A matrix that is written in chunks of rows, and knows which ones it has."""

    def missing(self) -> list[slice]:
        """The chunks that are still to be written."""

    def write(self, rows: slice, values: torch.Tensor) -> None:
        """Write one of the missing chunks."""

    def finish(self) -> RowSource:
        """Complete an output that has all its chunks, and return it as a source of rows."""


class ZarrWriter(ChunkWriter):
    """Writes rows into a Zarr group, on disk or at an fsspec URL; workers of a cluster may join.

    The group holds ``rows`` (n, m), chunked by rows and compressed, ``ledger``
    (:class:`relspace.rows.ledger.ZarrLedger`), ``ids`` where there are some, and a header among its
    attributes. Workers have no lock. ``replaces`` is the folder that it replaces when complete.
    """

    _ledger: ZarrLedger

    def __init__(
        self, location: str | Path, lock: StoreLock | None, replaces: Path | None = None
    ) -> None:
        super().__init__(lock)
        self._replaces = replaces
        self._open(location)

    def _open(self, location: str | Path) -> None:
        root = import_zarr().open_group(location, mode="r+")
        self.location = location
        self.header: dict[str, Any] = dict(root.attrs)[KEY]
        # Otherwise Zarr compares every chunk with the fill value before it writes it.
        self._rows = root[ROWS].with_config({"write_empty_chunks": True})
        self._ledger = ZarrLedger(root)
        self._n_rows, self._chunk_rows = self._rows.shape[0], self._rows.chunks[0]

    @classmethod
    def create(
        cls,
        location: str | Path,
        lock: StoreLock,
        replaces: Path | None = None,
        *,
        shape: tuple[int, int],
        dtype: str,
        chunk_rows: int,
        columns: str,
        header: Mapping[str, Any],
        ids: Sequence[ItemId] | None,
    ) -> ZarrWriter:
        """Create an empty store. The header is written last: a store with a header is whole."""
        zarr = import_zarr()
        root = empty_group(location, _BEGUN)
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
        return cls(location, lock, replaces)

    @classmethod
    def join(cls, location: str, digest: str) -> ZarrWriter:
        """Open a store as a worker; refused if it is of another job than the digest's by now."""
        writer = cls(location, None)
        if writer.digest != digest:
            raise InvalidInputError(f"{location} became the output of another job.")
        return writer

    @property
    def digest(self) -> str:
        """The digest of its job."""
        return job_digest(self.header)

    def resume(self, *, overwrite: bool = False) -> Self:
        """Mark damaged chunks as missing; of a complete output only with ``overwrite``."""
        if self.is_settled:
            return self
        damaged = self._damaged()
        if damaged and self._ledger.settled():
            if not overwrite:
                raise _changed_since(self.location, damaged)
            self._ledger.settle("")
        for number in damaged:
            self._ledger.forget(number)
        return self

    def has(self, rows: slice) -> bool:
        """Whether a chunk is finished."""
        return self._ledger.has(self._number(rows))

    def write(self, rows: slice, values: torch.Tensor) -> None:
        """Write one of the missing chunks."""
        stored = _stored(values, self._rows.dtype, rows.start)
        self._check_lock()
        self._rows[rows] = stored
        self._ledger.finish(self._number(rows), checksum_of(stored))

    def finish(self) -> RowSource:
        """Return the complete store."""
        _refuse_holes(self)
        if not self.is_settled:
            if isinstance(self.location, Path):
                make_durable(self.location)
            self._check_lock()
            if fingerprint := self._fingerprint():
                self._ledger.settle(fingerprint)
        if self._replaces is not None:
            folder, self._replaces = self._replaces, None
            replace_folder(folder)
            self._open(folder)
        return ZarrRows(str(self.location), ROWS)

    def _read_chunk(self, rows: slice) -> Sequence[NDArray[Any]]:
        return [np.asarray(self._rows[rows])]


class NpyWriter(ChunkWriter):
    """Writes rows into an ``.npy`` file, which gets its name when it is complete.

    A file that it replaces is kept until then. Beside it lie ``.NAME.partial`` with the rows, and
    ``.NAME.progress``, its ledger (:class:`relspace.rows.ledger.FileLedger`), which is also what is
    locked. The ledger is kept, so that the same job is not computed again.
    """

    location: Path

    def __init__(
        self, path: Path, ledger: FileLedger, ids: Sequence[ItemId] | None, lock: StoreLock
    ) -> None:
        super().__init__(lock)
        self.location, self._ids, self._ledger = path, ids, ledger
        self._partial = _beside(path)[0]
        with (self._partial if self._partial.exists() else path).open("rb") as stream:
            (self._n_rows, self._width), self._dtype = read_npy_header(stream)
            self._offset = stream.tell()
        self.header: dict[str, Any] = dict(ledger.header or {})
        self._chunk_rows = self.header["chunk_rows"]

    @classmethod
    def create(
        cls,
        path: Path,
        ledger: FileLedger,
        lock: StoreLock,
        *,
        shape: tuple[int, int],
        dtype: str,
        header: Mapping[str, Any],
        ids: Sequence[ItemId] | None,
    ) -> NpyWriter:
        """Create an empty file. The header is written last: a ledger with a header is whole."""
        ledger.erase()
        described = np.lib.format.header_data_from_array_1_0(np.empty((0, 0), dtype=dtype))
        with _beside(path)[0].open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, {**described, "shape": shape})
        ledger.begin(header)
        return cls(path, ledger, ids, lock)

    @property
    def is_settled(self) -> bool:
        """Whether the file is complete, and has not changed since."""
        return self.location.exists() and super().is_settled

    def resume(self) -> Self:
        """Mark damaged chunks as missing; refused if the file was complete."""
        if self.is_settled:
            return self
        damaged = self._damaged()
        if damaged and not self._partial.exists():
            raise _changed_since(self.location, damaged)
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
        _refuse_holes(self)
        if self._partial.exists():
            # The ids of the old rows go first, so that the new rows never have them.
            write_ids(self.location, None)
            self._partial.replace(self.location)
        if not self.is_settled:
            write_ids(self.location, self._ids)
            self._ledger.settle(self._fingerprint())
        return NpyRows(self.location)

    def _at(self, rows: slice) -> int:
        return self._offset + int(rows.start) * self._width * self._dtype.itemsize

    def _read_chunk(self, rows: slice) -> Sequence[NDArray[Any]]:
        path = self._partial if self._partial.exists() else self.location
        count = (rows.stop - rows.start) * self._width
        found = np.fromfile(path, dtype=self._dtype, count=count, offset=self._at(rows))
        return [found.reshape(-1, self._width)]


def open_writer(
    output: Output,
    shape: tuple[int, int],
    *,
    dtype: str,
    chunk_rows: int,
    job: Mapping[str, Any],
    ids: Sequence[ItemId] | None,
    columns: str,
) -> ZarrWriter | NpyWriter:
    """Begin an output, or resume one that the same job began; see :func:`job_header` for jobs.

    Another job's output is refused, or replaced if ``output`` says so: when the new one is
    complete, or at a URL, which can't be renamed, before the new one is begun. An output that is
    resumed keeps its own ``chunk_rows``. ``columns`` says what one column is, such as "landmark".
    """
    header = job_header(_KIND, FORMAT_VERSION, job, chunk_rows=chunk_rows)
    about: dict[str, Any] = {"shape": shape, "dtype": dtype, "header": header, "ids": ids}
    location = _checked_location(output.path)
    if isinstance(location, Path) and location.suffix == ".npy":
        return _open_npy(location, about, job, output)
    about |= {"chunk_rows": chunk_rows, "columns": columns}
    return _open_zarr(location, about, job, output)


def _open_zarr(
    location: str | Path, about: Mapping[str, Any], job: Mapping[str, Any], output: Output
) -> ZarrWriter:
    # Before it is locked or created, so that nothing is changed where it is refused.
    found = _state_of_zarr(location, job, output)
    if found == "resume" and not isinstance(location, Path):
        complete = ZarrWriter(location, None)
        if complete.is_settled:
            return complete
    lock = lock_store(location)
    try:
        found, written, replaces = _state_of_zarr(location, job, output), location, None
        if isinstance(location, Path):
            if found == "replace":
                written, replaces = new_of(location), location
                lock = BothLocks(lock, lock_folder(written))
                found = _state_of_new(written, job, output)
            else:
                discard_new(location)
        if found == "resume":
            for leftover in written.rglob("*.partial") if isinstance(written, Path) else ():
                leftover.unlink()
            return ZarrWriter(written, lock, replaces).resume(overwrite=output.overwrite)
        return ZarrWriter.create(written, lock, replaces, **about)
    except BaseException:
        lock.release()
        raise


def _state_of_new(new: Path, job: Mapping[str, Any], output: Output) -> _State:
    """Whether the replacement that a killed run began is resumed; else its content is removed."""
    with suppress(FileFormatError):
        if _state_of_zarr(new, job, replace(output, overwrite=True)) == "resume":
            return "resume"
    empty_folder(new)
    return "begin"


def _open_npy(
    path: Path, about: Mapping[str, Any], job: Mapping[str, Any], output: Output
) -> NpyWriter:
    partial, progress = _beside(path)
    _is_npy_resumed(path, FileLedger(progress), job, output)
    if not progress.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        progress.touch()
    lock = PathLock(progress)
    try:
        ledger = FileLedger(progress)
        if _is_npy_resumed(path, ledger, job, output):
            writer = NpyWriter(path, ledger, about["ids"], lock).resume()
            if partial.exists() or not writer.missing():
                return writer
            # The partial file was removed, and the file that it was to replace is there.
            if not output.overwrite:
                raise InvalidInputError(f"{path} exists.", ways_out=WAYS_OUT)
        return NpyWriter.create(path, ledger, lock, **about)
    except BaseException:
        lock.release()
        raise


def check_location(path: str | Path) -> None:
    """Refuse a location that no output can have, or where nothing can be written.

    Raises
    ------
    InvalidInputError
        If it has another ending.
    FileFormatError
        If there is something else.
    OSError
        If nothing can be written there.
    """
    location = _checked_location(path)
    if isinstance(location, Path) and location.suffix == ".npy":
        if location.is_dir():
            raise FileFormatError(f"{location} is a folder.", ways_out=["name a file"])
    else:
        group_header(location, _KIND, _BEGUN)
    if isinstance(location, Path) and not location.exists():
        check_writable(location)


def check_job(output: Output, job: Mapping[str, Any]) -> None:
    """Refuse an output that :func:`open_writer` would refuse, by the known part of the job."""
    location = _checked_location(output.path)
    if isinstance(location, Path) and location.suffix == ".npy":
        ledger = FileLedger(_beside(location)[1])
        _is_npy_resumed(location, ledger, job, output, partly=True)
    else:
        _state_of_zarr(location, job, output, partly=True)


def remove_output(path: str | Path, writer: ZarrWriter | NpyWriter | None = None) -> None:
    """Remove an output, complete or begun, with its files beside it; nothing if there is none.

    ``writer`` is its open writer; without one the output is locked meanwhile.

    Raises
    ------
    FileFormatError
        If what is there is something else, which is never removed.
    StoreLockedError
        If another process is writing it.
    """
    location = _checked_location(path)
    if writer is not None:
        _remove(location)
        return
    if isinstance(location, Path):
        locked = location if location.suffix == ".zarr" else _beside(location)[1]
        if not locked.exists():
            return
    elif not holds_something(location):
        return
    if isinstance(location, str) or location.suffix == ".zarr":
        # Raises for what is no output.
        group_header(location, _KIND, _BEGUN)
    lock: StoreLock = Lease(location) if isinstance(location, str) else PathLock(locked)
    try:
        _remove(location)
    finally:
        lock.release()


def _remove(location: str | Path) -> None:
    if isinstance(location, str):
        system, own = file_system(location)
        if system.exists(own):
            empty_group(location, _BEGUN)
            system.rm(own, recursive=True)
    elif location.suffix == ".npy":
        write_ids(location, None)
        for one in (location, *_beside(location)):
            one.unlink(missing_ok=True)
    elif location.exists():
        discard_new(location)
        empty_group(location, _BEGUN)
        shutil.rmtree(location)


def _checked_location(path: str | Path) -> str | Path:
    location = located(path)
    name = str(location).rstrip("/")
    if name.endswith(".zarr") or (name.endswith(".npy") and isinstance(location, Path)):
        return location
    hint = ", a URL in .zarr" if name.endswith(".npy") else ""
    raise InvalidInputError(f"out is {str(path)!r}; it must end in .zarr or .npy{hint}.")


def _state_of(
    location: str | Path,
    header: dict[str, Any] | None,
    job: Mapping[str, Any],
    output: Output,
    *,
    is_empty: Callable[[], bool],
    partly: bool,
) -> _State:
    """Whether an output is resumed, begun or replaced; else it is refused.

    An output without a finished chunk, as a run that fails at its first rows leaves it, is begun
    again.
    """
    if header is None:
        return "begin"
    version, resume = FORMAT_VERSION, output.resume
    try:
        refuse_another_job(
            location, header, job, format_version=version, resume=resume, partly=partly
        )
    except InvalidInputError:
        if header.get("format_version") == version and is_empty():
            return "begin"
        if output.overwrite:
            return "replace"
        raise
    return "resume"


def _state_of_zarr(
    location: str | Path, job: Mapping[str, Any], output: Output, *, partly: bool = False
) -> _State:
    def is_empty() -> bool:
        return not ZarrLedger(import_zarr().open_group(location, mode="r")).finished()

    header = group_header(location, _KIND, _BEGUN)
    return _state_of(location, header, job, output, is_empty=is_empty, partly=partly)


def _is_npy_resumed(
    path: Path, ledger: FileLedger, job: Mapping[str, Any], output: Output, *, partly: bool = False
) -> bool:
    """Whether a file is resumed, rather than begun or replaced."""
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder.", ways_out=["name a file"])
    refuse_other_file(path)
    partial = _beside(path)[0]
    if ledger.header is None or not (path.exists() or partial.exists()):
        if path.exists() and not output.overwrite:
            raise InvalidInputError(f"{path} exists.", ways_out=WAYS_OUT)
        return False

    def is_empty() -> bool:
        return not path.exists() and not ledger.finished()

    found = _state_of(path, ledger.header, job, output, is_empty=is_empty, partly=partly)
    if found == "resume" and output.overwrite and not partial.exists():
        # The file may be another one, which is replaced.
        return bool(ledger.settled()) and ledger.settled() == fingerprint_of(path)
    return found == "resume"


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


def _refuse_holes(writer: ChunkWriter) -> None:
    missing = writer.missing()
    if missing:
        raise FileFormatError(
            f"{writer.location} lacks {len(missing)} chunks, the first with rows "
            f"{missing[0].start} to {missing[0].stop}: the processes that wrote them wrote "
            "somewhere else."
        )


def _changed_since(location: str | Path, damaged: Sequence[int]) -> InvalidInputError:
    some = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
    return InvalidInputError(
        f"{location} exists, and was changed after it was complete (chunks {some}).",
        ways_out=WAYS_OUT,
    )
