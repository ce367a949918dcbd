"""Block functions on Dask: lazily over arrays, or chunk by chunk on a cluster into a Zarr store.

What is fitted goes into the graph of an array once, as a task of its own that every block depends
on: workers fetch it from each other, and it is made again where the worker that held it is lost.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.matrices import to_numpy
from relspace._core.progress import Listener, silent
from relspace.errors import InvalidInputError, MissingDependencyError
from relspace.rows.cluster import run_on_cluster, writing
from relspace.rows.output import ZarrWriter
from relspace.rows.source import RowSource, tensor_of, torch_dtype

_Result = TypeVar("_Result")
Compute = Callable[[torch.Tensor, int], torch.Tensor]

_SECONDS_TO_CONNECT = 10
_one_block = threading.Lock()


def map_rows(
    array: Any, compute: Callable[[torch.Tensor, int | None], torch.Tensor], n_columns: int
) -> Any:
    """Apply a function to the rows of a Dask array, lazily.

    Parameters
    ----------
    array : dask.array.Array of shape (n, d)
        Rows; blocks that hold parts of rows are joined first.
    compute : callable
        ``compute(rows, first)`` of a block of rows and the number of the first, None in an array
        whose chunks have unknown lengths, gives the result's rows.
    n_columns : int
        The width of the result.

    Returns
    -------
    dask.array.Array of shape (n, n_columns)
        In the float type of the input, cut into rows as that was.
    """
    dask, da = _import_dask()
    if len(array.chunks[1]) > 1:
        array = array.rechunk({1: -1})
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
    starts = tuple(accumulate(array.chunks[0], initial=0))
    return da.map_blocks(
        _compute_block,
        array,
        starts=None if math.isnan(starts[-1]) else starts,
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
    writer: ZarrWriter,
    client: Any,
    tell: Listener = silent,
) -> RowSource:
    """Write what a function makes of rows into a Zarr store, each chunk as a task of a cluster.

    Chunks that are there are left; those of a worker that is lost are made again by another.

    Parameters
    ----------
    source : RowSource
        Files that the workers can open under the same path.
    compute : callable
        ``compute(rows, first)`` of some rows and the number of the first gives the result's.
    writer : ZarrWriter
        A store that was begun (:func:`relspace.rows.output.open_writer`), which the workers can
        reach under the same path or URL.
    client : distributed.Client
        The cluster.
    tell : callable
        Told ``(done, total, text)`` after every chunk.
    """
    chunks = writer.missing()
    n = source.shape[0]
    done = n - sum(chunk.stop - chunk.start for chunk in chunks)
    job = (source, compute, str(writer.place), writer.digest)
    with closing(run_on_cluster(_write_chunk, job, chunks, client)) as counts:
        for count in counts:
            done += count
            tell(done, n, "Transforming rows")
    return writer.finish()


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


def _write_chunk(job: tuple[RowSource, Compute, str, str], chunk: slice) -> int:
    source, compute, place, digest = job
    writer = ZarrWriter.join(place, digest)
    # A worker that is lost takes the news of its chunks with it, not the chunks.
    if not writer.has(chunk):
        rows = in_turn(lambda: compute(source.read(chunk.start, chunk.stop), chunk.start))
        with writing():
            # Whoever asked may be gone meanwhile, and somebody else have begun another one there.
            ZarrWriter.join(place, digest).write(chunk, rows)
    return int(chunk.stop - chunk.start)


def _compute_block(
    block: NDArray[Any],
    *,
    starts: tuple[int, ...] | None,
    state: Callable[[torch.Tensor, int | None], torch.Tensor],
    out_dtype: str,
    block_id: tuple[int, ...],
) -> NDArray[Any]:
    first = None if starts is None else starts[block_id[0]]
    rows = in_turn(lambda: state(tensor_of(block), first))
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
