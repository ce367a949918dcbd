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

# Up to so many items strips, which one thread works on, were more than 1.3 times as fast as tiles;
# with few features, where the product is the smaller part, up to more.
_FEW_FEATURES = 64


def _most_items(width: int, n_threads: int) -> int:
    if n_threads > 2:
        return 640
    if width > _FEW_FEATURES:
        return 1024
    return 4096 if n_threads == 1 else 2048


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
    few = len(like) <= _most_items(like.shape[1], torch.get_num_threads())
    return "strips" if few else "loops"


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
