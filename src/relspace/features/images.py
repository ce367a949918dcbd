"""Opens images from folders, files, arrays and datasets; each has an id and is decoded lazily."""

from __future__ import annotations

import codecs
import glob
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import check_choice, name_some
from relspace._core.items import ItemId, as_ids, is_unicode
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
    reason_of,
)
from relspace.features.image_files import SUFFIXES, files_in_folder, files_of_pattern
from relspace.rows.identity import Identity, hash_array, hash_texts, identify_file

if TYPE_CHECKING:
    from PIL.Image import Image

_CHANNELS = (1, 3, 4)
# The EXIF tag of the orientation.
_ORIENTATION = 0x0112
_BYTES_OF_TEXT = 1024
# The factor by which Pillow multiplies grey values of fewer bits.
_GREY_STEPS = {"L;2": 85, "L;4": 17}


class UnreadableImageError(FileFormatError):
    """An image can't be decoded."""


@dataclass(frozen=True)
class ImageCollection:
    """Images by position, with their names.

    Attributes
    ----------
    ids : tuple of str
        The images' names.
    load : callable
        Takes a position and returns the image upright and in RGB.
    named : bool
        Whether the names are ids; otherwise they are only numbers.
    files : tuple of Path, or None
        The files, if each image is a file.
    identify : callable, or None
        Takes a position and returns the identity of an image that is not a file. Images with
        neither can't be identified.
    item_ids : tuple of str or int, or None
        The ids as they were given, if they are not text.
    """

    ids: tuple[str, ...]
    load: Callable[[int], Image]
    named: bool = True
    files: tuple[Path, ...] | None = None
    identify: Callable[[int], Identity] | None = None
    item_ids: tuple[ItemId, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"ImageCollection({len(self)} images: {name_some(self.ids)})"


def open_images(
    images: object, *, ids: Sequence[ItemId] | None = None, layout: str | None = None
) -> ImageCollection:
    """Find images; none is decoded yet.

    Parameters
    ----------
    images : path, glob pattern, array, dataset, or a sequence of paths, arrays or PIL images
        A folder is searched with its subfolders, hidden ones (``.ipynb_checkpoints``) and those
        of systems (``@eaDir``, ``__MACOSX``) left out; of files of several pages or frames the
        first is taken. A folder that Hugging Face ``datasets`` saved is read as such, as is a
        ``datasets.Dataset``. Arrays hold grey (1), RGB (3) or RGBA (4) channels, uint8 in
        0 .. 255, uint16 in 0 .. 65535, or floats in 0 .. 1.
    ids : sequence of str or int, optional
        Names; by default paths within the folder, or positions.
    layout : {"bhwc", "bchw"}, optional
        Axes of an array of images, where its shape can be read in two ways.

    Returns
    -------
    ImageCollection
        In the order given; files of a folder or pattern by name.

    Raises
    ------
    InvalidInputError
        If there are no images, or a shape is ambiguous.
    FileNotFoundError
        If a path doesn't exist.
    MissingDependencyError
        If Pillow (or datasets, for a dataset) is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> collection = open_images(np.zeros((2, 8, 6, 3), dtype="uint8"))
    >>> collection.ids, collection.load(0).size
    (('0', '1'), (6, 8))
    """
    _import_pillow()
    found = _open(images, layout)
    if not len(found):
        raise InvalidInputError(f"there are no images in {images!r}.")
    if ids is not None:
        own = as_ids(ids, "images", len(found))
        found = replace(found, ids=tuple(map(str, own)), named=True, item_ids=own)
    odd = [ascii(name) for name in found.ids if not is_unicode(name)]
    if odd:
        raise InvalidInputError(
            f"{len(odd)} of the images have names that are no UTF-8: {', '.join(odd[:5])}.",
            ways_out=["rename them", "give {ids}"],
        )
    return found


def _open(images: object, layout: str | None) -> ImageCollection:
    if isinstance(images, ImageCollection):
        return images
    if isinstance(images, str | Path):
        return _open_path(images)
    if isinstance(images, np.ndarray) and images.ndim == 1 and images.dtype.kind in "UO":
        return _open_list(images.tolist())
    if isinstance(images, np.ndarray | torch.Tensor):
        return _open_array(images, layout)
    if hasattr(images, "features") and hasattr(images, "column_names"):
        return _open_dataset(images)
    if not isinstance(images, Sequence):
        if _is_image(images):
            return _open_list([images])
        raise InvalidTypeError(
            f"images is of type {type(images).__name__}; it must be a folder, a glob pattern, an "
            "array, a dataset, or a list of paths, arrays or PIL images."
        )
    return _open_list(images)


def _open_path(path: str | Path) -> ImageCollection:
    try:
        location = Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"there is no folder or file {path} ({error}).") from error
    if location.is_dir():
        if (location / "dataset_info.json").is_file() or (location / "dataset_dict.json").is_file():
            return _load_dataset(location)
        files = files_in_folder(location)
        if not files:
            raise InvalidInputError(
                f"the folder {location} and its subfolders hold no images ({', '.join(SUFFIXES)}), "
                "hidden ones left out."
            )
        ids = tuple(file.relative_to(location).as_posix() for file in files)
        return ImageCollection(ids, lambda i: load_image(files[i]), files=tuple(files))
    if location.is_file():
        if _is_text_file(location):
            raise InvalidInputError(
                f"{location} is a file of text and no image; texts are for models of text."
            )
        return ImageCollection((location.name,), lambda i: load_image(location), files=(location,))
    if glob.has_magic(str(location)):
        files = files_of_pattern(str(location))
        if not files:
            raise InvalidInputError(f"no file matches the pattern {str(location)!r}.")
        return _open_list(files)
    raise FileNotFoundError(f"there is no folder or file {location}.")


def _is_text_file(path: Path) -> bool:
    """Whether a file without the suffix of an image begins with plain text."""
    if path.suffix.lower() in SUFFIXES:
        return False
    with path.open("rb") as file:
        begin = file.read(_BYTES_OF_TEXT)
    try:
        # The last character may be incomplete.
        text = codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        return False
    return bool(text.strip()) and all(one.isprintable() or one.isspace() for one in text)


def _open_list(items: Sequence[object]) -> ImageCollection:
    paths = [Path(item) for item in items if isinstance(item, str | Path)]
    if not paths:
        for i, item in enumerate(items):
            _check_kind(item, f"image {i}")
        return ImageCollection(
            tuple(str(i) for i in range(len(items))),
            lambda i: _as_image(items[i], f"image {i}"),
            named=False,
            identify=lambda i: _identify(items[i]),
        )
    if len(paths) < len(items):
        raise InvalidTypeError("images mixes paths with images that are loaded; use one kind.")
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        are_texts = len(missing) == len(paths) and all(" " in one.strip() for one in missing)
        hint = " They look like texts, which models of images don't take." if are_texts else ""
        raise FileNotFoundError(
            f"{len(missing)} of the images don't exist: {name_some(missing)}.{hint}"
        )
    # File names are ids if they are unique, so that a moved folder keeps its ids.
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [path.as_posix() for path in paths]
    if len(set(names)) < len(names):
        raise InvalidInputError("images lists some files more than once.")
    return ImageCollection(tuple(names), lambda i: load_image(paths[i]), files=tuple(paths))


def _open_array(array: Any, layout: str | None) -> ImageCollection:
    if array.ndim != 4:
        raise InvalidInputError(
            f"images has shape {tuple(array.shape)}; an array of images has four axes: images, "
            "rows, columns, channels, or images, channels, rows, columns."
        )
    fits = [form for form, axis in (("bhwc", 3), ("bchw", 1)) if array.shape[axis] in _CHANNELS]
    if layout is not None:
        check_choice(layout, "layout", ("bhwc", "bchw"))
    elif len(fits) != 1:
        raise InvalidInputError(
            f"images has shape {tuple(array.shape)}, in which the channels (1, 3 or 4) are "
            + ("not to be found." if not fits else "the second or the last axis."),
            ways_out=[f"give {{layout={form!r}}}" for form in fits],
        )
    else:
        layout = fits[0]

    _check_kind(array, "images")

    def load(i: int) -> Image:
        one = _as_array(array[i])
        return _as_image(one if layout == "bhwc" else one.transpose(1, 2, 0), f"image {i}")

    return ImageCollection(
        tuple(str(i) for i in range(len(array))),
        load,
        named=False,
        identify=lambda i: hash_array(array[i]).with_detail(layout=layout),
    )


def _load_dataset(folder: Path) -> ImageCollection:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            f"{folder} is a saved dataset, which needs datasets: pip install datasets."
        ) from error
    dataset = datasets.load_from_disk(str(folder))
    if isinstance(dataset, datasets.DatasetDict):
        raise InvalidInputError(
            f"{folder} holds several splits, {name_some(sorted(dataset))}: name one, as in "
            f"{folder / sorted(dataset)[0]}."
        )
    return _open_dataset(dataset)


def _open_dataset(dataset: Any) -> ImageCollection:
    columns = [name for name, kind in dataset.features.items() if type(kind).__name__ == "Image"]
    if len(columns) != 1:
        raise InvalidInputError(
            f"the dataset has {len(columns)} columns of images among "
            f"{name_some(dataset.column_names)}; select one with dataset.select_columns."
        )
    column = columns[0]
    own = None
    if "id" in dataset.column_names:
        own = as_ids(list(dataset["id"]), "the dataset", len(dataset))
    ids = tuple(map(str, range(len(dataset)) if own is None else own))

    def load(i: int) -> Image:
        name = f"image {ids[i]}"
        with _naming(name):
            item = dataset[i][column]
            _check_kind(item, name)
            return _as_image(item, name)

    identify = _identify_rows(dataset, column)
    return ImageCollection(ids, load, named=own is not None, identify=identify, item_ids=own)


def _identify_rows(dataset: Any, column: str) -> Callable[[int], Identity] | None:
    """Return how images of a dataset are identified: by their encoded bytes, or their files."""
    if dataset.format["type"] == "custom":
        # The result of a custom transform is unknown.
        return None
    import datasets

    encoded = dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def identify(i: int) -> Identity:
        one = encoded[i][column]
        if one is None:
            return hash_texts(["no image"])
        if one["bytes"] is None:
            return identify_file(one["path"])
        return hash_array(np.frombuffer(one["bytes"], dtype=np.uint8))

    return identify


def load_image(path: Path) -> Image:
    """Decode one file, upright (EXIF orientation) and in RGB."""
    from PIL import Image

    with _naming(str(path)), Image.open(path) as image:
        return to_rgb(image, str(path))


def to_rgb(image: Image, name: str) -> Image:
    """Turn an image upright and bring it to 8 bits in red, green and blue.

    Transparent parts are laid over white; 16 bit values are scaled to 8 bit.
    """
    from PIL import Image as PillowImage

    if 0 in image.size:
        raise UnreadableImageError(
            f"{name} has {image.width} x {image.height} pixels: it is empty."
        )
    seen = _transparent_color(image, name)
    image = _upright(image)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImageError(
                f"{name} holds values from {values.min()} to {values.max()}; grey images of more "
                "than 8 bits must lie in 0 .. 65535."
            )
        # PNG and TIFF of 16 bits: the highest value is 65535 whatever the image reaches.
        grey = _to_8_bits(values)
        if isinstance(seen, int):
            grey[values == seen] = 255
        return PillowImage.fromarray(grey).convert("RGB")
    if image.mode == "F":
        raise UnreadableImageError(
            f"{name} holds floats, whose range is unknown; pass an array scaled to 0 .. 1."
        )
    if seen is not None:
        image.info["transparency"] = seen
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        image = PillowImage.alpha_composite(PillowImage.new("RGBA", image.size, "white"), opaque)
    return image.convert("RGB")


def _transparent_color(image: Image, name: str) -> Any:
    """Return the transparent color of a file, in the values that Pillow reads."""
    color = image.info.get("transparency")
    tiles = getattr(image, "tile", None) or ()
    forms = {arguments for *_, arguments in tiles if isinstance(arguments, str)}
    forms |= {tile[3][0] for tile in tiles if isinstance(tile[3], tuple) and tile[3]}
    if color is None:
        return None
    if isinstance(color, tuple) and ("RGB;16B" in forms or max(color) > 255):
        raise UnreadableImageError(
            f"{name} has 16 bits in red, green and blue and a transparent color, of which Pillow "
            "reads 8 bits: save it with an alpha channel, or pass an array."
        )
    steps = [factor for form, factor in _GREY_STEPS.items() if form in forms]
    return color * steps[0] if steps and isinstance(color, int) else color


def _upright(image: Image) -> Image:
    """Turn an image by its EXIF orientation, even if the rest of its EXIF is damaged."""
    from PIL import Image as PillowImage

    turn = PillowImage.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    orientation = image.getexif().get(_ORIENTATION, 1)
    image.load()
    return image.transpose(turns[orientation]) if orientation in turns else image


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn any error of one image into an UnreadableImageError that names it."""
    try:
        yield
    except (UnreadableImageError, MemoryError):
        raise
    except Exception as error:
        # Pillow may raise nearly anything for a damaged file.
        reason = reason_of(error, with_type=True)
        raise UnreadableImageError(f"{name} can't be read as an image ({reason}).") from error


def _is_image(item: object) -> bool:
    from PIL import Image

    return isinstance(item, Image.Image)


def _check_kind(item: object, name: str) -> None:
    """Refuse an object that is not an image by its type; values are checked when it is read."""
    if _is_image(item):
        return
    if not isinstance(item, np.ndarray | torch.Tensor):
        raise InvalidTypeError(
            f"{name} is of type {type(item).__name__}; it must be a path, an array or a PIL image."
        )
    kind = item.dtype
    if isinstance(kind, torch.dtype):
        is_known = kind.is_floating_point or kind in (torch.uint8, torch.uint16)
    else:
        is_known = kind.kind == "f" or (kind.kind == "u" and kind.itemsize <= 2)
    if not is_known:
        raise InvalidTypeError(
            f"{name} holds values of type {kind}; images are uint8, uint16, or floats in 0 .. 1."
        )
    if isinstance(item, np.ma.MaskedArray) and np.ma.is_masked(item):
        raise InvalidInputError(
            f"{name} is a masked array with masked values: fill them (filled()) as is right for it."
        )


def _as_array(item: Any) -> NDArray[Any]:
    if not isinstance(item, torch.Tensor):
        return np.asarray(item)
    item = item.detach().cpu()
    # NumPy has no float of 16 bits with the range of 32.
    return np.asarray((item.float() if item.is_floating_point() else item).numpy())


def _identify(item: object) -> Identity:
    """Return the identity of an image in memory: its pixels, and how they are displayed."""
    from PIL import Image

    if isinstance(item, torch.Tensor | np.ndarray):
        return hash_array(item)
    if not isinstance(item, Image.Image):
        return Identity.unidentified(f"an image is of type {type(item).__name__}")
    try:
        with _naming("it"):
            orientation = item.getexif().get(_ORIENTATION, 1)
            pixels = hash_array(np.asarray(item))
    except UnreadableImageError as error:
        return Identity.unidentified(str(error))
    if item.mode in ("L", "RGB", "RGBA") and orientation == 1 and "transparency" not in item.info:
        return pixels
    return pixels.with_detail(
        mode=item.mode,
        palette=item.getpalette(),
        orientation=orientation,
        transparency=repr(item.info.get("transparency")),
    )


def _as_image(item: object, name: str) -> Image:
    from PIL import Image

    if isinstance(item, Image.Image):
        with _naming(name):
            return to_rgb(item, name)
    values = _as_array(item)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in _CHANNELS:
        raise UnreadableImageError(
            f"{name} has shape {values.shape}; an image is (rows, columns), or (rows, columns, "
            "channels) with 1, 3 or 4 channels."
        )
    if not values.size:
        raise UnreadableImageError(f"{name} has shape {values.shape}: it is empty.")
    values = _as_bytes(values, name)
    with _naming(name):
        return to_rgb(Image.fromarray(values[..., 0] if values.shape[2] == 1 else values), name)


def _as_bytes(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if values.dtype.kind == "u":
        return np.ascontiguousarray(values if values.dtype.itemsize == 1 else _to_8_bits(values))
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise UnreadableImageError(
            f"{name} holds floats from {values.min():.3g} to {values.max():.3g}; floats must lie "
            "in 0 .. 1."
        )
    return np.round(values.astype(np.float64) * 255.0).astype(np.uint8)


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.round(values / 257.0).astype(np.uint8)


def _import_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "reading images needs Pillow: pip install 'relspace[models]'."
        ) from error
