"""What a call may use: memory, and a device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch

from relspace._core.arguments import check_count
from relspace._core.devices import CPU
from relspace._core.memory import free_memory_bytes, is_free, row_slices, say_bytes
from relspace.errors import InvalidInputError, MemoryBudgetError

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Without a budget, blocks take one part in this many of the free memory.
_SHARE_OF_FREE = 4


@dataclass(frozen=True)
class Resources:
    """What a call may use, decided once where it begins and handed down.

    Attributes
    ----------
    memory : int or None
        Peak memory in bytes that the call may add; None for what is free.
    device : torch.device
        Where it computes.

    Examples
    --------
    >>> Resources.of("2 GiB").fits(3 * 2**30)
    False
    """

    memory: int | None = None
    device: torch.device = CPU

    @classmethod
    def of(cls, memory_budget: int | str | None = None, *, device: torch.device = CPU) -> Self:
        """Check a ``memory_budget``: bytes, or text such as "2 GiB"; None for what is free."""
        memory = None if memory_budget is None else parse_bytes(memory_budget, "memory_budget")
        return cls(memory, device)

    @property
    def limit(self) -> int:
        """Peak memory in bytes that the call may add: its budget, never more than is free."""
        free = free_memory_bytes(self.device)
        return free if self.memory is None else min(self.memory, free)

    def fits(self, n_bytes: int) -> bool:
        """Whether this many bytes may be added."""
        if self.memory is not None and n_bytes > self.memory:
            return False
        return is_free(n_bytes, self.device)

    def holds(self, n_bytes: int) -> bool:
        """Whether data of this size is held, rather than read in blocks again and again.

        The limit is the budget, by default half of the free memory, since working on it takes some
        too.
        """
        if self.memory is None:
            return n_bytes <= free_memory_bytes(self.device) // 2
        return n_bytes <= self.memory

    def require(self, n_bytes: int, what: str, *ways_out: str) -> None:
        """Raise MemoryBudgetError, before any allocation, if this many bytes may not be added.

        ``ways_out`` are clauses as :mod:`relspace.errors` describes them.
        """
        if self.fits(n_bytes):
            return
        limit = self.limit
        if self.memory is not None and self.memory == limit:
            said, ways_out = f"{say_bytes(limit)} may be used", ("raise {memory_budget}", *ways_out)
        else:
            said = f"{say_bytes(limit)} are free"
        raise MemoryBudgetError(
            f"{what} needs {say_bytes(n_bytes)} and {said}.",
            ways_out=ways_out,
            n_bytes=n_bytes,
            limit=limit,
        )

    def for_blocks(self, *, beside: int = 0, at_most: int | None = None) -> int:
        """Bytes that blocks of rows may take: the budget minus the ``beside`` bytes that are held.

        Without a budget, a quarter of the free memory. More than ``at_most`` brings no speed.
        """
        if self.memory is None:
            room = free_memory_bytes(self.device) // _SHARE_OF_FREE
        else:
            room = max(0, min(self.memory, free_memory_bytes(self.device)) - beside)
        return room if at_most is None else min(room, at_most)

    def blocks(
        self, n_rows: int, bytes_per_row: int, *, beside: int = 0, at_most: int | None = None
    ) -> Iterator[slice]:
        """Cut rows into slices of as many as fit, see :meth:`for_blocks`; at least one each."""
        return row_slices(n_rows, bytes_per_row, self.for_blocks(beside=beside, at_most=at_most))


def parse_bytes(value: object, name: str) -> int:
    """Read a number of bytes: a whole number, or text such as "1.5 GiB", "800M" or "1000000".

    >>> parse_bytes("1.5 GiB", "memory_budget"), parse_bytes(4096, "memory_budget")
    (1610612736, 4096)
    """
    if not isinstance(value, str):
        return check_count(value, name)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", value, re.IGNORECASE)
    n_bytes = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if n_bytes < 1:
        raise InvalidInputError(
            f"{name} is {value!r}; it must be a number of bytes, such as 2**31 or '1.5 GiB'."
        )
    return n_bytes
