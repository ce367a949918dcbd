"""Opens feature stores, which :mod:`relspace.features.store.writing` wrote; read lazily."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import torch

from relspace._core.arguments import check_path
from relspace._core.items import ItemId, are_whole_numbers
from relspace._core.pairing import ItemContents
from relspace.errors import FileFormatError, InvalidInputError, reason_of
from relspace.features.feature_set import FeatureSet
from relspace.features.layer import Items, ItemSource, LayerFeatures
from relspace.features.positions import TokenGrid
from relspace.rows.formats.zarr import import_zarr
from relspace.rows.ledger import KEY
from relspace.rows.locations import Locations, is_url, located, missing_file_system, reading

if TYPE_CHECKING:
    import zarr

KIND = "feature set"
#: Version 1 identified items by their ids alone, which were row numbers for texts and arrays.
FORMAT_VERSION = 2

#: Top, left, bottom and right.
Box = tuple[float, float, float, float]

#: The type of ids in a header if they are whole numbers; the array holds them as text.
WHOLE_NUMBERS = "whole numbers"

#: Values of the array ``status``.
MISSING, PRESENT, SKIPPED = 0, 1, 2


@dataclass(frozen=True)
class StoredLayer:
    """The record of one layer in a store.

    ``shape`` is that of one item: (rows, columns, d) for tokens on a grid, (d,) for a vector.
    ``region`` is the number of the box that the grid covers, None without a grid, and ``beside``
    whether it is a vector beside the layers (class token, pooled output).
    """

    name: str
    shape: tuple[int, ...]
    region: int | None = None
    beside: bool = False

    @property
    def key(self) -> str:
        """The name of the array in the store."""
        if not self.name.strip("."):
            raise InvalidInputError(f"a layer can't be called {self.name!r}.")
        return ("vectors/" if self.beside else "layers/") + quote(self.name, safe=" ")

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes by name."""
        return asdict(self) | {"shape": list(self.shape)}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> StoredLayer:
        """Check a record and return its layer."""
        name, shape, region = record["name"], record["shape"], record.get("region")
        if not isinstance(name, str):
            raise FileFormatError(f"the name of a layer is {name!r}; it must be text.")
        if not isinstance(shape, list) or not all(_is_count(one) for one in shape) or 0 in shape:
            raise FileFormatError(f"the shape of layer {name!r} is {shape!r}, not whole numbers.")
        if len(shape) != (1 if region is None else 3):
            raise FileFormatError(f"layer {name!r} has shape {shape} and region {region!r}.")
        if region is not None and not _is_count(region):
            raise FileFormatError(f"the region of layer {name!r} is {region!r}, not its number.")
        if not isinstance(record.get("beside", False), bool):
            raise FileFormatError(f"beside of layer {name!r} is {record['beside']!r}, not a bool.")
        return cls(**{**record, "shape": tuple(record["shape"])})


class StoreSource(ItemSource):
    """A layer's features in a store, read chunk by chunk."""

    lies_in = "files"

    def __init__(self, array: zarr.Array[Any], location: str) -> None:
        self._array, self._location = array, location
        self.shape = tuple(int(length) for length in array.shape)
        self.dtype = torch.from_numpy(np.empty(0, dtype=array.dtype)).dtype

    def read_items(self, items: Items) -> torch.Tensor:
        if isinstance(items, slice):
            return self._whole(lambda: self._array[items])
        # Every chunk is read once, whatever the order asked for.
        wanted, order = torch.unique(items, return_inverse=True)
        return self._whole(lambda: self._array.oindex[wanted.numpy()])[order]

    def locations(self) -> Locations:
        return (located(self._location),)

    def _whole(self, read: Callable[[], Any]) -> torch.Tensor:
        with reading(self._location, "Zarr"):
            values = torch.from_numpy(np.asarray(read()))
        # Stores hold no NaN: it is the fill value, which Zarr gives for missing chunks.
        if values.flatten(start_dim=1)[:, 0].isnan().any():
            raise _damaged(self._location, f"chunks of {self._array.path} are missing")
        return values


def open_features(path: str | Path, *, partial: bool = False) -> FeatureSet:
    """Open a feature store; features stay on disk until they are asked for.

    Parameters
    ----------
    path : str or Path
        A store that :func:`relspace.extract` wrote, a folder or a URL that fsspec knows
        (``s3://``, ``gs://``).
    partial : bool
        Whether a store whose extraction was interrupted is opened with the items it has;
        by default it is refused.

    Returns
    -------
    FeatureSet
        Its layers, without the items that were skipped. What a store of format version 1 calls
        "0", "1", ... in this order was only counted, and has no ids.

    Raises
    ------
    FileNotFoundError
        If there is nothing of that name.
    FileFormatError
        If it is no feature store, a newer one, an unfinished or a damaged one.
    MissingDependencyError
        If zarr is not installed.
    """
    check_path(path)
    source = located(path)
    root, header = read_header(source)
    with reading(source, "Zarr"):
        return _opened(source, root, header, partial)


def _opened(source: str | Path, root: Any, header: dict[str, Any], partial: bool) -> FeatureSet:
    """Return the feature set of a store whose header was checked."""
    stored = [StoredLayer.of(record) for record in header["layers"]]
    _check_arrays(root, stored)
    status = torch.from_numpy(np.asarray(root["status"][...]))
    if not bool(torch.isin(status, torch.tensor([MISSING, PRESENT, SKIPPED])).all()):
        raise FileFormatError("its array 'status' holds other values than 0, 1 and 2.")
    n_missing = int((status == MISSING).sum())
    if n_missing and not partial:
        raise FileFormatError(
            f"{source} is unfinished, {n_missing} of {len(status)} items are missing.",
            ways_out=[
                "extract again with the same arguments to go on",
                "open it with {partial=True}",
            ],
        )
    kept = (status == PRESENT).nonzero()[:, 0]
    if not len(kept):
        reasons = [*(header.get("skipped") or {}).values()]
        raise FileFormatError(
            f"{source} holds no items; "
            + (
                f"{len(reasons)} were skipped, the first: {reasons[0]}"
                if reasons
                else "extract again."
            )
        )
    ids, digests = read_ids(root, header), read_digests(root)
    is_whole = len(kept) == len(status)
    if header["format_version"] == 1 and is_whole and _are_counted(ids):
        ids = None
    contents = None if digests is None else ItemContents(_kind_of_items(header), digests)
    lines = np.asarray(root["lines"][...]).tolist() if "lines" in root else None
    sizes = torch.from_numpy(np.asarray(root["image_sizes"][...]))
    boxes = torch.from_numpy(np.asarray(root["boxes"][...]))
    # Zarr gives fill values for missing chunks.
    if ids is not None and not any(map(str, ids)):
        raise _damaged(source, "its ids are missing")
    if digests is not None and not all(int(one, 16) for one in digests):
        raise _damaged(source, "digests of its items are missing")
    layers: dict[str, LayerFeatures] = {}
    vectors: dict[str, LayerFeatures] = {}
    for layer in stored:
        grid = None
        data = StoreSource(root[layer.key], str(source))
        if layer.region is not None:
            rows, columns, _ = layer.shape
            if boxes[layer.region, kept].isnan().any() or (sizes[kept] < 1).any():
                raise _damaged(source, "boxes or sizes of its images are missing")
            # Missing items have no box; they are dropped below.
            own = torch.where((status == PRESENT)[:, None], boxes[layer.region], _UNIT_BOX)
            grid = TokenGrid(rows, columns, own, sizes.clamp(min=1))
        target = vectors if layer.beside else layers
        target[layer.name] = LayerFeatures(layer.name, data, grid, ids, contents)
    metadata = {**header["job"], "versions": header["versions"], "path": str(source)}
    features = FeatureSet(
        layers, vectors=vectors, ids=ids, metadata=metadata, contents=contents, lines=lines
    )
    return features if is_whole else features.select(images=kept)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _kind_of_items(header: Mapping[str, Any]) -> str:
    """The kind of items that the digests in a store are of."""
    items = header["items"]
    of = items.get("of") if isinstance(items, dict) else None
    if not isinstance(of, str):
        raise FileFormatError(f"its header says of its items {items!r}, not what was hashed.")
    return of


def _check_arrays(root: Any, layers: Sequence[StoredLayer]) -> None:
    """Refuse a store whose arrays are missing or of other shapes than its layers and items."""
    if len({layer.key for layer in layers}) < len(layers):
        raise FileFormatError("its header lists a layer twice.")
    if "status" not in root or root["status"].ndim != 1:
        raise FileFormatError("it has no array 'status' of one value for each item.")
    n = root["status"].shape[0]
    shapes = {layer.key: (n, *layer.shape) for layer in layers} | {"image_sizes": (n, 2)}
    shapes |= {name: (n,) for name in ("ids", "lines") if name in root}
    for name, shape in shapes.items():
        if name not in root:
            raise FileFormatError(f"it lacks the array {name!r}, of which its header tells.")
        if tuple(getattr(root[name], "shape", ())) != shape:
            raise FileFormatError(
                f"its array {name!r} has shape {getattr(root[name], 'shape', None)}; by its header "
                f"and its number of items it must be {shape}."
            )
    kinds = {**{layer.key: "f" for layer in layers}, "boxes": "f", "image_sizes": "iu"}
    kinds["status"] = "iu"
    for name, kind in kinds.items():
        if name in root and root[name].dtype.kind not in kind:
            raise FileFormatError(f"its array {name!r} holds {root[name].dtype}.")
    if "digests" in root:
        digests = root["digests"]
        if digests.ndim != 2 or digests.shape[0] != n or digests.dtype != np.uint8:
            raise FileFormatError(f"its array 'digests' has no row of bytes for each of {n} items.")
    boxes = root["boxes"].shape if "boxes" in root else None
    n_regions = 1 + max((layer.region for layer in layers if layer.region is not None), default=-1)
    if boxes is None or len(boxes) != 3 or boxes[0] < n_regions or boxes[1:] != (n, 4):
        raise FileFormatError(
            f"its array 'boxes' has shape {boxes}; it must have a box for each of {n} items in "
            f"each of {n_regions} regions."
        )


def read_ids(root: Any, header: Mapping[str, Any]) -> tuple[ItemId, ...] | None:
    """Return the ids in a store; None if its items have none."""
    if "ids" not in root:
        return None
    texts = tuple(str(item) for item in np.asarray(root["ids"][...]))
    items = header.get("items")
    if not isinstance(items, dict) or items.get("ids") != WHOLE_NUMBERS:
        return texts
    if not are_whole_numbers(texts):
        raise FileFormatError("its ids aren't the whole numbers that its header tells of.")
    return tuple(map(int, texts))


def read_digests(root: Any) -> tuple[str, ...] | None:
    """Return the digests of the items' content in a store; None if there are none."""
    if "digests" not in root:
        return None
    return tuple(row.tobytes().hex() for row in np.asarray(root["digests"][...]))


def _are_counted(ids: tuple[ItemId, ...] | None) -> bool:
    return ids is not None and ids == tuple(map(str, range(len(ids))))


def _damaged(location: str | Path, what: str) -> FileFormatError:
    return FileFormatError(f"{location} is damaged: {what}.", ways_out=["extract again"])


_UNIT_BOX = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)


def is_store(path: str | Path) -> bool:
    """Whether a path looks like a feature store, without opening it; a URL is opened."""
    if is_url(path):
        try:
            read_header(path)
        except (FileFormatError, FileNotFoundError):
            return False
        return True
    attributes = Path(path) / "zarr.json"
    return attributes.is_file() and f'"{KIND}"'.encode() in attributes.read_bytes()


def read_header(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """Open a store's group and return it with its header, checked."""
    zarr = import_zarr()
    if not is_url(path) and not Path(path).exists():
        raise FileNotFoundError(f"there is no feature store {path}.")
    try:
        root = zarr.open_group(path, mode="r")
        header = dict(root.attrs).get(KEY)
    except FileNotFoundError as error:
        if is_url(path):
            raise FileNotFoundError(f"there is no feature store {path}.") from error
        raise FileFormatError(f"{path} can't be read as a Zarr group ({error}).") from error
    except ImportError as error:
        raise missing_file_system(path, error) from error
    except Exception as error:
        # zarr may raise nearly anything for a damaged folder.
        raise FileFormatError(
            f"{path} can't be read as a Zarr group ({reason_of(error)})."
        ) from error
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise FileFormatError(f"{path} is no feature store: its attributes have no {KEY!r}.")
    _check_header(path, header)
    if header["format_version"] == 1:
        header["job"] = header.pop("extraction")
    return root, header


def _check_header(path: str | Path, header: Mapping[str, Any]) -> None:
    """Refuse a header whose entries have wrong types."""
    version = header.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise FileFormatError(f"{path} has format version {version!r}, not a whole number.")
    if version > FORMAT_VERSION:
        raise FileFormatError(
            f"{path} has format version {version}, and this version of relspace reads up to "
            f"{FORMAT_VERSION}: update relspace."
        )
    kinds = {"extraction" if version == 1 else "job": dict, "versions": dict, "layers": list}
    for name, kind in kinds.items():
        if not isinstance(header.get(name), kind):
            raise FileFormatError(
                f"{path} is damaged: {name!r} in its header is {header.get(name)!r}, not a "
                f"{kind.__name__}."
            )
    if not all(isinstance(layer, dict) for layer in header["layers"]):
        raise FileFormatError(f"{path} is damaged: a layer in its header is no record.")
