"""Loads a model: a folder, a name on the hub or in a catalogue, a file, or a network itself."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from relspace._core.arguments import check_choice
from relspace.errors import FileFormatError, InvalidInputError, InvalidTypeError
from relspace.features.feature_model import FeatureModel
from relspace.features.models.catalogues import CATALOGUES, load_network, split_name
from relspace.features.models.diffusion import DEFAULT_TIMESTEP
from relspace.features.models.exported import ExportedModel
from relspace.features.models.folders import load_folder
from relspace.features.models.networks import model_of
from relspace.features.models.onnx import OnnxModel
from relspace.features.models.processors import read_steps
from relspace.features.preprocessing import Preprocessing

_GRAPHS = (".onnx", ".pt2")
DTYPES = ("float32", "float16", "bfloat16")


def load_model(
    name: str | Path | nn.Module,
    *,
    device: str | torch.device = "auto",
    dtype: str = "float32",
    image_size: int | tuple[int, int] | None = None,
    preprocessing: Preprocessing | str | Path | Any = None,
    n_prefix_tokens: int | None = None,
    layout: str | None = None,
    pooling: str = "mean",
    prompt: str | None = None,
    timestep: int = DEFAULT_TIMESTEP,
    random_state: int = 0,
    modality: str | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
) -> FeatureModel:
    """Load a pretrained model to extract features with.

    A folder is looked for first, then the hub's local cache, and only then the hub itself. Code
    that comes with a model is never run.

    Parameters
    ----------
    name : str, Path or nn.Module
        A folder that transformers or diffusers saved, a name on the Hugging Face hub, an ONNX
        file (see :class:`relspace.OnnxModel`), or a network of timm, torchvision or OpenCLIP:
        itself, or by a short name such as ``"timm:vit_small_patch14_dinov2"``,
        ``"torchvision:resnet50"`` or ``"open_clip:ViT-B-32/laion2b_s34b_b79k"``, whose pretrained
        weights are downloaded.
    device : str or torch.device
        The device that it runs on; ``"auto"`` is the first GPU, or the CPU.
    dtype : {"float32", "float16", "bfloat16"}
        The type of computation; below float32 by automatic mixed precision.
    image_size : int or (int, int), optional
        Height and width of its input; by default the model's own.
    preprocessing : Preprocessing, str, Path or transform, optional
        How its input is made of an image: steps, the name of a common normalisation (see
        :meth:`Preprocessing.named`), a JSON file, or what ``weights.transforms()`` of torchvision
        returns. By default that which is saved with the model.
    n_prefix_tokens : int, optional
        For files and networks that give tokens: how many come before those of the grid.
    layout : str, optional
        For files and networks: axes of layers whose shape allows several.
    pooling : {"mean", "last", "first"}
        For texts: how tokens become one vector.
    prompt : str, optional
        For diffusion models: the prompt of the UNet; by default zeros in its stead.
    timestep : int
        For diffusion models: the timestep of the noise.
    random_state : int
        For diffusion models: the seed of the noise.
    modality : {"image", "text"}, optional
        Which tower of a model that has two; by default that of images.
    revision : str, optional
        Branch, tag or commit on the hub.
    allow_pickle : bool
        Whether weights that are saved as pickle only are loaded (restricted to tensors).

    Returns
    -------
    FeatureModel
        To be given to :func:`relspace.extract`.

    Raises
    ------
    InvalidInputError
        If there is no such model, it is of no known family, or its weights are pickled.
    MissingDependencyError
        If transformers or diffusers is not installed.
    """
    if not isinstance(name, str | Path | nn.Module):
        raise InvalidTypeError(
            f"name is of type {type(name).__name__}; it must be a folder, a file, a name on the "
            "hub or a network."
        )
    check_choice(dtype, "dtype", DTYPES)
    if modality is not None:
        check_choice(modality, "modality", ("image", "text"))
    sizes: dict[str, Any] = {"image_size": image_size, "n_prefix_tokens": n_prefix_tokens}
    title = None
    if not isinstance(name, nn.Module):
        catalogue, plain = split_name(name)
        if catalogue in CATALOGUES:
            title = plain
            name, noted = load_network(catalogue, plain, image_size)
            preprocessing = noted if preprocessing is None else preprocessing
        elif catalogue:
            name = plain
    if isinstance(name, nn.Module):
        return model_of(
            name,
            preprocessing=preprocessing,
            layout=layout,
            name=title,
            device=device,
            dtype=None if dtype == "float32" else getattr(torch, dtype),
            **sizes,
        )
    if is_graph_file(name):
        if dtype != "float32":
            raise InvalidInputError(
                f"dtype is {dtype!r}, and a file computes in the types that it was saved in.",
                ways_out=["leave {dtype} out"],
            )
        open_file = ExportedModel if str(name).endswith(".pt2") else OnnxModel
        return open_file(name, preprocessing=preprocessing, layout=layout, device=device, **sizes)
    _refuse_file(Path(name))
    return load_folder(
        name,
        device=device,
        dtype=getattr(torch, dtype),
        image_size=image_size,
        preprocessing=None if preprocessing is None else read_steps(preprocessing, image_size),
        pooling=pooling,
        prompt=prompt,
        timestep=timestep,
        random_state=random_state,
        modality=modality,
        revision=revision,
        allow_pickle=allow_pickle,
    )


def is_graph_file(name: object) -> bool:
    """Whether a model is a file that holds a graph."""
    return isinstance(name, str | Path) and str(name).endswith(_GRAPHS)


def _refuse_file(path: Path) -> None:
    """Refuse a file that is no graph, and say what it is and how its network can be read."""
    if not path.is_file():
        return
    names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    what = "is no model file that is known (.onnx, .pt2)"
    if any(name.endswith("constants.pkl") for name in names):
        what = "is TorchScript, a program that would be run as it is and whose layers can't be read"
    elif names or path.suffix in (".pt", ".pth", ".bin", ".safetensors"):
        what = "holds weights or a pickled object, and not what the network computes"
    raise FileFormatError(
        f"{path} {what}.",
        ways_out=[
            "save the network with torch.export.save or torch.onnx.export",
            "build the network, load its weights, and give it to relspace.ModuleModel",
        ],
    )
