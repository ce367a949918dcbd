"""Reads all layers of a model from one file: every matrix that the file holds is a layer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray
from torch import Tensor

from relspace._core.memory import refuse_too_large
from relspace._core.validation import ItemId
from relspace.errors import FileFormatError, InvalidInputError
from relspace.features.readers import check_file, ids_of_entries
from relspace.rows.formats import FORMATS, IDS, ONLY, Entry
from relspace.rows.source import Hdf5Rows, RowSource, SafetensorsRows, reading

#: Formats that keep no order of entries; their layers are ordered by name, numbers by value.
_WITHOUT_ORDER = (".safetensors", ".h5", ".hdf5")
_READ_IN_PARTS: dict[str, type[SafetensorsRows] | type[Hdf5Rows]] = {
    ".safetensors": SafetensorsRows,
    ".h5": Hdf5Rows,
    ".hdf5": Hdf5Rows,
}


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
        A ``.npz``, ``.safetensors``, ``.h5``, ``.hdf5``, ``.pt`` or ``.pth`` file. An entry
        ``"ids"`` names the items.

    Returns
    -------
    LayerFile
        The layers and the items' ids.

    Raises
    ------
    InvalidInputError
        If the file is missing or of a kind that holds one matrix only.
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
    return _read(Path(path), lambda name, entry: cast("NDArray[Any] | Tensor", entry.load()))


def open_layers(path: str | Path) -> LayerFile:
    """The same, but layers of ``.safetensors`` and ``.h5`` files stay there until they are read.

    Those of other files are loaded whole, and refused where memory does not hold them.

    Raises
    ------
    MemoryBudgetError
        If a file that can only be loaded whole would not fit into the free memory.
    """
    path = Path(path)
    kind = _READ_IN_PARTS.get(path.suffix.lower())
    if kind is not None:
        return _read(path, lambda name, entry: kind(path, name))
    if path.is_file():
        refuse_too_large(
            path.stat().st_size,
            f"{path}, which can only be loaded whole,",
            f"save it as one of {', '.join(_READ_IN_PARTS)}, which are read in parts",
        )
    return read_layers(path)


def _read(path: Path, take: Callable[[str, Entry], NDArray[Any] | Tensor | RowSource]) -> LayerFile:
    file_format = FORMATS.get(path.suffix.lower())
    several = [suffix for suffix, one in FORMATS.items() if not one.is_table and suffix != ".npy"]
    if file_format is None or path.suffix.lower() not in several:
        raise InvalidInputError(
            f"{path} has the suffix {path.suffix!r}; files of several layers end in "
            f"{', '.join(several)}"
        )
    check_file(path)
    with reading(path), file_format.open(path, None) as entries:
        matrices: dict[str, Entry] = {}
        n_rows = 0
        for name, entry in entries.items():
            may_be_layer = entry.shape is None or (len(entry.shape) == 2 and 0 not in entry.shape)
            if name == IDS or entry.is_alias or not may_be_layer:
                continue
            if entry.obstacle is None and entry.shape is not None:
                matrices[name] = entry
                n_rows = n_rows or entry.shape[0]
            elif not entry.is_other:
                raise FileFormatError(f"{path}::{name} {entry.obstacle}.")
        if not matrices or ONLY in matrices:
            raise FileFormatError(
                f"{path} holds no named matrices (n_items, n_features) of numbers, so no layers"
            )
        layers = {name: take(name, entry) for name, entry in matrices.items()}
        ids = ids_of_entries(path, entries, n_rows)
    names = list(layers)
    if path.suffix.lower() in _WITHOUT_ORDER:
        names.sort(key=_by_number)
    return LayerFile({name: layers[name] for name in names}, ids, path)


def _by_number(name: str) -> list[tuple[int, int | str]]:
    """A sort key by which layer_9 comes before layer_10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]
