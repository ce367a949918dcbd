"""Tiny models and images that the tests of features share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.generators.tiny_models import save_diffusion_model, save_text_model, save_vision_model

SIZES = [(48, 64), (70, 41), (33, 33), (90, 120), (64, 50)]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny model, saved when it is first asked for."""
    root = tmp_path_factory.mktemp("models")

    def save(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            if name == "diffusion":
                save_diffusion_model(folder)
            elif name in ("bert", "gpt2", "llama", "t5"):
                save_text_model(name, folder)
            else:
                save_vision_model(name, folder)
        return folder

    return save


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of smooth random images of different sizes."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate(SIZES):
        coarse = Image.fromarray(rng.integers(0, 255, size=(6, 6, 3), dtype=np.uint8))
        coarse.resize((width, height), 3).save(folder / f"photo_{i}.png")
    return folder
