"""Dask arrays, computed when their rows are read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from relspace.errors import InvalidInputError
from relspace.rows.identity import Identity
from relspace.rows.locations import Locations, locations_of_array
from relspace.rows.source import RowSource, check_matrix, tensor_of, torch_dtype


class DaskRows(RowSource):
    """Rows of a Dask array, computed when they are read."""

    def __init__(self, array: Any) -> None:
        if any(math.isnan(length) for length in array.shape):
            raise InvalidInputError(
                "the Dask array has chunks of unknown lengths, as filtered rows have; compute them "
                "first: array.compute_chunk_sizes()."
            )
        check_matrix(array.shape)
        self.array = array
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        self.dtype = torch_dtype(array.dtype)

    def read(self, start: int, stop: int) -> torch.Tensor:
        return tensor_of(np.asanyarray(self.array[start:stop].compute()))

    def identity(self) -> Identity:
        # Names of Dask arrays say how they are computed, not what they hold.
        return Identity.unidentified("a Dask array is computed when it is read")

    def locations(self) -> Locations:
        return locations_of_array(self.array)


def is_dask_array(features: object) -> bool:
    """Whether something is a Dask array, without importing Dask."""
    return type(features).__module__.startswith("dask.array") and hasattr(features, "dask")
