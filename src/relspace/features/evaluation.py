"""Evaluation mode and device of a user's network, which are restored afterwards."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from relspace._core.arguments import name_some
from relspace.errors import InvalidInputError

# The attribute of torch's wrappers that holds the wrapped module.
_INSIDE = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}


@dataclass
class _Kept:
    """A changed object, the number of its users, and how it is restored after the last one."""

    owner: object
    restore: Callable[[], None]
    users: int = 0


class _Held:
    """A network in use: its modules and buffers, and the values of the buffers."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.device, self.users, self.stack = device, 0, ExitStack()
        self.modules = list(module.modules())
        self.buffers = list(module.named_buffers())
        self._values: dict[int, tuple[int, torch.Tensor]] = {}
        self._large: dict[int, int] = {}
        # Buffers of TorchScript are not in ``_buffers``, and can't be replaced.
        self._owners = [one for one in self.modules if not isinstance(one, torch.jit.ScriptModule)]
        with self.stack:
            for one in self.modules:
                _keep(one, partial(_change_mode, one), self.stack)
            for tensor in _tensors(module):
                _keep(tensor, partial(_move, tensor, device), self.stack)
                _refuse_elsewhere(tensor, device)
            self.stack = self.stack.pop_all()

    def evaluate(self) -> None:
        """Set evaluation mode, which other code may have changed meanwhile."""
        for one in self.modules:
            if one.training:
                one.training = False

    @contextmanager
    def unchanged_buffers(self) -> Iterator[None]:
        """Restore the buffers that a pass replaces or changes in place."""
        entries = [(one, dict(one._buffers)) for one in self._owners if one._buffers]
        without = [one for one in self._owners if not one._buffers]
        self._copy_values()
        try:
            yield
        finally:
            for owner, buffers in entries:
                if not _are_same(owner._buffers, buffers):
                    owner._buffers.clear()
                    owner._buffers.update(buffers)
            for owner in without:
                owner._buffers.clear()
            changed = self.restore_values()
        if changed:
            raise InvalidInputError(
                f"the network changes its buffers {name_some(changed)} in evaluation mode; they "
                "are too large to be copied for each pass, so that one would depend on another."
            )

    def _copy_values(self) -> None:
        for _, one in self.buffers:
            version = _version(one)
            if one.layout != torch.strided or one.nbytes > _COPIED_BUFFER_BYTES:
                self._large[id(one)] = version
            elif id(one) not in self._values or self._values[id(one)][0] != version:
                self._values[id(one)] = version, one.detach().clone()

    def restore_values(self, *, compare: bool = False) -> list[str]:
        """Restore the values of buffers, and name changed ones that were too large to copy."""
        lost = []
        for name, one in self.buffers:
            if id(one) in self._large and _version(one) != self._large[id(one)]:
                lost.append(name)
            if id(one) not in self._values:
                continue
            version, value = self._values[id(one)]
            # On other devices comparing would synchronise; it is done at the end.
            looked_at = compare or one.device.type == "cpu" or _version(one) != version
            if looked_at and not torch.equal(one, value):
                with torch.no_grad():
                    one.copy_(value)
            self._values[id(one)] = _version(one), value
        return lost


def _are_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return list(one) == list(other) and all(one[name] is other[name] for name in one)


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


_kept: dict[int, _Kept] = {}
_held: dict[nn.Module, _Held] = {}
_kept_lock = threading.RLock()
_forward_locks: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_STANCE = object()
# Larger buffers are quantized weights, which don't change.
_COPIED_BUFFER_BYTES = 2**26


def wrapped_module(module: nn.Module) -> tuple[str, nn.Module] | None:
    """Return the module inside a wrapper (``torch.compile``, ``DataParallel``) and its name."""
    name = _INSIDE.get(type(module).__name__)
    inside = None if name is None else getattr(module, name, None)
    return (name, inside) if name is not None and isinstance(inside, nn.Module) else None


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the network inside all wrappers of torch."""
    while (found := wrapped_module(module)) is not None:
        module = found[1]
    return module


def own_device(module: nn.Module) -> torch.device | None:
    """Return the device of a network's first parameter or buffer; None if it has neither."""
    return next((one.device for one in _tensors(module)), None)


def own_dtype(module: nn.Module) -> torch.dtype:
    """Return the type of a network's input: that of its first floating parameter or buffer."""
    floating = (one.dtype for one in _tensors(module) if one.is_floating_point())
    return next(floating, torch.float32)


@contextmanager
def evaluated(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep a network in evaluation mode and on a device.

    At the end each module has its own mode again, and parameters and buffers have the same memory
    on the same device as before. Blocks may overlap, also in several threads: the network is
    restored at the end of the last one. Refused are parameters without values, and a network that
    another block uses on another device.
    """
    with _holding(module, device):
        yield


@contextmanager
def _holding(module: nn.Module, device: torch.device) -> Iterator[_Held]:
    if device.type == "meta":
        raise InvalidInputError("device is the device 'meta', which holds no values; use another.")
    with _kept_lock:
        if module not in _held:
            _refuse_without_values(module)
            _held[module] = _Held(module, device)
        held = _held[module]
        for one in module.parameters() if held.device != device else ():
            _refuse_elsewhere(one, device)
        held.users += 1
    try:
        held.evaluate()
        yield held
    finally:
        with _kept_lock:
            held.users -= 1
            if not held.users:
                del _held[module]
                with held.stack:
                    held.restore_values(compare=True)


@contextmanager
def forward_pass(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Use a network for one pass, as :func:`evaluated` does, in one thread at a time.

    No gradients are recorded. Buffers and the global random state are restored, so that no pass
    depends on another; a pass that changes a buffer which is too large to copy is refused.
    """
    with _kept_lock:
        lock = _forward_locks.setdefault(module, threading.RLock())
    accelerators = [device] if device.type == "cuda" else []
    with (
        lock,
        _holding(module, device) as held,
        held.unchanged_buffers(),
        torch.no_grad(),
        torch.random.fork_rng(accelerators, device_type="cuda"),
    ):
        yield


def mixed_precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return the context that computes in a type where this is accurate enough."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


@contextmanager
def without_compiled_code(module: nn.Module) -> Iterator[None]:
    """Run a network that ``torch.compile`` compiled as Python, so that hooks are called."""
    with ExitStack() as stack:
        if any(map(_is_compiled, module.modules())):
            _keep(_STANCE, _run_eagerly, stack)
        yield


def _is_compiled(module: nn.Module) -> bool:
    if "torch._dynamo" not in sys.modules:
        return False
    return (
        type(module).__name__ == "OptimizedModule"
        or getattr(module, "_compiled_call_impl", None) is not None
        or any(
            hasattr(method, "_torchdynamo_orig_callable")
            for owner in (*type(module).__mro__, module)
            for method in vars(owner).values()
            if callable(method)
        )
    )


def _run_eagerly() -> Callable[[], None]:
    stance: Any = torch.compiler.set_stance("force_eager")
    stance.__enter__()
    return lambda: stance.__exit__(None, None, None)


def _keep(owner: object, change: Callable[[], Callable[[], None]], stack: ExitStack) -> None:
    """Change an object for its first user, and restore it after the last one."""
    with _kept_lock:
        if id(owner) not in _kept:
            _kept[id(owner)] = _Kept(owner, change())
        _kept[id(owner)].users += 1
    stack.callback(_give_back, owner)


def _give_back(owner: object) -> None:
    with _kept_lock:
        kept = _kept[id(owner)]
        kept.users -= 1
        if not kept.users:
            del _kept[id(owner)]
            kept.restore()


def _change_mode(module: nn.Module) -> Callable[[], None]:
    # The attribute, because a user's train() may change more than it restores.
    was = module.training

    def restore() -> None:
        module.training = was

    return restore


def _move(tensor: torch.Tensor, device: torch.device) -> Callable[[], None]:
    memory = tensor.data
    if not _is_on(tensor, device):
        tensor.data = memory.to(device)

    def restore() -> None:
        if tensor.device != memory.device:
            tensor.data = memory

    return restore


def _is_on(tensor: torch.Tensor, device: torch.device) -> bool:
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)


def _refuse_elsewhere(tensor: torch.Tensor, device: torch.device) -> None:
    if not _is_on(tensor, device):
        raise InvalidInputError(
            f"the network is in use on {tensor.device} and is to run on {device}: wait until that "
            "is done, or give a copy of it."
        )


def _refuse_without_values(module: nn.Module) -> None:
    lazy = [name for name, one in module.named_parameters() if is_lazy(one)]
    if lazy:
        raise InvalidInputError(
            f"the network has parameters without a shape, {name_some(lazy)}: run it once on an "
            "input, so that it makes them."
        )
    named = [*module.named_parameters(), *module.named_buffers()]
    empty = [name for name, one in named if one.is_meta]
    if empty:
        raise InvalidInputError(
            f"the network has tensors on the device 'meta', without values: {name_some(empty)}; "
            "load its weights first."
        )


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()
