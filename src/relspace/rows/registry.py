"""Opens features in memory or in files: ``scan`` for reading in blocks, ``read`` into memory.

Each format is a module of :mod:`relspace.rows.formats`, or is registered by a layer above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import torch

from relspace._core.arrays import is_matrix_like
from relspace._core.items import ItemId, as_ids, ids_of_text, own_ids
from relspace._core.labelled_tables import as_labelled_table, feature_names
from relspace._core.matrices import as_features
from relspace._core.pairing import ItemContents
from relspace._core.resources import Resources
from relspace.errors import FileFormatError, InvalidInputError
from relspace.rows.formats import FORMATS
from relspace.rows.formats._format import IDS, ONLY, Entries, Entry, FileFormat, Request, shorten
from relspace.rows.formats.dask import DaskRows, is_dask_array
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.formats.shards import ShardedRows
from relspace.rows.locations import located, reading
from relspace.rows.source import GeneratedRows, Readable, RowSource, check_matrix

# Libraries whose arrays are read block by block.
_LIBRARIES_OF_BLOCKS = ("h5py", "zarr", "dask")


@dataclass(frozen=True)
class FeatureTable:
    """Features of a file or store.

    Attributes
    ----------
    features : array or tensor of shape (n_items, n_features), FeatureSet, or RowSource
        :func:`read` loads an array, or a tensor from ``.pt`` and ``.safetensors``, in the
        type of the file. A feature store gives a feature set of one layer.
    ids : tuple of str or of int, or None
        One id for each row; None when the file brings none. Ids that are text (in ``.csv`` and text
        files) are whole numbers where all are written as such.
    source : pathlib.Path or str
        The file, or a URL.
    key : str or None
        The entry of the file that holds the features; None for a file with one matrix only.
    feature_names : tuple of str, or None
        The names of the columns of a table.
    contents : ItemContents or None
        The digests of the items' content, if they are known.
    """

    features: Any
    ids: tuple[ItemId, ...] | None
    source: Path | str
    key: str | None
    feature_names: tuple[str, ...] | None = None
    contents: ItemContents | None = None

    @property
    def n_items(self) -> int:
        """The number of items; tokens of images are not items."""
        features = self.features
        return int(features.shape[0]) if isinstance(features, RowSource) else len(features)


@dataclass(frozen=True, kw_only=True)
class StoreFormat:
    """A format of stores of a layer above.

    ``recognizes`` says whether a location is such a store, and ``open(location, request)`` opens
    it. ``kind`` is the type of its features, of which ``rows`` gives a source of rows and
    ``contents`` the content of its items.
    """

    recognizes: Callable[[Path | str], bool]
    open: Callable[[Path | str, Request], FeatureTable]
    kind: type
    rows: Callable[[Any], RowSource]
    contents: Callable[[Any], ItemContents | None]


_STORES: list[StoreFormat] = []


def register(store: StoreFormat) -> None:
    """Add a format of stores, which is recognized before those of files."""
    _STORES.append(store)


def scan(
    source: object,
    *,
    key: str | None = None,
    ids: str | Path | None = None,
    id_column: str | None = None,
    name: str = "X",
) -> RowSource:
    """Open features as a source of rows, which are read in blocks when they are asked for.

    Parameters
    ----------
    source : path, list of paths, RowSource, array, memory map, Dask, h5py or Zarr array, or table
        A file of features (see :func:`read`), a Zarr array or group (a folder ending in ``.zarr``,
        or a URL that fsspec knows), a list of any of them (shards, in that order), or something in
        memory. ``.npy``, ``.h5``, ``.safetensors``, ``.parquet``, ``.arrow`` and Zarr are read in
        parts; other files are loaded whole, and refused where memory does not hold them. Of a
        feature set of one layer, that layer.
    key, ids, id_column
        The entries of a file with features and ids, see :func:`read`.
    name : str
        The name of an array in errors.

    Returns
    -------
    RowSource
        With ``shape``, ``dtype``, ``ids`` and ``read(start, stop)``.

    Raises
    ------
    InvalidInputError
        If a file is missing, or ``key``, ``ids`` or ``id_column`` name nothing.
    InvalidTypeError
        If it is nothing that holds rows.
    FileFormatError
        If a file is corrupt or holds no matrix of numbers.
    MemoryBudgetError
        If a file that can only be loaded whole would not fit into the free memory.

    Examples
    --------
    >>> import tempfile, numpy as np, relspace
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/a.npy", np.eye(4, 3))
    ...     rows = relspace.features.scan([folder + "/a.npy", folder + "/a.npy"])
    ...     rows.shape, rows.read(3, 5)[:, 0].tolist()
    ((8, 3), [0.0, 1.0])
    """
    if isinstance(source, str | Path):
        return _rows_of(scan_table(source, key=key, ids=ids, id_column=id_column).features, name)
    if isinstance(source, list | tuple) and any(isinstance(one, str | Path) for one in source):
        return ShardedRows([scan(one, key=key, ids=ids, id_column=id_column) for one in source])
    return _rows_of(source, name)


def read(
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
        ``.tsv`` (separated by commas or tabs, with or without a line of column names),
        ``.parquet``, ``.arrow``, ``.feather`` or ``.jsonl`` (one object in each line) file, or a
        Zarr array or group (a folder, or a URL that fsspec reaches), such as a feature store
        (:func:`relspace.extract`). A table has one column for each feature, or a column of
        vectors.
    key : str, optional
        The entry that holds the features, or the column of vectors, where a file can hold
        several. Needed only when more than one entry is a matrix. Of a feature store the layer,
        by default its last.
    ids : str or pathlib.Path, optional
        The entry of the file with the ids, or a text file with one id in each line. By
        default they are the entry ``"ids"`` (for ``.safetensors`` also a JSON list of that name
        in the metadata) or the column ``"id"`` or ``"ids"``, when there is one.
    id_column : str, optional
        The column of a table that holds the ids.

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
        The reader of the format is not installed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = f"{folder.name}/vit.npz"
    >>> np.savez(path, features=np.eye(3, 2), ids=["cat", "dog", "owl"])
    >>> table = read(path)
    >>> table.features.shape, table.ids, table.key
    ((3, 2), ('cat', 'dog', 'owl'), 'features')
    >>> folder.cleanup()
    """
    return _find(located(path), Request(key, ids, id_column), in_parts=False)


def scan_table(
    path: str | Path,
    *,
    key: str | None = None,
    ids: str | Path | None = None,
    id_column: str | None = None,
) -> FeatureTable:
    """Open features and ids as :func:`read` does, with the features as a source of rows.

    Of a feature store the features are a feature set of one layer.
    """
    return _find(located(path), Request(key, ids, id_column), in_parts=True)


def is_held(features: object) -> bool:
    """Whether features are one matrix in memory; all others are read in blocks."""
    if isinstance(features, torch.Tensor):
        # First, because some tensors have no shape.
        return True
    lazy = (str, Path, np.memmap, RowSource, Readable, *(store.kind for store in _STORES))
    if isinstance(features, lazy):
        return False
    if isinstance(features, list | tuple):
        return not any(isinstance(one, str | Path) or is_matrix_like(one) for one in features)
    return type(features).__module__.partition(".")[0] not in _LIBRARIES_OF_BLOCKS


def gives_arrays(features: object) -> bool:
    """Whether results computed from features are arrays rather than tensors."""
    if isinstance(features, RowSource):
        return features.is_array
    return hasattr(features, "__array__")


def contents_of(features: object) -> ItemContents | None:
    """Return what is known of the content of the items of features."""
    if isinstance(features, RowSource):
        return features.contents
    for store in _STORES:
        if isinstance(features, store.kind):
            return store.contents(features)
    return None


def is_table_file(path: Path) -> bool:
    """Whether a file is a table, in which ids are a column, by its suffix."""
    file_format = FORMATS.get(path.suffix.lower())
    return file_format is not None and file_format.is_table


def _rows_of(features: object, name: str) -> RowSource:
    """Make a source of rows of an object, without copying it."""
    if isinstance(features, torch.Tensor):
        return ArrayRows(features)
    if isinstance(features, RowSource):
        check_matrix(tuple(features.shape))
        return features
    for store in _STORES:
        if isinstance(features, store.kind):
            return store.rows(features)
    if isinstance(features, Readable):
        shape = cast("tuple[int, int]", tuple(features.shape))
        return GeneratedRows(shape, features.read, dtype=features.dtype, ids=features.ids)
    if is_dask_array(features):
        return DaskRows(features)
    if isinstance(features, list | tuple) and any(map(is_matrix_like, features)):
        if all(as_labelled_table(one, name) is not None for one in features):
            parts = [_rows_of_table(one, name, None) for one in features]
            return ShardedRows(parts, own_ids(features, name))
        return ShardedRows([_rows_of(one, name) for one in features])
    if as_labelled_table(features, name) is not None:
        return _rows_of_table(features, name, own_ids(features, name))
    # An array of Zarr has no length.
    if all(hasattr(features, one) for one in ("shape", "dtype", "__getitem__")):
        return ArrayRows(features)
    return ArrayRows(as_features(features, name).tensor)


def _rows_of_table(table: object, name: str, ids: tuple[ItemId, ...] | None) -> ArrayRows:
    values = as_features(table, name).tensor.numpy()
    return ArrayRows(values, ids, feature_names(table), is_array=True)


def _find(location: Path | str, request: Request, *, in_parts: bool) -> FeatureTable:
    suffix = PurePosixPath(str(location)).suffix.lower()
    if isinstance(location, str) and suffix in FORMATS and FORMATS[suffix].recognizes is None:
        # Before any access to the network.
        raise InvalidInputError(
            f"{location} is a URL of a {suffix} file; at URLs only Zarr stores are read: download "
            "it, or store it as Zarr."
        )
    for store in _STORES:
        if store.recognizes(location):
            return store.open(location, request)
    file_format = format_of(location)
    _check_request(location, file_format, request)
    if in_parts and not file_format.in_parts:
        refuse_to_load(Path(location))
    with reading(location, file_format.called), file_format.open(location, request) as entries:
        name, entry = _find_matrix(location, entries, request)
        n_rows = (entry.shape or (0,))[0]
        ids = _load_ids(location, entries, request.ids, file_format, n_rows)
        features: Any
        if not in_parts:
            features = entry.load()
        elif entry.rows is not None:
            features = entry.rows(ids)
        else:
            values = entry.load()
            is_array = not isinstance(values, torch.Tensor)
            features = ArrayRows(
                values, ids, entry.feature_names, is_array=is_array, location=location
            )
    return FeatureTable(features, ids, location, name or None, entry.feature_names)


def format_of(location: Path | str) -> FileFormat:
    """Return the format of a file or store, by its suffix or the content of the folder."""
    for one in FORMATS.values():
        if one.recognizes is not None and one.recognizes(location):
            return one
    path = Path(location)
    file_format = FORMATS.get(path.suffix.lower())
    if file_format is None:
        if not path.exists():
            raise InvalidInputError(f"there is no file {path}")
        found = f"has the suffix {path.suffix!r}" if path.suffix else "has no suffix"
        if path.is_dir():
            found = "is a folder and no Zarr store"
        raise InvalidInputError(
            f"{path} {found}; files of features end in {', '.join(suffixes_of())}, and Zarr stores "
            "are folders"
        )
    check_file(path)
    return file_format


def suffixes_of(**declared: bool) -> list[str]:
    """Return the suffixes of formats with an attribute, such as ``is_table=True``."""
    return [
        suffix
        for suffix, one in FORMATS.items()
        if one.recognizes is None
        and all(vars(one)[name] == value for name, value in declared.items())
    ]


def check_file(path: Path) -> None:
    """Refuse a path that is not a readable file, or an empty one."""
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


def refuse_to_load(path: Path) -> None:
    """Refuse a file that can only be loaded whole if it doesn't fit into memory."""
    if path.is_file():
        Resources().require(
            path.stat().st_size,
            f"{path}, which can only be loaded whole,",
            f"save it as one of {', '.join(suffixes_of(in_parts=True))} or as a Zarr array, which "
            "are read in parts",
        )


def ids_of_file(path: str | Path, n_rows: int) -> tuple[ItemId, ...]:
    """Read the ids of rows from a text file with one in each line."""
    if not Path(path).is_file():
        raise InvalidInputError(f"there is no text file {path} with one id in each line.")
    return as_ids(ids_of_text(lines_of(Path(path), "id")), f"{path}", n_rows)


def ids_of_entries(
    location: Path | str, entries: Entries, n_rows: int
) -> tuple[ItemId, ...] | None:
    """Read the ids of the entry ``ids``, if there is one."""
    if IDS not in entries:
        return None
    return as_ids(entries[IDS].load(), str(location), n_rows)


def lines_of(path: Path, what: str) -> list[str]:
    """Read the lines of a text file in UTF-8; ``what`` is what errors call a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(
            f"{path} can't be read as a text file with one {what} in each line ({error})"
        ) from error
    return lines[:-1] if lines[-1] == "" else lines


def _check_request(location: Path | str, file_format: FileFormat, request: Request) -> None:
    if request.id_column is not None and not file_format.is_table:
        raise InvalidInputError(
            f"id_column is for {listed_tables()} files, and {Path(location).name} is none: "
            "use ids to name an entry or a text file"
        )
    if request.ids is not None and request.id_column is not None:
        raise InvalidInputError("ids and id_column both say where the ids are: give one of them")


def listed_tables() -> str:
    """List the suffixes of tables for a sentence."""
    *most, last = suffixes_of(is_table=True)
    return f"{', '.join(most)} and {last}"


def _find_matrix(location: Path | str, entries: Entries, request: Request) -> tuple[str, Entry]:
    key = request.key
    if key is not None and ONLY in entries:
        raise InvalidInputError(
            f"{location} holds one matrix, which has no key, and {key!r} is asked for.",
            ways_out=["leave {key} out"],
        )
    if key is None:
        key = ONLY if ONLY in entries else _only_matrix(location, entries, request.ids)
    if key not in entries:
        raise InvalidInputError(f"{location} has no entry {key!r}; it holds {_listed(entries)}")
    entry = entries[key]
    where = f"{location}::{key}" if key else str(location)
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


def _only_matrix(location: Path | str, entries: Entries, ids: str | Path | None) -> str:
    others = {name: entry for name, entry in entries.items() if name not in (IDS, ids)}
    others = {name: entry for name, entry in others.items() if not entry.is_alias}
    matrices = {
        name: entry
        for name, entry in others.items()
        if entry.shape is None or (entry.obstacle is None and len(entry.shape) == 2)
    }
    if len(matrices) > 1:
        raise InvalidInputError(
            f"{location} holds {len(matrices)} matrices, {_listed(matrices)}.",
            ways_out=["say which by {key}"],
        )
    # A single entry is chosen even if it can't be features, so that its own error says why.
    chosen = matrices or others
    if len(chosen) != 1:
        raise FileFormatError(
            f"{location} holds no matrix (n_items, n_features) of numbers; "
            f"it holds {_listed(entries) or 'nothing that can be read'}"
        )
    return next(iter(chosen))


def _listed(entries: Entries) -> str:
    return shorten(
        [
            f"{name or 'one array'} {'(unreadable)' if entry.shape is None else entry.shape}"
            for name, entry in entries.items()
        ]
    )


def _load_ids(
    location: Path | str,
    entries: Entries,
    ids: str | Path | None,
    file_format: FileFormat,
    n_rows: int,
) -> tuple[ItemId, ...] | None:
    if ids is None:
        return ids_of_entries(location, entries, n_rows)
    is_entry = isinstance(ids, str) and ids in entries and not file_format.is_table
    is_file = Path(ids).is_file()
    if is_entry and is_file:
        raise InvalidInputError(
            f"{ids!r} is an entry of {location} and a text file: write ./{ids} for the text file"
        )
    if is_entry:
        return as_ids(entries[str(ids)].load(), f"{location}::{ids}", n_rows)
    if not is_file:
        held = "" if file_format.is_table or ONLY in entries else f" (it holds {_listed(entries)})"
        raise InvalidInputError(
            f"{str(ids)!r}, where the ids should be, is neither a text file nor an entry of "
            f"{location}{held}"
        )
    return ids_of_file(ids, n_rows)
