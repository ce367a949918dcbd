"""Parallel work on tiles: one thread for every core, and one tile at a time in each.

If all cores share one tile, they wait for the slowest core after every step. That costs more than
the step itself where tiles fit a cache, and far more where another program uses one of the cores.
Threads that have tiles of their own never wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Protocol, TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Submit(Protocol):
    """Hands a call to another thread."""

    def __call__(self, call: Callable[..., _Result], *arguments: Any) -> Future[_Result]:
        """Return the future of ``call(*arguments)``."""


_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def side_by_side(
    make: Callable[[], Callable[[_Item], _Result]], items: Sequence[_Item], device: torch.device
) -> list[_Result]:
    """Apply a function to every item, on the CPU in as many threads as torch uses.

    ``make`` is called once in every thread and returns the function, which has its own memory.
    Results are in the order of the items. Gradients are not recorded.
    """
    n_threads = min(torch.get_num_threads(), len(items)) if device.type == "cpu" else 1
    if n_threads < 2:
        with torch.no_grad():
            work = make()
            return [work(item) for item in items]
    results: dict[int, _Result] = {}
    left = iter(range(len(items)))
    stopped = threading.Event()

    def run() -> None:
        try:
            with torch.no_grad():
                work = make()
                # next() on a range's iterator is atomic.
                for position in left:
                    if stopped.is_set():
                        return
                    results[position] = work(items[position])
        except BaseException:
            # The other threads need not go on.
            stopped.set()
            raise

    pool = _threads(torch.get_num_threads())
    futures = [pool.submit(copy_context().run, run) for _ in range(n_threads)]
    try:
        for future in futures:
            future.result()
    finally:
        stopped.set()
    return [results[position] for position in range(len(items))]


def on_one_core(work: Callable[[], _Result], device: torch.device) -> _Result:
    """Run work in a thread whose operations use one core; on a GPU, in this thread.

    Small operations that all cores share cost more than the same ones on a single core, and a
    hundred times as much where another program uses one of them. Gradients are not recorded.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or n_threads < 2:
        return work()

    def without_gradients() -> _Result:
        with torch.no_grad():
            return work()

    return _threads(n_threads).submit(copy_context().run, without_gradients).result()


@contextmanager
def background_thread(name: str, *, one_core: bool) -> Iterator[Submit]:
    """Run calls in one other thread, in their order, while this thread goes on.

    Yields ``submit(call, *arguments)``, which returns a future; gradients are not recorded. With
    ``one_core`` torch uses one core in that thread. On exit the thread ends, and calls that have
    not begun are dropped.
    """
    n_threads = torch.get_num_threads()
    one_core = one_core and n_threads > 1
    pool = ThreadPoolExecutor(1, name, initializer=_use_one_core if one_core else None)
    # Modes belong to threads, and tensors of inference mode can only be written to in it.
    mode = torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad

    def run(call: Callable[..., _Result], arguments: tuple[Any, ...]) -> _Result:
        with mode():
            return call(*arguments)

    def submit(call: Callable[..., _Result], *arguments: Any) -> Future[_Result]:
        return pool.submit(copy_context().run, run, call, arguments)

    try:
        if one_core:
            with _lock:
                submit(torch.get_num_threads).result()
                torch.set_num_threads(n_threads)
        yield submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _threads(n_threads: int) -> ThreadPoolExecutor:
    """The pool of threads in each of which torch uses one core; it is kept."""
    with _lock:
        if n_threads not in _pools:
            started = threading.Barrier(n_threads)
            pool = ThreadPoolExecutor(n_threads, "relspace", initializer=_use_one_core)
            for future in [pool.submit(started.wait) for _ in range(n_threads)]:
                future.result()
            # Restore the default of new threads, which the pool's threads have set to 1.
            torch.set_num_threads(n_threads)
            _pools[n_threads] = pool
        return _pools[n_threads]


def _use_one_core() -> None:
    torch.set_num_threads(1)
    # A thread inherits the number when it first asks for it.
    torch.get_num_threads()


def _forget_threads() -> None:
    global _lock
    _lock = threading.Lock()
    _pools.clear()


# Threads don't survive a fork.
os.register_at_fork(after_in_child=_forget_threads)
