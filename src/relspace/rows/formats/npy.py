"""Ids of the rows of an ``.npy`` file, in a JSON file beside it that keeps numbers and text apart.

Beside ``NAME.npy`` lies ``NAME.ids.json``: ``{"kind": "ids", "rows": n, "ids": [...]}``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from relspace._core.files import write_whole
from relspace._core.validation import ItemId
from relspace.errors import FileFormatError

_KIND = "ids"


def ids_file_of(path: str | Path) -> Path:
    """Where the ids of an ``.npy`` file lie."""
    return Path(path).with_suffix(".ids.json")


def write_ids(path: str | Path, ids: Sequence[ItemId] | None) -> None:
    """Write the ids beside an ``.npy`` file; None removes those that are there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_ids(folder + "/a.npy", [7, 8])
    ...     read_ids(folder + "/a.npy", 2)
    (7, 8)
    """
    place = ids_file_of(path)
    if ids is None:
        place.unlink(missing_ok=True)
        return
    write_whole(place, json.dumps({"kind": _KIND, "rows": len(ids), "ids": list(ids)}))


def read_ids(path: str | Path, n_rows: int) -> tuple[ItemId, ...] | None:
    """Read the ids beside an ``.npy`` file; None where there are none.

    Parameters
    ----------
    path : str or Path
        The ``.npy`` file.
    n_rows : int
        How many rows it has.

    Raises
    ------
    FileFormatError
        If the file beside it holds something else, or ids of another number of rows.
    """
    place = ids_file_of(path)
    if not place.is_file():
        return None
    ways_out = ["remove it", "name the ids with {ids}"]
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(
            f"{place} can't be read as ids ({error}).", ways_out=ways_out
        ) from error
    ids = found.get("ids") if isinstance(found, dict) and found.get("kind") == _KIND else None
    if not isinstance(ids, list) or {type(item) for item in ids} not in ({int}, {str}):
        raise FileFormatError(
            f"{place} holds no list of ids that are all text or all whole numbers.",
            ways_out=ways_out,
        )
    if len(ids) != n_rows:
        raise FileFormatError(
            f"{place} holds {len(ids)} ids, and {Path(path).name} beside it {n_rows} rows.",
            ways_out=ways_out,
        )
    return tuple(ids)
