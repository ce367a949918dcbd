"""Locks of outputs: on a folder or file, or a lease beside a store at a URL."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from filelock import lock_descriptor

from relspace._core import platform
from relspace._core.progress import Listener, silent
from relspace.errors import RelspaceError, RelspaceWarning
from relspace.rows.locations import file_system

_SECONDS_BETWEEN_RENEWALS = 5.0
_SECONDS_UNTIL_DEAD = 20.0
_SECONDS_BETWEEN_LOOKS = 1.0


class StoreLockedError(RelspaceError, OSError):
    """Another process is writing the output."""


class WaitingWarning(RelspaceWarning):
    """A call waits for another process that may be gone."""


class StoreLock(Protocol):
    """The right to write an output."""

    def check(self) -> None:
        """Raise StoreLockedError if another process has the lock by now."""

    def release(self) -> None:
        """Release the lock, so that other processes may write."""


class PathLock:
    """A lock on an existing folder or file, held until the process ends, also after a rename.

    Where folders can't be opened, a file ``.NAME.lock`` beside it is locked, which stays. It has
    the name of ``named``, which a folder that has another name for a while will have.
    """

    def __init__(self, path: Path, named: Path | None = None) -> None:
        try:
            self._descriptor = _open_to_lock(path, named or path)
        except FileNotFoundError as error:
            raise _locked(path) from error
        try:
            held = lock_descriptor(self._descriptor, blocking=False)
            # The file may have been removed, or replaced, before it was locked.
            if not held or not _is_still(path, self._descriptor):
                raise _locked(path)
        except OSError as error:
            os.close(self._descriptor)
            raise _locked(path) from error

    def check(self) -> None:
        """Do nothing: no other process can get this lock."""

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class BothLocks:
    """Two locks as one: those of an output and of its replacement."""

    def __init__(self, first: StoreLock, second: StoreLock) -> None:
        self._locks = (first, second)

    def check(self) -> None:
        for lock in self._locks:
            lock.check()

    def release(self) -> None:
        for lock in self._locks:
            lock.release()


class Lease:
    """An object beside a store at a URL, renewed every few seconds by the process that writes.

    Leases are numbered; the highest number counts, and only one process can create it. A lease that
    is not renewed for 20 seconds has expired: a process that waited creates the next one. No clocks
    are compared. A process that was only suspended finds its lease lost when it checks it, before
    each write. An object store can't make the check and the write one step, so that a write that
    has already begun still arrives.

    Parameters
    ----------
    url : str
        The store.
    tell : callable
        Told while the lease of another process is watched; without it there is a warning.

    Raises
    ------
    StoreLockedError
        If another process renews its lease, or was faster; it names the process and its computer.
    """

    def __init__(self, url: str, tell: Listener = silent) -> None:
        self._url = url
        self._owner = secrets.token_hex(8)
        self._system, path = file_system(url)
        self._folder = path.rstrip("/") + ".lease"
        newest = self._newest()
        if newest is not None:
            self._watch(newest, tell)
        self._own = f"{self._folder}/{0 if newest is None else _number(newest[0]) + 1:08d}"
        self._renewals = 0
        try:
            self._system.pipe_file(self._own, self._content(), mode="create")
        except FileExistsError as error:
            raise self._lost(self._newest()) from error
        # Not every file system can create an object only if there is none.
        self.check()
        if newest is not None:
            self._remove(newest[0])
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="relspace-lease", daemon=True)
        self._renewing.start()

    def check(self) -> None:
        newest = self._newest()
        if newest is None or newest[0] != self._own or not newest[1].startswith(self._mark()):
            raise self._lost(newest)

    def release(self) -> None:
        self._ended.set()
        self._renewing.join()
        # If it can't be removed, it expires.
        with suppress(OSError):
            self.check()
            self._remove(self._own)

    def _newest(self) -> tuple[str, bytes] | None:
        """The lease with the highest number, and its content."""
        self._system.invalidate_cache()
        try:
            found = max(self._system.ls(self._folder, detail=False), key=_number, default=None)
            return None if found is None else (str(found), self._system.cat_file(found))
        except FileNotFoundError:
            return None

    def _watch(self, newest: tuple[str, bytes], tell: Listener) -> None:
        message = (
            f"Waiting up to {_SECONDS_UNTIL_DEAD:.0f} s whether {_holder(newest)} still writes "
            f"{self._url}"
        )
        if tell is silent:
            warnings.warn(WaitingWarning(f"{message}."), stacklevel=2)
        else:
            tell(0, 0, message)
        start = time.monotonic()
        while time.monotonic() - start < _SECONDS_UNTIL_DEAD:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            found = self._newest()
            if found is None:
                return
            if found != newest:
                raise self._lost(found)

    def _renew(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_RENEWALS):
            # A lost lease is not renewed; a broken connection is reported by the next write.
            with suppress(OSError):
                try:
                    self.check()
                except StoreLockedError:
                    return
                self._renewals += 1
                self._system.pipe_file(self._own, self._content())

    def _lost(self, newest: tuple[str, bytes] | None) -> StoreLockedError:
        return StoreLockedError(
            f"{_holder(newest)} is writing {self._url}.",
            ways_out=[
                "wait until it is done",
                f"end it, and run again {_SECONDS_UNTIL_DEAD:.0f} seconds later",
                "choose another name",
            ],
        )

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._system.rm_file(path)

    def _mark(self) -> bytes:
        return f"{self._owner} ".encode()

    def _content(self) -> bytes:
        return self._mark() + f"{self._renewals} {os.getpid()} {socket.gethostname()}".encode()


def _number(path: Any) -> int:
    return int(str(path).rpartition("/")[2])


def _holder(lease: tuple[str, bytes] | None) -> str:
    """Name the process that holds a lease, as its content says."""
    told = b"" if lease is None else lease[1]
    parts = told.decode("utf-8", "replace").split(" ", 3)
    return f"process {parts[2]} on {parts[3]}" if len(parts) == 4 else "another process"


def _open_to_lock(path: Path, named: Path) -> int:
    if platform.OPENS_FOLDERS:
        return os.open(path, os.O_RDONLY)
    path.stat()
    return os.open(named.with_name(f".{named.name}.lock"), os.O_RDWR | os.O_CREAT)


def _is_still(path: Path, descriptor: int) -> bool:
    found = path.stat()
    return not platform.OPENS_FOLDERS or os.path.samestat(os.fstat(descriptor), found)


def _locked(path: Path) -> StoreLockedError:
    return StoreLockedError(
        f"another process is writing {path}.", ways_out=["wait for it", "choose another name"]
    )
