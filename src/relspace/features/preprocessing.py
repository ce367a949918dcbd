"""Preprocessing of images, and which part of an image the model's input shows."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace._core.arguments import check_choice, check_number
from relspace.errors import FileFormatError, InvalidInputError, InvalidTypeError
from relspace.features.decoding import UnreadableImageError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CHANNELS = 3
_MOST_PIXELS = 2**27
FITS = ("stretch", "shortest", "longest", "none")

# Processors for which a single number is the size of the shorter edge, not of a square.
_ONE_NUMBER_IS_SHORTEST = ("CLIP", "ConvNext", "Bit", "LeViT")
# Below this size ConvNeXt's processor resizes to a larger size and crops, as in training.
_CONVNEXT_CROPS_BELOW = 384

#: Common normalisations of images that are stretched to a size.
NAMED: Mapping[str, Mapping[str, Any]] = {
    "imagenet": {},
    "clip": {
        "mean": (0.48145466, 0.4578275, 0.40821073),
        "std": (0.26862954, 0.26130258, 0.27577711),
    },
    "half": {"mean": (0.5,) * 3, "std": (0.5,) * 3},
    "lite": {"factor": 1.0, "mean": (127.0,) * 3, "std": (128.0,) * 3},
    "saliency": {"factor": "max"},
}


@dataclass(frozen=True)
class View:
    """The relation of input and original pixels of an image: original = (input + offset) / scale.

    ``image_size`` is the height and width of the original. All are for (down, across); the offset
    is positive where the image was cropped, and negative where it was padded.
    """

    image_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[int, int]

    def to_original(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert boxes (..., 4) of top, left, bottom, right from input to original pixels."""
        offset = np.array([*self.offset, *self.offset], dtype=np.float64)
        scale = np.array([*self.scale, *self.scale], dtype=np.float64)
        return (boxes + offset) / scale


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop, scale, normalise, pad: the steps of the models' own image processors.

    Attributes
    ----------
    fit : {"stretch", "shortest", "longest", "none"}
        Whether an image is stretched to ``size``, or resized so that its shorter or longer edge is
        ``size[0]``, or not resized.
    size : (int, int)
        Height and width.
    crop : (int, int) or None
        Height and width of the center crop; smaller images are padded by zeros.
    pad : (int, int) or None
        Height and width to which the normalised image is padded by zeros, below and to the right.
    resample : int
        Pillow's number of the filter: 2 bilinear, 3 bicubic.
    factor : float or "max"
        The factor of bytes; ``"max"`` divides each image by its largest byte.
    mean, std : tuple of float, or None
        The mean that is subtracted from each channel, and the deviation that it is divided by.
    crop_rounding : {"down", "even"}
        Where the crop begins if the margin is odd: half a pixel down, as in Hugging Face's
        processors, or at the even one of the two, as in torchvision.

    Examples
    --------
    >>> preprocessing = Preprocessing(fit="shortest", size=(256, 256), crop=(224, 224))
    >>> from PIL import Image
    >>> pixels, view = preprocessing(Image.new("RGB", (640, 480)))
    >>> pixels.shape, view.offset
    ((3, 224, 224), (16, 58))
    """

    fit: str = "stretch"
    size: tuple[int, int] = (224, 224)
    crop: tuple[int, int] | None = None
    pad: tuple[int, int] | None = None
    resample: int = 3
    factor: float | str = 1 / 255
    mean: tuple[float, ...] | None = IMAGENET_MEAN
    std: tuple[float, ...] | None = IMAGENET_STD
    crop_rounding: str = "down"

    def __post_init__(self) -> None:
        check_choice(self.fit, "fit", FITS)
        check_choice(self.crop_rounding, "crop_rounding", ("down", "even"))
        for name in ("size", "crop", "pad"):
            sides = getattr(self, name)
            if sides is not None or name == "size":
                # Without resizing the size is not used.
                least = 0 if name == "size" and self.fit == "none" else 1
                object.__setattr__(self, name, _check_sides(sides, name, least))
        if not _is_whole(self.resample) or self.resample not in range(6):
            raise InvalidInputError(f"resample is {self.resample!r}; Pillow's filters are 0 to 5.")
        if self.factor != "max":
            object.__setattr__(self, "factor", _plain_number(self.factor, "factor"))
        for name in ("mean", "std"):
            channels = getattr(self, name)
            if channels is None:
                continue
            if not isinstance(channels, list | tuple):
                raise InvalidTypeError(
                    f"{name} is {channels!r}; it must be a tuple of numbers, one for each channel."
                )
            plain = tuple(_plain_number(one, name) for one in channels)
            object.__setattr__(self, name, plain)
        factor = self.factor if isinstance(self.factor, int | float) else 1.0
        values = (factor, *(self.mean or ()), *(self.std or ()))
        if not all(map(math.isfinite, values)) or 0 in (self.std or ()):
            raise InvalidInputError(
                f"factor, mean and std are {self.factor}, {self.mean} and {self.std}; they must be "
                "finite, and std not zero."
            )
        if {len(one) for one in (self.mean, self.std) if one is not None} - {1, _CHANNELS}:
            raise InvalidInputError(
                f"mean and std are {self.mean} and {self.std}; they must be of one channel or of "
                f"{_CHANNELS}."
            )

    def __call__(self, image: Image) -> tuple[NDArray[np.float32], View]:
        """Make a model's input (3, height, width) of an RGB image, and return its view too.

        An image so long and thin that it would be resized to more than 2^27 pixels is refused.
        """
        width, height = image.size
        new_height, new_width = self._resized(height, width)
        if new_height * new_width > max(_MOST_PIXELS, height * width):
            raise UnreadableImageError(
                f"an image of {width} x {height} pixels would be resized to {new_width} x "
                f"{new_height}, which is too many."
            )
        if (new_height, new_width) != (height, width):
            image = image.resize((new_width, new_height), self.resample)
        pixels = np.asarray(image)
        top = left = 0
        if self.crop is not None:
            halve = round if self.crop_rounding == "even" else math.floor
            top, left = (
                halve((own - kept) / 2) for own, kept in zip(pixels.shape, self.crop, strict=False)
            )
            pixels = _window(pixels, top, left, self.crop)
        # Channels first, because NumPy is slow if the last axis has three elements.
        values = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
        largest = max(int(pixels.max()), 1) if self.factor == "max" else 1
        values *= np.float32(self.factor if isinstance(self.factor, int | float) else 1 / largest)
        if self.mean is not None and self.std is not None:
            values -= np.array(self.mean, dtype=np.float32)[:, None, None]
            values /= np.array(self.std, dtype=np.float32)[:, None, None]
        if self.pad is not None:
            padded = _window(values.transpose(1, 2, 0), 0, 0, self.pad)
            values = np.ascontiguousarray(padded.transpose(2, 0, 1))
        scale = new_height / height, new_width / width
        return values, View((height, width), scale, (top, left))

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Height and width of every input; None where they depend on the image."""
        if self.pad is not None:
            return self.pad
        if self.crop is not None:
            return self.crop
        return self.size if self.fit == "stretch" else None

    def at_size(self, size: int | tuple[int, int]) -> Preprocessing:
        """Return the same steps for another size of the input.

        Parameters
        ----------
        size : int or (int, int)
            Height and width of the input; one number is a square.
        """
        height, width = _check_sides((size, size) if _is_whole(size) else size, "image_size")
        if self.fit == "longest":
            longest = (max(height, width),) * 2
            return replace(self, size=longest, pad=(height, width), crop=None)
        if self.fit == "shortest" and self.crop is not None:
            # The crop removes the same fraction.
            shortest = round(min(height, width) * self.size[0] / min(self.crop))
            return replace(self, size=(shortest, shortest), crop=(height, width))
        return replace(self, fit="stretch", size=(height, width), crop=None, pad=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes by name, as JSON has them; without the usual rounding."""
        named = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        if self.crop_rounding == "down":
            del named["crop_rounding"]
        return named

    @classmethod
    def named(cls, name: str, size: int | tuple[int, int] | None = None) -> Preprocessing:
        """Return a common normalisation of images that are stretched to a size.

        Parameters
        ----------
        name : {"imagenet", "clip", "half", "lite", "saliency"}
            ``"imagenet"`` and ``"clip"`` subtract the mean of these collections from values in
            [0, 1] and divide by their deviation, ``"half"`` takes values to [-1, 1], ``"lite"``
            is (byte - 127) / 128, and ``"saliency"`` divides each image by its maximum before the
            steps of ``"imagenet"``.
        size : int or (int, int), optional
            Height and width; by default 224 x 224.

        Returns
        -------
        Preprocessing
            The steps.

        Examples
        --------
        >>> Preprocessing.named("half", 320).size
        (320, 320)
        """
        check_choice(name, "preprocessing", tuple(NAMED))
        named = replace(cls(), **NAMED[name])
        return named if size is None else named.at_size(size)

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Read the steps from a processor's configuration (``preprocessor_config.json``).

        Parameters
        ----------
        config : mapping
            As Hugging Face's image processors save it; older forms included.

        Raises
        ------
        FileFormatError
            If it holds a step that is not known.
        """
        kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
        fit, size = "none", (0, 0)
        if config.get("do_resize", True):
            fit, size = _size_of(config.get("size"), kind)
        crop = _pair(config.get("crop_size"), "crop_size") if config.get("do_center_crop") else None
        if "ConvNext" in kind and fit == "shortest":
            fraction = config.get("crop_pct") or 224 / 256
            if size[0] < _CONVNEXT_CROPS_BELOW:
                crop, size = size, (int(size[0] / fraction),) * 2
            else:
                fit = "stretch"
        pad = None
        if config.get("do_pad") and config.get("pad_size"):
            pad = _pair(config["pad_size"], "pad_size")
        normalize = config.get("do_normalize", True)
        mean = config.get("image_mean", IMAGENET_MEAN) if normalize else None
        std = config.get("image_std", IMAGENET_STD) if normalize else None
        return cls(
            fit=fit,
            size=size,
            crop=crop,
            pad=pad,
            resample=int(config.get("resample", 2)),
            factor=float(config.get("rescale_factor", 1 / 255))
            if config.get("do_rescale", True)
            else 1.0,
            mean=None if mean is None else tuple(mean),
            std=None if std is None else tuple(std),
        )

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.fit == "none":
            return height, width
        if self.fit == "stretch":
            return self.size
        target = self.size[0]
        if self.fit == "longest":
            scale = target / max(height, width)
            # Very thin images would be resized to no pixel by the processors.
            return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        # The longer edge is rounded down, as by the processors.
        if height <= width:
            return target, int(target * width / height)
        return int(target * height / width), target


def _size_of(size: Any, kind: str) -> tuple[str, tuple[int, int]]:
    if isinstance(size, int):
        shortest = any(name in kind for name in _ONE_NUMBER_IS_SHORTEST)
        return ("shortest" if shortest else "stretch"), (size, size)
    if isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2:
        return "stretch", (int(size[1]), int(size[0]))
    if isinstance(size, Mapping):
        if "height" in size and "width" in size:
            return "stretch", (int(size["height"]), int(size["width"]))
        if set(size) == {"shortest_edge"}:
            return "shortest", (int(size["shortest_edge"]),) * 2
        if set(size) == {"longest_edge"}:
            return "longest", (int(size["longest_edge"]),) * 2
    raise FileFormatError(
        f"the image processor's size is {size!r}; known are height and width, shortest_edge and "
        "longest_edge.",
        ways_out=["give {preprocessing}"],
    )


def _pair(size: Any, name: str) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and "height" in size and "width" in size:
        return int(size["height"]), int(size["width"])
    if size is None:
        raise FileFormatError(f"the image processor has no {name}.")
    raise FileFormatError(f"the image processor's {name} is {size!r}; it must be height and width.")


def _check_sides(sides: Any, name: str, at_least: int = 1) -> tuple[int, int]:
    """Refuse anything but a height and a width."""
    is_pair = isinstance(sides, list | tuple) and len(sides) == 2
    if not (
        is_pair and all(map(_is_whole, sides)) and at_least <= min(sides) <= max(sides) < 2**31
    ):
        raise InvalidInputError(
            f"{name} is {sides!r}; it must be two sides, whole numbers of at least {at_least}."
        )
    return int(sides[0]), int(sides[1])


def _plain_number(value: object, name: str) -> float:
    """A number as JSON can hold it; those that it can stay as they are."""
    number = check_number(value, name)
    return value if isinstance(value, int | float) else number


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _window(pixels: NDArray[Any], top: int, left: int, size: tuple[int, int]) -> NDArray[Any]:
    """Cut a window out of an image, padded by zeros."""
    height, width = size
    own = pixels[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if own.shape[:2] == size:
        return own
    window = np.zeros((height, width, pixels.shape[2]), dtype=pixels.dtype)
    above, before = max(-top, 0), max(-left, 0)
    window[above : above + own.shape[0], before : before + own.shape[1]] = own
    return window
