"""Ledgers of outputs that are written in chunks: the job, and the checksums of finished chunks.

An output has a header (the version of its format, and the job: all that the result depends on) and
a ledger with the checksum of every finished chunk. A run that resumes the output reads its finished
chunks once, and computes those again whose values have another checksum. A complete output is
settled: its values are not read again while its fingerprint, the names, sizes and times of its
files (at a URL: etags), stays the same.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from relspace.errors import FileFormatError, InvalidInputError
from relspace.rows.identity import Identity, combine, hash_array, version_of_object, what_changed
from relspace.rows.locations import file_system

#: Whether an output is resumed if its input is identified, or if the caller vouches for the input.
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
    """Which chunks are finished, and whether the output is complete."""

    def finished(self) -> dict[int, str]:
        """The checksums of finished chunks by their numbers."""

    def finish(self, number: int, checksum: str) -> None:
        """Record that a chunk was written; called after it was."""

    def forget(self, number: int) -> None:
        """Record that a chunk is missing; called before it is written again."""

    def settled(self) -> str:
        """The fingerprint of the complete output (:func:`fingerprint_of`); empty until then."""

    def settle(self, fingerprint: str) -> None:
        """Record that the output is complete, and its fingerprint."""


class ZarrLedger:
    """A ledger as a Zarr array in the group of an output, in a folder or at a URL.

    Words ``2 i`` and ``2 i + 1`` of the array ``ledger``, of type uint64, hold the checksum of
    chunk ``i``, or zeros. Each pair is an object of its own, so that several processes may write.
    The last pair is for :meth:`settle`. ``root`` is the group, open for writing.
    """

    def __init__(self, root: Any) -> None:
        # Otherwise Zarr removes a pair that is equal to the fill value.
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
        pairs = np.asarray(self._words[...]).reshape(-1, 2)[:-1]
        return {i: _hex(pair) for i, pair in enumerate(pairs) if pair.any()}

    def has(self, number: int) -> bool:
        """Whether a chunk is finished."""
        return bool(self._pair(number).any())

    def finish(self, number: int, checksum: str) -> None:
        self._words[2 * number : 2 * number + 2] = _words(checksum)

    def forget(self, number: int) -> None:
        self.finish(number, "")

    def settled(self) -> str:
        pair = self._pair(self._last)
        return _hex(pair) if pair.any() else ""

    def settle(self, fingerprint: str) -> None:
        self.finish(self._last, fingerprint)

    @property
    def _last(self) -> int:
        return int(self._words.shape[0]) // 2 - 1

    def _pair(self, number: int) -> NDArray[np.uint64]:
        return np.asarray(self._words[2 * number : 2 * number + 2])


class FileLedger:
    """A ledger as a file of JSON lines: the header, then a line for each chunk that is finished.

    Only the process with the lock writes it. A last line that a killed process left incomplete is
    ignored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.header: dict[str, Any] | None = None
        self._finished: dict[int, str] = {}
        self._settled = ""
        content = path.read_bytes() if path.exists() else b""
        lines = content.split(b"\n")
        # The last part is empty, or an incomplete line.
        self._n_whole = len(content) - len(lines.pop())
        for line in lines:
            self._take(_parsed(line))

    def begin(self, header: Mapping[str, Any]) -> None:
        """Remove all lines, and write the header."""
        self.header, self._finished, self._settled, self._n_whole = dict(header), {}, "", 0
        self._append(dict(header))

    def erase(self) -> None:
        """Remove all lines. The file itself is kept, since it is locked."""
        self.header, self._finished, self._settled, self._n_whole = None, {}, "", 0
        os.truncate(self._path, 0)

    def finished(self) -> dict[int, str]:
        return dict(self._finished)

    def finish(self, number: int, checksum: str) -> None:
        self._append({"chunk": number, "checksum": checksum})
        self._finished[number] = checksum

    def forget(self, number: int) -> None:
        self._append({"chunk": number, "checksum": ""})
        self._finished.pop(number, None)

    def settled(self) -> str:
        return self._settled

    def settle(self, fingerprint: str) -> None:
        self._append({"settled": fingerprint})
        self._settled = fingerprint

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


def job_header(
    kind: str, format_version: int, job: Mapping[str, Any], **beside: Any
) -> dict[str, Any]:
    """Return the header of an output: its kind and format, its job, and the versions of packages.

    The job is everything that the result depends on: plain values, and an :class:`Identity` of each
    input. Outputs of another format version are not resumed. ``beside`` are further plain values.
    """
    return {
        "kind": kind,
        "format_version": format_version,
        "job": {name: _plain(value) for name, value in job.items()},
        "versions": {"python": platform.python_version(), **installed_versions(_PACKAGES)},
        **beside,
    }


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def refuse_another_job(
    location: str | Path,
    header: Mapping[str, Any],
    job: Mapping[str, Any],
    *,
    format_version: int,
    resume: Resume = "identified",
    partly: bool = False,
    called: str = "output",
    ways_out: Sequence[str] = WAYS_OUT,
) -> None:
    """Refuse to resume an output that isn't known to be of the same job, and name what differs.

    ``header`` is that of the output, and ``job`` the job of this run, with ``partly`` as far as it
    is known. With ``resume="trust"`` the caller vouches for data that can't be identified; only its
    shape and type are compared. Data that is known to be different is still refused.
    """
    if header.get("format_version") != format_version:
        raise FileFormatError(
            f"{location} was begun in version {header.get('format_version')} of its format, and "
            f"this version of relspace writes version {format_version}: it can't be resumed.",
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
            f"{location} holds the {called} of another job; different are {', '.join(different)}.",
            ways_out=ways_out,
        )
    if unknown:
        raise InvalidInputError(
            f"{location} can't be told to be of the same job, for {'; '.join(unknown)}.",
            ways_out=("resume it all the same with {resume='trust'}", *ways_out),
        )


def job_digest(header: Mapping[str, Any]) -> str:
    """Return a digest of the job in a header, by which workers recognize it."""
    return checksum_of(np.frombuffer(json.dumps(header["job"], sort_keys=True).encode(), np.uint8))


def fingerprint_of(location: str | Path) -> str:
    """Return a digest of names, sizes and times of the files of an output, except its ledger.

    At a URL it is of names and versions of objects, and empty where objects have no versions.
    """
    if isinstance(location, str):
        lines = _versions_at(location)
    else:
        beside = location if location.is_dir() else location.parent
        files = _files_of(location) if location.is_dir() else [location]
        stats = [(path.relative_to(beside).as_posix(), path.stat()) for path in sorted(files)]
        lines = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
    if lines is None:
        return ""
    return checksum_of(np.frombuffer("\n".join(lines).encode(), np.uint8))


def make_durable(folder: Path) -> None:
    """Wait until the files of a Zarr group are on the disk, not only in memory."""
    for path in _files_of(folder):
        # Windows waits for files only that may be written.
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _files_of(folder: Path) -> list[Path]:
    """The files of a Zarr group, without its ledger."""
    ledger = folder / LEDGER
    return [one for one in folder.rglob("*") if one.is_file() and not one.is_relative_to(ledger)]


def _versions_at(url: str) -> list[str] | None:
    system, path = file_system(url)
    lines = []
    for name, info in sorted(system.find(path, detail=True).items()):
        own = str(name).removeprefix(path.rstrip("/")).lstrip("/")
        if own.startswith(f"{LEDGER}/"):
            continue
        if (version := version_of_object(info)) is None:
            return None
        lines.append(f"{own} {version}")
    return lines


def _plain(value: Any) -> Any:
    """Convert a value to plain JSON values."""
    if isinstance(value, Identity):
        return value.record()
    return json.loads(json.dumps(value))


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        # Written in another format version, which the header names.
        return None


def _words(checksum: str) -> NDArray[np.uint64]:
    return np.frombuffer(bytes.fromhex(checksum.rjust(_DIGITS, "0")), ">u8").astype(np.uint64)


def _hex(words: NDArray[np.uint64]) -> str:
    return words.astype(">u8").tobytes().hex()
