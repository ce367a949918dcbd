"""Rows of features wherever they lie: in memory, in files, in shards, or made when asked for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Protocol, Self, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arrays import is_matrix_like, readable, tensor_from, tensor_of_array
from relspace._core.labelled_tables import as_labelled_table
from relspace._core.pairing import ItemContents
from relspace._core.validation import (
    ItemId,
    as_features,
    as_ids,
    feature_names,
    own_ids,
    refuse_other_features,
)
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    ItemMismatchError,
    MissingDependencyError,
    RelspaceError,
)
from relspace.rows.id_files import ids_file_of, read_ids
from relspace.rows.identity import (
    Identity,
    combine,
    hash_array,
    hash_rows,
    identify,
    identify_file,
    identify_folder,
    identify_url,
)
from relspace.rows.ledger import KEY, ROWS
from relspace.rows.locations import (
    Locations,
    is_url,
    located,
    locations_of_array,
    missing_file_system,
)

_LIBRARIES_OF_FILES = ("h5py", "zarr")

#: Where rows come from when they are read: a disk or a network, memory, or code that makes them.
LiesIn = Literal["files", "memory", "code"]


class RowSource(ABC):
    """A matrix of features of which some rows can be read: what every function of rows takes.

    A subclass sets ``shape``, ``dtype`` and whatever differs from the defaults, and defines
    :meth:`read`.

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
        What is known of the content of the items that the rows are of.
    chunk_rows : int
        Rows that are stored, and so read, together.
    lies_in : {"files", "memory", "code"}
        Where rows come from when they are read.
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
        # A chunk is decompressed as a whole, so what lies in one is read at once.
        apart = (wanted.diff() > 1) & ((wanted // self.chunk_rows).diff() > 0)
        parts = []
        for run in wanted.tensor_split(apart.nonzero().flatten() + 1):
            first = int(run[0])
            rows = self.read(first, int(run[-1]) + 1)
            parts.append(rows[(run - first).to(rows.device)])
        found = torch.cat(parts)
        return found[order.to(found.device)]

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
            What the function is, as plain values; without it the result can't be identified.
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
        """Return what tells these rows from others: by default the hash of all values.

        Rows that code makes can't be identified.
        """
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
    """What has the first members of a :class:`RowSource` without being one; rows made by code."""

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
    """How rows are computed from as many rows of another source, which can be prefetched.

    Attributes
    ----------
    source : RowSource
        What they are computed from.
    make : callable
        ``make(rows, first)`` of some of its rows and the number of the first.
    """

    source: RowSource
    make: Callable[[torch.Tensor, int], torch.Tensor]


class MappedRows(RowSource):
    """Rows that a function computes from those of another source; see :meth:`RowSource.map`."""

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
        """Compute some rows."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        return self.made_of.make(self.made_of.source.read(start, stop), start)

    def identity(self) -> Identity:
        """That of the source, and of the function where it is known."""
        if self._identity is None:
            return super().identity()
        return identify(self.made_of.source).with_detail(**self._identity)


class TakenRows(RowSource):
    """Some rows of another source, in an order of their own; see :meth:`RowSource.take`."""

    def __init__(self, source: RowSource, indices: torch.Tensor) -> None:
        self._source, self._indices = source, indices
        self.shape = (len(indices), source.shape[1])
        self.dtype, self.lies_in = source.dtype, source.lies_in
        self.feature_names = source.feature_names
        if source.ids is not None:
            self.ids = tuple(source.ids[row] for row in indices.tolist())

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return some of the rows that were taken."""
        return self.read_at(torch.arange(len(self._indices))[start:stop])

    def read_at(self, indices: torch.Tensor) -> torch.Tensor:
        """Return single ones of the rows that were taken."""
        if not len(indices):
            return self._source.read(0, 0)
        return self._source.read_at(self._indices[indices])

    def locations(self) -> Locations:
        """Those of the source."""
        return self._source.locations()

    def identity(self) -> Identity:
        """That of the source, and of the row numbers."""
        return identify(self._source).with_detail(order=hash_array(self._indices).digest)


@contextmanager
def reading(path: str | Path, kind: str | None = None) -> Iterator[None]:
    """Make whatever goes wrong while a file or store is read an error that names it.

    Parameters
    ----------
    path : str or Path
        What is read.
    kind : str, optional
        What it is read as, by default its suffix.

    Raises
    ------
    FileFormatError
        For whatever a parser raises: bytes that are not what is claimed make that nearly anything.
    """
    try:
        yield
    except RelspaceError as error:
        if Path(path).name in error.message:
            raise
        raise error.about(str(path)) from error
    except MemoryError:
        raise
    except ImportError as error:
        raise missing_file_system(path, error) from error
    except Exception as error:
        if isinstance(error, FileNotFoundError) and kind == "Zarr":
            raise FileFormatError(f"there is no Zarr array or group at {path}.") from error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileFormatError(
            f"{path} can't be read as {kind or Path(path).suffix}; it may be cut off, corrupt or "
            f"another format ({reason})."
        ) from error


class ArrayRows(RowSource):
    """Rows of an array or tensor, or of anything that is sliced like one (a memory map, HDF5)."""

    def __init__(self, array: Any, ids: tuple[ItemId, ...] | None = None) -> None:
        if isinstance(array, torch.Tensor):
            array = readable(array, "the features")
        _check_matrix(tuple(array.shape))
        self._array = array
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        self.dtype = torch_dtype(array.dtype)
        self.ids = ids
        self.lies_in = _lies_in(array)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return some rows; those of a memory map are copied, so that its pages can go."""
        rows = self._array[start:stop]
        if isinstance(rows, torch.Tensor):
            return rows.detach()
        return tensor_of(np.array(rows) if isinstance(rows, np.memmap) else np.asanyarray(rows))

    def identity(self) -> Identity:
        """That of the file or folder that holds the array, or of all its values."""
        if isinstance(self._array, torch.Tensor | np.ndarray) and self.lies_in == "memory":
            return hash_array(self._array)
        return _stored_in(self._array) or hash_rows(self)

    def locations(self) -> Locations:
        """The file or folder that holds the array."""
        return locations_of_array(self._array)


class TableRows(ArrayRows):
    """Rows of a table in memory, whose columns may have names."""

    def __init__(
        self,
        array: NDArray[Any],
        ids: tuple[ItemId, ...] | None = None,
        feature_names: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(array, ids)
        self.feature_names = feature_names

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._array, dtype=dtype)


class NpyRows(RowSource):
    """Rows of an ``.npy`` file, read rather than mapped, so that memory stays what is asked for.

    Where none are given, its ids are those of the file ``NAME.ids.json`` beside it, if there is
    one (:mod:`relspace.rows.id_files`).
    """

    lies_in = "files"

    def __init__(self, path: str | Path, ids: tuple[ItemId, ...] | None = None) -> None:
        with reading(path):
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            _check_matrix(mapped.shape)
        if mapped.flags.f_contiguous and not mapped.flags.c_contiguous:
            raise FileFormatError(
                f"{path} is stored column by column, so that its rows can't be read in parts; "
                "save it again: np.save(path, np.ascontiguousarray(array))."
            )
        self.path = Path(path)
        self.shape = (int(mapped.shape[0]), int(mapped.shape[1]))
        self.dtype = torch_dtype(mapped.dtype)
        self.ids = read_ids(path, self.shape[0]) if ids is None else ids
        self._stored, self._offset = mapped.dtype, int(mapped.offset)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return some rows."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        width = self.shape[1]
        offset = self._offset + start * width * self._stored.itemsize
        count = max(0, stop - start) * width
        with reading(self.path):
            rows = np.fromfile(self.path, dtype=self._stored, count=count, offset=offset)
            # A file that has become shorter gives less.
            return tensor_of(rows.reshape(max(0, stop - start), width))

    def identity(self) -> Identity:
        """That of the file."""
        return identify_file(self.path)

    def locations(self) -> Locations:
        """The file, and that of its ids."""
        ids = ids_file_of(self.path)
        return (self.path, ids) if ids.is_file() else (self.path,)


class Hdf5Rows(RowSource):
    """Rows of a dataset in an HDF5 file."""

    lies_in = "files"

    def __init__(self, path: str | Path, key: str, ids: tuple[ItemId, ...] | None = None) -> None:
        import h5py

        self.path, self.key = Path(path), key
        with reading(path):
            self._file = h5py.File(path, "r")
            self._rows = ArrayRows(self._file[key], ids)
            # A chunk is decompressed as a whole.
            self.chunk_rows = (self._file[key].chunks or (1,))[0]
        self.shape, self.dtype, self.ids = self._rows.shape, self._rows.dtype, ids

    def __reduce__(self) -> tuple[Any, ...]:
        return Hdf5Rows, (self.path, self.key, self.ids)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        with reading(self.path):
            return np.asarray(self._file[self.key][...], dtype=dtype)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return some rows."""
        with reading(self.path):
            return self._rows.read(start, stop)

    def identity(self) -> Identity:
        """That of the file that holds the dataset, or of all its values."""
        return self._rows.identity()

    def locations(self) -> Locations:
        """The file, and those that it links to for the dataset."""
        return (self.path, *self._rows.locations())


class SafetensorsRows(RowSource):
    """Rows of a tensor in a safetensors file."""

    lies_in = "files"

    def __init__(self, path: str | Path, key: str, ids: tuple[ItemId, ...] | None = None) -> None:
        self.path, self.key, self.ids = Path(path), key, ids
        with reading(path), self._open() as file:
            part = file.get_slice(key)
            shape = tuple(part.get_shape())
            _check_matrix(shape)
            self.shape = (int(shape[0]), int(shape[1]))
            self.dtype = torch_dtype(part[:0].dtype)

    def _open(self) -> Any:
        from safetensors import safe_open

        # Opened for every block, so that pages of the file that were read can go.
        return safe_open(self.path, framework="pt")

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return some rows."""
        with reading(self.path), self._open() as file:
            return readable(file.get_slice(self.key)[start:stop].clone(), "the features")

    def identity(self) -> Identity:
        """That of the file, and the tensor's name."""
        return identify_file(self.path, self.key)

    def locations(self) -> Locations:
        """The file."""
        return (self.path,)


class GeneratedRows(RowSource):
    """Rows that a function makes when they are asked for.

    Parameters
    ----------
    shape : (int, int)
        (n_items, n_features).
    make : callable
        ``make(start, stop)`` gives the rows as a tensor or array, always the same ones.
    dtype : torch.dtype
        Their type.
    ids : tuple, optional
        Their ids.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        make: Callable[[int, int], Any],
        *,
        dtype: torch.dtype = torch.float32,
        ids: tuple[ItemId, ...] | None = None,
    ) -> None:
        _check_matrix(shape)
        self.shape, self.dtype, self.ids = shape, dtype, ids
        self._make = make

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Make some rows."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        rows, _ = tensor_from(self._make(start, stop), "what makes the rows")
        if tuple(rows.shape) != (stop - start, self.shape[1]):
            raise InvalidInputError(
                f"rows {start} to {stop} were made with shape {tuple(rows.shape)}; they must have "
                f"shape ({stop - start}, {self.shape[1]})."
            )
        return rows


class ShardedRows(RowSource):
    """Rows of several sources, one after the other."""

    def __init__(self, shards: Sequence[RowSource], ids: tuple[ItemId, ...] | None = None) -> None:
        if not shards:
            raise InvalidInputError("the list of shards is empty.")
        widths = sorted({shard.shape[1] for shard in shards})
        if len(widths) > 1:
            raise InvalidInputError(
                f"the shards have different numbers of features: {', '.join(map(str, widths))}."
            )
        self._shards = tuple(shards)
        self._ends = list(accumulate(shard.shape[0] for shard in shards))
        self.shape = (self._ends[-1], widths[0])
        dtype = shards[0].dtype
        for shard in shards:
            dtype = torch.promote_types(dtype, shard.dtype)
        if dtype.is_floating_point and any(
            shard.dtype in (torch.int32, torch.int64) for shard in shards
        ):
            # What promotes to float32 has more digits.
            dtype = torch.float64
        self.dtype = dtype
        self.chunk_rows = max(shard.chunk_rows for shard in shards)
        lying = {shard.lies_in for shard in shards}
        # Files wait, whatever lies beside them; code is left to the thread that it is used to.
        self.lies_in = "code" if "code" in lying else min(lying)
        self.feature_names = feature_names(shards[0])
        for number, shard in enumerate(shards):
            refuse_other_features(feature_names(shard), self.feature_names, f"shard {number}")
        self.ids = ids
        without = [number for number, shard in enumerate(shards) if shard.ids is None]
        if ids is None and len(without) < len(shards):
            if without:
                raise ItemMismatchError(
                    f"shard {without[0]} has no ids and others have; give them to all or to none."
                )
            joined = [item for shard in shards for item in shard.ids or ()]
            self.ids = as_ids(joined, "the shards", self.shape[0])

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return some rows, of as many shards as they lie in."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        parts = []
        at = bisect_right(self._ends, start)
        while start < stop:
            offset = self._ends[at] - self._shards[at].shape[0]
            end = min(stop, self._ends[at])
            parts.append(self._shards[at].read(start - offset, end - offset).to(self.dtype))
            start, at = end, at + 1
        return torch.cat(parts) if parts else torch.empty(0, self.shape[1], dtype=self.dtype)

    def identity(self) -> Identity:
        """That of all shards in their order."""
        return combine([identify(shard) for shard in self._shards])

    def locations(self) -> Locations:
        """Those of all shards."""
        return tuple(one for shard in self._shards for one in shard.locations())


class DaskRows(RowSource):
    """Rows of a Dask array, computed when they are asked for."""

    def __init__(self, array: Any, ids: tuple[ItemId, ...] | None = None) -> None:
        if any(math.isnan(length) for length in array.shape):
            raise InvalidInputError(
                "the Dask array has chunks of unknown lengths, as filtered rows have; compute them "
                "first: array.compute_chunk_sizes()."
            )
        _check_matrix(array.shape)
        self.array = array
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        self.dtype = torch_dtype(array.dtype)
        self.ids = ids

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Compute some rows."""
        return tensor_of(np.asanyarray(self.array[start:stop].compute()))

    def identity(self) -> Identity:
        """Unknown: names of Dask arrays tell how they were made, not what they hold."""
        return Identity.unidentified("a Dask array is computed when it is read")

    def locations(self) -> Locations:
        """The arrays in files that its graph begins with."""
        return locations_of_array(self.array)


class ZarrRows(RowSource):
    """Rows of a Zarr array, read chunk by chunk.

    Parameters
    ----------
    path : str or Path
        A Zarr array, or a group that holds one; a folder, or a URL that fsspec knows
        (``s3://``, ``gs://``, ``file://``).
    key : str, optional
        The array in the group. Needed only where it holds several matrices.
    """

    lies_in = "files"

    def __init__(self, path: str | Path, key: str | None = None) -> None:
        zarr = import_zarr()
        self.path = str(path)
        if not is_url(self.path) and not Path(path).exists():
            raise FileFormatError(f"there is no Zarr array or group {path}.")
        with reading(path, "Zarr"):
            node = zarr.open(self.path, mode="r")
            self.chunk_rows, self.attributes = 1, dict(node.attrs)
        self._array = node
        if isinstance(node, zarr.Group):
            with reading(path, "Zarr"):
                matrices = {name: one for name, one in sorted(node.arrays()) if one.ndim == 2}
            if key is None and len(matrices) != 1:
                raise InvalidInputError(
                    f"{path} holds {len(matrices)} matrices"
                    + (f", {', '.join(matrices)}: say which by its key." if matrices else ".")
                )
            with reading(path, "Zarr"):
                chosen = next(iter(matrices.values())) if key is None else node.get(key)
                ids = np.asarray(node["ids"][...]) if "ids" in node else None
            if not isinstance(chosen, zarr.Array):
                raise InvalidInputError(
                    f"{path} has no array {key!r}; it holds {', '.join(sorted(node.array_keys()))}."
                )
            self._array = chosen
            self.ids = None if ids is None else as_ids(ids, str(path), len(ids))
        elif key is not None:
            raise InvalidInputError(
                f"{path} is one array, which has no key, and {key!r} is asked for.",
                ways_out=["leave {key} out"],
            )
        with reading(path, "Zarr"):
            _check_matrix(self._array.shape)
            self.shape = (int(self._array.shape[0]), int(self._array.shape[1]))
            self.dtype = torch_dtype(self._array.dtype)
            self.chunk_rows = int(self._array.chunks[0])
        own = self._array.path.rpartition("/")[2]
        self._is_output = KEY in self.attributes and own == ROWS

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return some rows."""
        with reading(self.path, "Zarr"):
            return tensor_of(self._values(slice(start, stop)))

    def _values(self, rows: slice) -> NDArray[Any]:
        values = np.asarray(self._array[rows])
        # An output holds no NaN: Zarr gives it for chunks of rows that are not there.
        if self._is_output and (missing := np.isnan(values[:, 0])).any():
            first = rows.indices(self.shape[0])[0] + int(missing.argmax())
            raise FileFormatError(
                f"{self.path} is unfinished or damaged: row {first} is missing.",
                ways_out=["write it again"],
            )
        return values

    def identity(self) -> Identity:
        """That of the array's files or objects."""
        if isinstance(place := located(self.path), str):
            return identify_url(f"{place.rstrip('/')}/{self._array.path}".rstrip("/"))
        return _stored_in(self._array) or hash_rows(self)

    def locations(self) -> Locations:
        """The store, a folder or a URL."""
        return (located(self.path),)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        with reading(self.path, "Zarr"):
            return np.asarray(self._values(slice(None)), dtype=dtype)

    def __repr__(self) -> str:
        return f"ZarrRows({self.path}: {self.shape[0]} x {self.shape[1]}, {self._array.dtype})"


def as_rows(features: object, name: str = "X") -> RowSource:
    """Turn what holds features into a source of rows, without copying it.

    Parameters
    ----------
    features : RowSource, tensor, array, memory map, Dask array, h5py or Zarr array, or list
        Features of shape (n_items, n_features). A list of matrices is a list of shards, and a list
        of one-dimensional rows a matrix.
    name : str
        What an error calls it.

    Raises
    ------
    InvalidTypeError
        If it is none of these.
    InvalidInputError
        If it is not a matrix.
    """
    if isinstance(features, torch.Tensor):
        return ArrayRows(features)
    if isinstance(features, RowSource):
        _check_matrix(tuple(features.shape))
        return features
    if isinstance(features, Readable):
        return GeneratedRows(
            cast("tuple[int, int]", tuple(features.shape)),
            features.read,
            dtype=features.dtype,
            ids=features.ids,
        )
    if is_dask_array(features):
        return DaskRows(features)
    if isinstance(features, list | tuple) and any(map(is_matrix_like, features)):
        if all(as_labelled_table(one, name) is not None for one in features):
            parts = [_rows_of_table(one, name, None) for one in features]
            return ShardedRows(parts, own_ids(features, name))
        return ShardedRows([as_rows(one, name) for one in features])
    if as_labelled_table(features, name) is not None:
        return _rows_of_table(features, name, own_ids(features, name))
    if (
        hasattr(features, "shape")
        and hasattr(features, "dtype")
        and hasattr(features, "__getitem__")
    ):
        return ArrayRows(features)
    return ArrayRows(as_features(features, name).tensor)


def _rows_of_table(table: object, name: str, ids: tuple[ItemId, ...] | None) -> TableRows:
    return TableRows(as_features(table, name).tensor.numpy(), ids, feature_names(table))


def _lies_in(array: object) -> LiesIn:
    if isinstance(array, np.memmap):
        return "files"
    if isinstance(array, torch.Tensor | np.ndarray):
        return "memory"
    library = type(array).__module__.partition(".")[0]
    return "files" if library in _LIBRARIES_OF_FILES else "code"


def _stored_in(array: Any) -> Identity | None:
    """The identity of what an HDF5 dataset or a Zarr array is stored in; None for other ones."""
    library = type(array).__module__.partition(".")[0]
    if library == "h5py":
        # Values of a virtual dataset, or beside the file, and those not yet written, lie elsewhere.
        elsewhere = array.is_virtual or array.external or array.file.mode != "r"
        path = Path(array.file.filename)
        return None if elsewhere or not path.is_file() else identify_file(path, array.name)
    if library == "zarr":
        own = array.path.strip("/")
        if (root := _folder_of_store(array)) is not None:
            return identify_folder(root / own)
    return None


def _folder_of_store(array: Any) -> Path | None:
    """Where a Zarr array's store lies on disk; None where it lies elsewhere."""
    from zarr.storage import LocalStore

    return array.store.root if isinstance(array.store, LocalStore) else None


def is_dask_array(features: object) -> bool:
    """Whether something is a Dask array, without importing Dask."""
    return type(features).__module__.startswith("dask.array") and hasattr(features, "dask")


def torch_dtype(dtype: Any) -> torch.dtype:
    """The type of tensors read from an array of this type."""
    if isinstance(dtype, torch.dtype):
        return readable(torch.empty((0, 1), dtype=dtype), "the features").dtype
    return tensor_of(np.empty((0, 1), dtype=dtype)).dtype


def tensor_of(array: NDArray[Any]) -> torch.Tensor:
    """A tensor of an array's values, in a type that torch has."""
    return tensor_of_array(array, "the features")


def import_zarr() -> Any:
    """Return the module zarr, or say which extra brings it."""
    try:
        import zarr
    except ImportError as error:
        raise MissingDependencyError(
            "Zarr stores need zarr: pip install 'relspace[files]'."
        ) from error
    return zarr


def _check_matrix(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or 0 in shape:
        raise InvalidInputError(
            f"the features have shape {tuple(shape)}; they must be a matrix (n_items, n_features) "
            "that is not empty."
        )
