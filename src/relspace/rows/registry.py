"""Reads one matrix of features, and the ids of its items, from a file of any common format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from relspace._core.validation import ItemId, as_ids, ids_of_text
from relspace.errors import FileFormatError, InvalidInputError
from relspace.features.feature_set import FeatureSet
from relspace.features.store.reading import is_store, open_features
from relspace.rows.formats import (
    FORMATS,
    IDS,
    ONLY,
    Entries,
    Entry,
    FileFormat,
    shorten,
)
from relspace.rows.locations import located
from relspace.rows.source import RowSource, ZarrRows, reading


@dataclass(frozen=True)
class FeatureTable:
    """Features read from a file.

    Attributes
    ----------
    features : array or tensor of shape (n_items, n_features), FeatureSet, or RowSource
        A feature set of one layer from a feature store; an array from ``.npy``, ``.npz``, ``.h5``,
        ``.csv`` and ``.parquet``, a tensor from ``.pt`` and ``.safetensors``, in the dtype of the
        file; a source of rows where the file is read in parts.
    ids : tuple of str or of int, or None
        One id for each row; None when the file brings none. Text of a ``.csv`` or text file is
        whole numbers where all ids are written as such.
    source : pathlib.Path or str
        The file, or a URL.
    key : str or None
        The entry of the file that holds the features; None for a file with one matrix only.
    feature_names : tuple of str, or None
        The names of the columns of a ``.csv``, ``.tsv`` or ``.parquet`` file.
    """

    features: NDArray[Any] | Tensor | FeatureSet | RowSource
    ids: tuple[ItemId, ...] | None
    source: Path | str
    key: str | None
    feature_names: tuple[str, ...] | None = None


def read_features(
    path: str | Path,
    *,
    key: str | None = None,
    ids: str | Path | None = None,
    id_column: str | None = None,
) -> FeatureTable:
    """Read features and the ids of their items from a file.

    Nothing is ever unpickled. ``.npy``, ``.pt`` and ``.safetensors`` are mapped into memory
    rather than read.

    Parameters
    ----------
    path : str or pathlib.Path
        A ``.npy``, ``.npz``, ``.pt``, ``.pth``, ``.safetensors``, ``.h5``, ``.hdf5``, ``.csv``,
        ``.tsv`` (separated by commas or tabs, with or without a line of column names) or
        ``.parquet`` file, or a Zarr array or group (a folder, or a URL that fsspec reaches), such
        as a feature store (:func:`relspace.extract`). A table has one column for each feature.
    key : str, optional
        The entry that holds the features, where a file can hold several. Needed only when more
        than one entry is a matrix. Of a feature store the layer, by default its last.
    ids : str or pathlib.Path, optional
        Where the ids are: an entry of the file, or a text file with one id in each line. By
        default they are the entry ``"ids"`` (for ``.safetensors`` also a JSON list of that name
        in the metadata) or the column ``"id"`` or ``"ids"``, when there is one.
    id_column : str, optional
        The column of a ``.csv`` or ``.parquet`` file that holds the ids.

    Returns
    -------
    FeatureTable
        The features (n_items, n_features) in the file's dtype, and the ids.

    Raises
    ------
    InvalidInputError
        The file is missing or has an unknown suffix; ``key``, ``ids`` or ``id_column`` name
        nothing, or several things; ids are not unique or not one for each row.
    FileFormatError
        The file is empty, cut off, corrupt, or holds pickled objects or no matrix of numbers.
    MissingDependencyError
        The file is ``.h5`` or ``.parquet`` and its reader is not installed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = f"{folder.name}/vit.npz"
    >>> np.savez(path, features=np.eye(3, 2), ids=["cat", "dog", "owl"])
    >>> table = read_features(path)
    >>> table.features.shape, table.ids, table.key
    ((3, 2), ('cat', 'dog', 'owl'), 'features')
    >>> folder.cleanup()
    """
    place = located(path)
    if is_zarr(place):
        table = open_zarr(place, key, ids, id_column)
        held = table.features
        return table if isinstance(held, FeatureSet) else replace(table, features=np.asarray(held))
    path = Path(place)
    file_format = _format_of(path)
    _check_places_of_ids(path, file_format, ids, id_column)
    with reading(path), file_format.open(path, id_column) as entries:
        name, entry = _find_matrix(path, entries, key, ids)
        features = cast("NDArray[Any] | Tensor", entry.load())
        found = _load_ids(path, entries, ids, file_format, features.shape[0])
    called = None if name == ONLY else name
    return FeatureTable(features, found, path, called, entry.feature_names)


def _check_places_of_ids(
    path: Path, file_format: FileFormat, ids: str | Path | None, id_column: str | None
) -> None:
    if id_column is not None and not file_format.is_table:
        raise InvalidInputError(
            f"id_column is for .csv, .tsv and .parquet files, and {path.name} is none: "
            "use ids to name an entry or a text file"
        )
    if ids is not None and id_column is not None:
        raise InvalidInputError("ids and id_column both say where the ids are: give one of them")


def is_zarr(place: Path | str) -> bool:
    """Whether a location is to be read as Zarr: a URL, or a folder that is or should be one."""
    if isinstance(place, str):
        return True
    if place.suffix.lower() == ".zarr" and not place.is_file():
        return True
    return any((place / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def open_zarr(
    place: Path | str, key: str | None, ids: str | Path | None, id_column: str | None
) -> FeatureTable:
    """Open a Zarr array, an array of a group, or a layer of a feature store, unread."""
    refuse_other_formats(place)
    stored = is_store(place)
    if stored and id_column is None and ids is not None:
        # Texts and arrays that were only counted have none until they are given some.
        whole = open_features(place)
        if whole.ids is None:
            named = whole.with_ids(_ids_of_file(ids, len(whole)))
            layer = whole.layers[-1] if key is None else key
            return FeatureTable(named.select(layers=layer), named.ids, place, layer)
    if ids is not None or id_column is not None:
        raise InvalidInputError(
            f"{place} is a {'feature' if stored else 'Zarr'} store, which brings its ids: leave "
            "ids away"
        )
    if not stored:
        rows = ZarrRows(place, key)
        return FeatureTable(rows, rows.ids, place, key)
    found = open_features(place)
    layer = found.layers[-1] if key is None else key
    return FeatureTable(found.select(layers=layer), found.ids, place, layer)


def refuse_other_formats(place: Path | str) -> None:
    """Refuse a URL of a file that is no Zarr store, before anything is asked of a network."""
    suffix = PurePosixPath(str(place)).suffix.lower()
    if isinstance(place, str) and suffix in FORMATS:
        raise InvalidInputError(
            f"{place} is a URL of a {suffix} file; at URLs only Zarr stores are read: download it, "
            "or store it as Zarr."
        )


def locate_features(
    path: str | Path,
    *,
    key: str | None = None,
    ids: str | Path | None = None,
    id_column: str | None = None,
) -> tuple[str, tuple[ItemId, ...] | None, Entry]:
    """Find the features in a file, and the ids of their items, without loading them.

    Returns
    -------
    key : str
        The entry that holds them; empty for a file with one matrix only.
    ids : tuple of str or of int, or None
        One id for each row, as :func:`read_features` finds them.
    entry : Entry
        What the file says of them.
    """
    path = Path(path)
    file_format = _format_of(path)
    _check_places_of_ids(path, file_format, ids, id_column)
    with reading(path), file_format.open(path, id_column) as entries:
        name, entry = _find_matrix(path, entries, key, ids)
        n_rows = (entry.shape or (0,))[0]
        return name, _load_ids(path, entries, ids, file_format, n_rows), entry


def is_table_file(path: Path) -> bool:
    """Whether a file is a table, whose ids are a column, by its suffix."""
    file_format = FORMATS.get(path.suffix.lower())
    return file_format is not None and file_format.is_table


def _format_of(path: Path) -> FileFormat:
    file_format = FORMATS.get(path.suffix.lower())
    if file_format is None:
        if not path.exists():
            raise InvalidInputError(f"there is no file {path}")
        found = f"has the suffix {path.suffix!r}" if path.suffix else "has no suffix"
        if path.is_dir():
            found = "is a folder and no Zarr store"
        raise InvalidInputError(
            f"{path} {found}; files of features end in {', '.join(FORMATS)}, and Zarr stores are "
            "folders"
        )
    check_file(path)
    return file_format


def check_file(path: Path) -> None:
    """Refuse a path that is no readable file with something in it."""
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; name a file")
    if not path.exists():
        raise InvalidInputError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise FileFormatError(f"{path} is empty (0 bytes)")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InvalidInputError(f"{path} can't be opened: {error.strerror}") from error


def _listed(entries: Entries) -> str:
    return shorten(
        [
            f"{name or 'one array'} {'(a link)' if entry.shape is None else entry.shape}"
            for name, entry in entries.items()
        ]
    )


def _find_matrix(
    path: Path, entries: Entries, key: str | None, ids: str | Path | None
) -> tuple[str, Entry]:
    if key is not None and ONLY in entries:
        raise InvalidInputError(
            f"{path} holds one matrix, which has no key, and {key!r} is asked for.",
            ways_out=["leave {key} out"],
        )
    if key is None:
        key = ONLY if ONLY in entries else _only_matrix(path, entries, ids)
    if key not in entries:
        raise InvalidInputError(f"{path} has no entry {key!r}; it holds {_listed(entries)}")
    entry = entries[key]
    where = f"{path}::{key}" if key else str(path)
    if entry.obstacle is not None or entry.shape is None:
        raise FileFormatError(f"{where} {entry.obstacle}.")
    if len(entry.shape) != 2:
        raise FileFormatError(
            f"{where} has the shape {entry.shape}; features are a matrix (n_items, n_features): "
            "reshape it so that each item is one row"
        )
    if 0 in entry.shape:
        raise FileFormatError(f"{where} is empty: it has the shape {entry.shape}")
    return key, entry


def _only_matrix(path: Path, entries: Entries, ids: str | Path | None) -> str:
    others = {name: entry for name, entry in entries.items() if name not in (IDS, ids)}
    others = {name: entry for name, entry in others.items() if not entry.is_alias}
    matrices = {
        name: entry
        for name, entry in others.items()
        if entry.shape is None or (entry.obstacle is None and len(entry.shape) == 2)
    }
    if len(matrices) > 1:
        raise InvalidInputError(
            f"{path} holds {len(matrices)} matrices, {_listed(matrices)}.",
            ways_out=["say which by {key}"],
        )
    # A single entry is what is meant, and if it can't be features its own error says why.
    chosen = matrices or others
    if len(chosen) != 1:
        raise FileFormatError(
            f"{path} holds no matrix (n_items, n_features) of numbers; "
            f"it holds {_listed(entries) or 'nothing that can be read'}"
        )
    return next(iter(chosen))


def _load_ids(
    path: Path,
    entries: Entries,
    ids: str | Path | None,
    file_format: FileFormat,
    n_rows: int,
) -> tuple[ItemId, ...] | None:
    if ids is None:
        return ids_of_entries(path, entries, n_rows)
    is_entry = isinstance(ids, str) and ids in entries and not file_format.is_table
    is_file = Path(ids).is_file()
    if is_entry and is_file:
        raise InvalidInputError(
            f"{ids!r} is an entry of {path} and a text file: write ./{ids} for the text file"
        )
    if is_entry:
        return as_ids(entries[str(ids)].load(), f"{path}::{ids}", n_rows)
    if not is_file:
        held = "" if file_format.is_table or ONLY in entries else f" (it holds {_listed(entries)})"
        raise InvalidInputError(
            f"{str(ids)!r}, where the ids should be, is neither a text file nor an entry of "
            f"{path}{held}"
        )
    return _ids_of_file(ids, n_rows)


def _ids_of_file(ids: str | Path, n_rows: int) -> tuple[ItemId, ...]:
    if not Path(ids).is_file():
        raise InvalidInputError(f"there is no text file {ids} with one id in each line.")
    return as_ids(ids_of_text(lines_of(Path(ids), "id")), f"{ids}", n_rows)


def ids_of_entries(path: Path, entries: Entries, n_rows: int) -> tuple[ItemId, ...] | None:
    """Read the ids that a file brings by itself; None if it brings none."""
    if IDS not in entries:
        return None
    return as_ids(entries[IDS].load(), str(path), n_rows)


def lines_of(path: Path, what: str) -> list[str]:
    """Read a text file in UTF-8 with one item of some kind in each line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(
            f"{path} can't be read as a text file with one {what} in each line ({error})"
        ) from error
    return lines[:-1] if lines[-1] == "" else lines
