"""Prefetches items for a model, in several threads and in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

_MOST_THREADS = 8


def thread_count(asked: int | None) -> int:
    """Return the number of threads that load items: by default one per processor, at most 8."""
    return asked or min(_MOST_THREADS, os.cpu_count() or 1)


def load_ahead(
    load: Callable[[int], Result],
    batches: Sequence[Sequence[int]],
    *,
    n_threads: int | None = None,
    ahead: int = 2,
) -> Generator[list[Result]]:
    """Load batches of items in order, ``ahead`` batches before they are needed.

    Several threads call ``load`` with positions.

    Examples
    --------
    >>> list(load_ahead(lambda i: i * i, [[0, 1], [2]]))
    [[0, 1], [4]]
    """
    waiting: deque[list[Future[Result]]] = deque()
    left = iter(batches)
    with ThreadPoolExecutor(thread_count(n_threads), thread_name_prefix="relspace-load") as pool:
        try:
            while True:
                while len(waiting) <= ahead and (batch := next(left, None)) is not None:
                    waiting.append([pool.submit(load, item) for item in batch])
                if not waiting:
                    return
                yield [future.result() for future in waiting.popleft()]
        finally:
            # Also after an error, or if the consumer stops early.
            for futures in waiting:
                for future in futures:
                    future.cancel()
