"""Free memory, and slices of rows that fit into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import torch

from relspace._core.control_groups import control_group_headroom

_limits: ContextVar[tuple[int, int] | None] = ContextVar("limits", default=None)
# Up to this many bytes, asking how much is free takes longer than filling them.
_ALWAYS_FREE = 2**24
_CACHE_LINE = 64
# From here on NumPy asks for huge pages.
_LARGE_BYTES = 2**22


def free_memory_bytes(device: torch.device | None = None) -> int:
    """Memory that can be allocated now on a device, in bytes (control groups counted in)."""
    if (limits := _limits.get()) is not None:
        return limits[device is not None and device.type == "cuda"]
    if device is not None and device.type == "cuda":
        # Memory that torch has cached is free for its tensors.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    free = _available_host_memory()
    limit = control_group_headroom()
    return free if limit is None else min(free, limit)


@contextmanager
def limited_memory(host: int, gpu: int | None = None) -> Iterator[None]:
    """Pretend, in this context, that only this many bytes of memory are free."""
    before = _limits.set((host, host if gpu is None else gpu))
    try:
        yield
    finally:
        _limits.reset(before)


def is_free(n_bytes: int, device: torch.device | None = None) -> bool:
    """Whether this many bytes can be allocated now on a device."""
    if n_bytes <= _ALWAYS_FREE and _limits.get() is None:
        return True
    return n_bytes <= free_memory_bytes(device)


def _available_host_memory() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def empty_matrix(n_rows: int, n_columns: int, like: torch.Tensor) -> torch.Tensor:
    """Uninitialised memory of the type and on the device of ``like``.

    A large one on the CPU comes from NumPy, which asks the system for huge pages: with ordinary
    ones a result spends more time on its first touch than on its exponentials.
    """
    n_bytes = n_rows * n_columns * like.element_size()
    if like.device.type != "cpu" or n_bytes < _LARGE_BYTES:
        return like.new_empty((n_rows, n_columns))
    buffer = np.empty(n_bytes + _CACHE_LINE, dtype=np.uint8)
    offset = -buffer.ctypes.data % _CACHE_LINE
    lines = torch.from_numpy(buffer[offset : offset + n_bytes])
    return lines.view(like.dtype).view(n_rows, n_columns)


def row_slices(n_rows: int, bytes_per_row: int, budget: int) -> Iterator[slice]:
    """Cut ``n_rows`` into slices of as many rows as the budget holds, at least one."""
    step = max(1, min(n_rows, budget // max(1, bytes_per_row)))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def chunk_slices(n_rows: int, chunk_rows: int) -> list[slice]:
    """Cut rows into chunks of ``chunk_rows``, the last one shorter."""
    return [slice(i, min(i + chunk_rows, n_rows)) for i in range(0, n_rows, chunk_rows)]


def say_bytes(n_bytes: float) -> str:
    """A number of bytes for a message.

    >>> say_bytes(3.5 * 2**30), say_bytes(20_000)
    ('3.5 GiB', '19.5 KiB')
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.3g} TiB"
