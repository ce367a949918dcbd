"""Zarr groups that are written: their headers, and groups that have none yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relspace.errors import FileFormatError, reason_of
from relspace.rows.formats.zarr import import_zarr
from relspace.rows.ledger import KEY
from relspace.rows.locations import file_system, missing_file_system


def group_header(location: str | Path, kind: str, begun: str) -> dict[str, Any] | None:
    """Return the header of a group of some kind; None if there is nothing, or no header yet.

    Anything else is refused. ``begun`` is the kind of a group until its header is written.
    """
    zarr = import_zarr()
    if isinstance(location, Path) and location.exists() and not location.is_dir():
        raise FileFormatError(f"{location} is a file; a Zarr store is a folder.")
    try:
        root = zarr.open_group(location, mode="r")
    except ImportError as error:
        raise missing_file_system(location, error) from error
    except FileNotFoundError:
        if holds_something(location):
            raise FileFormatError(
                f"{location} is a folder that is no Zarr store.", ways_out=["name another output"]
            ) from None
        return None
    except zarr.errors.ContainsArrayError:
        raise FileFormatError(
            f"{location} is a Zarr array of something else.", ways_out=["name another output"]
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileFormatError(
            f"{location} can't be read as a Zarr store ({reason_of(error)}).",
            ways_out=["name another output", "remove it"],
        ) from error
    header = dict(root.attrs).get(KEY)
    if not isinstance(header, dict):
        raise FileFormatError(
            f"{location} is a Zarr store of something else.", ways_out=["name another output"]
        )
    if header.get("kind") == begun:
        return None
    if header.get("kind") != kind:
        raise FileFormatError(
            f"{location} holds a {header.get('kind')}.", ways_out=["name another output"]
        )
    return header


def holds_something(location: str | Path) -> bool:
    """Whether a folder or URL exists and is not empty."""
    if isinstance(location, Path):
        return location.exists() and any(location.iterdir())
    system, own = file_system(location)
    return bool(system.exists(own) and system.find(own))


def empty_group(location: str | Path, begun: str) -> Any:
    """Create an empty Zarr group, or empty one that is there, and open it for writing.

    Its header is the kind ``begun`` until the real one is written: a group without a header is not
    ours.
    """
    zarr = import_zarr()
    try:
        root = zarr.open_group(location, mode="r+")
    except FileNotFoundError:
        return zarr.create_group(location, attributes={KEY: {"kind": begun}})
    # Before anything is removed, so that what is left is never opened as a complete store.
    root.attrs[KEY] = {"kind": begun}
    system, group = file_system(str(location))
    for one in system.ls(group, detail=False):
        if not str(one).endswith("/zarr.json"):
            system.rm(one, recursive=True)
    return root
