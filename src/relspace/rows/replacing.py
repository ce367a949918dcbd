"""Replacement of folders: the old one is kept until the new one is complete.

The new folder is written as ``.NAME.new`` beside ``NAME``. Then ``NAME`` is renamed to
``.NAME.old``, and ``.NAME.new`` to ``NAME``. The next run cleans up what a killed run left.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from relspace._core.progress import Listener, silent
from relspace.errors import FileFormatError
from relspace.rows.locks import Lease, PathLock, StoreLock


def new_of(folder: Path) -> Path:
    """The location of a folder's replacement while it is written."""
    return folder.with_name(f".{folder.name}.new")


def lock_folder(folder: Path) -> PathLock:
    """Create and lock a folder, and remove old versions that killed runs left.

    If a replacement was interrupted between its two renames, the old folder gets its name back.
    """
    if folder.exists() and not folder.is_dir():
        raise FileFormatError(f"{folder} is a file; a store is a folder.")
    old = _old_of(folder)
    if old.exists() and not folder.exists():
        # A process that replaces it right now holds this lock.
        lock = PathLock(old, named=folder)
        old.rename(folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        lock = PathLock(folder)
    for left in (old, _removed_of(folder)):
        _remove(left, folder)
    return lock


def lock_store(location: str | Path, tell: Listener = silent) -> StoreLock:
    """Lock a folder, which is created if it doesn't exist, or a store at a URL."""
    return lock_folder(location) if isinstance(location, Path) else Lease(location, tell)


def is_there(folder: Path) -> bool:
    """Whether a folder exists, possibly under its old name after an interrupted replacement."""
    return folder.exists() or _old_of(folder).exists()


def replace_folder(folder: Path) -> None:
    """Replace a folder by its complete replacement."""
    folder.rename(_old_of(folder))
    new_of(folder).rename(folder)
    _remove(_old_of(folder), folder)


def discard_new(folder: Path) -> None:
    """Remove the replacement that a killed run began."""
    if (new := new_of(folder)).exists():
        lock = PathLock(new)
        try:
            _remove(new, folder)
        finally:
            lock.release()


def empty_folder(folder: Path) -> None:
    """Remove the content of a folder."""
    for one in folder.iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()


def _old_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _removed_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.removed")


def _remove(left: Path, folder: Path) -> None:
    """Remove a folder under another name, so that a half removed one is never opened."""
    removed = _removed_of(folder)
    if removed.exists():
        shutil.rmtree(removed)
    if left.exists():
        left.rename(removed)
        shutil.rmtree(removed)
