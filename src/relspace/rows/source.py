"""Sources of rows of features, in memory, files or code, of which some rows can be read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arrays import readable, tensor_from, tensor_of_array
from relspace._core.items import ItemId
from relspace._core.matrices import to_numpy
from relspace._core.pairing import ItemContents
from relspace.errors import InvalidInputError
from relspace.rows.identity import Identity, hash_array, hash_rows, identify
from relspace.rows.locations import Locations

#: Where rows are read from: a disk or a network, memory, or code that computes them.
LiesIn = Literal["files", "memory", "code"]


class RowSource(ABC):
    """A matrix of features of which some rows can be read.

    A subclass sets ``shape``, ``dtype`` and the attributes that differ from the defaults, and
    defines :meth:`read`.

    Attributes
    ----------
    shape : tuple of int
        (n_items, n_features).
    dtype : torch.dtype
        The type of what is read.
    ids : tuple or None
        One id for each row.
    feature_names : tuple of str or None
        One name for each column.
    contents : ItemContents or None
        The digests of the items' content, if they are known.
    chunk_rows : int
        Rows that are stored, and so read, together.
    lies_in : {"files", "memory", "code"}
        The origin of the rows.
    is_array : bool
        Whether results computed from these rows are arrays rather than tensors.
    made_of : MadeOf or None
        The source that these rows are computed from, row by row, which can be prefetched.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    ids: tuple[ItemId, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    contents: ItemContents | None = None
    chunk_rows: int = 1
    lies_in: LiesIn = "code"
    is_array: bool = False
    made_of: MadeOf | None = None

    @abstractmethod
    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return the rows from start to stop, shape (stop - start, n_features)."""

    def read_at(self, indices: torch.Tensor) -> torch.Tensor:
        """Return single rows, in the order asked for; neighbours are read together.

        Parameters
        ----------
        indices : LongTensor of shape (k,)
            Row numbers.

        Returns
        -------
        tensor of shape (k, n_features)
        """
        wanted, order = torch.unique(indices.cpu(), return_inverse=True)
        # A chunk is decompressed as a whole, so that all rows of one are read together.
        apart = (wanted.diff() > 1) & ((wanted // self.chunk_rows).diff() > 0)
        parts = []
        for run in wanted.tensor_split(apart.nonzero().flatten() + 1):
            first = int(run[0])
            rows = self.read(first, int(run[-1]) + 1)
            parts.append(rows[(run - first).to(rows.device)])
        found = torch.cat(parts)
        return found[order.to(found.device)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(to_numpy(self.read(0, self.shape[0])), dtype=dtype)

    def map(
        self,
        function: Callable[[torch.Tensor, int], torch.Tensor],
        n_columns: int,
        *,
        dtype: torch.dtype | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> MappedRows:
        """Return rows that a function computes from these when they are read.

        Parameters
        ----------
        function : callable
            ``function(rows, first)`` of some rows and the number of the first gives as many rows.
        n_columns : int
            The width of the result.
        dtype : torch.dtype, optional
            Its type, by default that of these rows.
        identity : mapping, optional
            A description of the function, as plain values; without it the result can't be
            identified.
        """
        return MappedRows(self, function, n_columns, dtype=dtype, identity=identity)

    def take(self, indices: torch.Tensor) -> TakenRows:
        """Return the rows of these numbers, in this order, read when they are asked for."""
        return TakenRows(self, indices)

    def with_ids(self, ids: tuple[ItemId, ...] | None) -> Self:
        """Return the same rows with other ids; with None they are matched by position."""
        other = copy(self)
        other.ids = ids
        if ids is None:
            other.contents = None
        return other

    def locations(self) -> Locations:
        """Return the files, folders and URLs that rows are read from; none for other sources."""
        return () if self.made_of is None else self.made_of.source.locations()

    def identity(self) -> Identity:
        """Return the identity of the rows: the hash of all values; unknown for rows from code."""
        if self.lies_in == "code":
            return Identity.unidentified(
                f"the rows of {type(self).__name__} are made by code when they are read"
            )
        return hash_rows(self)

    def whole_chunks(self, n_rows: int) -> int:
        """Round a number of rows down to whole chunks of this source; at least one row."""
        chunk = self.chunk_rows
        return max(1, n_rows - n_rows % chunk if n_rows > chunk else n_rows)


@runtime_checkable
class Readable(Protocol):
    """A user's own source of rows, which has these members of :class:`RowSource`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_items, n_features)."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of what is read."""

    @property
    def ids(self) -> tuple[ItemId, ...] | None:
        """One id for each row, or None."""

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return the rows from start to stop."""


@dataclass(frozen=True)
class MadeOf:
    """How rows are computed, one by one, from the rows of another source, which can be prefetched.

    ``make(rows, first)`` gives the result of some rows and the number of the first.
    """

    source: RowSource
    make: Callable[[torch.Tensor, int], torch.Tensor]


class MappedRows(RowSource):
    """The result of :meth:`RowSource.map`."""

    def __init__(
        self,
        source: RowSource,
        function: Callable[[torch.Tensor, int], torch.Tensor],
        n_columns: int,
        *,
        dtype: torch.dtype | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.shape = (source.shape[0], n_columns)
        self.dtype = source.dtype if dtype is None else dtype
        self.ids, self.contents, self.chunk_rows = source.ids, source.contents, source.chunk_rows
        self.made_of: MadeOf = MadeOf(source, function)
        self._identity = identity

    def read(self, start: int, stop: int) -> torch.Tensor:
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        return self.made_of.make(self.made_of.source.read(start, stop), start)

    def identity(self) -> Identity:
        """That of the source and of the function, if the function is known."""
        if self._identity is None:
            return super().identity()
        return identify(self.made_of.source).with_detail(**self._identity)


class TakenRows(RowSource):
    """The result of :meth:`RowSource.take`."""

    def __init__(self, source: RowSource, indices: torch.Tensor) -> None:
        self._source, self._indices = source, indices
        self.shape = (len(indices), source.shape[1])
        self.dtype, self.lies_in = source.dtype, source.lies_in
        self.feature_names = source.feature_names
        if source.ids is not None:
            self.ids = tuple(source.ids[row] for row in indices.tolist())

    def read(self, start: int, stop: int) -> torch.Tensor:
        return self.read_at(torch.arange(len(self._indices))[start:stop])

    def read_at(self, indices: torch.Tensor) -> torch.Tensor:
        if not len(indices):
            return self._source.read(0, 0)
        return self._source.read_at(self._indices[indices])

    def locations(self) -> Locations:
        return self._source.locations()

    def identity(self) -> Identity:
        """That of the source, and of the row numbers."""
        return identify(self._source).with_detail(order=hash_array(self._indices).digest)


class GeneratedRows(RowSource):
    """Rows that a function computes when they are read.

    ``make(start, stop)`` gives the rows as a tensor or array, the same ones each time.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        make: Callable[[int, int], Any],
        *,
        dtype: torch.dtype = torch.float32,
        ids: tuple[ItemId, ...] | None = None,
    ) -> None:
        check_matrix(shape)
        self.shape, self.dtype, self.ids = shape, dtype, ids
        self._make = make

    def read(self, start: int, stop: int) -> torch.Tensor:
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        rows, _ = tensor_from(self._make(start, stop), "what makes the rows")
        if tuple(rows.shape) != (stop - start, self.shape[1]):
            raise InvalidInputError(
                f"rows {start} to {stop} were made with shape {tuple(rows.shape)}; they must have "
                f"shape ({stop - start}, {self.shape[1]})."
            )
        return rows


def torch_dtype(dtype: Any) -> torch.dtype:
    """The torch type of the rows of an array of some type."""
    if isinstance(dtype, torch.dtype):
        return readable(torch.empty((0, 1), dtype=dtype), "the features").dtype
    return tensor_of(np.empty((0, 1), dtype=dtype)).dtype


def tensor_of(array: NDArray[Any]) -> torch.Tensor:
    """A tensor of an array's values, in a type that torch has."""
    return tensor_of_array(array, "the features")


def check_matrix(shape: tuple[int, ...]) -> None:
    """Refuse a shape that is not that of a matrix with something in it."""
    if len(shape) != 2 or 0 in shape:
        raise InvalidInputError(
            f"the features have shape {tuple(shape)}; they must be a matrix (n_items, n_features) "
            "that is not empty."
        )
