"""Which chunks of an output are whole, and for which job: kept beside whatever is written in parts.

A ledger holds a header (the format's version and the job: all that the result depends on), and for
every finished chunk, by its number, a checksum of the values that were meant to be written. A run
that resumes an output reads its finished chunks once and computes those again whose values have
another checksum. An output that is complete is settled: as long as names, sizes and times of its
files (at a URL: etags) stay what they were then, its values are not read again.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from relspace.errors import FileFormatError, InvalidInputError
from relspace.rows.identity import Identity, combine, hash_array, what_changed

#: Whether what is there is resumed where its input is identified, or where the caller vouches.
Resume = Literal["identified", "trust"]
RESUME: tuple[Resume, ...] = ("identified", "trust")

#: Where a Zarr group keeps its header, among its attributes.
KEY = "relspace"
#: Where a Zarr group keeps the rows of an output.
ROWS = "rows"
#: Where a Zarr group keeps its ledger.
LEDGER = "ledger"
#: What to do about an output that is there and can't be resumed.
WAYS_OUT = ("name another output", "overwrite it with {overwrite=True}")
_DIGITS = 32
_PACKAGES = ("relspace", "torch", "numpy", "zarr")


class Ledger(Protocol):
    """Which chunks are whole."""

    def finished(self) -> dict[int, str]:
        """The checksums of finished chunks by their numbers."""

    def finish(self, number: int, checksum: str) -> None:
        """Note that a chunk was written, after it was."""

    def forget(self, number: int) -> None:
        """Note that a chunk has to be written again, before it is."""

    def settled(self) -> str:
        """What :meth:`settle` noted; empty for an output that isn't complete."""

    def settle(self, glance: str) -> None:
        """Note that the output is complete, and what its files look like."""


class ZarrLedger:
    """A ledger as a Zarr array in the group of an output, in a folder or at a URL.

    Words ``2 i`` and ``2 i + 1`` of the array ``ledger``, of type uint64, hold the checksum of
    chunk ``i``, or zeros. Each pair is an object of its own, so that several processes may write.
    The last pair is for :meth:`settle`.

    Parameters
    ----------
    root : zarr.Group
        The output, opened for writing.
    """

    def __init__(self, root: Any) -> None:
        # Or a pair is compared with the fill value, and removed where it is the same.
        self._words = root[LEDGER].with_config({"write_empty_chunks": True})

    @classmethod
    def create(cls, root: Any, n_chunks: int) -> ZarrLedger:
        """Add an empty ledger to a group."""
        root.create_array(
            LEDGER,
            shape=(2 * n_chunks + 2,),
            chunks=(2,),
            dtype="uint64",
            fill_value=0,
            compressors=None,
            filters=None,
        )
        return cls(root)

    def finished(self) -> dict[int, str]:
        """The checksums of finished chunks by their numbers."""
        pairs = np.asarray(self._words[...]).reshape(-1, 2)[:-1]
        return {i: _hex(pair) for i, pair in enumerate(pairs) if pair.any()}

    def has(self, number: int) -> bool:
        """Whether a chunk is finished."""
        return bool(self._pair(number).any())

    def finish(self, number: int, checksum: str) -> None:
        """Note that a chunk was written, after it was."""
        self._words[2 * number : 2 * number + 2] = _words(checksum)

    def forget(self, number: int) -> None:
        """Note that a chunk has to be written again, before it is."""
        self._words[2 * number : 2 * number + 2] = _words("")

    def settled(self) -> str:
        """What :meth:`settle` noted; empty for an output that isn't complete."""
        pair = self._pair(self._last)
        return _hex(pair) if pair.any() else ""

    def settle(self, glance: str) -> None:
        """Note that the output is complete, and what its files look like."""
        self.finish(self._last, glance)

    @property
    def _last(self) -> int:
        return int(self._words.shape[0]) // 2 - 1

    def _pair(self, number: int) -> NDArray[np.uint64]:
        return np.asarray(self._words[2 * number : 2 * number + 2])


class FileLedger:
    """A ledger as a file of JSON lines: the header, then a line for each chunk that is finished.

    Only the process with the lock writes it. A line that was cut short by the end of a process
    counts for nothing.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.header: dict[str, Any] | None = None
        self._finished: dict[int, str] = {}
        self._settled = ""
        content = path.read_bytes() if path.exists() else b""
        lines = content.split(b"\n")
        # What comes after the last end of a line is empty, or was cut short.
        self._n_whole = len(content) - len(lines.pop())
        for line in lines:
            self._take(_parsed(line))

    def begin(self, header: Mapping[str, Any]) -> None:
        """Forget everything, and write the header."""
        self.header, self._finished, self._settled, self._n_whole = dict(header), {}, "", 0
        self._append(dict(header))

    def erase(self) -> None:
        """Forget everything; the file stays, for it is what is locked."""
        self.header, self._finished, self._settled, self._n_whole = None, {}, "", 0
        os.truncate(self._path, 0)

    def finished(self) -> dict[int, str]:
        """The checksums of finished chunks by their numbers."""
        return dict(self._finished)

    def finish(self, number: int, checksum: str) -> None:
        """Note that a chunk was written, after it was."""
        self._append({"chunk": number, "checksum": checksum})
        self._finished[number] = checksum

    def forget(self, number: int) -> None:
        """Note that a chunk has to be written again, before it is."""
        self._append({"chunk": number, "checksum": ""})
        self._finished.pop(number, None)

    def settled(self) -> str:
        """What :meth:`settle` noted; empty for an output that isn't complete."""
        return self._settled

    def settle(self, glance: str) -> None:
        """Note that the output is complete, and what its files look like."""
        self._append({"settled": glance})
        self._settled = glance

    def _take(self, line: Any) -> None:
        if self.header is None:
            self.header = line if isinstance(line, dict) else {}
        elif isinstance(line, dict) and "settled" in line:
            self._settled = str(line["settled"])
        elif isinstance(line, dict) and isinstance(line.get("chunk"), int):
            self._finished[line["chunk"]] = str(line.get("checksum", ""))
            if not line.get("checksum"):
                del self._finished[line["chunk"]]

    def _append(self, line: Mapping[str, Any]) -> None:
        content = json.dumps(line).encode() + b"\n"
        with self._path.open("r+b" if self._path.exists() else "w+b") as stream:
            stream.truncate(self._n_whole)
            stream.seek(self._n_whole)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        self._n_whole += len(content)


def checksum_of(*arrays: NDArray[Any] | torch.Tensor) -> str:
    """Return the checksum of a chunk: of its arrays' shapes, types and values, in this order."""
    found = [hash_array(array) for array in arrays]
    whole = found[0] if len(found) == 1 else combine(found)
    return whole.digest[:_DIGITS]


def damaged_chunks(finished: Mapping[int, str], read: Callable[[int], str | None]) -> list[int]:
    """Return the numbers of finished chunks that hold other values than were written.

    Parameters
    ----------
    finished : mapping of int to str
        Checksums by chunk, see :meth:`Ledger.finished`.
    read : callable
        ``read(number)`` gives the checksum of what a chunk holds, None where it can't be read.
    """
    return [number for number in sorted(finished) if read(number) != finished[number]]


def job_header(
    kind: str, format_version: int, job: Mapping[str, Any], **beside: Any
) -> dict[str, Any]:
    """Return the header of an output: what it is, for which job, and which versions made it.

    Parameters
    ----------
    kind : str
        What is written.
    format_version : int
        Of the format; an output of another version is not resumed.
    job : mapping
        All that the result depends on: plain values, and an :class:`Identity` for all data.
    **beside
        What else is kept as plain values.
    """
    return {
        "kind": kind,
        "format_version": format_version,
        "job": {name: _plain(value) for name, value in job.items()},
        "versions": _versions(),
        **beside,
    }


def refuse_another_job(
    place: str | Path,
    header: Mapping[str, Any],
    job: Mapping[str, Any],
    *,
    format_version: int,
    resume: Resume = "identified",
    partly: bool = False,
    called: str = "output",
    ways_out: Sequence[str] = WAYS_OUT,
) -> None:
    """Refuse to resume an output that isn't known to be of the same job.

    Parameters
    ----------
    place : str or Path
        What an error calls the output.
    header : mapping
        That of :func:`job_header` which the output has.
    job : mapping
        As for :func:`job_header`.
    format_version : int
        The version that is written now.
    resume : {"identified", "trust"}
        With "trust" the caller vouches for data that can't be compared, of which then only shape
        and type are; data that is known to be other data is refused all the same.
    partly : bool
        Whether the job is only what is known of it so far.
    called : str
        What an error calls what is there.
    ways_out : sequence of str
        What an error tells to do.

    Raises
    ------
    FileFormatError
        If the output has another format.
    InvalidInputError
        If the job is another one, naming what differs, or its data can't be identified.
    """
    if header.get("format_version") != format_version:
        raise FileFormatError(
            f"{place} was begun in version {header.get('format_version')} of its format, and this "
            f"version of relspace writes version {format_version}, so that it can't be resumed.",
            ways_out=ways_out,
        )
    found = header.get("job") or {}
    different: list[str] = []
    unknown: list[str] = []
    for name in job if partly else {**found, **job}:
        asked = job.get(name)
        if not isinstance(asked, Identity):
            if found.get(name) != _plain(asked):
                different.append(name)
            continue
        before = Identity.of(found.get(name))
        if resume == "trust":
            odd = [
                key for key in ("shape", "dtype") if before.detail.get(key) != asked.detail.get(key)
            ]
            if not odd and before.is_known_to_differ_from(asked):
                odd = what_changed(before, asked)
            different += [f"{name} ({', '.join(odd)})"] if odd else []
        elif before.is_known and asked.is_known:
            changed = what_changed(before, asked)
            different += [f"{name} ({', '.join(changed)})"] if changed else []
        else:
            reason = (before if asked.is_known else asked).detail.get("reason")
            unknown.append(f"its {name} can't be identified ({reason})")
    if different:
        raise InvalidInputError(
            f"{place} holds the {called} of another job; different are {', '.join(different)}.",
            ways_out=ways_out,
        )
    if unknown:
        raise InvalidInputError(
            f"{place} can't be told to be of the same job, for {'; '.join(unknown)}.",
            ways_out=("resume it all the same with {resume='trust'}", *ways_out),
        )


def job_digest(header: Mapping[str, Any]) -> str:
    """Return a digest of the job in a header, by which processes that work on it tell it."""
    return checksum_of(np.frombuffer(json.dumps(header["job"], sort_keys=True).encode(), np.uint8))


def glance_at_files(paths: Iterable[Path], beside: Path) -> str:
    """Return a digest of names, sizes and modification times of files, as an output is settled by.

    Parameters
    ----------
    paths : iterable of Path
        The files.
    beside : Path
        The folder that their names are taken from.
    """
    stats = [(path.relative_to(beside).as_posix(), path.stat()) for path in sorted(paths)]
    return _glance([f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats])


def glance_at_folder(folder: Path) -> str:
    """Return that of :func:`glance_at_files` of a Zarr group, without its ledger."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    own = folder / LEDGER
    return glance_at_files((path for path in paths if not path.is_relative_to(own)), folder)


def glance_at_url(system: Any, path: str) -> str:
    """Return a digest of names and versions of objects; empty where they have no versions.

    Parameters
    ----------
    system : fsspec file system
        Where they lie.
    path : str
        The group, whose ledger is left out.
    """
    from relspace.rows.identity import version_of_object

    lines = []
    for name, info in sorted(system.find(path, detail=True).items()):
        own = str(name).removeprefix(path.rstrip("/")).lstrip("/")
        version = version_of_object(info)
        if own.startswith(f"{LEDGER}/"):
            continue
        if version is None:
            return ""
        lines.append(f"{own} {version}")
    return _glance(lines)


def make_durable(paths: Iterable[Path]) -> None:
    """Wait until files are on the disk, not only in memory."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _glance(lines: Sequence[str]) -> str:
    return checksum_of(np.frombuffer("\n".join(lines).encode(), np.uint8))


def _plain(value: Any) -> Any:
    """What a value becomes in JSON."""
    if isinstance(value, Identity):
        return value.record()
    return json.loads(json.dumps(value))


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        # A line of another format, whose header says so.
        return None


def _words(checksum: str) -> NDArray[np.uint64]:
    return np.frombuffer(bytes.fromhex(checksum.rjust(_DIGITS, "0")), ">u8").astype(np.uint64)


def _hex(words: NDArray[np.uint64]) -> str:
    return words.astype(">u8").tobytes().hex()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
