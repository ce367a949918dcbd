"""Hooks: records what layers of any module give while it runs, and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from relspace._core.arguments import check_choice, name_some
from relspace.errors import InvalidInputError, InvalidTypeError, UnknownNameError
from relspace.features.evaluation import unwrapped, without_compiled_code, wrapped_module

SIDES = ("output", "input")


@dataclass(frozen=True)
class Layer:
    """A layer that is recorded, or one of its calls (from 1; None for all).

    ``is_named`` is whether it was requested by its full name rather than by a pattern.
    """

    name: str
    module: nn.Module
    call: int | None = None
    is_named: bool = True


class Recording(Mapping[str, torch.Tensor]):
    """The outputs of layers in the last forward pass, by name, in the order of the module.

    A layer that ran several times has a record of each call, ``"relu@1"``, ``"relu@2"`` and so on,
    but none under its name alone.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = {layer.name: layer for layer in layers}
        self._calls: dict[str, dict[int, torch.Tensor]] = {}
        self._counts: dict[str, int] = {}

    def __getitem__(self, name: str) -> torch.Tensor:
        if name in self._layers:
            self._refuse_several(name)
            found = self._calls.get(name, {}).get(self._layers[name].call or 1)
        else:
            asked, (name, _, call) = name, str(name).rpartition("@")
            if name not in self._layers or not call.isdecimal():
                raise UnknownNameError(
                    f"{asked!r} is not recorded; recorded are {name_some(tuple(self._layers))}."
                )
            found = self._calls.get(name, {}).get(int(call))
        if found is None:
            raise UnknownNameError(self._why_missing(name))
        return found

    def __contains__(self, name: object) -> bool:
        return any(name == one for one in self)

    def __iter__(self) -> Iterator[str]:
        names: dict[str, None] = {}
        for name, layer in self._layers.items():
            calls = self._calls.get(name, {})
            several = layer.call is None and self._counts.get(name, 0) > 1
            names |= dict.fromkeys(f"{name}@{i}" for i in calls) if several else {}
            names |= {name: None} if calls and not several else {}
        return iter(names)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {tuple(self[name].shape)}" for name in self)
        return f"Recording({shown or 'nothing has run yet'})"

    def keep(self, name: str, tensor: torch.Tensor) -> None:
        """Store the output of a layer's last call."""
        self._calls.setdefault(name, {})[self._counts[name]] = tensor

    def count(self, name: str) -> bool:
        """Count a call of a layer, and return whether its output is recorded."""
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._layers[name].call in (None, self._counts[name])

    def calls(self, name: str) -> int:
        """Return how often a layer ran."""
        return self._counts.get(name, 0)

    def clear(self) -> None:
        """Remove all records."""
        self._calls.clear()
        self._counts.clear()

    def _refuse_several(self, name: str) -> None:
        count = self._counts.get(name, 0)
        if self._layers[name].call is not None or count <= 1:
            return
        raise InvalidInputError(
            f"layer {name!r} ran {count} times: ask for one of its calls, "
            f"{name_some([f'{name}@{i}' for i in range(1, count + 1)])}. Passes of a part of the "
            "module are told apart by clear() between them."
        )

    def _why_missing(self, name: str) -> str:
        count = self._counts.get(name, 0)
        if count:
            times = "once" if count == 1 else f"{count} times"
            return f"layer {name.rpartition('@')[0] or name!r} ran {times} in the last pass."
        return (
            f"layer {name!r} is recorded but did not run: run the module inside the with block. "
            "Layers also seem not to run where their parent calls no module (as attention in one "
            "fused step) or calls them from a function that torch.compile made."
        )


@contextmanager
def record(
    model: nn.Module,
    layers: Sequence[str] | str,
    *,
    device: torch.device | str | None = "cpu",
    dtype: torch.dtype | None = None,
    side: str = "output",
) -> Iterator[Recording]:
    """Record the outputs of layers of a module while it runs.

    Each forward pass of the module replaces the records of the last one. Passes that don't call the
    module itself (``model.encode(x)``) count as further calls of one pass, unless ``clear()`` is
    called between them. Tensors are detached and moved to ``device``; hooks are removed at the end
    of the block. A compiled module runs as Python in the block, because compiled code calls no
    hooks.

    Parameters
    ----------
    model : nn.Module
        Any module. Names don't show the wrappers of ``torch.compile`` and ``DataParallel``.
    layers : str or sequence of str
        Names as in ``model.named_modules()``; ``*`` stands for any part of a name between dots.
        ``"relu@2"`` is the second call of a layer that runs several times in a pass.
    device : torch.device or str, optional
        The device of records; None for the module's device.
    dtype : torch.dtype, optional
        The type of records, to which they are converted before they are moved.
    side : {"output", "input"}
        Whether a layer's output or its first input is recorded.

    Yields
    ------
    Recording
        Tensors by name. Of outputs that hold several tensors (tuples, dataclasses, mappings) the
        first is taken. Of a layer that ran several times each call has a name of its own.

    Raises
    ------
    UnknownNameError
        If a name matches no layer; it says what exists.
    InvalidInputError
        If a layer lies inside of TorchScript; or, when it is asked for, if it ran several times.

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
    found = find_layers(model, layers)
    recording = Recording(found)
    with ExitStack() as stack:
        stack.enter_context(without_compiled_code(model))
        _clear_before_each_pass(model, recording, stack)
        for layer in found:
            keep = _keeper(recording, layer.name, device, dtype)
            if side == "output":
                handle = layer.module.register_forward_hook(keep, with_kwargs=True)
            else:
                handle = layer.module.register_forward_pre_hook(
                    lambda module, args, kwargs, keep=keep: keep(
                        module, args, kwargs, args or tuple(kwargs.values())
                    ),
                    with_kwargs=True,
                )
            stack.callback(handle.remove)
        yield recording


@contextmanager
def record_named(
    model: nn.Module, where: Mapping[str, tuple[str, str]], *, dtype: torch.dtype | None = None
) -> Iterator[Callable[[str], torch.Tensor]]:
    """Record layers under other names, on the module's device.

    ``where`` maps each name to a layer and its side (``"output"`` or ``"input"``). A function from
    names to records is yielded.
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


def find_layers(model: nn.Module, layers: Sequence[str] | str) -> tuple[Layer, ...]:
    """Return a module's layers that match patterns, in the module's order.

    ``*`` stands for any part between dots: ``"blocks.*"`` is every block, but not their submodules.
    ``"relu@2"`` is the second call of a layer. A module with several names is found by each of
    them; patterns find it once, by the first.
    """
    patterns = [layers] if isinstance(layers, str) else list(layers)
    if not patterns:
        raise InvalidInputError("layers is empty; name at least one layer.")
    known = _named_layers(model)
    first_names: dict[int, str] = {}
    for name, module in known.items():
        first_names.setdefault(id(module), name)
    wanted: dict[str, list[Layer]] = {}
    for pattern in patterns:
        base, call = _split_call(str(pattern), known)
        if base in known:
            matched = [base]
        else:
            matched = [
                name
                for name, module in known.items()
                if first_names[id(module)] == name and matches_pattern(name, base)
            ]
        if not matched:
            raise UnknownNameError(
                f"no layer is called {pattern!r}; the module has "
                f"{_outline(tuple(first_names.values()), base)}."
            )
        for name in matched:
            own = name if call is None else f"{name}@{call}"
            wanted.setdefault(name, []).append(Layer(own, known[name], call, base in known))
    found = {one.name: one for name in known for one in wanted.get(name, ())}
    for layer in found.values():
        _refuse_script(layer)
    return tuple(found.values())


def _named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """All names of a module's layers, also through wrappers and of modules with several names."""
    found: dict[str, nn.Module] = {}

    def visit(name: str, module: nn.Module, above: tuple[nn.Module, ...]) -> None:
        if any(module is one for one in above):
            return
        own = unwrapped(module)
        if name:
            found.setdefault(name, own)
        for child, one in own._modules.items():
            if one is not None:
                visit(f"{name}.{child}" if name else child, one, (*above, module))
        wrapped = wrapped_module(module)
        if wrapped is not None:
            visit(f"{name}.{wrapped[0]}" if name else wrapped[0], wrapped[1], above)

    visit("", model, ())
    return found


def _split_call(pattern: str, known: Mapping[str, nn.Module]) -> tuple[str, int | None]:
    """Split ``"relu@2"`` into the layer and its call, unless a layer is called so."""
    base, mark, call = pattern.rpartition("@")
    if pattern in known or not mark or not call.isdecimal() or int(call) < 1:
        return pattern, None
    return base, int(call)


def _refuse_script(layer: Layer) -> None:
    kind = type(layer.module).__name__
    if not isinstance(layer.module, torch.jit.ScriptModule) or kind == "TopLevelTracedModule":
        return
    raise InvalidInputError(
        f"layer {layer.name!r} is TorchScript, which runs without Python and so calls no hooks: "
        "record layers of the module that it was scripted or traced from, with its weights, or a "
        "layer of Python around it."
    )


def _clear_before_each_pass(model: nn.Module, recording: Recording, stack: ExitStack) -> None:
    """Clear the recording when the module, wrapped or not, begins another pass."""
    running = 0

    def begin(module: nn.Module, args: Any) -> None:
        nonlocal running
        if not running and not _is_run_for_gradients():
            recording.clear()
        running += 1

    def end(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal running
        running -= 1

    roots = {id(one): one for one in (model, unwrapped(model))}
    for root in roots.values():
        if isinstance(root, torch.jit.ScriptModule):
            continue
        stack.callback(root.register_forward_pre_hook(begin).remove)
        stack.callback(root.register_forward_hook(end, always_call=True).remove)


def _is_run_for_gradients() -> bool:
    """Whether activation checkpointing runs layers again."""
    return bool(torch._C._current_graph_task_id() != -1)


def matches_pattern(name: str, pattern: str) -> bool:
    """Return whether a pattern, in which ``*`` is any part between dots, stands for a layer."""
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _outline(known: Sequence[str], pattern: str) -> str:
    """List the layers below the longest prefix of a pattern that exists, for errors."""
    prefix = pattern
    while "." in prefix:
        prefix = prefix.rpartition(".")[0]
        if prefix in known:
            inside = [name for name in known if name.rpartition(".")[0] == prefix]
            return f"in {prefix!r}: {', '.join(inside[:30])}"
    top = [name for name in known if "." not in name]
    return ", ".join(top[:30]) + (" and what is inside of them" if len(known) > len(top) else "")


def _keeper(
    recording: Recording, name: str, device: torch.device | str | None, dtype: torch.dtype | None
) -> Callable[..., None]:
    def keep(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if getattr(module, "_is_replica", False):
            raise InvalidInputError(
                f"layer {name!r} runs in several copies at once (DataParallel): run the module "
                "inside of it, model.module."
            )
        if _is_run_for_gradients() or not recording.count(name):
            return
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
