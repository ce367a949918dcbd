"""Dispatch of work on pairs and rows to compiled code or torch, once in each call."""

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

# Strips are faster than tiles up to a number of items, which was measured: it is larger for few
# features, where the matrix product is the smaller part, and smaller without a team of threads,
# where one thread of the strips competes with all threads of the tiles.
_FEW_FEATURES = 64


def _most_items(width: int, n_threads: int, has_team: bool) -> int:
    if n_threads > 1 and has_team:
        return 4096 if width > _FEW_FEATURES else 8192
    if n_threads > 2:
        return 640
    if width > _FEW_FEATURES:
        return 1024
    return 4096 if n_threads == 1 else 2048


_allowed: ContextVar[Backend] = ContextVar("backend", default="strips")


def backend(like: torch.Tensor, *, whole_set: bool = False) -> Backend:
    """Choose the backend for tensors like this one, or for affinities of this set with itself.

    Compiled code is for float32 on the CPU. It is missing if there was no compiler when the package
    was installed, and not used with ``RELSPACE_COMPILED=0`` in the environment.
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
    few = len(like) <= _most_items(like.shape[1], torch.get_num_threads(), LIBRARY.team is not None)
    return "strips" if few else "loops"


def loops_for(like: torch.Tensor) -> type[TorchLoops] | type[CompiledLoops]:
    """Return the class of loops for tensors like this one; each thread needs its own object."""
    return TorchLoops if backend(like) == "torch" else CompiledLoops


@contextmanager
def at_most(allowed: Backend) -> Iterator[None]:
    """Restrict calls in this context to this backend and the ones before it."""
    before = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(before)
