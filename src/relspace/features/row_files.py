"""Opens what holds rows of features, files and URLs too, without reading it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from relspace._core.arrays import is_matrix_like
from relspace._core.memory import refuse_too_large
from relspace._core.validation import ItemId
from relspace.errors import InvalidInputError
from relspace.features.feature_set import FeatureSet
from relspace.features.readers import (
    FeatureTable,
    is_table_file,
    is_zarr,
    locate_features,
    open_zarr,
    read_features,
)
from relspace.rows.formats import Entry
from relspace.rows.locations import located
from relspace.rows.source import (
    ArrayRows,
    Hdf5Rows,
    NpyRows,
    RowSource,
    SafetensorsRows,
    ShardedRows,
    TableRows,
    as_rows,
)

# Libraries whose arrays are read block by block.
_LIBRARIES_OF_BLOCKS = ("h5py", "zarr", "dask")
_READ_IN_PARTS = (".npy", ".h5", ".hdf5", ".safetensors", ".parquet")


def open_rows(
    source: object, *, key: str | None = None, ids: str | Path | None = None
) -> RowSource:
    """Open features as a source of rows that are read in blocks.

    Parameters
    ----------
    source : path, list of paths, RowSource, array, memory map, Dask, h5py or Zarr array
        A file of features (see :func:`relspace.features.read_features`), a Zarr array or group (a
        folder ending in ``.zarr``, or a URL that fsspec knows), a list of any of them (shards, in
        that order), or something in memory. ``.npy``, ``.h5``, ``.safetensors``, ``.parquet`` and
        Zarr are read in parts; ``.npz``, ``.pt``, ``.pth`` and ``.csv`` are loaded whole, and
        refused where memory does not hold them. Of a feature set of one layer, that layer.
    key : str, optional
        The entry that holds the features, where a file or group can hold several.
    ids : str or Path, optional
        Where a file's ids are, see :func:`relspace.features.read_features`.

    Returns
    -------
    RowSource
        With ``shape``, ``dtype``, ``ids`` and ``read(start, stop)``.

    Raises
    ------
    InvalidInputError
        If a file is missing, or ``key`` or ``ids`` name nothing.
    FileFormatError
        If a file is corrupt or holds no matrix of numbers.
    MemoryBudgetError
        If a file that can only be loaded whole would not fit into the free memory.

    Examples
    --------
    >>> import tempfile, numpy as np, relspace
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/a.npy", np.eye(4, 3))
    ...     rows = relspace.features.open_rows([folder + "/a.npy", folder + "/a.npy"])
    ...     rows.shape, rows.read(3, 5)[:, 0].tolist()
    ((8, 3), [0.0, 1.0])
    """
    if isinstance(source, str | Path):
        return _open_path(source, key, ids)
    if isinstance(source, list | tuple) and any(isinstance(one, str | Path) for one in source):
        return ShardedRows([open_rows(one, key=key, ids=ids) for one in source])
    if isinstance(source, FeatureSet):
        if len(source.layers) > 1:
            raise InvalidInputError(
                f"the feature set has {len(source.layers)} layers; give one: features[layer]."
            )
        return source[source.layers[0]]
    return as_rows(source)


def open_table(
    path: str | Path,
    *,
    key: str | None = None,
    ids: str | Path | None = None,
    id_column: str | None = None,
) -> FeatureTable:
    """Open features and ids as :func:`relspace.features.read_features` finds them, unread.

    ``.h5``, ``.parquet``, ``.safetensors`` and Zarr, URLs too, become sources of rows and ``.npy``
    a memory map; other files are loaded.

    Parameters
    ----------
    path, key, ids, id_column
        See :func:`relspace.features.read_features`.
    """
    place = located(path)
    if is_zarr(place):
        return open_zarr(place, key, ids, id_column)
    place = Path(place)
    if place.suffix.lower() in _READ_IN_PARTS and place.suffix.lower() != ".npy":
        name, found, entry = locate_features(place, key=key, ids=ids, id_column=id_column)
        return FeatureTable(_rows_of(place, name, found, entry), found, place, name or None)
    table = read_features(place, key=key, ids=ids, id_column=id_column)
    if not is_table_file(place):
        return table
    named = TableRows(np.asarray(table.features), table.ids, table.feature_names)
    return replace(table, features=named)


def is_read_in_blocks(source: object) -> bool:
    """Whether features lie somewhere else than in memory, or in several pieces."""
    if isinstance(source, torch.Tensor):
        # Asked first: some have no shape to look at.
        return False
    if isinstance(source, str | Path | np.memmap | RowSource | FeatureSet):
        return True
    if isinstance(source, np.ndarray):
        return False
    if isinstance(source, list | tuple):
        return any(isinstance(one, str | Path) or is_matrix_like(one) for one in source)
    return type(source).__module__.partition(".")[0] in _LIBRARIES_OF_BLOCKS


def _open_path(source: str | Path, key: str | None, ids: str | Path | None) -> RowSource:
    place = located(source)
    if is_zarr(place):
        found = open_zarr(place, key, ids, None).features
        if isinstance(found, FeatureSet):
            return found[found.layers[0]]
        return as_rows(found)
    path = Path(place)
    suffix = path.suffix.lower()
    if suffix not in _READ_IN_PARTS:
        if path.is_file():
            refuse_too_large(
                path.stat().st_size,
                f"{path}, which can only be loaded whole,",
                f"save it as one of {', '.join(_READ_IN_PARTS)} or as a Zarr array, which are read "
                "in parts",
            )
        table = read_features(path, key=key, ids=ids)
        if is_table_file(path):
            return TableRows(np.asarray(table.features), table.ids, table.feature_names)
        return ArrayRows(table.features, table.ids)
    name, own, entry = locate_features(path, key=key, ids=ids)
    return _rows_of(path, name, own, entry)


def _rows_of(path: Path, name: str, ids: tuple[ItemId, ...] | None, entry: Entry) -> RowSource:
    """The rows of what :func:`relspace.features.readers.locate_features` found in a file."""
    if entry.rows is not None:
        entry.rows.ids = ids
        return entry.rows
    if path.suffix.lower() == ".npy":
        return NpyRows(path, ids)
    return (SafetensorsRows if path.suffix.lower() == ".safetensors" else Hdf5Rows)(path, name, ids)
