"""Which code works on pairs and rows: compiled, or torch's; asked once for a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch

from relspace.kernels.compiled.library import LIBRARY
from relspace.kernels.compiled.loops import CompiledLoops
from relspace.kernels.tiles import TorchLoops

#: "torch" (any type, any device), "loops" (compiled loops over tiles and rows) and "strips" (a
#: whole small set in one compiled call); each may be used where the one before is.
Backend = Literal["torch", "loops", "strips"]

# Of more items, tiles are as fast: they share the work among all threads.
_MOST_ITEMS, _MOST_ITEMS_OF_MANY_THREADS = 1024, 640
_allowed: ContextVar[Backend] = ContextVar("backend", default="strips")


def backend(like: torch.Tensor, *, whole_set: bool = False) -> Backend:
    """Choose for tensors like this one, or for the affinities of this whole set with itself.

    Compiled code is for float32 on the CPU. It is not there where no compiler was at hand when the
    package was installed, or where ``RELSPACE_COMPILED=0`` is in the environment.
    """
    allowed = _allowed.get()
    if (
        LIBRARY is None
        or allowed == "torch"
        or like.dtype != torch.float32
        or like.device.type != "cpu"
        or like.stride(-1) != 1
    ):
        return "torch"
    if not whole_set or allowed == "loops" or not LIBRARY.multiplies:
        return "loops"
    few = _MOST_ITEMS if torch.get_num_threads() <= 2 else _MOST_ITEMS_OF_MANY_THREADS
    return "strips" if len(like) <= few else "loops"


def loops_for(like: torch.Tensor) -> type[TorchLoops] | type[CompiledLoops]:
    """Return the class of the loops for tensors like this one; each thread makes its object."""
    return TorchLoops if backend(like) == "torch" else CompiledLoops


@contextmanager
def at_most(allowed: Backend) -> Iterator[None]:
    """Let calls in this context use this backend, or one that comes before it."""
    before = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(before)
