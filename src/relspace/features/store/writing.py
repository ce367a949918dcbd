"""Writes feature stores chunk by chunk, so that an interrupted extraction can be resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from relspace._core.progress import Listener, silent
from relspace.errors import FileFormatError, InvalidInputError, NonFiniteError
from relspace.features.items import IdentifiedItems
from relspace.features.store.reading import (
    FORMAT_VERSION,
    KIND,
    MISSING,
    WHOLE_NUMBERS,
    Box,
    StoredLayer,
    read_header,
)
from relspace.features.store.same_extraction import (
    OtherExtractionError,
    refuse_another,
    whole_job,
)
from relspace.rows.formats.zarr import import_zarr
from relspace.rows.groups import empty_group, group_header
from relspace.rows.ledger import (
    KEY,
    Resume,
    ZarrLedger,
    checksum_of,
    installed_versions,
    job_header,
)
from relspace.rows.locations import located
from relspace.rows.locks import BothLocks, PathLock, StoreLock, StoreLockedError
from relspace.rows.replacing import (
    discard_new,
    empty_folder,
    is_there,
    lock_folder,
    lock_store,
    new_of,
    replace_folder,
)
from relspace.rows.writer import ChunkWriter

STORE_DTYPES = ("float16", "float32")
# Otherwise Zarr compares every chunk with the fill value, which takes longer than writing it.
_UNCOMPARED = {"write_empty_chunks": True}
_PARTS_OF_ENVIRONMENT = ("transformers", "diffusers", "pillow")
_BYTES_OF_DIGEST = 16
# The kind of a group at a URL until its header is written.
_BEGUN = "feature set that was begun"


class FeatureStoreWriter(ChunkWriter):
    """Writes one store. A chunk is finished when its status is written, which is done last.

    A folder is locked until the writer is closed or the process ends; a store at a URL has a lease
    (:class:`relspace.rows.locks.Lease`), and :meth:`write` and :meth:`mark` raise StoreLockedError
    once another process has it. ``regions`` are boxes in pixels of the model's input, and
    ``status`` is ``MISSING``, ``PRESENT`` or ``SKIPPED`` for each item.
    """

    def __init__(
        self,
        location: Path | str,
        header: dict[str, Any],
        lock: StoreLock | None,
        replaces: Path | None = None,
    ) -> None:
        super().__init__(lock)
        self._header, self._replaces = header, replaces
        self.layers = tuple(map(StoredLayer.of, header["layers"]))
        self.regions: tuple[Box, ...] = tuple(tuple(region) for region in header["regions"])
        self.dtype: str = header["job"]["store_dtype"]
        self._open(location)
        self.status: NDArray[np.uint8] = np.asarray(self._root["status"][...])
        self._n_rows, self._chunk_rows = len(self.status), header["chunk_items"]

    def _open(self, location: Path | str) -> None:
        self.location, self._root = location, import_zarr().open_group(location, mode="r+")
        self._ledger = ZarrLedger(self._root)

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        layers: Sequence[StoredLayer],
        regions: Sequence[Box],
        items: IdentifiedItems,
        chunk_items: int,
        job: Mapping[str, Any],
        overwrite: bool = False,
        tell: Listener = silent,
    ) -> Self:
        """Create a store in which every item is missing.

        The job is all that features depend on besides the items: model, weights, preprocessing and
        ``store_dtype``. With ``overwrite`` an existing store is replaced when this one is complete,
        or at once at a URL, which can't be renamed.

        Raises
        ------
        StoreLockedError
            If another process creates it at the same time.
        """
        ids = items.items.ids
        are_numbers = ids is not None and isinstance(ids[0], int)
        header = job_header(
            KIND,
            FORMAT_VERSION,
            whole_job(job, items),
            layers=[layer.to_dict() for layer in layers],
            regions=[list(region) for region in regions],
            chunk_items=chunk_items,
            items={"of": items.items.of} | ({"ids": WHOLE_NUMBERS} if are_numbers else {}),
            skipped={},
        )
        header["versions"] |= installed_versions(_PARTS_OF_ENVIRONMENT)
        location = located(path)
        written, replaces = location, None
        lock = lock_store(location, tell)
        try:
            if not _is_free(location):
                if not overwrite:
                    raise StoreLockedError(f"another process created {location} meanwhile.")
                # Raises for what is no feature store.
                read_header(location)
                if isinstance(location, Path):
                    written, replaces = new_of(location), location
                    lock = BothLocks(lock, lock_folder(written))
                    empty_folder(written)
            elif isinstance(location, Path):
                discard_new(location)
            root = empty_group(written, _BEGUN)
            _make_arrays(root, header, layers, items)
            # The header is written last: a store with a header has all its arrays.
            root.attrs[KEY] = header
            return cls(written, header, lock, replaces)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def resume(
        cls,
        path: str | Path,
        *,
        items: IdentifiedItems,
        job: Mapping[str, Any],
        overwrite: bool = False,
        resume: Resume = "identified",
        tell: Listener = silent,
    ) -> Self | None:
        """Open the store of an interrupted or finished extraction; None if there is none.

        Chunks whose values have another checksum are missing again. With ``overwrite`` a store of
        another extraction counts as none, and :meth:`create` will replace it.

        Raises
        ------
        FileFormatError
            If there is something else, which is never removed.
        OtherExtractionError
            If it isn't known to be a store of this extraction.
        StoreLockedError
            If another process is writing it.
        """
        location = located(path)
        if _is_free(location):
            return None
        lock = lock_store(location, tell)
        try:
            root, found = read_header(location)
            try:
                refuse_another(location, root, found, items, job, resume)
            except OtherExtractionError:
                if not overwrite:
                    raise
                begun = None
                if isinstance(location, Path):
                    begun = cls._resume_new(location, items, job, resume, lock, tell)
                if begun is None:
                    lock.release()
                return begun
            if isinstance(location, Path):
                discard_new(location)
            return cls._reopen(location, found, lock, tell)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _resume_new(
        cls,
        location: Path,
        items: IdentifiedItems,
        job: Mapping[str, Any],
        resume: Resume,
        lock: StoreLock,
        tell: Listener,
    ) -> Self | None:
        """Open the replacement that a killed run began, if it is of this extraction."""
        new = new_of(location)
        if not new.exists():
            return None
        try:
            root, header = read_header(new)
            refuse_another(new, root, header, items, job, resume)
        except (FileFormatError, OtherExtractionError):
            return None
        return cls._reopen(new, header, BothLocks(lock, PathLock(new)), tell, location)

    @classmethod
    def _reopen(
        cls,
        location: str | Path,
        header: dict[str, Any],
        lock: StoreLock,
        tell: Listener,
        replaces: Path | None = None,
    ) -> Self:
        """Open a store to resume it."""
        for leftover in location.rglob("*.partial") if isinstance(location, Path) else ():
            leftover.unlink()
        store = cls(location, header, lock, replaces)
        store._drop_damaged(tell)
        store._replace_if_complete()
        return store

    @property
    def skipped(self) -> dict[str, str]:
        """The items that could not be read so far, and why."""
        return dict(self._header["skipped"])

    def missing(self) -> list[slice]:
        """The items of the chunks that are still to be written."""
        return [chunk for chunk in self._chunks() if (self.status[chunk] == MISSING).any()]

    @classmethod
    def join(cls, path: str | Path, job: Mapping[str, Any]) -> Self:
        """Open a store as a worker, by the job in its header; refused if it is another one by now.

        Such a writer marks no chunks: the process with the lock does.
        """
        location = located(path)
        header = read_header(location)[1]
        different = [key for key in {**header["job"], **job} if header["job"].get(key) != job[key]]
        if different:
            raise InvalidInputError(
                f"{location} became the store of another extraction; different are "
                f"{', '.join(different)}."
            )
        return cls(location, header, None)

    def write(
        self,
        chunk: slice,
        arrays: Mapping[str, NDArray[Any]],
        *,
        image_sizes: NDArray[np.int64],
        boxes: NDArray[np.float64],
    ) -> str:
        """Write a missing chunk, and return its checksum.

        ``arrays`` are the features (n_chunk, ...) by layer, NaN for skipped items; ``image_sizes``
        the images' heights and widths (n_chunk, 2); ``boxes`` what the grids of each region cover,
        (n_regions, n_chunk, 4).
        """
        self._check_lock()
        for layer in self.layers:
            array = self._root[layer.key].with_config(_UNCOMPARED)
            array[chunk] = arrays[layer.name]
        self._root["image_sizes"][chunk] = image_sizes
        self._root["boxes"][:, chunk] = boxes
        return checksum_of(*(arrays[layer.name] for layer in self.layers), image_sizes, boxes)

    def mark(
        self, chunk: slice, status: NDArray[np.uint8], skipped: Mapping[str, str], checksum: str
    ) -> None:
        """Mark a chunk as finished.

        ``status`` holds ``PRESENT`` or ``SKIPPED`` for each item, ``skipped`` the reasons by the
        items' names, and ``checksum`` is the result of :meth:`write`.
        """
        self._check_lock()
        if skipped:
            self._header["skipped"] |= skipped
            self._root.attrs[KEY] = self._header
        self._ledger.finish(self._number(chunk), checksum)
        self._set_status(chunk, status)
        if (self.status != MISSING).all():
            self._ledger.settle(self._fingerprint())
        self._replace_if_complete()

    def _set_status(self, chunk: slice, status: NDArray[np.uint8] | int) -> None:
        self._root["status"][chunk] = status
        self.status[chunk] = status

    def _replace_if_complete(self) -> None:
        """Give a complete store the name of the store that it replaces."""
        if self._replaces is None or (self.status == MISSING).any():
            return
        folder, self._replaces = self._replaces, None
        replace_folder(folder)
        self._open(folder)

    def _drop_damaged(self, tell: Listener) -> None:
        """Mark chunks as missing that are not in the ledger, or hold other values."""
        finished, fingerprint = self._ledger.finished(), self._fingerprint()
        settled = self._ledger.settled()
        if settled and settled == fingerprint:
            return
        damaged = self._damaged(tell)
        for number in damaged:
            self._ledger.forget(number)
        if damaged:
            about = f"{len(damaged)} chunks of {self.location} are damaged, and are computed again"
            tell(0, 0, about)
        whole = set(finished) - set(damaged)
        for number, chunk in enumerate(self._chunks()):
            if number not in whole and (self.status[chunk] != MISSING).any():
                self._set_status(chunk, MISSING)
        if (self.status != MISSING).all():
            # A store that can't be written is checked again by the next call.
            with suppress(OSError):
                self._ledger.settle(fingerprint)

    def _read_chunk(self, chunk: slice) -> Sequence[NDArray[Any]]:
        layers = [self._root[layer.key][chunk] for layer in self.layers]
        return [*layers, self._root["image_sizes"][chunk], self._root["boxes"][:, chunk]]


def _is_free(location: str | Path) -> bool:
    """Whether there is nothing, or a store without its header yet; refused for anything else."""
    if isinstance(location, Path) and not location.exists():
        return not is_there(location)
    return group_header(location, KIND, _BEGUN) is None


def _make_arrays(
    root: Any, header: Mapping[str, Any], layers: Sequence[StoredLayer], items: IdentifiedItems
) -> None:
    zarr = import_zarr()
    n = len(items.items)

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

    def list_items(key: str, values: NDArray[Any], dtype: Any, names: tuple[str, ...]) -> None:
        listed = root.create_array(
            key,
            shape=values.shape,
            chunks=values.shape,
            dtype=dtype,
            compressors=None,
            dimension_names=names,
        )
        listed[...] = values

    dtype = header["job"]["store_dtype"]
    for layer in layers:
        axes = ("row", "column", "feature") if len(layer.shape) == 3 else ("feature",)
        add(layer.key, (n, *layer.shape), ("item", *axes), dtype, np.nan)
    add("image_sizes", (n, 2), ("item", "height_width"), "int64", 0)
    add("boxes", (len(header["regions"]), n, 4), ("region", "item", "edge"), "float64", np.nan)
    add("status", (n,), ("item",), "uint8", MISSING)
    ZarrLedger.create(root, -(-n // header["chunk_items"]))
    if items.items.ids is not None:
        texts = [str(one) for one in items.items.ids]
        list_items("ids", np.array(texts, dtype=object), str, ("item",))
    if items.items.lines is not None:
        list_items("lines", np.array(items.items.lines), "int64", ("item",))
    if items.contents is not None:
        raw = bytes.fromhex("".join(items.contents.digests))
        digests = np.frombuffer(raw, dtype=np.uint8).reshape(n, _BYTES_OF_DIGEST)
        list_items("digests", digests, "uint8", ("item", "byte"))


def refuse_what_does_not_fit(features: NDArray[Any], layer: str, ids: Sequence[str]) -> None:
    """Refuse features (n, ...) in float16 or float32 that are NaN or infinite, or overflowed."""
    if not len(features):
        return
    # Of numbers that are not finite all bits of the exponent are set; comparing bits is fast.
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
