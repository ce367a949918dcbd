"""Prefetching of blocks of rows, and writing of results in the background."""

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
    """Read blocks in their order, in a background thread one block ahead of the caller.

    Without ``ahead`` a block is read when the caller asks for it; results and errors are the same.
    With ``one_core``, torch uses one core for reading. Two blocks are held at a time: the one that
    is yielded, with ``read(block)``, and the next. The thread ends when the generator is closed
    (:class:`contextlib.closing`).
    """
    if not ahead:
        for block in blocks:
            yield block, read(block)
        return
    with background_thread("relspace reads ahead", one_core=one_core) as submit:
        coming: tuple[_Block, Future[_Rows]] | None = None
        for block in blocks:
            arrived = None if coming is None else (coming[0], coming[1].result())
            # Not before the last one has arrived, so that there is never a third in memory.
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
    """Write blocks in their order in a background thread, one at a time.

    ``put(rows, values)``, which is yielded, waits until the last block is written, and hands over
    the next one to ``write(rows, values)``. After each block ``written(rows)`` is called in the
    caller's thread. At the end of the ``with`` block all are written. An error of writing is raised
    by the next ``put`` or at the end. With ``one_core``, torch uses one core for writing.
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
    """Read blocks of a source, and copy them to a device; an iterator of (block, rows) is yielded.

    Blocks are prefetched from files, and from memory where they are copied to a GPU. Rows that code
    computes are not, since it may use all cores, and may not be safe in another thread; but the
    source that they are computed from is (``source.made_of``).
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
