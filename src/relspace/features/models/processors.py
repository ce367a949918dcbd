"""Preprocessing as libraries and files state it, and whether it suits a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relspace.errors import FileFormatError, InvalidInputError, InvalidTypeError
from relspace.features.models.hub import read_json
from relspace.features.preprocessing import NAMED, Preprocessing

_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


class MissingPreprocessingError(InvalidInputError):
    """A model doesn't say how its input is made of an image."""


def read_steps(given: object, size: int | tuple[int, int] | None = None) -> Preprocessing:
    """Return preprocessing that is given as such, by name, by a JSON file, or as a library has it.

    Libraries' are what torchvision's ``weights.transforms()`` returns, timm's ``pretrained_cfg``
    and OpenCLIP's ``preprocess_cfg``. ``size`` is the size of inputs of a named one.
    """
    if isinstance(given, Preprocessing):
        return given
    if isinstance(given, str | Path):
        if str(given) in NAMED:
            return Preprocessing.named(str(given), size)
        if not Path(given).is_file():
            raise InvalidInputError(
                f"preprocessing is {str(given)!r}; it must be one of {', '.join(NAMED)}, or a JSON "
                "file of steps, and there is no such file."
            )
        return read_preprocessing([Path(given)], str(given))
    if isinstance(given, Mapping):
        return _of_open_clip(given) if "resize_mode" in given else _of_timm(given)
    if all(hasattr(given, one) for one in ("crop_size", "resize_size", "mean", "std")):
        return _of_torchvision(given)
    raise InvalidTypeError(
        f"preprocessing is of type {type(given).__name__}; it must be a Preprocessing, the name of "
        "one or a JSON file, or what weights.transforms() of torchvision or the configuration of "
        "timm and OpenCLIP is."
    )


def read_preprocessing(paths: Sequence[Path], model: str) -> Preprocessing:
    """Read the steps of a model from the first of the files that exists and holds steps."""
    for path in paths:
        if not path.is_file():
            continue
        config = read_json(path)
        config = config.get("image_processor", config)
        try:
            if "fit" in config:
                return Preprocessing(**config)
            if "size" in config or "image_mean" in config:
                return Preprocessing.of_config(config)
        except FileFormatError as error:
            raise error.about(str(path)) from error
        except (InvalidInputError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise FileFormatError(
                f"{path} has entries of no known form ({error}).", ways_out=["give {preprocessing}"]
            ) from error
    raise MissingPreprocessingError(
        f"{model} has no {' or '.join(path.name for path in paths)} beside it that says how images "
        "are resized and normalised.",
        ways_out=["copy it from the model's repository", "give {preprocessing}"],
    )


def needed_size(
    preprocessing: Preprocessing, name: str, own: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Return the size of a model's inputs; refused if it depends on the image.

    ``own`` is the size in the model's configuration, which the error suggests.
    """
    size = preprocessing.input_size
    if size is None:
        height, width = own or (224, 224)
        given = str(height) if height == width else str((height, width))
        whose = "the size in its configuration" if own else "for example"
        raise InvalidInputError(
            f"the preprocessing of {name} gives inputs of a size that depends on the image, and "
            "grids must be equal.",
            ways_out=[
                f"give {{image_size={given}}}, {whose}",
                "give a {preprocessing} with a crop",
            ],
        )
    return size


def refuse_other_size(
    preprocessing: Preprocessing, taken: tuple[int, int], model: str, *ways_out: str
) -> None:
    """Refuse preprocessing that makes images of another size than the only one a model takes."""
    made = preprocessing.input_size
    if made in (None, taken):
        return
    height, width = taken
    size = height if height == width else taken
    raise InvalidInputError(
        f"{model} takes images of {height} x {width}, and its preprocessing makes "
        f"{made[0]} x {made[1]}.",
        ways_out=[f"give {{image_size={size}}}", *ways_out],
    )


def as_pair(size: Any) -> tuple[int, int]:
    """Return a size, which may be one number, as height and width."""
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _filter(name: object) -> int:
    known = str(getattr(name, "value", name)).lower()
    if known not in _FILTERS:
        raise InvalidInputError(
            f"images are to be resized by {known!r}, which is not one of {', '.join(_FILTERS)}.",
            ways_out=["give {preprocessing}"],
        )
    return _FILTERS[known]


def _of_timm(config: Mapping[str, Any]) -> Preprocessing:
    """Read timm's ``pretrained_cfg``, as ``timm.data.create_transform`` does for evaluation."""
    height, width = (int(one) for one in config["input_size"][-2:])
    fraction = float(config.get("crop_pct") or 0.875)
    scaled = math.floor(height / fraction), math.floor(width / fraction)
    mode = config.get("crop_mode") or "center"
    fits = {"center": "shortest", "squash": "stretch"}
    if mode not in fits or (mode == "center" and height != width):
        raise InvalidInputError(
            f"images of {height} x {width} are to be cropped by {mode!r}; squares can be cropped "
            "at their centre, and any shape be squashed.",
            ways_out=["give {preprocessing}"],
        )
    return Preprocessing(
        fit=fits[mode],
        size=scaled,
        crop=(height, width),
        resample=_filter(config.get("interpolation") or "bicubic"),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_rounding="even",
    )


def _of_open_clip(config: Mapping[str, Any]) -> Preprocessing:
    """Read OpenCLIP's ``preprocess_cfg``, as its ``image_transform_v2`` does for evaluation."""
    size = as_pair(config["size"])
    fits = {"shortest": "shortest", "longest": "longest", "squash": "stretch"}
    mode = str(config["resize_mode"])
    is_filled = mode == "longest" and config.get("fill_color", 0) != 0
    if mode not in fits or is_filled or (mode != "squash" and size[0] != size[1]):
        raise InvalidInputError(
            f"images of {size[0]} x {size[1]} are to be resized by {mode!r}; squares can be made "
            "of the shortest or the longest side (filled up with zeros), and any shape by squash.",
            ways_out=["give {preprocessing}"],
        )
    return Preprocessing(
        fit=fits[mode],
        size=size,
        crop=None if mode == "squash" else size,
        resample=_filter(config.get("interpolation") or "bicubic"),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_rounding="even",
    )


def _of_torchvision(steps: Any) -> Preprocessing:
    """Read torchvision's ``ImageClassification``: shortest side, centre, normalisation."""
    (crop,), (shortest,) = (
        one if isinstance(one, list | tuple) else [one]
        for one in (steps.crop_size, steps.resize_size)
    )
    return Preprocessing(
        fit="shortest",
        size=(int(shortest), int(shortest)),
        crop=(int(crop), int(crop)),
        resample=_filter(steps.interpolation),
        mean=tuple(steps.mean),
        std=tuple(steps.std),
        crop_rounding="even",
    )
