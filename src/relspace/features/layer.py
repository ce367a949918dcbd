"""The features of one layer, a matrix whose rows are read when they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.deprecation import warn_renamed
from relspace._core.items import ItemId
from relspace._core.matrices import to_numpy
from relspace._core.pairing import ItemContents
from relspace.errors import InvalidInputError
from relspace.features.positions import Positions, TokenGrid, read_positions
from relspace.rows.locations import Locations
from relspace.rows.source import LiesIn, MadeOf, RowSource

#: Bytes that are read at a time.
_BYTES_AT_A_TIME = 64 * 2**20

Items = slice | torch.Tensor


class ItemSource(ABC):
    """An array (n_items, rows, columns, d) or (n_items, d) of which some items can be read.

    ``lies_in`` is where features are read from: "files", "memory" or "code".
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    lies_in: LiesIn = "code"

    def locations(self) -> Locations:
        """Return the files, folders and URLs that features are read from."""
        return ()

    @abstractmethod
    def read_items(self, items: Items) -> torch.Tensor:
        """Return the features of some items, by their positions."""


class MemorySource(ItemSource):
    """Features in memory, or in a memory map of the files at ``locations``."""

    lies_in = "memory"

    def __init__(self, tensor: torch.Tensor, locations: Locations = ()) -> None:
        self._tensor, self._locations = tensor, locations
        self.shape = tuple(tensor.shape)
        self.dtype = tensor.dtype

    def read_items(self, items: Items) -> torch.Tensor:
        return self._tensor[items]

    def locations(self) -> Locations:
        return self._locations


class SelectedSource(ItemSource):
    """Some items of another source, in another order."""

    def __init__(self, source: ItemSource, items: torch.Tensor) -> None:
        self._source, self._items = source, items
        self.shape = (len(items), *source.shape[1:])
        self.dtype = source.dtype
        self.lies_in = source.lies_in

    def read_items(self, items: Items) -> torch.Tensor:
        return self._source.read_items(self._items[items])

    def locations(self) -> Locations:
        return self._source.locations()


class MappedSource(ItemSource):
    """Another source whose features are changed, item by item, when they are read."""

    def __init__(
        self,
        source: ItemSource,
        shape: tuple[int, ...],
        change: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self._source, self._change = source, change
        self.shape = shape
        self.dtype = torch.float64 if source.dtype == torch.float64 else torch.float32

    def read_items(self, items: Items) -> torch.Tensor:
        return self._change(self._source.read_items(items).to(self.dtype))

    def locations(self) -> Locations:
        return self._source.locations()


class RowItems(ItemSource):
    """Maps of images whose tokens are consecutive rows of a source."""

    def __init__(self, rows: RowSource, grid: TokenGrid) -> None:
        self._rows = rows
        self.shape = (grid.n_images, grid.rows, grid.columns, rows.shape[1])
        self.dtype = rows.dtype
        self.lies_in = rows.lies_in

    def read_items(self, items: Items) -> torch.Tensor:
        n_images, n_rows, n_columns, _ = self.shape
        images = torch.arange(n_images)[items]
        n = n_rows * n_columns
        rows = self._rows.read_at((images[:, None] * n + torch.arange(n)).flatten())
        return rows.reshape(len(images), *self.shape[1:])

    def locations(self) -> Locations:
        return self._rows.locations()


class LayerFeatures(RowSource):
    """Features of one layer as a matrix of tokens, image by image and row by row.

    It is what functions of matrices take: it has a shape and a dtype, becomes an array when asked
    to, and reads its rows in parts. Features on disk stay there until then.

    Attributes
    ----------
    name : str
        The layer.
    grid : TokenGrid or None
        The positions of the tokens on the images; None if there is one row for each item.
    shape : tuple of int
        (n_tokens, d).
    dtype : torch.dtype
        As stored.
    chunk_rows : int
        Rows that are read together.
    ids : tuple or None
        The items' ids where there is one row for each item; tokens have none.
    contents : ItemContents or None
        The digests of the items' content, if they are known.
    """

    # Functions of it return arrays, because it has __array__.
    is_array = True

    def __init__(
        self,
        name: str,
        source: ItemSource,
        grid: TokenGrid | None,
        ids: tuple[ItemId, ...] | None,
        contents: ItemContents | None = None,
    ) -> None:
        self.name = name
        self.grid = grid
        self._source = source
        self._tokens_per_item = 1 if grid is None else grid.tokens_per_image
        self.n_items = source.shape[0]
        self.shape = (self.n_items * self._tokens_per_item, source.shape[-1])
        self.dtype = source.dtype
        self.chunk_rows = self._tokens_per_item
        self.lies_in = source.lies_in
        self.ids = ids if grid is None else None
        self.contents = None if contents is None else contents.with_rows(self._tokens_per_item)

    def __len__(self) -> int:
        return self.shape[0]

    def locations(self) -> Locations:
        """Return the files, folders and URLs that features are read from."""
        return self._source.locations()

    def __repr__(self) -> str:
        tokens = "" if self.grid is None else f", {self.grid.rows} x {self.grid.columns} tokens"
        kind = str(self.dtype).removeprefix("torch.")
        return (
            f"LayerFeatures({self.name}: {self.n_items} items{tokens}, d={self.shape[1]}, {kind})"
        )

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return the rows from start to stop, shape (stop - start, d)."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        first = start // self._tokens_per_item
        last = -(-stop // self._tokens_per_item)
        rows = self._source.read_items(slice(first, max(first, last))).reshape(-1, self.shape[1])
        offset = first * self._tokens_per_item
        return rows[start - offset : max(start, stop) - offset]

    def tokens(self, items: Items | None = None) -> torch.Tensor:
        """Return the tokens of some items (all by default), shape (n_tokens, d)."""
        wanted = slice(None) if items is None else items
        return self._source.read_items(wanted).reshape(-1, self.shape[1])

    def maps(self, items: Items | None = None) -> torch.Tensor:
        """Return the tokens of some items as maps, shape (n_items, rows, columns, d)."""
        if self.grid is None:
            raise InvalidInputError(f"{self.name} has one row for each item, and no grid.")
        rows = self.tokens(items)
        return rows.reshape(-1, self.grid.rows, self.grid.columns, self.shape[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = to_numpy(self.tokens())
        return array if dtype is None else array.astype(np.dtype(dtype), copy=False)

    def read_positions(self, positions: Positions) -> torch.Tensor:
        """Read the features at positions by bilinear interpolation, a few images at a time.

        Parameters
        ----------
        positions : Positions
            Points of the images.

        Returns
        -------
        tensor of shape (n_positions, d)
            In float32, or float64 where the features are.
        """
        if self.grid is None:
            raise InvalidInputError(
                f"{self.name} has one row for each item and no grid, so it can't be read at "
                "positions; use a layer of tokens."
            )
        item_bytes = self._tokens_per_item * self.shape[1] * self.dtype.itemsize
        step = max(1, _BYTES_AT_A_TIME // item_bytes)
        dtype = self.dtype if self.dtype == torch.float64 else torch.float32
        result = torch.empty(len(positions), self.shape[1], dtype=dtype)
        # Grouped by image, so that each image is read once whatever the order of the positions.
        images, own = torch.unique(positions.images, return_inverse=True)
        for first in range(0, len(images), step):
            rows = ((own >= first) & (own < first + step)).nonzero()[:, 0]
            here = images[first : first + step]
            local = Positions(own[rows] - first, positions.y[rows], positions.x[rows])
            part = read_positions(self.tokens(here), self.grid.select(here), local)
            result[rows] = part.to(result.device)
        return result

    def read_places(self, places: Positions) -> torch.Tensor:
        """Read the features: the old name of :meth:`read_positions`."""
        warn_renamed("LayerFeatures.read_places", "LayerFeatures.read_positions")
        return self.read_positions(places)

    def select(self, items: torch.Tensor) -> LayerFeatures:
        """Return the features of some items, by their positions, in that order."""
        return LayerFeatures(
            self.name,
            SelectedSource(self._source, items),
            None if self.grid is None else self.grid.select(items),
            None if self.ids is None else tuple(self.ids[i] for i in items.tolist()),
            None if self.contents is None else self.contents.select(items.tolist()),
        )

    def with_ids(self, ids: tuple[ItemId, ...] | None) -> Self:
        """Return the same features of items with these ids; tokens on a grid have none."""
        other = super().with_ids(ids)
        if self.grid is not None:
            other.ids = None
        return other

    def mapped(self, width: int, change: Callable[[torch.Tensor], torch.Tensor]) -> LayerFeatures:
        """Return the tokens changed as they are read, on the same grid.

        Parameters
        ----------
        width : int
            How many features the result has.
        change : callable
            Takes tokens of shape (n, d) and returns as many of shape (n, width).
        """

        def change_items(items: torch.Tensor) -> torch.Tensor:
            return change(items.reshape(-1, self.shape[1])).reshape(*items.shape[:-1], width)

        source = MappedSource(self._source, (*self._source.shape[:-1], width), change_items)
        mapped = LayerFeatures(self.name, source, self.grid, self.ids, self.contents)
        mapped.made_of = MadeOf(self, lambda rows, first: change(rows.to(source.dtype)))
        return mapped

    def averaged(self, ids: tuple[ItemId, ...] | None) -> LayerFeatures:
        """Return the mean of each item's tokens."""
        source = self._source
        if self.grid is not None:
            shape = (self.n_items, self.shape[1])
            source = MappedSource(source, shape, lambda maps: maps.mean(dim=(1, 2)))
        return LayerFeatures(self.name, source, None, ids, self.contents)

    def resampled(self, rows: int, columns: int) -> LayerFeatures:
        """Return the maps brought to another resolution over the same boxes.

        Bilinear, and averaged over the cells where it gets coarser (antialiased).
        """
        if self.grid is None:
            raise InvalidInputError(f"{self.name} has no grid that could be resampled.")

        def resample(maps: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.interpolate(
                maps.permute(0, 3, 1, 2), (rows, columns), mode="bilinear", antialias=True
            ).permute(0, 2, 3, 1)

        shape = (self.n_items, rows, columns, self.shape[1])
        source = MappedSource(self._source, shape, resample)
        grid = self.grid.resized(rows, columns)
        return LayerFeatures(self.name, source, grid, None, self.contents)
