"""Two models that see the same pictures through different random features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from relspace.features import FeatureSet

N_IMAGES = 6
SIDE = 48
IDS = [f"picture-{number}.png" for number in range(N_IMAGES)]


def pictures() -> np.ndarray:
    """Noisy discs of two colours on a plain ground."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    made = []
    for _ in range(N_IMAGES):
        image = np.full((SIDE, SIDE, 3), rng.integers(150, 256, 3))
        for color in ([200, 40, 40], [30, 60, 190]):
            center = rng.uniform(0.25, 0.75, 2)
            image[(y - center[0]) ** 2 + (x - center[1]) ** 2 < 0.04] = color
        made.append(image + rng.integers(-20, 21, image.shape))
    return np.clip(np.stack(made), 0, 255).astype(np.uint8)


def model(stride: int, width: int, n_layers: int, seed: int, ids: list[str] | None) -> FeatureSet:
    """Layers of random convolutions over the pictures."""
    generator = torch.Generator().manual_seed(seed)
    shown = torch.from_numpy(pictures()).float().permute(0, 3, 1, 2) / 255
    kernel = torch.randn(width, 3, stride, stride, generator=generator)
    x = torch.tanh(torch.nn.functional.conv2d(shown, kernel / stride, stride=stride))
    layers = {}
    for number in range(n_layers):
        layers[f"layer {number}"] = x
        kernel = torch.randn(width, width, 3, 3, generator=generator) / (3 * width**0.5)
        x = torch.nn.functional.conv2d(x, kernel, padding=1).relu()
    return FeatureSet.from_arrays(
        layers, layout="bchw", ids=ids, image_sizes=[(SIDE, SIDE)] * N_IMAGES
    )


@pytest.fixture(scope="session")
def models() -> dict[str, FeatureSet]:
    return {"fine": model(4, 12, 3, 0, IDS), "coarse": model(8, 20, 2, 1, IDS)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for name, pixels in zip(IDS, pictures(), strict=True):
        Image.fromarray(pixels).save(folder / name)
    return folder
