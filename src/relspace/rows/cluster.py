"""Tasks on a Dask cluster: the shared argument is sent once, and an error stops all tasks."""

from __future__ import annotations

import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.matrices import to_numpy
from relspace.errors import ClusterError

_PARTS_FOR_EACH_THREAD = 4
# An adaptive cluster may have no workers at first.
_SECONDS_TO_BEGIN = 600
_SECONDS_TO_FINISH_WRITING = 60
_MOST_SENT = 4


def run_on_cluster(
    work: Callable[[Any, Any], Any], argument: object, parts: Sequence[Any], client: Any
) -> Generator[Any, None, None]:
    """Run ``work(argument, part)`` for each part as a task, and yield results as they come.

    ``argument`` is sent to each worker once. The parts of a lost worker are run again by another
    one, so that ``work`` must be safe to repeat. When a part fails, or the consumer stops, no more
    parts begin, and none is within :func:`writing` by the time the error is raised.
    """
    with _tasks(work, argument, parts, client) as tasks:
        for number in tasks.finished():
            yield tasks.take(number)


def sum_on_cluster(
    sums: Callable[..., tuple[torch.Tensor, ...]],
    n_rows: int,
    argument: torch.Tensor | None,
    client: Any,
    tell: Callable[[int], None],
) -> tuple[torch.Tensor, ...]:
    """Add up the tensors that ``sums(start, stop, argument)`` gives for parts of the rows.

    Each part is a task. Parts are added in their order, whichever worker finishes first, so that
    the sums are reproducible. ``tell(n_done)`` is called after each part.
    """
    n_parts = min(n_rows, _PARTS_FOR_EACH_THREAD * max(1, sum(client.nthreads().values())))
    edges = [n_rows * part // n_parts for part in range(n_parts + 1)]
    total: tuple[torch.Tensor, ...] | None = None
    n_added = 0
    with _tasks(_sum_part, (sums, argument), list(pairwise(edges)), client) as tasks:
        there = set()
        for number in tasks.finished():
            there.add(number)
            # Results that come too early stay on their workers.
            while n_added in there:
                part = tuple(torch.from_numpy(np.array(one)) for one in tasks.take(n_added))
                if total is not None:
                    part = tuple(a + b for a, b in zip(total, part, strict=True))
                total = part
                n_added += 1
                tell(edges[n_added])
    return total or ()


@contextmanager
def writing() -> Iterator[None]:
    """A block in which a task writes; raises StoppedError at its start if the job was stopped."""
    with _gate.passing(_current_job.get()):
        yield


def refuse_stopped() -> None:
    """Raise StoppedError if the job that the task belongs to was stopped."""
    with writing():
        pass


class StoppedError(Exception):
    """The job of a task was stopped; no client waits for its result."""


class _Gate:
    """The jobs that were stopped in this process, and how many tasks of each are writing."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._passing: Counter[str] = Counter()
        self._closed: set[str] = set()

    @contextmanager
    def passing(self, name: str) -> Iterator[None]:
        with self._changed:
            if name in self._closed:
                raise StoppedError("another part of this job failed, or it was interrupted.")
            self._passing[name] += 1
        try:
            yield
        finally:
            with self._changed:
                self._passing[name] -= 1
                self._changed.notify_all()

    def close(self, name: str) -> None:
        """Stop a job, and wait for its tasks that are writing."""
        with self._changed:
            self._closed.add(name)
            self._changed.wait_for(lambda: not self._passing[name], _SECONDS_TO_FINISH_WRITING)


_gate = _Gate()
_current_job: ContextVar[str] = ContextVar("current_job", default="")


class _Held:
    """The shared argument, wrapped so that Dask does not look for tasks inside it."""

    def __init__(self, argument: Any) -> None:
        self.argument = argument


class _Tasks:
    """The tasks of a job, by the number of their part."""

    def __init__(
        self, work: Callable[[Any, Any], Any], argument: object, parts: Sequence[Any], client: Any
    ) -> None:
        self._work, self._held, self._parts, self._client = work, _Held(argument), parts, client
        self._name = uuid.uuid4().hex
        self._n_sent = 0
        self._send()
        self._tasks = {number: self._submit(number) for number in range(len(parts))}

    def finished(self) -> Iterator[int]:
        """The numbers of parts as they finish; raises the error of the first that failed."""
        from distributed import as_completed

        numbers = {task.key: number for number, task in self._tasks.items()}
        waiting = as_completed(self._tasks.values())  # type: ignore[no-untyped-call]
        for task in waiting:
            number = numbers[task.key]
            if task.status == "cancelled":
                self._again(number)
                numbers[self._tasks[number].key] = number
                waiting.add(self._tasks[number])  # type: ignore[no-untyped-call]
                continue
            if task.status == "error":
                self.take(number)
            yield number

    def take(self, number: int) -> Any:
        """Return the result of a finished part, or raise its error; the cluster drops it."""
        from distributed import KilledWorker

        while True:
            try:
                result = self._tasks[number].result()
            except CancelledError:
                self._again(number)
            except KilledWorker as error:
                raise ClusterError(
                    f"one part of the work ended several workers ({error.last_worker.address} was "
                    "the last); see their logs, and whether they have the memory that it takes."
                ) from error
            else:
                self._tasks.pop(number).release()
                return result

    def stop(self) -> None:
        """Stop all parts, and wait for those that are writing."""
        # If the cluster itself is gone, the error that is being raised says so.
        with suppress(OSError):
            self._client.cancel(list(self._tasks.values()))
            self._client.run(_close_gate, self._name, on_error="ignore")

    def _send(self) -> None:
        self._n_sent += 1
        given = {"broadcast": True, "hash": False, "timeout": _SECONDS_TO_BEGIN}
        try:
            self._client.submit(os.getpid, pure=False).result(timeout=_SECONDS_TO_BEGIN)
            try:
                self._sent = self._client.scatter(self._held, direct=True, **given)
            except OSError:
                # The client may reach the workers through the scheduler only.
                self._sent = self._client.scatter(self._held, direct=False, **given)
        except TimeoutError as error:
            raise ClusterError(
                f"no worker of the cluster began within {_SECONDS_TO_BEGIN} s."
            ) from error

    def _submit(self, number: int) -> Any:
        part = self._parts[number]
        return self._client.submit(_work_on, self._sent, self._work, part, self._name, pure=False)

    def _again(self, number: int) -> None:
        """Submit a part again that was cancelled because all workers with the argument are gone."""
        if self._sent.status == "cancelled":
            if self._n_sent == _MOST_SENT:
                raise ClusterError(
                    f"the cluster lost all its workers {_MOST_SENT} times; see their logs, and "
                    "whether they have the memory that a part takes."
                )
            self._send()
        self._tasks[number] = self._submit(number)


@contextmanager
def _tasks(
    work: Callable[[Any, Any], Any], argument: object, parts: Sequence[Any], client: Any
) -> Iterator[_Tasks]:
    tasks = _Tasks(work, argument, parts, client)
    try:
        yield tasks
    except BaseException:
        tasks.stop()
        raise


def _work_on(held: _Held, work: Callable[[Any, Any], Any], part: Any, name: str) -> Any:
    token = _current_job.set(name)
    try:
        refuse_stopped()
        return work(held.argument, part)
    finally:
        _current_job.reset(token)


async def _close_gate(name: str) -> None:
    import asyncio

    # In a thread, because a blocked event loop could keep the tasks that write from finishing.
    await asyncio.to_thread(_gate.close, name)


def _sum_part(
    job: tuple[Callable[..., Any], torch.Tensor | None], part: tuple[int, int]
) -> tuple[NDArray[Any], ...]:
    sums, argument = job
    return tuple(map(to_numpy, sums(*part, argument)))
