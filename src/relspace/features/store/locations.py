"""Where feature stores lie, folders or URLs, and what is there before one is written."""

from __future__ import annotations

from pathlib import Path

from relspace.errors import FileFormatError
from relspace.rows.formats.zarr import import_zarr
from relspace.rows.locations import file_system, missing_file_system
from relspace.rows.replacing import is_there

#: Where a store's header is among its attributes.
KEY = "relspace"
#: What a group at a URL says of itself until it has its header.
BEGUN = "feature set that was begun"


def is_free(place: str | Path) -> bool:
    """Whether there is nothing, or at a URL the beginning of a store, which has no header yet.

    Raises
    ------
    FileFormatError
        If there is something at a URL that is no Zarr group.
    """
    if isinstance(place, Path):
        return not is_there(place)
    try:
        found = dict(import_zarr().open_group(place, mode="r").attrs).get(KEY)
    except ImportError as error:
        raise missing_file_system(place, error) from error
    except FileNotFoundError:
        system, path = file_system(place)
        if system.exists(path):
            raise FileFormatError(
                f"{place} holds something that is no feature store: choose another name."
            ) from None
        return True
    except ValueError as error:
        raise FileFormatError(
            f"{place} holds something that is no feature store ({error}): choose another name."
        ) from error
    return isinstance(found, dict) and found.get("kind") == BEGUN
