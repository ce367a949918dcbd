"""One image, decoded upright and in RGB, or refused by its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace.errors import FileFormatError, InvalidInputError, InvalidTypeError, reason_of
from relspace.rows.identity import Identity, hash_array

if TYPE_CHECKING:
    from PIL.Image import Image

#: Numbers of channels: grey, RGB and RGBA.
CHANNELS = (1, 3, 4)
# The EXIF tag of the orientation.
_ORIENTATION = 0x0112
# The factor by which Pillow multiplies grey values of fewer bits.
_GREY_STEPS = {"L;2": 85, "L;4": 17}


class UnreadableImageError(FileFormatError):
    """An image can't be decoded."""


def load_image(path: Path) -> Image:
    """Decode one file, upright (EXIF orientation) and in RGB."""
    from PIL import Image

    with naming(str(path)), Image.open(path) as image:
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
def naming(name: str) -> Iterator[None]:
    """Turn any error of one image into an UnreadableImageError that names it."""
    try:
        yield
    except (UnreadableImageError, MemoryError):
        raise
    except Exception as error:
        # Pillow may raise nearly anything for a damaged file.
        reason = reason_of(error, with_type=True)
        raise UnreadableImageError(f"{name} can't be read as an image ({reason}).") from error


def is_image(item: object) -> bool:
    """Whether an object is an image of Pillow."""
    from PIL import Image

    return isinstance(item, Image.Image)


def check_kind(item: object, name: str) -> None:
    """Refuse an object that is not an image by its type; values are checked when it is read."""
    if is_image(item):
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


def as_array(item: Any) -> NDArray[Any]:
    """Return an array or tensor as an array of NumPy."""
    if not isinstance(item, torch.Tensor):
        return np.asarray(item)
    item = item.detach().cpu()
    # NumPy has no float of 16 bits with the range of 32.
    return np.asarray((item.float() if item.is_floating_point() else item).numpy())


def identify_image(item: object) -> Identity:
    """Return the identity of an image in memory: its pixels, and how they are displayed."""
    from PIL import Image

    if isinstance(item, torch.Tensor | np.ndarray):
        return hash_array(item)
    if not isinstance(item, Image.Image):
        return Identity.unidentified(f"an image is of type {type(item).__name__}")
    try:
        with naming("it"):
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


def as_image(item: object, name: str) -> Image:
    """Return an image, or an array (rows, columns) or (rows, columns, channels), in RGB."""
    from PIL import Image

    if isinstance(item, Image.Image):
        with naming(name):
            return to_rgb(item, name)
    values = as_array(item)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in CHANNELS:
        raise UnreadableImageError(
            f"{name} has shape {values.shape}; an image is (rows, columns), or (rows, columns, "
            "channels) with 1, 3 or 4 channels."
        )
    if not values.size:
        raise UnreadableImageError(f"{name} has shape {values.shape}: it is empty.")
    values = _as_bytes(values, name)
    with naming(name):
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
