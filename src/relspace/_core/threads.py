"""Work on tiles side by side: a thread for every core, and in each one tile at a time.

Operations that each share one tile among all cores wait for the slowest core after every step,
which costs more than the step itself where tiles fit a cache, and far more where another program
holds one of the cores. Threads that have tiles of their own never wait.
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

    Gradients are not recorded.

    Parameters
    ----------
    make : callable
        Called once in every thread; gives the function, with memory of its own.
    items : sequence
        What it is applied to, from the first to the last as threads come free.
    device : torch.device
        Where the work is done; anything but a CPU has one thread.

    Returns
    -------
    list
        Results in the order of the items, whatever the threads.
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
            # Whichever thread it is, the others need not go on.
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
    """Do work in a thread whose operations use one core; on a GPU, where it is.

    Small operations that all cores share cost more than the same ones on a single core, and a
    hundred times as much where another program holds one of them.

    Parameters
    ----------
    work : callable
        What is done; gradients are not recorded.
    device : torch.device
        Where its tensors are.
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
    """Do work in one other thread, call by call in their order, while this one goes on.

    The thread is gone when the block is left; calls that have not begun by then are dropped.

    Parameters
    ----------
    name : str
        Of the thread.
    one_core : bool
        Whether torch uses one core in it, which leaves the others to this thread.

    Yields
    ------
    submit : callable
        ``submit(call, *arguments)`` gives the future of ``call(*arguments)``. Gradients are not
        recorded.
    """
    n_threads = torch.get_num_threads()
    one_core = one_core and n_threads > 1
    pool = ThreadPoolExecutor(1, name, initializer=_use_one_core if one_core else None)
    # Modes belong to threads. What was made in inference mode can only be written to in it.
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
    """Threads in each of which torch uses one core; they are kept."""
    with _lock:
        if n_threads not in _pools:
            started = threading.Barrier(n_threads)
            pool = ThreadPoolExecutor(n_threads, "relspace", initializer=_use_one_core)
            for future in [pool.submit(started.wait) for _ in range(n_threads)]:
                future.result()
            # What new threads of the program begin with, which the others have just set to 1.
            torch.set_num_threads(n_threads)
            _pools[n_threads] = pool
        return _pools[n_threads]


def _use_one_core() -> None:
    torch.set_num_threads(1)
    # A thread takes over the number for itself when it is asked for first.
    torch.get_num_threads()


def _forget_threads() -> None:
    global _lock
    _lock = threading.Lock()
    _pools.clear()


# Threads don't survive a fork.
os.register_at_fork(after_in_child=_forget_threads)
