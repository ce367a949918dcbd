"""Writes a feature store chunk by chunk, so that an interrupted extraction can go on."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from relspace.errors import FileFormatError, InvalidInputError, NonFiniteError
from relspace.features.store import (
    FORMAT_VERSION,
    KIND,
    MISSING,
    SKIPPED,
    Box,
    StoredLayer,
    import_zarr,
    read_header,
)
from relspace.features.store_places import KEY, empty_group, is_free
from relspace.locations import located
from relspace.locks import FolderLock, Lease, StoreLock, StoreLockedError

STORE_DTYPES = ("float16", "float32")
# Zarr would compare every chunk with the fill value to leave it out, which costs more than writing.
_UNCOMPARED = {"write_empty_chunks": True}
_PARTS_OF_ENVIRONMENT = ("relspace", "torch", "transformers", "diffusers", "pillow", "zarr")


class FeatureStoreWriter:
    """Writes one store; a chunk counts once its status is written, which comes last.

    While the writer is open nobody else writes: a folder is locked, by a lock that ends with the
    process, and a store at a URL has a lease (:class:`relspace.locks.Lease`).

    Attributes
    ----------
    path : Path or str
        The store, a folder or a URL.
    layers : tuple of StoredLayer
        What is stored for each item.
    regions : tuple of Box
        What the layers' grids cover, in pixels of the model's input.
    dtype : str
        ``"float16"`` or ``"float32"``.
    chunk_items : int
        How many items make a chunk.
    status : uint8 array of shape (n_items,)
        What has been written.
    """

    def __init__(
        self, path: Path | str, root: Any, header: dict[str, Any], lock: StoreLock | None
    ) -> None:
        self.path = path
        self.layers = tuple(map(StoredLayer.of, header["layers"]))
        self.regions: tuple[Box, ...] = tuple(tuple(region) for region in header["regions"])
        self.dtype: str = header["extraction"]["store_dtype"]
        self.chunk_items: int = header["chunk_items"]
        self._root, self._header, self._lock = root, header, lock
        self.status: NDArray[np.uint8] = np.asarray(root["status"][...])

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        layers: Sequence[StoredLayer],
        regions: Sequence[Box],
        ids: Sequence[str],
        chunk_items: int,
        extraction: Mapping[str, Any],
        progress: Callable[[str], None] | None = None,
    ) -> Self:
        """Make a store in which every item is missing.

        Parameters
        ----------
        path : str or Path
            Where; there must be nothing.
        layers, regions, chunk_items
            See the attributes.
        ids : sequence of str
            The items' ids.
        extraction : mapping
            What says whether two extractions are the same: model, weights, preprocessing, items
            and ``store_dtype``.
        progress : callable, optional
            Is told what is waited for.

        Raises
        ------
        StoreLockedError
            If another process makes it at the same time.
        """
        header = {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "layers": [layer.to_dict() for layer in layers],
            "regions": [list(region) for region in regions],
            "chunk_items": chunk_items,
            "extraction": dict(extraction),
            "versions": _versions(),
            "skipped": {},
        }
        place = located(path)
        if isinstance(place, str):
            return cls._create_at_url(place, header, layers, ids, progress)
        # Made beside its place and renamed, so that a store has all its arrays from the start. The
        # lock is on the folder itself and stays with it through the renaming.
        unfinished = place.with_name(f".{place.name}.new")
        unfinished.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(unfinished)
        try:
            for old in unfinished.iterdir():
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            root = import_zarr().create_group(unfinished, attributes={KEY: header})
            _make_arrays(root, header, layers, ids)
            unfinished.rename(place)
            return cls(place, import_zarr().open_group(place, mode="r+"), header, lock)
        except OSError as error:
            lock.release()
            raise StoreLockedError(
                f"{place} can't be made, or appeared while it was ({error})."
            ) from error
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _create_at_url(
        cls,
        url: str,
        header: dict[str, Any],
        layers: Sequence[StoredLayer],
        ids: Sequence[str],
        progress: Callable[[str], None] | None,
    ) -> Self:
        lock = Lease(url, progress)
        try:
            if not is_free(url):
                raise StoreLockedError(f"{url} appeared while it was made.")
            root = empty_group(url)
            _make_arrays(root, header, layers, ids)
            # A URL can't be renamed: what has the header, which comes last, has all its arrays.
            root.attrs[KEY] = header
            return cls(url, root, header, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def resume(
        cls,
        path: str | Path,
        *,
        ids: Sequence[str],
        extraction: Mapping[str, Any],
        overwrite: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> Self | None:
        """Open the store of an extraction that stopped, or was finished; None if there is none.

        Parameters
        ----------
        path : str or Path
            The store.
        ids, extraction
            As for :meth:`create`; they must be the same.
        overwrite : bool
            Whether a store of another extraction is removed rather than refused.
        progress : callable, optional
            Is told what is waited for.

        Raises
        ------
        FileFormatError
            If there is something else, which is never removed.
        InvalidInputError
            If it is a store of another extraction.
        StoreLockedError
            If another process is writing it.
        """
        place = located(path)
        if is_free(place):
            return None
        lock = Lease(place, progress) if isinstance(place, str) else FolderLock(place)
        try:
            try:
                root, found = read_header(place)
            except FileFormatError as error:
                raise FileFormatError(
                    error.message, ways_out=["choose another name for the store"]
                ) from error
            different = _differences(found["extraction"], extraction)
            if list(ids) != list(np.asarray(root["ids"][...])):
                different.append("ids")
            if different and not overwrite:
                raise InvalidInputError(
                    f"{place} holds another extraction; different are {', '.join(different)}.",
                    ways_out=["choose another name", "overwrite it with {overwrite=True}"],
                )
            if different:
                if isinstance(place, str):
                    empty_group(place)
                else:
                    shutil.rmtree(place)
                lock.release()
                return None
            for leftover in place.rglob("*.partial") if isinstance(place, Path) else ():
                leftover.unlink()
            return cls(place, import_zarr().open_group(place, mode="r+"), found, lock)
        except BaseException:
            lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.release()

    @property
    def skipped(self) -> dict[str, str]:
        """The items that could not be read, with the reason, so far."""
        return dict(self._header["skipped"])

    def missing_chunks(self) -> list[slice]:
        """The items of the chunks that are still to be written."""
        n = len(self.status)
        chunks = [slice(i, min(i + self.chunk_items, n)) for i in range(0, n, self.chunk_items)]
        return [chunk for chunk in chunks if (self.status[chunk] == MISSING).any()]

    @classmethod
    def join(cls, path: str | Path, extraction: Mapping[str, Any]) -> Self:
        """Open a store to write features of chunks that the process with the lock hands out.

        Such a writer marks nothing: the other one does, when it hears that a chunk is there.

        Raises
        ------
        InvalidInputError
            If the store is by now of another extraction.
        """
        place = located(path)
        header = read_header(place)[1]
        different = _differences(header["extraction"], extraction)
        if different:
            raise InvalidInputError(
                f"{place} became the store of another extraction; different are "
                f"{', '.join(different)}."
            )
        return cls(place, import_zarr().open_group(place, mode="r+"), header, None)

    def write(
        self,
        chunk: slice,
        arrays: Mapping[str, NDArray[Any]],
        *,
        image_sizes: NDArray[np.int64],
        boxes: NDArray[np.float64],
    ) -> None:
        """Write the features of one chunk of :meth:`missing_chunks`.

        Parameters
        ----------
        chunk : slice
            Its items.
        arrays : mapping of str to array of shape (n_chunk, ...)
            Features of each layer, NaN for items that were skipped.
        image_sizes : int64 array of shape (n_chunk, 2)
            Heights and widths of the images.
        boxes : float64 array of shape (n_regions, n_chunk, 4)
            What the grids cover.

        Raises
        ------
        StoreLockedError
            If the store was taken over by another process.
        """
        self._check_lock()
        for layer in self.layers:
            array = self._root[layer.key].with_config(_UNCOMPARED)
            array[chunk] = arrays[layer.name]
        self._root["image_sizes"][chunk] = image_sizes
        self._root["boxes"][:, chunk] = boxes

    def mark(self, chunk: slice, status: NDArray[np.uint8], skipped: Mapping[str, str]) -> None:
        """Say that a chunk has been written, from when on it counts.

        Parameters
        ----------
        chunk : slice
            Its items.
        status : uint8 array of shape (n_chunk,)
            PRESENT or SKIPPED for each item.
        skipped : mapping of str to str
            Why items were skipped, by id.

        Raises
        ------
        StoreLockedError
            If the store was taken over by another process.
        """
        self._check_lock()
        if skipped:
            self._header["skipped"] |= skipped
            self._root.attrs[KEY] = self._header
        self._root["status"][chunk] = status
        self.status[chunk] = status

    def _check_lock(self) -> None:
        if self._lock is not None:
            self._lock.check()


def _make_arrays(
    root: Any, header: Mapping[str, Any], layers: Sequence[StoredLayer], ids: Sequence[str]
) -> None:
    zarr = import_zarr()
    n = len(ids)

    def add(
        key: str, shape: tuple[int, ...], names: tuple[str, ...], dtype: Any, fill: Any
    ) -> None:
        chunks = list(shape)
        chunks[names.index("item")] = min(header["chunk_items"], n)
        root.create_array(
            key,
            shape=shape,
            chunks=tuple(chunks),
            dtype=dtype,
            fill_value=fill,
            # Features hardly compress; a checksum tells a damaged chunk.
            compressors=[zarr.codecs.Crc32cCodec()],
            filters=None,
            dimension_names=names,
        )

    dtype = header["extraction"]["store_dtype"]
    for layer in layers:
        axes = ("row", "column", "feature") if len(layer.shape) == 3 else ("feature",)
        add(layer.key, (n, *layer.shape), ("item", *axes), dtype, np.nan)
    add("image_sizes", (n, 2), ("item", "height_width"), "int64", 0)
    add("boxes", (len(header["regions"]), n, 4), ("region", "item", "edge"), "float64", np.nan)
    add("status", (n,), ("item",), "uint8", MISSING)
    listed = root.create_array(
        "ids", shape=(n,), chunks=(n,), dtype=str, compressors=None, dimension_names=("item",)
    )
    listed[...] = np.array(list(ids), dtype=object)


def refuse_what_does_not_fit(features: NDArray[Any], layer: str, ids: Sequence[str]) -> None:
    """Raise if features are not finite, which in float16 larger values aren't either.

    Parameters
    ----------
    features : float16 or float32 array of shape (n, ...)
        What would be stored.
    layer : str
        What an error calls them.
    ids : sequence of str
        The items' ids.

    Raises
    ------
    NonFiniteError
        If a value is NaN or infinite.
    """
    # The exponent's bits are all set in what is not finite; looking at them is quick.
    flat = features.reshape(len(features), -1)
    bits: NDArray[Any] = flat.view(np.uint16 if features.dtype == np.float16 else np.uint32)
    exponent = 0x7C00 if features.dtype == np.float16 else 0x7F800000
    bad = (bits & bits.dtype.type(exponent) == exponent).any(axis=1)
    if not bad.any():
        return
    which = f"{layer} for {int(bad.sum())} items, the first {ids[int(bad.argmax())]}"
    if features.dtype == np.float16 and not np.isnan(flat[bad]).any():
        raise NonFiniteError(
            f"values exceed 65504, the most that float16 holds, in {which}.",
            ways_out=["store float32 with {store_dtype='float32'}"],
        )
    raise NonFiniteError(f"the model gives NaN or infinity in {which}; compute in float32.")


def skipped_status(reasons: Sequence[str | None]) -> NDArray[np.uint8]:
    """Return the status of items that were skipped for a reason, or are there (None)."""
    return np.array([1 if reason is None else SKIPPED for reason in reasons], dtype=np.uint8)


def _differences(found: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    return [key for key in {**found, **asked} if found.get(key) != asked.get(key)]


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PARTS_OF_ENVIRONMENT:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
