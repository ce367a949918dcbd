"""Folders that are replaced once what replaces them is whole: the old is kept until then.

Beside ``NAME`` lies ``.NAME.new`` while it is written. Then ``NAME`` becomes ``.NAME.old`` and
``.NAME.new`` becomes ``NAME``. What a killed run leaves of either is taken over by the next one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from relspace.errors import FileFormatError
from relspace.rows.locks import PathLock


def new_of(folder: Path) -> Path:
    """Where what replaces a folder is written."""
    return folder.with_name(f".{folder.name}.new")


def lock_folder(folder: Path) -> PathLock:
    """Make and lock a folder that will be written, and remove what killed runs left of old ones.

    A folder whose replacement was cut off between two renames has its name again.

    Raises
    ------
    FileFormatError
        If it is a file.
    StoreLockedError
        If another process is writing it.
    """
    if folder.exists() and not folder.is_dir():
        raise FileFormatError(f"{folder} is a file; a store is a folder.")
    old = _old_of(folder)
    if old.exists() and not folder.exists():
        # Whoever replaces it just now has it locked.
        lock = PathLock(old)
        old.rename(folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        lock = PathLock(folder)
    for left in (old, _removed_of(folder)):
        _remove(left, folder)
    return lock


def is_there(folder: Path) -> bool:
    """Whether a folder is there, or was when its replacement was cut off."""
    return folder.exists() or _old_of(folder).exists()


def replace_folder(folder: Path) -> None:
    """Give the folder that is written beside another one the name of that one, which is removed."""
    folder.rename(_old_of(folder))
    new_of(folder).rename(folder)
    _remove(_old_of(folder), folder)


def discard_new(folder: Path) -> None:
    """Remove what a killed run would have replaced a folder by."""
    if (new := new_of(folder)).exists():
        lock = PathLock(new)
        try:
            _remove(new, folder)
        finally:
            lock.release()


def _old_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _removed_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.removed")


def _remove(left: Path, folder: Path) -> None:
    """Remove a folder that nothing will ever take for a whole one, however far that gets."""
    removed = _removed_of(folder)
    if removed.exists():
        shutil.rmtree(removed)
    if left.exists():
        left.rename(removed)
        shutil.rmtree(removed)
