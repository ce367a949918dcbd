"""Images from wherever they are: each with an id, decoded when its turn comes."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from relspace._validation import as_ids, check_choice, name_some
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
)

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_CHANNELS = (1, 3, 4)


class UnreadableImageError(FileFormatError):
    """An image can't be decoded."""


@dataclass(frozen=True)
class ImageCollection:
    """Images by position: what they are called, and how one is decoded.

    Attributes
    ----------
    ids : tuple of str
        The images' names.
    load : callable
        Takes a position and returns the image upright and in RGB.
    """

    ids: tuple[str, ...]
    load: Callable[[int], Image]

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"ImageCollection({len(self)} images: {name_some(self.ids)})"


def open_images(
    images: object, *, ids: Sequence[str] | None = None, layout: str | None = None
) -> ImageCollection:
    """Find images; none is decoded yet.

    Parameters
    ----------
    images : path, glob pattern, array, dataset, or a sequence of paths, arrays or PIL images
        A folder is searched with its subfolders. A folder that Hugging Face ``datasets`` saved is
        read as such, as is a ``datasets.Dataset``. Arrays hold grey (1), RGB (3) or RGBA (4)
        channels, uint8 in 0 .. 255, uint16 in 0 .. 65535, or floats in 0 .. 1.
    ids : sequence of str, optional
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
    if ids is None:
        return found
    names = [str(item) for item in as_ids(ids, "images", len(found))]
    return ImageCollection(tuple(names), found.load)


def _open(images: object, layout: str | None) -> ImageCollection:
    if isinstance(images, ImageCollection):
        return images
    if isinstance(images, str | Path):
        return _open_path(images)
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
    place = Path(path).expanduser()
    if place.is_dir():
        if (place / "dataset_info.json").is_file() or (place / "dataset_dict.json").is_file():
            return _load_dataset(place)
        files = sorted(
            file
            for file in place.rglob("*")
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        )
        if not files:
            raise InvalidInputError(
                f"the folder {place} and its subfolders hold no images ({', '.join(SUFFIXES)})."
            )
        ids = tuple(file.relative_to(place).as_posix() for file in files)
        return ImageCollection(ids, lambda i: load_image(files[i]))
    if place.is_file():
        return ImageCollection((place.name,), lambda i: load_image(place))
    if glob.has_magic(str(place)):
        names = glob.glob(str(place), recursive=True)  # noqa: PTH207 (absolute patterns)
        files = sorted(path for path in map(Path, names) if path.is_file())
        if not files:
            raise InvalidInputError(f"no file matches the pattern {str(place)!r}.")
        return _open_list(files)
    raise FileNotFoundError(f"there is no folder or file {place}.")


def _open_list(items: Sequence[object]) -> ImageCollection:
    paths = [Path(item) for item in items if isinstance(item, str | Path)]
    if not paths:
        return ImageCollection(
            tuple(str(i) for i in range(len(items))), lambda i: _as_image(items[i], f"image {i}")
        )
    if len(paths) < len(items):
        raise InvalidTypeError("images mixes paths with images that are loaded; use one kind.")
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of the images don't exist: {name_some(missing)}.")
    # File names are ids where they tell the files apart, so that a moved folder keeps its ids.
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [path.as_posix() for path in paths]
    if len(set(names)) < len(names):
        raise InvalidInputError("images lists some files more than once.")
    return ImageCollection(tuple(names), lambda i: load_image(paths[i]))


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
            + ("not to be found." if not fits else "the second or the last axis: give layout=.")
        )
    else:
        layout = fits[0]

    def load(i: int) -> Image:
        one = array[i]
        one = one.detach().cpu().numpy() if isinstance(one, torch.Tensor) else np.asarray(one)
        return _as_image(one if layout == "bhwc" else one.transpose(1, 2, 0), f"image {i}")

    return ImageCollection(tuple(str(i) for i in range(len(array))), load)


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
    ids = [str(i) for i in range(len(dataset))]
    if "id" in dataset.column_names:
        ids = [str(item) for item in as_ids(list(dataset["id"]), "the dataset", len(dataset))]
    return ImageCollection(tuple(ids), lambda i: _as_image(dataset[i][column], f"image {ids[i]}"))


def load_image(path: Path) -> Image:
    """Decode one file, upright (EXIF orientation) and in RGB.

    Raises
    ------
    UnreadableImageError
        If it is damaged, cut short, or no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return to_rgb(image, str(path))
    except UnreadableImageError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # What damaged files raise depends on the format.
        raise UnreadableImageError(f"{path} can't be read as an image ({error}).") from error


def to_rgb(image: Image, name: str) -> Image:
    """Turn an image upright and bring it to 8 bits in red, green and blue.

    Transparent parts are laid over white; 16 bit values are scaled to 8 bit.
    """
    from PIL import Image as PillowImage
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImageError(
                f"{name} holds values from {values.min()} to {values.max()}; grey images of more "
                "than 8 bits must lie in 0 .. 65535."
            )
        # PNG and TIFF of 16 bits: the highest value is 65535 whatever the image reaches.
        image = PillowImage.fromarray(np.round(values / 257.0).astype(np.uint8))
    elif image.mode == "F":
        raise UnreadableImageError(
            f"{name} holds floats, whose range is unknown; pass an array scaled to 0 .. 1."
        )
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        image = PillowImage.alpha_composite(PillowImage.new("RGBA", image.size, "white"), opaque)
    return image.convert("RGB")


def _is_image(item: object) -> bool:
    from PIL import Image

    return isinstance(item, Image.Image)


def _as_image(item: object, name: str) -> Image:
    from PIL import Image

    if isinstance(item, Image.Image):
        try:
            return to_rgb(item, name)
        except OSError as error:
            raise UnreadableImageError(f"{name} can't be decoded ({error}).") from error
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu().numpy()
    if not isinstance(item, np.ndarray):
        raise InvalidTypeError(
            f"{name} is of type {type(item).__name__}; it must be a path, an array or a PIL image."
        )
    if item.ndim == 2:
        item = item[..., None]
    if item.ndim != 3 or item.shape[2] not in _CHANNELS:
        raise InvalidInputError(
            f"{name} has shape {item.shape}; an image is (rows, columns), or (rows, columns, "
            "channels) with 1, 3 or 4 channels."
        )
    values = _as_bytes(item, name)
    return to_rgb(Image.fromarray(values[..., 0] if values.shape[2] == 1 else values), name)


def _as_bytes(values: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype == np.uint16:
        return np.round(values / 257.0).astype(np.uint8)
    if values.dtype.kind != "f":
        raise InvalidTypeError(
            f"{name} holds values of type {values.dtype}; images are uint8, uint16, or floats in "
            "0 .. 1."
        )
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise InvalidInputError(
            f"{name} holds floats from {values.min():.3g} to {values.max():.3g}; floats must lie "
            "in 0 .. 1."
        )
    return np.round(values * 255.0).astype(np.uint8)


def _import_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "reading images needs Pillow: pip install 'relspace[models]'."
        ) from error
