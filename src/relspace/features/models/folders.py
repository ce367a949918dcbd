"""Folders that transformers and diffusers saved, loaded as their family says; no code is run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from relspace._core.arguments import name_some
from relspace._core.devices import choose_device
from relspace.errors import FileFormatError, InvalidInputError, MissingDependencyError, reason_of
from relspace.features.feature_model import FeatureModel
from relspace.features.models.clip import CLIP, SIGLIP
from relspace.features.models.convolutional import CONVNEXT, CONVNEXT_V2, RESNET
from relspace.features.models.diffusion import DiffusionModel
from relspace.features.models.dino import DINOV2, DINOV2_REGISTERS, DINOV3
from relspace.features.models.foreign import explained, import_package
from relspace.features.models.hub import find_folder, read_json
from relspace.features.models.processors import read_preprocessing
from relspace.features.models.sam import SAM, SAM2
from relspace.features.models.text import TextModel
from relspace.features.models.vision import VisionFamily, VisionModel
from relspace.features.models.vit import MAE, VIT
from relspace.features.preprocessing import Preprocessing

FAMILIES: tuple[VisionFamily, ...] = (
    *(CLIP, SIGLIP, VIT, MAE, DINOV2, DINOV2_REGISTERS, DINOV3),
    *(SAM, SAM2, RESNET, CONVNEXT, CONVNEXT_V2),
)
_FAMILY_OF = {kind: family for family in FAMILIES for kind in family.model_types}
# Towers and encoders that are loaded alone.
_TEXT_TOWERS = {
    "clip": "CLIPTextModel",
    "clip_text_model": "CLIPTextModel",
    "t5": "T5EncoderModel",
}


def load_folder(
    name: str | Path,
    *,
    device: str | torch.device,
    dtype: torch.dtype,
    image_size: int | tuple[int, int] | None,
    preprocessing: Preprocessing | None,
    pooling: str,
    prompt: str | None,
    timestep: int,
    random_state: int,
    modality: str | None,
    revision: str | None,
    allow_pickle: bool,
) -> FeatureModel:
    """Load the model in a folder, or of a name on the hub; see :func:`relspace.load_model`."""
    folder = find_folder(name, revision=revision, allow_pickle=allow_pickle)
    runs_on: dict[str, Any] = {"device": choose_device(device), "dtype": dtype}
    safe = None if allow_pickle else True
    # Without resolving links, whose targets (the hub's snapshots) are called otherwise.
    is_folder = Path(name).expanduser().is_dir()
    title = Path(os.path.abspath(folder)).name if is_folder else str(name)  # noqa: PTH100
    if (folder / "model_index.json").is_file():
        for path in sorted(folder.glob("*/config.json")):
            _refuse_code(read_json(path), path)
        with _loading(folder, "Stable Diffusion"):
            return DiffusionModel(
                title,
                folder,
                preprocessing=preprocessing,
                image_size=image_size,
                timestep=timestep,
                prompt=prompt,
                random_state=random_state,
                use_safetensors=safe,
                **runs_on,
            )
    config = read_json(folder / "config.json")
    _refuse_code(config, folder / "config.json")
    _refuse_more_layers_than_weights(config, folder)
    kind = str(config.get("model_type", ""))
    family = _FAMILY_OF.get(kind)
    if family is not None and modality != "text":
        if preprocessing is None:
            names = ("preprocessor_config.json", "processor_config.json")
            preprocessing = read_preprocessing([folder / one for one in names], str(folder))
        if image_size is not None:
            preprocessing = preprocessing.at_size(image_size)
        architecture, part = family.within.get(kind, (family.architecture, ""))
        module = _load(folder, architecture, safe, part, **family.load_arguments)
        return VisionModel(title, module.to(runs_on["device"]), family, preprocessing, **runs_on)
    has_tokenizer = any(folder.glob("tokenizer*")) or any(folder.glob("vocab.*"))
    if (
        not has_tokenizer
        or modality == "image"
        or (family is not None and kind not in _TEXT_TOWERS)
    ):
        raise InvalidInputError(
            f"{folder} is a model of type {kind!r}; known are "
            f"{', '.join(sorted(_FAMILY_OF))}, Stable Diffusion, and text models with their "
            "tokenizer. Read another network by the names of its layers: relspace.ModuleModel."
        )
    with _loading(folder, "the tokenizer"):
        tokenizer = import_package("transformers").AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    module = _load(folder, _TEXT_TOWERS.get(kind, "AutoModel"), safe)
    return TextModel(title, module.to(runs_on["device"]), tokenizer, pooling=pooling, **runs_on)


def _load(
    folder: Path, architecture: str, safe: bool | None, part: str = "", **arguments: Any
) -> Any:
    loader = getattr(import_package("transformers"), architecture)
    with _loading(folder, architecture), _quiet():
        module, report = loader.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=safe,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            **arguments,
        )
    # Poolers that a checkpoint lacks are not used; neither is what lies outside of the part.
    missing = sorted(
        name
        for name in report["missing_keys"]
        if "pooler" not in name and name.startswith(f"{part}." if part else "")
    )
    if missing:
        raise FileFormatError(
            f"the weights in {folder} lack {len(missing)} of those of {architecture}: "
            f"{name_some(missing)}; they would be random."
        )
    return module.get_submodule(part)


@contextmanager
def _loading(folder: Path, what: str) -> Iterator[None]:
    """Make whatever goes wrong with a model's files an error of that folder."""
    with explained(
        lambda reason: FileFormatError(f"{folder} can't be loaded as {what} ({reason}).")
    ):
        try:
            yield
        except ImportError as error:
            reason = reason_of(error, with_type=True)
            raise MissingDependencyError(
                f"{folder} needs a package that is not installed ({reason})."
            ) from error


def _refuse_code(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a configuration that has kernels fetched from the hub, which are code."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            _refuse_code(value, path)
        if "implementation" in key:
            kernels = [value, *(value.values() if isinstance(value, Mapping) else ())]
            asked = [one for one in kernels if isinstance(one, str) and "/" in one]
            if asked:
                raise FileFormatError(
                    f"{path} asks for code from the hub ({key}: {asked[0]}), which is never run; "
                    "take that entry out."
                )


def _refuse_more_layers_than_weights(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a configuration of more layers than there are tensors, which would take forever."""
    counts = [value for value in _values(config) if isinstance(value[1], int)]
    layers = {key: count for key, count in counts if re.search(r"(^|_)(n_)?layers?$", key)}
    files = [*folder.glob("*.safetensors")]
    if not files or not layers:
        return
    with _loading(folder, "safetensors"):
        opened: list[Any] = [safe_open(file, "pt") for file in files]
        n_tensors = sum(len(one.keys()) for one in opened)
    many = [f"{key} is {count}" for key, count in layers.items() if count > max(n_tensors, 1000)]
    if many:
        raise FileFormatError(
            f"in {folder / 'config.json'} {many[0]}, and the weights are {n_tensors} tensors."
        )


def _values(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _values(value)
        else:
            yield key, value


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep bars and reports of transformers off the screen; what matters of them is an error."""
    logging: Any = import_package("transformers.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
