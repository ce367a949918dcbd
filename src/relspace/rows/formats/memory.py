"""Arrays, tensors and tables in memory, and arrays in files that are sliced like them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from relspace._core.arrays import readable
from relspace._core.items import ItemId
from relspace.rows.identity import Identity, hash_array, hash_rows, identify_file, identify_folder
from relspace.rows.locations import Locations, locations_of_array
from relspace.rows.source import LiesIn, RowSource, check_matrix, tensor_of, torch_dtype

_LIBRARIES_OF_FILES = ("h5py", "zarr")


class ArrayRows(RowSource):
    """Rows of an array or tensor, or of anything that is sliced like one (a memory map, HDF5).

    ``location`` is the file that they were loaded from, if the array doesn't know it.
    """

    def __init__(
        self,
        array: Any,
        ids: tuple[ItemId, ...] | None = None,
        feature_names: tuple[str, ...] | None = None,
        *,
        is_array: bool = False,
        location: Path | str | None = None,
    ) -> None:
        if isinstance(array, torch.Tensor):
            array = readable(array, "the features")
        check_matrix(tuple(array.shape))
        self._array = array
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        self.dtype = torch_dtype(array.dtype)
        self.ids, self.feature_names, self.is_array = ids, feature_names, is_array
        self._location = location
        self.lies_in = _lies_in(array)

    def read(self, start: int, stop: int) -> torch.Tensor:
        # Rows of a memory map are copied, so that its pages can be released.
        rows = self._array[start:stop]
        if isinstance(rows, torch.Tensor):
            return rows.detach()
        return tensor_of(np.array(rows) if isinstance(rows, np.memmap) else np.asanyarray(rows))

    def identity(self) -> Identity:
        if isinstance(self._array, torch.Tensor | np.ndarray) and self.lies_in == "memory":
            return hash_array(self._array)
        return identify_stored(self._array) or hash_rows(self)

    def locations(self) -> Locations:
        if self._location is not None:
            return (self._location,)
        return locations_of_array(self._array)


def _lies_in(array: object) -> LiesIn:
    if isinstance(array, np.memmap):
        return "files"
    if isinstance(array, torch.Tensor | np.ndarray):
        return "memory"
    library = type(array).__module__.partition(".")[0]
    return "files" if library in _LIBRARIES_OF_FILES else "code"


def identify_stored(array: Any) -> Identity | None:
    """The identity of the files of an HDF5 dataset or a Zarr array; None for other arrays."""
    library = type(array).__module__.partition(".")[0]
    if library == "h5py":
        # Virtual and external datasets, and files that are being written, have values elsewhere.
        elsewhere = array.is_virtual or array.external or array.file.mode != "r"
        path = Path(array.file.filename)
        return None if elsewhere or not path.is_file() else identify_file(path, array.name)
    if library == "zarr":
        from zarr.storage import LocalStore

        if isinstance(array.store, LocalStore):
            return identify_folder(array.store.root / array.path.strip("/"))
    return None
