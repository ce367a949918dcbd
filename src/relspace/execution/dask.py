"""Block functions on Dask: lazily over arrays, or chunk by chunk on a cluster into a Zarr store.

What is fitted goes into the graph once, as a task of its own that every block depends on: workers
fetch it from each other, and it is made again where the worker that held it is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._validation import to_numpy
from relspace.errors import InvalidInputError, MissingDependencyError
from relspace.row_sources import RowSource, tensor_of, torch_dtype
from relspace.row_writers import ZarrWriter

_Result = TypeVar("_Result")
Compute = Callable[[torch.Tensor, int], torch.Tensor]

_SECONDS_TO_CONNECT = 10
_PARTS_FOR_EACH_THREAD = 4
_one_block = threading.Lock()


def map_rows(
    array: Any, compute: Callable[..., torch.Tensor], n_columns: int, own: torch.Tensor | None
) -> Any:
    """Apply a function to the rows of a Dask array, lazily.

    Parameters
    ----------
    array : dask.array.Array of shape (n, d)
        Rows; blocks that hold parts of rows are joined first.
    compute : callable
        ``compute(rows, own)`` of a block of rows gives the result's rows.
    n_columns : int
        The width of the result.
    own : LongTensor of shape (n,) or None
        A second argument that goes with the rows.

    Returns
    -------
    dask.array.Array of shape (n, n_columns)
        In the float type of the input, cut into rows as that was.
    """
    dask, da = _import_dask()
    if len(array.chunks[1]) > 1:
        array = array.rechunk({1: -1})
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
    arguments = [array]
    if own is not None:
        arguments.append(da.from_array(to_numpy(own)[:, None], chunks=(array.chunks[0], 1)))
    return da.map_blocks(
        _compute_block,
        *arguments,
        state=dask.delayed(compute, traverse=False),
        out_dtype=str(dtype),
        dtype=dtype,
        chunks=(array.chunks[0], (n_columns,)),
        meta=np.empty((0, 0), dtype=dtype),
    )


def rows_as_array(source: RowSource, chunk_rows: int = 8192) -> Any:
    """A lazy Dask array of the rows of a source, which workers read by themselves.

    Parameters
    ----------
    source : RowSource
        Files that the workers can open under the same path.
    chunk_rows : int
        Rows of a block.
    """
    dask, da = _import_dask()
    n, width = source.shape
    kind = np.float32 if source.dtype == torch.bfloat16 else to_numpy(source.read(0, 1)).dtype
    starts = da.arange(0, n, 1, chunks=chunk_rows)
    return da.map_blocks(
        _read_block,
        starts,
        state=dask.delayed(source, traverse=False),
        out_dtype=str(np.dtype(kind)),
        dtype=kind,
        chunks=(starts.chunks[0], (width,)),
        new_axis=1,
        meta=np.empty((0, 0), dtype=kind),
    )


def write_rows_on_cluster(
    source: RowSource,
    compute: Compute,
    path: str,
    client: Any,
    progress: Callable[[int, int], None] | None = None,
) -> RowSource:
    """Write what a function makes of rows into a Zarr store, each chunk as a task of a cluster.

    Chunks that are there are left; those of a worker that is lost are made again by another.

    Parameters
    ----------
    source : RowSource
        Files that the workers can open under the same path.
    compute : callable
        ``compute(rows, first)`` of some rows and the number of the first gives the result's.
    path : str
        A store that was begun (:func:`relspace.row_writers.open_writer`), which the workers can
        reach under the same path or URL.
    client : distributed.Client
        The cluster.
    progress : callable, optional
        ``progress(n_done, n_rows)`` after every chunk.
    """
    writer = ZarrWriter(path)
    chunks = writer.missing()
    n = source.shape[0]
    done = n - sum(chunk.stop - chunk.start for chunk in chunks)
    job = (source, compute, path)
    with closing(run_on_cluster(_write_chunk, job, chunks, client)) as counts:
        for count in counts:
            done += count
            if progress is not None:
                progress(done, n)
    return writer.finish()


def sum_on_cluster(
    sums: Callable[..., tuple[torch.Tensor, ...]],
    n_rows: int,
    argument: torch.Tensor | None,
    client: Any,
    tell: Callable[[int], None],
) -> tuple[torch.Tensor, ...]:
    """Add up what a function makes of parts of the rows, each part as a task of a cluster.

    Parts and the order that they are added in do not depend on which worker is done first, so
    that sums are the same again; those of a worker that is lost are made again by another.

    Parameters
    ----------
    sums : callable
        ``sums(start, stop, argument)`` gives tensors for some rows.
    n_rows : int
        How many rows there are.
    argument : tensor or None
        What it needs beside; sent once.
    client : distributed.Client
        The cluster.
    tell : callable
        ``tell(n_done)`` after every part.
    """
    n_parts = min(n_rows, _PARTS_FOR_EACH_THREAD * max(1, sum(client.nthreads().values())))
    edges = [n_rows * part // n_parts for part in range(n_parts + 1)]
    held = client.submit(_Held, (sums, argument), pure=False)
    tasks = [client.submit(_work_on, held, _sum_part, part, pure=False) for part in pairwise(edges)]
    total: tuple[torch.Tensor, ...] | None = None
    try:
        # Taken one by one, so that what is added up here is no more than the parts that wait.
        for task, stop in zip(tasks, edges[1:], strict=True):
            part = tuple(torch.from_numpy(np.array(one)) for one in task.result())
            total = (
                part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
            )
            task.release()
            tell(stop)
    finally:
        client.cancel(tasks)
    return total or ()


def run_on_cluster(
    work: Callable[[Any, Any], Any], argument: object, parts: Sequence[Any], client: Any
) -> Generator[Any, None, None]:
    """Do work on parts, each as a task of a cluster, and give results as they come.

    The parts of a worker that is lost are done again by another, so that work must do no harm
    when it is done twice.

    Parameters
    ----------
    work : callable
        ``work(argument, part)``; both are pickled.
    argument : object
        What every part needs, sent to each worker once.
    parts : sequence
        What is worked on.
    client : distributed.Client
        The cluster.
    """
    from distributed import as_completed

    held = client.submit(_Held, argument, pure=False)
    tasks = [client.submit(_work_on, held, work, part, pure=False) for part in parts]
    try:
        for task in as_completed(tasks):  # type: ignore[no-untyped-call]
            yield task.result()
            task.release()
    finally:
        client.cancel(tasks)


def connect(address: str) -> Any:
    """A client of the cluster whose scheduler is at an address, such as tcp://host:8786.

    Raises
    ------
    InvalidInputError
        If no scheduler answers there.
    MissingDependencyError
        If dask is not installed.
    """
    _import_dask()
    from distributed import Client

    try:
        return Client(address, timeout=_SECONDS_TO_CONNECT)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInputError(f"no Dask scheduler answers at {address} ({reason}).") from error


class _Held:
    """What every part of some work needs, held once by each worker."""

    def __init__(self, argument: Any) -> None:
        self.argument = argument


def _work_on(held: _Held, work: Callable[[Any, Any], Any], part: Any) -> Any:
    return work(held.argument, part)


def _sum_part(
    job: tuple[Callable[..., Any], torch.Tensor | None], part: tuple[int, int]
) -> tuple[NDArray[Any], ...]:
    sums, argument = job
    return tuple(map(to_numpy, sums(*part, argument)))


def _write_chunk(job: tuple[RowSource, Compute, str], chunk: slice) -> int:
    source, compute, path = job
    writer = ZarrWriter(path)
    # A worker that is lost takes the news of its chunks with it, not the chunks.
    if not writer.has(chunk):
        writer.write(
            chunk, in_turn(lambda: compute(source.read(chunk.start, chunk.stop), chunk.start))
        )
    return int(chunk.stop - chunk.start)


def _compute_block(
    block: NDArray[Any],
    own: NDArray[Any] | None = None,
    *,
    state: Callable[..., torch.Tensor],
    out_dtype: str,
) -> NDArray[Any]:
    column = None if own is None else torch.from_numpy(np.ascontiguousarray(own[:, 0]))
    rows = in_turn(lambda: state(tensor_of(block), column))
    return to_numpy(rows.to(torch_dtype(np.dtype(out_dtype))))


def _read_block(numbers: NDArray[Any], *, state: RowSource, out_dtype: str) -> NDArray[Any]:
    rows = state.read(int(numbers[0]), int(numbers[-1]) + 1)
    return to_numpy(rows.to(torch_dtype(np.dtype(out_dtype))))


def in_turn(call: Callable[[], _Result]) -> _Result:
    """One block at a time where torch uses all cores for it; else Dask's threads do, together."""
    if torch.get_num_threads() == 1:
        return call()
    with _one_block:
        return call()


def _import_dask() -> tuple[Any, Any]:
    try:
        import dask
        import dask.array
    except ImportError as error:
        raise MissingDependencyError(
            "Dask arrays and clusters need dask: pip install 'relspace[dask]'."
        ) from error
    return dask, dask.array
