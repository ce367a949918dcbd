"""Layers of a model from one file, whose matrices are the layers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from relspace._core.items import ItemId
from relspace.errors import FileFormatError
from relspace.rows.formats._format import IDS, ONLY, Entry, Request
from relspace.rows.locations import reading
from relspace.rows.registry import format_of, ids_of_entries, read, refuse_to_load, scan_table
from relspace.rows.source import RowSource


@dataclass(frozen=True)
class LayerFile:
    """The layers of one model in a file.

    Attributes
    ----------
    layers : dict of str to array, tensor or RowSource of shape (n_items, d)
        From input to output: in the file's order, or by name where a format keeps none.
    ids : tuple of str or of int, or None
        The items' ids, from the entry ``"ids"``.
    source : pathlib.Path
        The file.
    """

    layers: dict[str, NDArray[Any] | Tensor | RowSource]
    ids: tuple[ItemId, ...] | None
    source: Path


def read_layers(path: str | Path) -> LayerFile:
    """Read every matrix of a file as a layer; nothing is ever unpickled.

    Parameters
    ----------
    path : str or pathlib.Path
        A ``.npz``, ``.safetensors``, ``.h5``, ``.hdf5``, ``.pt`` or ``.pth`` file, or a table
        (``.parquet``, ``.arrow``, ``.feather``, ``.jsonl``) with columns of vectors. An entry
        ``"ids"`` or an id column names the items. The matrix of a file that holds one only, such as
        ``.npy`` or ``.csv``, is a layer that is called as the file is.

    Returns
    -------
    LayerFile
        The layers and the items' ids.

    Raises
    ------
    InvalidInputError
        If the file is missing, or of an unknown kind.
    FileFormatError
        If it is corrupt, or holds no matrix of numbers.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = f"{folder.name}/vit.npz"
    >>> np.savez(path, layer_9=np.eye(3, 2), layer_10=np.eye(3, 4), ids=["cat", "dog", "owl"])
    >>> list(read_layers(path).layers), read_layers(path).ids
    (['layer_9', 'layer_10'], ('cat', 'dog', 'owl'))
    >>> folder.cleanup()
    """
    return _open(Path(path), in_parts=False)


def scan_layers(path: str | Path) -> LayerFile:
    """Open every matrix of a file as a layer, which is read when it is needed.

    Files that can't be read in parts are loaded whole, and refused if they don't fit into memory.

    Raises
    ------
    MemoryBudgetError
        If a file that can only be loaded whole would not fit into the free memory.
    """
    return _open(Path(path), in_parts=True)


def _open(path: Path, *, in_parts: bool) -> LayerFile:
    file_format = format_of(path)
    if not file_format.has_layers or file_format.recognizes is not None:
        return _of_one_matrix(path, in_parts=in_parts)
    if in_parts and not file_format.in_parts:
        refuse_to_load(path)
    with reading(path), file_format.open(path, Request(every_matrix=True)) as entries:
        if ONLY in entries:
            return _of_one_matrix(path, in_parts=in_parts)
        matrices: dict[str, Entry] = {}
        for name, entry in entries.items():
            may_be_layer = entry.shape is None or (len(entry.shape) == 2 and 0 not in entry.shape)
            if name == IDS or entry.is_alias or not may_be_layer:
                continue
            if entry.obstacle is None and entry.shape is not None:
                matrices[name] = entry
            elif not entry.is_other:
                raise FileFormatError(f"{path}::{name} {entry.obstacle}.")
        if not matrices:
            raise FileFormatError(
                f"{path} holds no named matrices (n_items, n_features) of numbers, so no layers"
            )
        n_rows = (next(iter(matrices.values())).shape or (0,))[0]
        layers: dict[str, Any] = {
            name: entry.rows(None) if in_parts and entry.rows is not None else entry.load()
            for name, entry in matrices.items()
        }
        ids = ids_of_entries(path, entries, n_rows)
    names = list(layers)
    if not file_format.keeps_order:
        names.sort(key=_by_number)
    return LayerFile({name: layers[name] for name in names}, ids, path)


def _of_one_matrix(path: Path, *, in_parts: bool) -> LayerFile:
    """The one layer of a file that has one matrix, called as the file is."""
    table = (scan_table if in_parts else read)(path)
    return LayerFile({path.stem: table.features}, table.ids, path)


def _by_number(name: str) -> list[tuple[int, int | str]]:
    """A sort key by which layer_9 comes before layer_10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]
