"""A GPU that is none: tensors in memory that say they are on CUDA, and refuse what CUDA refuses.

Whether code mixes devices can be found out without one. Inside ``with SimulatedGpu():`` tensors may
be made on and moved to ``cuda``; what is computed from them is there too. As on a real one, tensors
of two devices can't meet (single numbers and indices in memory may), arrays share no memory with
them, and random numbers need a generator of their device.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda:0")
CPU = torch.device("cpu")
_MOVES = {"to", "cpu", "cuda"}
_MAY_MIX = {"copy_", "type_as", *_MOVES}
_INDEXED = {"__getitem__", "__setitem__", "index_put_", "index"}


class MixedDevicesError(RuntimeError):
    """What CUDA would refuse."""


class Memory:
    """What tensors on the GPU hold, each storage once, and the most that they held."""

    def __init__(self) -> None:
        self.allocated = self.peak = 0
        self._holders: dict[int, int] = {}
        self._lock = threading.RLock()

    def hold(self, tensor: torch.Tensor) -> None:
        """Count a tensor until it is gone."""
        with torch._C.DisableTorchFunction():
            storage = tensor.untyped_storage()
            place, size = storage.data_ptr(), storage.nbytes()
        with self._lock:
            self._holders[place] = self._holders.get(place, 0) + 1
            if self._holders[place] == 1:
                self.allocated += size
                self.peak = max(self.peak, self.allocated)
        weakref.finalize(tensor, self._let_go, place, size)

    def _let_go(self, place: int, size: int) -> None:
        with self._lock:
            self._holders[place] -= 1
            if not self._holders[place]:
                del self._holders[place]
                self.allocated -= size


MEMORY = Memory()


class OnGpu(torch.Tensor):
    """A tensor that says it is on the GPU."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return _call(function, args, kwargs or {})

    def record_stream(self, stream: object) -> None:
        """Streams that have always done everything need no record."""


class SimulatedGpu(TorchFunctionMode):
    """Functions that make tensors make them on the GPU where they are asked to."""

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return _call(function, args, kwargs or {})


def _call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if function is torch.device:
        return function(*args, **kwargs)
    name = getattr(function, "__name__", "")
    owner = getattr(function, "__self__", None)
    tensors = list(_tensors((args, kwargs)))
    on_gpu = [one for one in tensors if isinstance(one, OnGpu)]
    if owner is torch.Tensor.device:
        return GPU if on_gpu else CPU
    if owner is torch.Tensor.is_cuda:
        return bool(on_gpu)
    if on_gpu and name in ("numpy", "data_ptr", "__array__"):
        raise MixedDevicesError(f"{name} of a tensor on the GPU")
    _refuse_mixing(name, args, kwargs, on_gpu)
    target = _target(name, args, kwargs, bool(on_gpu))
    if name == "is_pinned":
        return False
    if name == "pin_memory":
        if on_gpu:
            raise MixedDevicesError("pinning a tensor on the GPU")
        return args[0].clone()
    with torch._C.DisableTorchFunction():
        found = function(*_plain(args), **_plain(kwargs))
        if name in _MOVES and target != bool(on_gpu):
            # What moves shares no memory with what stayed.
            found = found.clone()
    if kwargs.get("out") is not None:
        return kwargs["out"]
    if name.endswith("_") and not name.endswith("__"):
        return args[0]
    return _wrapped(found, target)


def _target(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], is_on_gpu: bool) -> bool:
    """Whether the result is on the GPU; what asks for a device is taken from the arguments."""
    if name in ("cpu", "cuda"):
        return name == "cuda"
    kwargs.pop("pin_memory", None)
    asked = kwargs.get("device")
    if name == "to":
        for one in args[1:]:
            if isinstance(one, torch.Tensor):
                return isinstance(one, OnGpu)
            if isinstance(one, torch.device | str):
                asked = one
    if asked is None:
        return is_on_gpu
    is_asked = torch.device(asked).type == "cuda"
    generator = kwargs.get("generator")
    if is_asked and generator is not None and generator.device.type == "cpu":
        raise MixedDevicesError(f"{name} on the GPU with a generator of the CPU")
    return is_asked


def _refuse_mixing(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], on_gpu: list[OnGpu]
) -> None:
    if not on_gpu or name in _MAY_MIX:
        return
    if name in _INDEXED:
        here, index = args[0], list(_tensors(args[1]))
        if not isinstance(here, OnGpu) and any(isinstance(one, OnGpu) for one in index):
            raise MixedDevicesError("a tensor in memory indexed by one on the GPU")
        values = list(_tensors(args[2:])) if index else []
        others = [here, *values]
    else:
        others = list(_tensors((args, kwargs)))
    if any(not isinstance(one, OnGpu) and one.ndim for one in others):
        raise MixedDevicesError(f"{name} of tensors on two devices")


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def _plain(value: Any) -> Any:
    if isinstance(value, OnGpu):
        with torch._C.DisableTorchFunction():
            return value.as_subclass(torch.Tensor)
    if isinstance(value, torch.device):
        return CPU
    if isinstance(value, str) and value.startswith("cuda"):
        return "cpu"
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    return value


def _wrapped(value: Any, is_on_gpu: bool) -> Any:
    if isinstance(value, torch.Tensor):
        with torch._C.DisableTorchFunction():
            wrapped = value.as_subclass(OnGpu if is_on_gpu else torch.Tensor)
        if is_on_gpu:
            MEMORY.hold(wrapped)
        return wrapped
    if isinstance(value, tuple | list) and any(isinstance(one, torch.Tensor) for one in value):
        return type(value)([_wrapped(one, is_on_gpu) for one in value])
    return value
