"""Pretrained networks by short names: ``timm:NAME``, ``torchvision:NAME``, ``open_clip:NAME/TAG``.

Only these names have weights downloaded, by the package that they name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from relspace._core.arguments import name_some, near_names
from relspace.errors import InvalidInputError, UnknownNameError
from relspace.features.models.foreign import explained, import_package
from relspace.features.models.hub import hub_is_reachable, is_reachable

#: A loader returns the network and its preprocessing, None where the network itself says it.
Loaded = tuple[nn.Module, object]


def split_name(name: object) -> tuple[str, str]:
    """Return the catalogue and the rest of a short name; the catalogue is empty without one.

    A file or folder of that name comes first.

    >>> split_name("timm:resnet18"), split_name("facebook/dinov2-base")
    (('timm', 'resnet18'), ('', 'facebook/dinov2-base'))
    """
    catalogue, colon, rest = str(name).partition(":")
    is_known = catalogue in (*CATALOGUES, *PREFIXES)
    if not colon or not is_known or Path(str(name)).exists():
        return "", str(name)
    if not rest:
        raise InvalidInputError(f"{name!r} names no model: write {catalogue}:NAME.")
    return catalogue, rest


def load_network(catalogue: str, name: str, image_size: int | tuple[int, int] | None) -> Loaded:
    """Load a pretrained network; its weights are downloaded if they are not there yet."""
    return CATALOGUES[catalogue](name, image_size)


def _timm(name: str, image_size: int | tuple[int, int] | None) -> Loaded:
    timm = import_package("timm", f"timm:{name} and its like", "timm")
    known = timm.list_models(pretrained=True)
    plain = {one.partition(".")[0] for one in known}
    if name not in known and name not in plain:
        raise _unknown("timm", name, {*known, *plain})
    config = timm.models.get_pretrained_cfg(name)
    options: dict[str, Any] = {}
    if image_size is not None and config.fixed_input_size:
        options["img_size"] = image_size
    if config.hf_hub_id and not _is_cached(config.hf_hub_id):
        _refuse_unreachable(f"timm:{name}", None)
    with _fetching(f"timm:{name}"):
        return timm.create_model(name, pretrained=True, **options), None


def _torchvision(name: str, image_size: int | tuple[int, int] | None) -> Loaded:
    models = import_package("torchvision.models", f"torchvision:{name} and its like", "torchvision")
    if name not in (known := models.list_models(module=models)):
        raise _unknown("torchvision", name, known)
    weights = models.get_model_weights(name).DEFAULT
    file = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
    if not file.is_file():
        _refuse_unreachable(f"torchvision:{name}", weights.url)
    with _fetching(f"torchvision:{name}"):
        # Weights are pickled: first read as tensors alone, so that what follows can't run code.
        weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        return models.get_model(name, weights=weights, progress=False), weights.transforms()


def _open_clip(name: str, image_size: int | tuple[int, int] | None) -> Loaded:
    open_clip = import_package("open_clip", f"open_clip:{name} and its like", "open_clip_torch")
    model, _, tag = name.partition("/")
    if model not in (known := open_clip.list_models()):
        raise _unknown("open_clip", model, known)
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        message = f"open_clip:{model} has weights {name_some(tags)}; write open_clip:{model}/TAG."
        if tag:
            message = f"open_clip:{model} has no weights {tag!r}; there are {name_some(tags)}."
        raise UnknownNameError(message)
    config = open_clip.get_pretrained_cfg(model, tag)
    repository = str(config.get("hf_hub", "")).strip("/")
    if not (repository and _is_cached(repository)):
        _refuse_unreachable(f"open_clip:{name}", None if repository else config.get("url"))
    options: dict[str, Any] = {"load_weights_only": True}
    if image_size is not None:
        options["force_image_size"] = image_size
    with _fetching(f"open_clip:{name}"):
        return open_clip.create_model(model, pretrained=tag, **options), None


def _fetching(name: str) -> Any:
    return explained(lambda reason: InvalidInputError(f"{name} can't be loaded ({reason})."))


def _unknown(catalogue: str, name: str, known: Iterable[str]) -> UnknownNameError:
    names = sorted(known)
    near = list(near_names(name, names)) or [one for one in names if name in one][:5]
    like = f"; names like it are {name_some(near)}" if near else ""
    return UnknownNameError(
        f"{catalogue} has no pretrained model {name!r}{like}; it has {len(names)}."
    )


def _is_cached(repository: str) -> bool:
    """Whether the weights of a repository of the hub are in its cache."""
    cache = Path(import_package("huggingface_hub.constants").HF_HUB_CACHE)
    folder = cache / "--".join(["models", *repository.split("/")])
    return any(folder.glob("snapshots/*/*"))


def _refuse_unreachable(name: str, url: str | None) -> None:
    """Refuse at once what would have to be downloaded where there is no network."""
    if not (hub_is_reachable() if url is None else is_reachable(url)):
        where = "the hub" if url is None else url.split("/")[2]
        raise InvalidInputError(
            f"the weights of {name} are not on this machine, and {where} can't be reached: load it "
            "once where there is a network, and copy the cache."
        )


CATALOGUES: Mapping[str, Callable[[str, int | tuple[int, int] | None], Loaded]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "open_clip": _open_clip,
}
#: Other prefixes: a folder or a name on the hub, and an ONNX file.
PREFIXES = ("hf", "onnx")
