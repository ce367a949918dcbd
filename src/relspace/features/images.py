"""Opens images from folders, files, arrays and datasets; each has an id and is decoded lazily."""

from __future__ import annotations

import codecs
import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from relspace._core.arguments import check_choice, name_some
from relspace._core.items import ItemId, as_ids, is_unicode
from relspace.errors import InvalidInputError, InvalidTypeError, MissingDependencyError
from relspace.features.decoding import (
    CHANNELS,
    as_array,
    as_image,
    check_kind,
    identify_image,
    is_image,
    load_image,
    naming,
)
from relspace.features.image_files import SUFFIXES, files_in_folder, files_of_pattern
from relspace.rows.identity import Identity, hash_array, hash_texts, identify_file

if TYPE_CHECKING:
    from PIL.Image import Image

_BYTES_OF_TEXT = 1024


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
        if is_image(images):
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
            check_kind(item, f"image {i}")
        return ImageCollection(
            tuple(str(i) for i in range(len(items))),
            lambda i: as_image(items[i], f"image {i}"),
            named=False,
            identify=lambda i: identify_image(items[i]),
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
    fits = [form for form, axis in (("bhwc", 3), ("bchw", 1)) if array.shape[axis] in CHANNELS]
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

    check_kind(array, "images")

    def load(i: int) -> Image:
        one = as_array(array[i])
        return as_image(one if layout == "bhwc" else one.transpose(1, 2, 0), f"image {i}")

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
        with naming(name):
            item = dataset[i][column]
            check_kind(item, name)
            return as_image(item, name)

    identify = _identify_rows(dataset, column)
    return ImageCollection(ids, load, named=own is not None, identify=identify, item_ids=own)


def _identify_rows(dataset: Any, column: str) -> Callable[[int], Identity] | None:
    """Return how images of a dataset are identified: by their encoded bytes, or their files."""
    if dataset.format["type"] == "custom":
        # The images depend on the custom transform.
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


def _import_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "reading images needs Pillow: pip install 'relspace[models]'."
        ) from error
