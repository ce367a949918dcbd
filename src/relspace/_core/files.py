"""Atomic writes: files that appear complete or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor

from relspace._core import platform


def write_whole(path: Path, content: bytes | str) -> Path:
    """Write a file through a temporary one beside it, so that nobody ever reads half of it.

    Its folder is made if needed, and a file already there is replaced. Text is encoded as UTF-8,
    with escapes for characters that have none, such as half a surrogate pair in a file name. An
    OSError names ``path``. The temporary file of a run that was killed is overwritten by the next
    one that writes ``path``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "new" / "a.txt", "whole").read_text()
    'whole'
    """
    encoded = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _unfinished(path) as file:
            file.write(encoded)
            file.flush()
            os.fsync(file.fileno())
            if not platform.RENAMES_OPEN_FILES:
                file.close()
            Path(file.name).replace(path)
    return path


def check_writable(path: Path) -> None:
    """Raise an OSError that names ``path`` if it can't be made, by making a file beside it."""
    folder = path.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with _named(path), _unfinished(folder / path.name):
        pass


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have errors name the user's path and not a temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f"can't be written ({error.strerror or error})", str(path)
        ) from error


@contextmanager
def _unfinished(path: Path) -> Iterator[BinaryIO]:
    """Yield a locked, empty file beside ``path``, removed afterwards unless it was renamed."""
    # A short name: that of the file may be as long as the file system allows.
    key = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    shared = path.with_name(f".{key}.unfinished")
    own = path.with_name(f".{key}-{os.getpid()}-{secrets.token_hex(4)}.unfinished")
    if platform.RENAMES_OPEN_FILES:
        try:
            file = _locked(shared)
        except OSError:
            # The leftover of another user, or a file system without locks.
            file = own.open("xb")
    else:
        file = own.open("xb")
    with file:
        try:
            yield file
        finally:
            if _is_named(file):
                Path(file.name).unlink()


def _locked(path: Path) -> BinaryIO:
    """Open and empty a file once no other process has it locked."""
    while True:
        file = path.open("ab")
        try:
            lock_descriptor(file.fileno())
            if _is_named(file):
                file.truncate(0)
                return file
        except BaseException:
            file.close()
            raise
        # Its former owner has renamed it.
        file.close()


def _is_named(file: BinaryIO) -> bool:
    """Whether an open file still has the name that it was opened with."""
    try:
        named = Path(file.name).stat()
        # A file that was closed has a name of its own.
        return file.closed or os.path.samestat(os.fstat(file.fileno()), named)
    except FileNotFoundError:
        return False
