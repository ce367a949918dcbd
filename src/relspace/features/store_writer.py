"""Writes a feature store chunk by chunk, so that an interrupted extraction can go on."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from relspace.errors import FileFormatError, InvalidInputError, NonFiniteError, RelspaceError
from relspace.features.store import (
    FORMAT_VERSION,
    KEY,
    KIND,
    MISSING,
    SKIPPED,
    StoredLayer,
    import_zarr,
    read_header,
)

STORE_DTYPES = ("float16", "float32")
_PARTS_OF_ENVIRONMENT = ("relspace", "torch", "transformers", "diffusers", "pillow", "zarr")


class StoreLockedError(RelspaceError, OSError):
    """Another process is writing the store."""


class FeatureStoreWriter:
    """Writes one store; a chunk counts once its status is written, which comes last.

    The folder is locked while the writer is open, by a lock that ends with the process. A store
    that is there already must be of the same extraction, and is gone on with.

    Parameters
    ----------
    path : str or Path
        The store.
    layers : sequence of StoredLayer
        What is stored for each item.
    ids : sequence of str
        The items' ids.
    chunk_items : int
        How many items make a chunk.
    dtype : str
        ``"float16"`` or ``"float32"``.
    extraction : mapping
        What says whether two extractions are the same: model, preprocessing, weights and so on.
    overwrite : bool
        Whether a store of another extraction is replaced rather than refused.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        layers: Sequence[StoredLayer],
        ids: Sequence[str],
        chunk_items: int,
        dtype: str,
        extraction: Mapping[str, Any],
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.layers = tuple(layers)
        self.dtype = dtype
        self.chunk_items = chunk_items
        self._lock: int | None = None
        header = {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "layers": [layer.to_dict() for layer in layers],
            "extraction": {**extraction, "dtype": dtype, "chunk_items": chunk_items},
            "versions": _versions(),
            "skipped": {},
        }
        try:
            if self.path.exists():
                self._lock = _lock(self.path)
                self._root, self._header = self._resume(header, ids, overwrite)
            else:
                self._root, self._header = self._create(header, ids)
        except BaseException:
            self.close()
            raise
        self.status: NDArray[np.uint8] = np.asarray(self._root["status"][...])

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
            os.close(self._lock)
            self._lock = None

    @property
    def skipped(self) -> dict[str, str]:
        """The items that could not be read, with the reason, so far."""
        return dict(self._header["skipped"])

    def missing_chunks(self) -> list[slice]:
        """The items of the chunks that are still to be written."""
        n = len(self.status)
        chunks = [slice(i, min(i + self.chunk_items, n)) for i in range(0, n, self.chunk_items)]
        return [chunk for chunk in chunks if (self.status[chunk] == MISSING).any()]

    def write(
        self,
        chunk: slice,
        arrays: Mapping[str, NDArray[Any]],
        *,
        status: NDArray[np.uint8],
        image_sizes: NDArray[np.int64],
        boxes: NDArray[np.float64],
        skipped: Mapping[str, str],
    ) -> None:
        """Write one chunk of :meth:`missing_chunks`.

        Parameters
        ----------
        chunk : slice
            Its items.
        arrays : mapping of str to array of shape (n_chunk, ...)
            Features of each layer, NaN for items that were skipped.
        status : uint8 array of shape (n_chunk,)
            PRESENT or SKIPPED for each item.
        image_sizes : int64 array of shape (n_chunk, 2)
            Heights and widths of the images.
        boxes : float64 array of shape (n_regions, n_chunk, 4)
            What the grids cover.
        skipped : mapping of str to str
            Why items were skipped, by id.
        """
        for layer in self.layers:
            self._root[layer.key][chunk] = arrays[layer.name]
        self._root["image_sizes"][chunk] = image_sizes
        self._root["boxes"][:, chunk] = boxes
        if skipped:
            self._header["skipped"] |= skipped
            self._root.attrs[KEY] = self._header
        self._root["status"][chunk] = status
        self.status[chunk] = status

    def _create(self, header: dict[str, Any], ids: Sequence[str]) -> tuple[Any, dict[str, Any]]:
        # Made beside its place and renamed, so that a store has all its arrays from the start. The
        # lock is on the folder itself and stays with it through the renaming.
        unfinished = self.path.with_name(f".{self.path.name}.new")
        unfinished.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(unfinished)
        for old in unfinished.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        zarr = import_zarr()
        n = len(ids)
        root = zarr.create_group(unfinished, attributes={KEY: header})
        n_regions = 1 + max((layer.region or 0 for layer in self.layers), default=0)
        checksum = [zarr.codecs.Crc32cCodec()]

        def add(
            key: str, shape: tuple[int, ...], names: tuple[str, ...], dtype: Any, fill: Any
        ) -> None:
            items = names.index("item")
            chunks = tuple(
                min(self.chunk_items, n) if axis == items else length
                for axis, length in enumerate(shape)
            )
            root.create_array(
                key,
                shape=shape,
                chunks=chunks,
                dtype=dtype,
                fill_value=fill,
                # Features hardly compress; a checksum tells a damaged chunk.
                compressors=checksum,
                filters=None,
                dimension_names=names,
            )

        for layer in self.layers:
            axes = ("row", "column", "feature") if len(layer.shape) == 3 else ("feature",)
            add(layer.key, (n, *layer.shape), ("item", *axes), self.dtype, np.nan)
        add("image_sizes", (n, 2), ("item", "height_width"), "int64", 0)
        add("boxes", (n_regions, n, 4), ("region", "item", "edge"), "float64", np.nan)
        add("status", (n,), ("item",), "uint8", MISSING)
        listed = root.create_array(
            "ids", shape=(n,), chunks=(n,), dtype=str, compressors=None, dimension_names=("item",)
        )
        listed[...] = np.array(list(ids), dtype=object)
        try:
            unfinished.rename(self.path)
        except OSError as error:
            raise StoreLockedError(
                f"{self.path} appeared while it was being made: another process writes it."
            ) from error
        return zarr.open_group(self.path, mode="r+"), header

    def _resume(
        self, header: dict[str, Any], ids: Sequence[str], overwrite: bool
    ) -> tuple[Any, dict[str, Any]]:
        try:
            root, found = read_header(self.path)
        except FileFormatError as error:
            raise FileFormatError(f"{error} Choose another name for the store.") from error
        differences = _differences(found, header)
        if list(ids) != list(np.asarray(root["ids"][...])):
            differences.append("the items")
        if differences:
            if not overwrite:
                raise InvalidInputError(
                    f"{self.path} holds another extraction; different are "
                    f"{', '.join(differences)}. Choose another name, or overwrite it "
                    "(overwrite=True, --force)."
                )
            shutil.rmtree(self.path)
            self.close()
            return self._create(header, ids)
        for leftover in self.path.rglob("*.partial"):
            leftover.unlink()
        return import_zarr().open_group(self.path, mode="r+"), found


def to_store(tensor: torch.Tensor, dtype: str, layer: str, ids: Sequence[str]) -> NDArray[Any]:
    """Bring features to the type of a store, refusing what it can't hold.

    Parameters
    ----------
    tensor : tensor of shape (n, ...)
        Features.
    dtype : str
        The store's type.
    layer : str
        What an error calls them.
    ids : sequence of str
        The items' ids.

    Raises
    ------
    NonFiniteError
        If they hold NaN or infinity, or values that only a wider type can hold.
    """
    stored = tensor.detach().to(device="cpu", dtype=getattr(torch, dtype)).contiguous()
    # One pass that allocates nothing clears the usual case: finite sums have finite terms.
    if not bool(torch.isfinite(stored.sum(dtype=torch.float32))):
        flat = stored.reshape(len(stored), -1)
        bad = (~torch.isfinite(flat)).any(dim=1).nonzero()[:, 0].tolist()
        if bad:
            before = tensor.detach().reshape(len(tensor), -1)[bad].float()
            if bool(torch.isfinite(before).all()):
                raise NonFiniteError(
                    f"{layer} of {ids[bad[0]]} reaches {float(before.abs().max()):.3g}, which "
                    f"{dtype} can't hold: store float32 (store_dtype='float32')."
                )
            raise NonFiniteError(
                f"the model gives NaN or infinity in {layer} for {len(bad)} items, the first "
                f"{ids[bad[0]]}; compute in float32 (dtype='float32')."
            )
    return stored.numpy()


def skipped_status(reasons: Sequence[str | None]) -> NDArray[np.uint8]:
    """Return the status of items that were skipped for a reason, or are there (None)."""
    return np.array([1 if reason is None else SKIPPED for reason in reasons], dtype=np.uint8)


def _lock(folder: Path) -> int:
    import fcntl

    if not folder.is_dir():
        raise FileFormatError(f"{folder} is a file; a feature store is a folder.")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreLockedError(
            f"another process is writing {folder}: wait for it, or choose another name."
        ) from error
    return descriptor


def _differences(found: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    names = [] if found["layers"] == asked["layers"] else ["the layers"]
    before, now = found["extraction"], asked["extraction"]
    return names + [key for key in before | now if before.get(key) != now.get(key)]


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PARTS_OF_ENVIRONMENT:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
