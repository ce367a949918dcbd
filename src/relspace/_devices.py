"""Devices: which one is meant, and what is fitted brought there."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch

from relspace.errors import InvalidInputError

_State = TypeVar("_State")

CPU = torch.device("cpu")


def choose_device(device: str | torch.device) -> torch.device:
    """Return a device; ``"auto"`` is the first GPU, or the CPU where there is none.

    Raises
    ------
    InvalidInputError
        If there is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
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
    """A frozen dataclass with all tensors in it on a device; everything else as it is."""
    moved = {
        one.name: _moved(getattr(state, one.name), device)
        for one in fields(state)  # type: ignore[arg-type]
    }
    return replace(state, **moved)  # type: ignore[type-var]


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return to_device(value, device)
    return value
