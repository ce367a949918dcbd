"""Hooks: records what layers of any module give while it runs, and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from relspace._validation import check_choice, name_some
from relspace.errors import InvalidInputError, InvalidTypeError, UnknownNameError

SIDES = ("output", "input")


class Recording(Mapping[str, torch.Tensor]):
    """What layers gave in the last forward pass, by name, in the order of the module."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._tensors: dict[str, torch.Tensor] = {}

    def __getitem__(self, name: str) -> torch.Tensor:
        if name in self._tensors:
            return self._tensors[name]
        if name in self._names:
            raise UnknownNameError(
                f"layer {name!r} is recorded but did not run: run the module inside the with block."
            )
        raise UnknownNameError(f"{name!r} is not recorded; recorded are {name_some(self._names)}.")

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if name in self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {tuple(one.shape)}" for name, one in self._tensors.items())
        return f"Recording({shown or 'nothing has run yet'})"

    def keep(self, name: str, tensor: torch.Tensor) -> None:
        """Keep what a layer gave."""
        self._tensors[name] = tensor

    def clear(self) -> None:
        """Forget what was recorded."""
        self._tensors.clear()


@contextmanager
def record(
    model: nn.Module,
    layers: Sequence[str] | str,
    *,
    device: torch.device | str | None = "cpu",
    dtype: torch.dtype | None = None,
    side: str = "output",
) -> Iterator[Recording]:
    """Record what layers of a module give while it runs.

    Each forward pass replaces what the last one left. Tensors are detached and moved to
    ``device``; hooks are removed however the block is left.

    Parameters
    ----------
    model : nn.Module
        Any module.
    layers : str or sequence of str
        Names as in ``model.named_modules()``; ``*`` stands for any part of a name between dots.
    device : torch.device or str, optional
        Where records go; None leaves them on the module's device.
    dtype : torch.dtype, optional
        What records are converted to, before they are moved.
    side : {"output", "input"}
        Whether a layer's output or its first input is recorded.

    Yields
    ------
    Recording
        Tensors by name. Of outputs that hold several tensors (tuples, dataclasses, mappings) the
        first is taken.

    Raises
    ------
    UnknownNameError
        If a name matches no layer; it says what exists.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> with record(model, layers=["0", "2"]) as features:
    ...     _ = model(torch.zeros(3, 4))
    >>> features
    Recording(0 (3, 8), 2 (3, 2))
    """
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"model is of type {type(model).__name__}; it must be a nn.Module.")
    check_choice(side, "side", SIDES)
    names = match_layers(model, layers)
    recording = Recording(names)
    handles = []
    modules = dict(model.named_modules())
    try:
        for name in names:
            keep = _keeper(recording, name, device, dtype)
            if side == "output":
                handles.append(modules[name].register_forward_hook(keep, with_kwargs=True))
            else:
                handles.append(
                    modules[name].register_forward_pre_hook(
                        lambda module, args, kwargs, keep=keep: keep(
                            module, args, kwargs, args or tuple(kwargs.values())
                        ),
                        with_kwargs=True,
                    )
                )
        yield recording
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def record_named(
    model: nn.Module,
    where: Mapping[str, tuple[str, str]],
    *,
    dtype: torch.dtype | None = None,
) -> Iterator[Callable[[str], torch.Tensor]]:
    """Record layers under names of their own, on the module's device.

    Parameters
    ----------
    model : nn.Module
        Any module.
    where : mapping of str to (str, str)
        For each name, the layer and its side (``"output"`` or ``"input"``).
    dtype : torch.dtype, optional
        What records are converted to.

    Yields
    ------
    callable
        Gives what was recorded under a name.
    """
    with ExitStack() as stack:
        recorded = {
            side: stack.enter_context(
                record(
                    model,
                    [path for path, own in where.values() if own == side],
                    device=None,
                    dtype=dtype,
                    side=side,
                )
            )
            for side in {side for _, side in where.values()}
        }
        yield lambda name: recorded[where[name][1]][where[name][0]]


def match_layers(model: nn.Module, layers: Sequence[str] | str) -> tuple[str, ...]:
    """Return the names of a module's layers that patterns match, in the module's order.

    Parameters
    ----------
    model : nn.Module
        The module.
    layers : str or sequence of str
        Names, in which ``*`` stands for any part between dots: ``"blocks.*"`` is every block, and
        not what is inside of them.

    Raises
    ------
    UnknownNameError
        If a pattern matches nothing.
    """
    patterns = [layers] if isinstance(layers, str) else list(layers)
    if not patterns:
        raise InvalidInputError("layers is empty; name at least one layer.")
    known = [name for name, _ in model.named_modules() if name]
    wanted: set[str] = set()
    for pattern in patterns:
        matched = [name for name in known if _matches(name, pattern)]
        if not matched:
            raise UnknownNameError(
                f"no layer is called {pattern!r}; the module has {_outline(known, pattern)}."
            )
        wanted.update(matched)
    return tuple(name for name in known if name in wanted)


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("."), str(pattern).split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _outline(known: Sequence[str], pattern: str) -> str:
    """Name the layers beside the one that was meant: those below the longest prefix that exists."""
    prefix = str(pattern)
    while "." in prefix:
        prefix = prefix.rpartition(".")[0]
        if prefix in known:
            inside = [name for name in known if name.rpartition(".")[0] == prefix]
            return f"in {prefix!r}: {', '.join(inside[:30])}"
    top = [name for name in known if "." not in name]
    return ", ".join(top[:30]) + (" and what is inside of them" if len(known) > len(top) else "")


def _keeper(
    recording: Recording,
    name: str,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> Callable[..., None]:
    def keep(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is None:
            raise InvalidTypeError(
                f"layer {name!r} gives {type(output).__name__}, which holds no tensor; record a "
                "layer inside of it."
            )
        tensor = tensor.detach()
        # Always a copy: the next layer may change the tensor in place (ReLU, residuals).
        tensor = tensor.to(tensor.dtype if dtype is None else dtype, copy=True)
        recording.keep(name, tensor if device is None else tensor.to(device))

    return keep


def first_tensor(output: Any) -> torch.Tensor | None:
    """Return the first tensor of a layer's output: itself, or in a tuple, mapping or dataclass."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        inside = list(output.values())
    elif is_dataclass(output) and not isinstance(output, type):
        inside = [getattr(output, field.name) for field in fields(output)]
    elif isinstance(output, tuple | list):
        inside = list(output)
    else:
        return None
    return next((found for one in inside if (found := first_tensor(one)) is not None), None)
