"""Blocks of rows that are read while the one before is worked on, and written while the next is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from typing import TypeVar

import torch

from relspace._core.device_copies import DeviceCopies
from relspace._core.threads import background_thread
from relspace.rows.source import RowSource

_Block = TypeVar("_Block")
_Rows = TypeVar("_Rows")


def read_ahead(
    read: Callable[[_Block], _Rows],
    blocks: Iterable[_Block],
    *,
    ahead: bool = True,
    one_core: bool = True,
) -> Generator[tuple[_Block, _Rows], None, None]:
    """Read blocks one after the other, each in another thread while the one before is worked on.

    What is read, and its order, are the same either way; so is the block at which an error is
    raised. Close it where it may be left early (:class:`contextlib.closing`): the thread ends then.

    Parameters
    ----------
    read : callable
        ``read(block)`` gives what a block holds. One thread calls it, never two at a time.
    blocks : iterable
        What is read, in this order.
    ahead : bool
        Whether to read ahead; otherwise a block is read when it is asked for.
    one_core : bool
        Whether torch reads on one core, which leaves the others to the caller.

    Yields
    ------
    block, rows
        Each block and what was read of it. Two are held at a time: this one, and the next.
    """
    if not ahead:
        for block in blocks:
            yield block, read(block)
        return
    with background_thread("relspace reads ahead", one_core=one_core) as submit:
        coming: tuple[_Block, Future[_Rows]] | None = None
        for block in blocks:
            arrived = None if coming is None else (coming[0], coming[1].result())
            # Begun after the one before has arrived, so that no third one is in memory.
            coming = block, submit(read, block)
            if arrived is not None:
                yield arrived
            del arrived
        if coming is not None:
            yield coming[0], coming[1].result()


@contextmanager
def write_behind(
    write: Callable[[slice, _Rows], object],
    written: Callable[[slice], object] = lambda rows: None,
    *,
    one_core: bool = True,
) -> Iterator[Callable[[slice, _Rows], None]]:
    """Write blocks in another thread, in their order, while the next one is made.

    One block is written at a time, and when the ``with`` block is left, all are. An error is raised
    when the next block is handed over, or at the end.

    Parameters
    ----------
    write : callable
        ``write(rows, values)`` writes one block.
    written : callable
        ``written(rows)`` is called in the caller's thread after a block was written.
    one_core : bool
        Whether torch uses one core for it, which leaves the others to the caller.

    Yields
    ------
    put : callable
        ``put(rows, values)`` hands a block over, and waits for the one before.
    """
    with background_thread("relspace writes behind", one_core=one_core) as submit:
        waiting: list[tuple[slice, Future[object]]] = []

        def settle() -> None:
            while waiting:
                rows, future = waiting.pop()
                future.result()
                written(rows)

        def put(rows: slice, values: _Rows) -> None:
            settle()
            waiting.append((rows, submit(write, rows, values)))

        try:
            yield put
        finally:
            settle()


@contextmanager
def prefetched(
    source: RowSource, blocks: Iterable[slice], copies: DeviceCopies
) -> Iterator[Iterator[tuple[slice, torch.Tensor]]]:
    """Read blocks of a source for a device, ahead where it lies in files.

    Rows in memory are there already, unless they have to go to a GPU. Those that code makes may
    take all cores, and the code may not like other threads: they are made when they are asked for.
    Where it says what it makes them of (``source.made_of``), that is read ahead.

    Parameters
    ----------
    source : RowSource
        Where rows lie.
    blocks : iterable of slice
        Which are read.
    copies : DeviceCopies
        How they get to the device.

    Yields
    ------
    iterator of (slice, tensor)
        Each block and its rows. The thread that reads ends with the ``with`` block.
    """
    if (made_of := source.made_of) is not None:
        with prefetched(made_of.source, blocks, copies) as given:
            yield ((block, made_of.make(rows, block.start)) for block, rows in given)
        return
    sent = read_ahead(
        lambda rows: copies.send(source.read(rows.start, rows.stop)),
        blocks,
        ahead=source.lies_in == "files" or (source.lies_in == "memory" and copies.overlap),
        one_core=not copies.overlap,
    )
    with closing(sent):
        yield ((block, copies.receive(copy)) for block, copy in sent)
