"""Writes a feature store chunk by chunk, so that an interrupted extraction can be resumed."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from relspace._core.arguments import name_some
from relspace._core.items import ItemId
from relspace._core.progress import Listener, silent
from relspace.errors import FileFormatError, InvalidInputError, NonFiniteError
from relspace.features.items import IdentifiedItems
from relspace.features.network_identity import what_changed_in_network
from relspace.features.store.locations import BEGUN, KEY, is_free
from relspace.features.store.reading import (
    FORMAT_VERSION,
    KIND,
    MISSING,
    SKIPPED,
    WHOLE_NUMBERS,
    Box,
    StoredLayer,
    read_digests,
    read_header,
    read_ids,
)
from relspace.rows.formats.zarr import import_zarr
from relspace.rows.identity import Identity, what_changed
from relspace.rows.ledger import (
    Resume,
    ZarrLedger,
    checksum_of,
    damaged_chunks,
    glance_at_folder,
    glance_at_url,
    job_header,
)
from relspace.rows.locations import file_system, located
from relspace.rows.locks import BothLocks, Lease, PathLock, StoreLock, StoreLockedError
from relspace.rows.output import empty_group
from relspace.rows.replacing import discard_new, is_there, lock_folder, new_of, replace_folder

STORE_DTYPES = ("float16", "float32")
# Zarr would compare every chunk with the fill value to leave it out, which costs more than writing.
_UNCOMPARED = {"write_empty_chunks": True}
_PARTS_OF_ENVIRONMENT = ("transformers", "diffusers", "pillow")
_BYTES_OF_DIGEST = 16
_REPLACE = ("name another output", "replace it with {overwrite=True}")
_VOUCH = "vouch that it is the same by {resume='trust'}"
# What of a job is compared as an identity; stores of earlier versions hold a digest of code.
_IDENTIFIED = ("items", "ids", "network", "code")


class OtherExtractionError(InvalidInputError):
    """A store is there, and isn't known to be of the extraction that was asked for."""


class FeatureStoreWriter:
    """Writes one store; a chunk counts once its status is written, which comes last.

    While the writer is open nobody else writes: a folder is locked, by a lock that ends with the
    process, and a store at a URL has a lease (:class:`relspace.rows.locks.Lease`).

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
        self,
        path: Path | str,
        root: Any,
        header: dict[str, Any],
        lock: StoreLock | None,
        replaces: Path | None = None,
    ) -> None:
        self.path, self._replaces = path, replaces
        self.layers = tuple(map(StoredLayer.of, header["layers"]))
        self.regions: tuple[Box, ...] = tuple(tuple(region) for region in header["regions"])
        self.dtype: str = header["job"]["store_dtype"]
        self.chunk_items: int = header["chunk_items"]
        self._root, self._header, self._lock = root, header, lock
        self._ledger = ZarrLedger(root)
        self.status: NDArray[np.uint8] = np.asarray(root["status"][...])

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
        """Make a store in which every item is missing.

        Parameters
        ----------
        path : str or Path
            Where; there must be nothing, or a store that is to be replaced.
        layers, regions, chunk_items
            See the attributes.
        items : IdentifiedItems
            The items.
        job : mapping
            What says whether two extractions are the same beside the items: model, weights,
            preprocessing, and ``store_dtype``.
        overwrite : bool
            Whether a store that is there is replaced, when this one has all its chunks; at a URL,
            which can't be renamed, at once.
        tell : callable
            Told ``(done, total, text)``, also of what is waited for.

        Raises
        ------
        StoreLockedError
            If another process makes it at the same time.
        """
        header = job_header(
            KIND,
            FORMAT_VERSION,
            whole_job(job, items),
            layers=[layer.to_dict() for layer in layers],
            regions=[list(region) for region in regions],
            chunk_items=chunk_items,
            items={"of": items.items.of} | _type_of(items.items.ids),
            skipped={},
        )
        header["versions"] |= _versions()
        place = located(path)
        if isinstance(place, str):
            return cls._create_at_url(place, header, layers, items, overwrite, tell)
        # Made beside its place and renamed, so that a store has all its arrays from the start. The
        # lock is on the folder itself and stays with it through the renaming.
        unfinished = new_of(place)
        unfinished.mkdir(parents=True, exist_ok=True)
        lock: StoreLock = PathLock(unfinished)
        try:
            for one in unfinished.iterdir():
                shutil.rmtree(one) if one.is_dir() else one.unlink()
            root = import_zarr().create_group(unfinished, attributes={KEY: header})
            _make_arrays(root, header, layers, items)
            if overwrite and is_there(place):
                lock = BothLocks(lock, lock_folder(place))
                # Raises for what is no feature store.
                read_header(place)
                group = import_zarr().open_group(unfinished, mode="r+")
                return cls(unfinished, group, header, lock, replaces=place)
            try:
                unfinished.rename(place)
            except OSError as error:
                raise StoreLockedError(
                    f"{place} can't be made, or appeared while it was ({error})."
                ) from error
            return cls(place, import_zarr().open_group(place, mode="r+"), header, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _create_at_url(
        cls,
        url: str,
        header: dict[str, Any],
        layers: Sequence[StoredLayer],
        items: IdentifiedItems,
        overwrite: bool,
        tell: Listener,
    ) -> Self:
        lock = Lease(url, tell)
        try:
            if not is_free(url):
                if not overwrite:
                    raise StoreLockedError(f"{url} appeared while it was made.")
                read_header(url)
            root = empty_group(url, BEGUN)
            _make_arrays(root, header, layers, items)
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
        items: IdentifiedItems,
        job: Mapping[str, Any],
        overwrite: bool = False,
        resume: Resume = "identified",
        tell: Listener = silent,
    ) -> Self | None:
        """Open the store of an extraction that stopped, or was finished; None if there is none.

        Chunks whose values are not those that were written are missing again.

        Parameters
        ----------
        path : str or Path
            The store.
        items, job
            As for :meth:`create`; they must be the same.
        overwrite : bool
            Whether a store of another extraction is nothing, and :meth:`create` will replace it.
        resume : {"identified", "trust"}
            Whether items must be identified, or the caller vouches that they are the same.
        tell : callable
            Told ``(done, total, text)``, also of what is waited for.

        Raises
        ------
        FileFormatError
            If there is something else, which is never removed.
        OtherExtractionError
            If it isn't known to be a store of this extraction.
        StoreLockedError
            If another process is writing it.
        """
        place = located(path)
        if is_free(place):
            return None
        lock: StoreLock = lock_folder(place) if isinstance(place, Path) else Lease(place, tell)
        try:
            try:
                root, found = read_header(place)
            except FileFormatError as error:
                raise FileFormatError(
                    error.message, ways_out=["choose another name for the store"]
                ) from error
            try:
                _refuse_another(place, root, found, items, job, resume)
            except OtherExtractionError:
                if not overwrite:
                    raise
                begun = None
                if isinstance(place, Path):
                    begun = cls._resume_new(place, items, job, resume, lock, tell)
                if begun is None:
                    lock.release()
                return begun
            if isinstance(place, Path):
                discard_new(place)
            return cls._reopen(place, found, lock, tell)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _resume_new(
        cls,
        place: Path,
        items: IdentifiedItems,
        job: Mapping[str, Any],
        resume: Resume,
        lock: StoreLock,
        tell: Listener,
    ) -> Self | None:
        """Open what a killed run would have replaced a store by, if it is of this extraction."""
        new = new_of(place)
        if not new.exists():
            return None
        try:
            root, header = read_header(new)
            _refuse_another(new, root, header, items, job, resume)
        except (FileFormatError, OtherExtractionError):
            return None
        return cls._reopen(new, header, BothLocks(lock, PathLock(new)), tell, place)

    @classmethod
    def _reopen(
        cls,
        place: str | Path,
        header: dict[str, Any],
        lock: StoreLock,
        tell: Listener,
        replaces: Path | None = None,
    ) -> Self:
        """Open a store to go on with it."""
        for leftover in place.rglob("*.partial") if isinstance(place, Path) else ():
            leftover.unlink()
        group = import_zarr().open_group(place, mode="r+")
        store = cls(place, group, header, lock, replaces)
        store._drop_what_is_not_whole(tell)
        store._replace_if_complete()
        return store

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
        chunks = map(self._chunk, range(-(-len(self.status) // self.chunk_items)))
        return [chunk for chunk in chunks if (self.status[chunk] == MISSING).any()]

    @classmethod
    def join(cls, path: str | Path, job: Mapping[str, Any]) -> Self:
        """Open a store to write features of chunks that the process with the lock hands out.

        Such a writer marks nothing: the other one does, when it hears that a chunk is there.

        Parameters
        ----------
        path : str or Path
            The store.
        job : mapping
            That in the header of the store, see :func:`relspace.rows.ledger.job_header`.

        Raises
        ------
        InvalidInputError
            If the store is by now of another extraction.
        """
        place = located(path)
        header = read_header(place)[1]
        different = [key for key in {**header["job"], **job} if header["job"].get(key) != job[key]]
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
    ) -> str:
        """Write the features of one chunk of :meth:`missing_chunks`, and return their checksum.

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
        return checksum_of(*(arrays[layer.name] for layer in self.layers), image_sizes, boxes)

    def mark(
        self,
        chunk: slice,
        status: NDArray[np.uint8],
        skipped: Mapping[str, str],
        checksum: str,
    ) -> None:
        """Say that a chunk has been written, from when on it counts.

        Parameters
        ----------
        chunk : slice
            Its items.
        status : uint8 array of shape (n_chunk,)
            PRESENT or SKIPPED for each item.
        skipped : mapping of str to str
            Why items were skipped, by their names.
        checksum : str
            What :meth:`write` returned.

        Raises
        ------
        StoreLockedError
            If the store was taken over by another process.
        """
        self._check_lock()
        if skipped:
            self._header["skipped"] |= skipped
            self._root.attrs[KEY] = self._header
        self._ledger.finish(chunk.start // self.chunk_items, checksum)
        self._root["status"][chunk] = status
        self.status[chunk] = status
        if (self.status != MISSING).all():
            self._ledger.settle(self._glance())
        self._replace_if_complete()

    def _replace_if_complete(self) -> None:
        """Give a complete store the name of the one that it replaces."""
        if self._replaces is None or (self.status == MISSING).any():
            return
        self.path, self._replaces = self._replaces, None
        replace_folder(self.path)
        self._root = import_zarr().open_group(self.path, mode="r+")
        self._ledger = ZarrLedger(self._root)

    def _drop_what_is_not_whole(self, tell: Listener) -> None:
        """Take chunks that are not in the ledger, or hold other values, for missing."""
        finished = self._ledger.finished()
        settled, glance = self._ledger.settled(), self._glance()
        if settled and settled == glance:
            return
        n_read = 0

        def checksum(number: int) -> str | None:
            nonlocal n_read
            tell(n_read, len(finished), f"Checking chunks of {self.path}")
            n_read += 1
            return self._checksum(number)

        damaged = damaged_chunks(finished, checksum)
        for number in damaged:
            self._ledger.forget(number)
        if damaged:
            tell(0, 0, f"{len(damaged)} chunks of {self.path} are damaged, and are computed again")
        whole = set(finished) - set(damaged)
        for number in range(-(-len(self.status) // self.chunk_items)):
            chunk = self._chunk(number)
            if number not in whole and (self.status[chunk] != MISSING).any():
                self.status[chunk] = MISSING
                self._root["status"][chunk] = MISSING
        if (self.status != MISSING).all():
            # Where it can't be written, it is checked again the next time.
            with suppress(OSError):
                self._ledger.settle(glance)

    def _checksum(self, number: int) -> str | None:
        chunk = self._chunk(number)
        try:
            arrays = [self._root[layer.key][chunk] for layer in self.layers]
            return checksum_of(
                *arrays, self._root["image_sizes"][chunk], self._root["boxes"][:, chunk]
            )
        except (OSError, ValueError, RuntimeError, KeyError):
            # What a damaged chunk makes Zarr raise depends on the damage.
            return None

    def _chunk(self, number: int) -> slice:
        start = number * self.chunk_items
        return slice(start, min(start + self.chunk_items, len(self.status)))

    def _glance(self) -> str:
        if isinstance(self.path, Path):
            return glance_at_folder(self.path)
        return glance_at_url(*file_system(self.path))

    def _check_lock(self) -> None:
        if self._lock is not None:
            self._lock.check()


def whole_job(job: Mapping[str, Any], items: IdentifiedItems) -> dict[str, Any]:
    """Return all that features depend on: the items and what they are called, too."""
    return {**job, "items": items.identity, "ids": items.ids_digest()}


def _type_of(ids: Sequence[ItemId] | None) -> dict[str, str]:
    return {"ids": WHOLE_NUMBERS} if ids and isinstance(ids[0], int) else {}


def _refuse_another(
    place: str | Path,
    root: Any,
    header: Mapping[str, Any],
    items: IdentifiedItems,
    job: Mapping[str, Any],
    resume: Resume,
) -> None:
    """Refuse to resume a store that isn't known to be of this extraction."""
    if header["format_version"] != FORMAT_VERSION:
        raise OtherExtractionError(
            f"{place} has format version {header['format_version']}, which doesn't say of what "
            "items it is: it can be opened, not resumed.",
            ways_out=_REPLACE,
        )
    if changed := _changed_items(root, header, items):
        raise OtherExtractionError(
            f"{place} holds features of other items: {changed}.", ways_out=_REPLACE
        )
    different = [
        name
        for name in {**header["job"], **job}
        if name not in _IDENTIFIED and header["job"].get(name) != job.get(name)
    ]
    if different:
        raise OtherExtractionError(
            f"{place} holds another extraction; different are {', '.join(different)}.",
            ways_out=_REPLACE,
        )
    before = Identity.of(header["job"]["items"])
    if resume == "trust" and not before.is_known_to_differ_from(items.identity):
        return
    if resume != "trust":
        _refuse_another_network(place, Identity.of(header["job"].get("network")), job["network"])
    for one in (before, items.identity):
        if not one.is_known:
            raise OtherExtractionError(
                f"{place} is there, and whether it is of the same items is unknown: they can't be "
                f"identified ({one.detail['reason']}).",
                ways_out=[*_REPLACE, _VOUCH],
            )
    if not before.same_as(items.identity):
        raise OtherExtractionError(
            f"{place} holds features of other items: {', '.join(what_changed(before, one))}.",
            ways_out=_REPLACE,
        )


def _refuse_another_network(place: str | Path, before: Identity, record: object) -> None:
    now = Identity.of(record)
    if before.same_as(now):
        return
    unknown = next((one for one in (before, now) if not one.is_known), None)
    if unknown is None:
        said = f"is of another network: {what_changed_in_network(before, now)}"
    else:
        reason = unknown.detail.get("reason")
        said = f"is there, and whether it is of the same network can't be told ({reason})"
    raise OtherExtractionError(f"{place} {said}.", ways_out=[*_REPLACE, _VOUCH])


def _changed_items(root: Any, header: Mapping[str, Any], items: IdentifiedItems) -> str:
    """Say which of the items that a store was begun with are others now; empty if none is known."""
    before, now = read_ids(root, header), items.items.ids
    if before is not None and now is not None and isinstance(before[0], str):
        # Earlier versions kept whole numbers as text.
        now = tuple(map(str, now))
    n_before = root["status"].shape[0]
    if (before is None) != (now is None):
        return "they " + ("have ids now, and had none" if before is None else "had ids")
    if before is not None and now is not None and before != now:
        gone, new = [*(set(before) - set(now))], [*(set(now) - set(before))]
        said = [
            f"{len(found)} {what} ({name_some(sorted(found, key=str))})"
            for found, what in ((gone, "gone"), (new, "new"))
            if found
        ]
        return ", ".join(said) or "their ids are in another order"
    if n_before != len(items.items):
        return f"{n_before} then, {len(items.items)} now"
    digests = read_digests(root)
    if digests is None or items.contents is None:
        return ""
    pairs = zip(digests, items.contents.digests, strict=True)
    changed = [i for i, (one, other) in enumerate(pairs) if one != other]
    if not changed:
        return ""
    if Counter(digests) == Counter(items.contents.digests):
        return f"the same in another order, the first that moved is {items.items.names[changed[0]]}"
    named = name_some([items.items.names[i] for i in changed])
    return f"{len(changed)} of {n_before} have other content ({named})"


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
    if not len(features):
        return
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


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PARTS_OF_ENVIRONMENT:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
