"""Devices: choosing one, and moving fitted results there."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch

from relspace.errors import InvalidInputError

_State = TypeVar("_State")

#: Metadata of a dataclass's field that stays in the CPU's memory, see :func:`to_device`.
ON_HOST = {"on_host": True}

CPU = torch.device("cpu")


def choose_device(device: str | torch.device) -> torch.device:
    """Return a device, refused if it isn't here; ``"auto"`` is the first GPU, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(
            f"device is {device!r}, which torch doesn't know; it must be one like cpu, cuda or "
            "cuda:1."
        ) from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InvalidInputError(
            f"device is {device!r} and torch finds {torch.cuda.device_count()} CUDA devices; use "
            "cpu, or install a torch with CUDA."
        )
    return chosen


def to_device(state: _State, device: torch.device) -> _State:
    """Move a tensor, or all tensors in a mapping or a frozen dataclass, to a device.

    Fields with the metadata :data:`ON_HOST` stay where they are.
    """
    moved: Any = state
    if isinstance(state, torch.Tensor):
        moved = state.to(device)
    elif isinstance(state, dict):
        moved = {key: to_device(value, device) for key, value in state.items()}
    elif is_dataclass(state) and not isinstance(state, type):
        own = {
            one.name: to_device(vars(state)[one.name], device)
            for one in fields(state)
            if not one.metadata.get("on_host")
        }
        moved = replace(state, **own)
    return cast("_State", moved)
