"""Base of everything that writes chunk by chunk: a lock, a ledger, and the missing chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from relspace._core.memory import chunk_slices
from relspace._core.progress import Listener, silent
from relspace.rows.ledger import Ledger, checksum_of, fingerprint_of
from relspace.rows.locks import StoreLock


class ChunkWriter(ABC):
    """Writes ``_n_rows`` rows in chunks of ``_chunk_rows``, and resumes after a killed run.

    No other process writes the same output until the writer is closed, as its ``with`` block does.
    Workers of a cluster have no lock (None): they write what the process with the lock hands out.
    """

    location: str | Path
    _n_rows: int
    _chunk_rows: int
    _ledger: Ledger

    def __init__(self, lock: StoreLock | None) -> None:
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.release()

    def missing(self) -> list[slice]:
        """The chunks that are still to be written."""
        finished = self._ledger.finished()
        return [rows for number, rows in enumerate(self._chunks()) if number not in finished]

    @property
    def is_settled(self) -> bool:
        """Whether the output is complete, and its files have not changed since."""
        settled = self._ledger.settled()
        return bool(settled) and settled == self._fingerprint()

    @abstractmethod
    def _read_chunk(self, rows: slice) -> Sequence[NDArray[Any]]:
        """The arrays that a chunk's checksum is of, as they are stored."""

    def _fingerprint(self) -> str:
        return fingerprint_of(self.location)

    def _chunks(self) -> list[slice]:
        return chunk_slices(self._n_rows, self._chunk_rows)

    def _number(self, rows: slice) -> int:
        return int(rows.start) // self._chunk_rows

    def _check_lock(self) -> None:
        if self._lock is not None:
            self._lock.check()

    def _damaged(self, tell: Listener = silent) -> list[int]:
        """The numbers of finished chunks whose values have another checksum, or can't be read."""
        chunks, damaged = self._chunks(), []
        finished = sorted(self._ledger.finished().items())
        for n_read, (number, checksum) in enumerate(finished):
            tell(n_read, len(finished), f"Checking chunks of {self.location}")
            try:
                found = checksum_of(*self._read_chunk(chunks[number]))
            except Exception:
                # A decoder may raise nearly anything on a damaged chunk, which is written again.
                found = ""
            if found != checksum:
                damaged.append(number)
        return damaged
