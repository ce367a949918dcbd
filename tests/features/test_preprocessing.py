"""Steps of preprocessing that can't be, and images too thin for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

import relspace
from relspace.errors import InvalidInputError
from relspace.features import ModuleModel, Preprocessing, UnreadableImageError
from relspace.features.extraction import SkippedImageWarning

SHORTEST = Preprocessing(fit="shortest", size=(256, 256), crop=(224, 224))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"size": (0, 4)}, "size is"),
        ({"crop": (4, -1)}, "crop is"),
        ({"fit": "none", "pad": (4, 0)}, "pad is"),
        ({"resample": 6}, "resample is 6"),
        ({"std": (1.0, 0.0, 1.0)}, "std not zero"),
        ({"mean": (float("nan"),) * 3}, "must be finite"),
        ({"mean": (0.1, 0.2)}, "of one channel or of 3"),
    ],
)
def test_steps_that_can_not_be(steps: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Preprocessing(**steps)


def test_thin_images_keep_a_pixel() -> None:
    longest = Preprocessing(fit="longest", size=(64, 64), pad=(64, 64), mean=None, std=None)
    pixels, view = longest(Image.new("RGB", (5000, 3), "white"))
    assert view.image_size == (3, 5000)
    np.testing.assert_allclose(pixels[:, 0], 1)
    assert not pixels[:, 1:].any()


def test_images_too_thin_to_be_resized_are_named_and_skipped(tmp_path: Path) -> None:
    Image.new("RGB", (30000, 2)).save(tmp_path / "thin.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "whole.png")
    with pytest.raises(UnreadableImageError, match="30000 x 2 pixels would be resized to 3840000"):
        SHORTEST(Image.open(tmp_path / "thin.png"))
    network = nn.Sequential(nn.Conv2d(3, 2, 32, stride=32))
    model = ModuleModel(network, "0", layout="bchw", preprocessing=SHORTEST, device="cpu")
    with pytest.raises(UnreadableImageError, match=r"thin\.png: an image of 30000 x 2"):
        relspace.extract(model, tmp_path, tmp_path / "a.zarr")
    with pytest.warns(SkippedImageWarning, match=r"'thin\.png'"):
        found = relspace.extract(model, tmp_path, tmp_path / "b.zarr", on_error="skip")
    assert found.ids == ("whole.png",)


def test_numbers_of_numpy_become_those_of_json() -> None:
    of_numpy = Preprocessing(
        size=(np.int64(8), np.int64(8)), factor=np.float32(0.5), mean=[np.float64(0.5)] * 3
    )
    assert json.loads(json.dumps(of_numpy.to_dict())) == of_numpy.to_dict()
    assert of_numpy == Preprocessing(size=(8, 8), factor=0.5, mean=(0.5, 0.5, 0.5))
