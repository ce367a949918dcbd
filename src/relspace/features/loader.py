"""Decodes items ahead of the model, by several threads and in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

_MOST_THREADS = 8


def thread_count(asked: int | None) -> int:
    """Return how many threads load items where none are asked for: one a processor, at most 8."""
    return asked or min(_MOST_THREADS, os.cpu_count() or 1)


def load_ahead(
    load: Callable[[int], Result],
    batches: Sequence[Sequence[int]],
    *,
    n_threads: int | None = None,
    ahead: int = 2,
) -> Generator[list[Result]]:
    """Load batches of items in order, while the consumer works on an earlier one.

    ``load`` is given positions by several threads (by default as many as there are processors, at
    most 8); ``ahead`` batches are held beside the one that is worked on.

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
            # An error, or a consumer that stops, leaves nothing running.
            for futures in waiting:
                for future in futures:
                    future.cancel()
