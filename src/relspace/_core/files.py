"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, content: bytes | str) -> Path:
    """Write a file through a temporary one beside it, so that nobody ever reads half of it.

    Parameters
    ----------
    path : Path
        Where it goes; its folder is made if needed, a file already there is replaced.
    content : bytes or str
        What it holds; text is encoded as UTF-8, what has no bytes there (half a surrogate pair, as
        a file's name may hold) as an escape.

    Returns
    -------
    Path
        ``path``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "new" / "a.txt", "whole").read_text()
    'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A short name: that of the file may be as long as the file system allows.
    unfinished = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(
                content.encode(errors="backslashreplace") if isinstance(content, str) else content
            )
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
