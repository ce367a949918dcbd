"""Networks of timm, torchvision and OpenCLIP, recognised by their attributes without imports."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.features.evaluation import unwrapped
from relspace.features.models.module import ModuleModel
from relspace.features.models.processors import (
    MissingPreprocessingError,
    as_pair,
    read_steps,
    refuse_other_size,
)
from relspace.features.preprocessing import Preprocessing

# What networks call their stages, and the lists that hold their blocks.
_STAGES = (
    ("layer1", "layer2", "layer3", "layer4"),
    ("stage2", "stage3", "stage4"),
    ("s1", "s2", "s3", "s4"),
)
_LISTS = (
    *("blocks", "encoder.layers", "transformer.resblocks", "stages", "layers", "trunk_output"),
    *("features", "visual.transformer.resblocks"),
)
# Parameters of one class token, as networks call them.
_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")


def model_of(
    module: nn.Module,
    *,
    preprocessing: object = None,
    image_size: int | tuple[int, int] | None = None,
    n_prefix_tokens: int | None = None,
    layout: str | None = None,
    name: str | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype | None = None,
) -> ModuleModel:
    """Return a network as a model: layers, tokens and preprocessing by what its library notes."""
    network = unwrapped(module)
    if isinstance(network, torch.jit.ScriptModule):
        raise InvalidTypeError(
            "TorchScript calls no hooks, so that its layers can't be read: give the network that "
            "it was made of, or save that with torch.export.save or torch.onnx.export."
        )
    title = type(network).__name__ if name is None else name
    # Of CLIP the images' tower runs alone.
    visual = getattr(network, "visual", None)
    network = visual if isinstance(visual, nn.Module) else network
    inner = getattr(network, "trunk", None)
    inner = inner if isinstance(inner, nn.Module) else network
    if _is_reordered(inner):
        raise InvalidInputError(
            f"{title} keeps its tokens in the order of its windows, which is no grid; it can't be "
            "read by the names of its layers."
        )
    steps = _preprocessing(network, inner, title, preprocessing, image_size)
    n_prefix, has_class = _prefix_of(inner)
    if n_prefix_tokens is not None:
        n_prefix = n_prefix_tokens
    trunk = "trunk." if inner is not network else ""
    model = ModuleModel(
        network,
        [trunk + one for one in _layers_of(inner, title)],
        preprocessing=steps,
        n_prefix_tokens=n_prefix,
        name=title,
        device=device,
        dtype=dtype,
    )
    model.read_as(
        layout=layout,
        has_class=has_class,
        may_lack_prefix=n_prefix_tokens is None,
        otherwise=_format_of(inner),
    )
    return model


def _preprocessing(
    network: nn.Module,
    inner: nn.Module,
    title: str,
    given: object,
    image_size: int | tuple[int, int] | None,
) -> Preprocessing:
    own = _own_size(inner)
    found = given
    if found is None:
        found = getattr(network, "preprocess_cfg", None) or getattr(inner, "pretrained_cfg", None)
    if found is None:
        raise MissingPreprocessingError(
            f"the model {title} doesn't say how images are resized and normalised: networks of "
            "timm and OpenCLIP do, those of torchvision leave it to weights.transforms().",
            ways_out=["give {preprocessing}", "name its layers in a relspace.ModuleModel"],
        )
    steps = read_steps(found, image_size or own)
    if image_size is not None:
        steps = steps.at_size(image_size)
    elif given is None and own is not None and own != steps.input_size:
        steps = steps.at_size(own)
    takes_any = bool(getattr(inner, "dynamic_img_size", False))
    if own is not None and not takes_any:
        again = "make the network for others (img_size=... in timm and OpenCLIP)"
        refuse_other_size(steps, own, title, again)
    return steps


def _own_size(network: nn.Module) -> tuple[int, int] | None:
    """Return the only height and width that a network takes; None where others may work."""
    patches = getattr(network, "patch_embed", None)
    size = getattr(patches, "img_size", None) if hasattr(patches, "grid_size") else None
    if size is None:
        size = getattr(network, "image_size", None)
    return None if size is None else as_pair(size)


def _prefix_of(network: nn.Module) -> tuple[int, bool]:
    """Return how many tokens come before those of the grid, and if the first is of the class."""
    has_class = any(isinstance(getattr(network, one, None), torch.Tensor) for one in _CLASS_TOKENS)
    stated = getattr(network, "num_prefix_tokens", None)
    return (int(has_class) if stated is None else int(stated)), has_class


def _format_of(network: nn.Module) -> str:
    """Return the axes of maps whose shape allows channels at either end."""
    noted = getattr(network, "output_fmt", None)
    is_last = str(getattr(noted, "value", noted)) == "NHWC"
    return "bhwc" if is_last or type(network).__name__.startswith("Swin") else "bchw"


def _layers_of(network: nn.Module, title: str) -> list[str]:
    """Return the ends of a network's stages, or its blocks."""
    known = dict(network.named_modules())
    noted = getattr(network, "feature_info", None) or ()
    stages = tuple(str(one.get("module")) for one in noted if isinstance(one, Mapping))
    for names in (tuple(one for one in stages if one in known), *_STAGES):
        if names and all(one in known for one in names):
            return list(names)
    for name in _LISTS:
        blocks = (
            [f"{name}.{one}" for one, _ in known[name].named_children()] if name in known else []
        )
        if len(blocks) > 1:
            return blocks
    raise InvalidTypeError(
        f"{title} has no list of blocks that is known, so that its layers must be named: wrap it, "
        "as in relspace.ModuleModel(module, layers, preprocessing=...)."
    )


def _is_reordered(network: nn.Module) -> bool:
    # Hiera lays its tokens out window by window.
    return isinstance(getattr(network, "reroll", None), nn.Module) or hasattr(network, "unroll")
