"""Functions of rows on Dask: lazily over arrays, or chunk by chunk on a cluster.

The function is one task of the graph, on which all blocks depend: workers fetch it from each other,
and it is computed again if the worker that held it is lost.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.matrices import to_numpy
from relspace.errors import InvalidInputError, MissingDependencyError, reason_of
from relspace.rows.cluster import run_on_cluster, writing
from relspace.rows.output import RowsWriter, ZarrWriter
from relspace.rows.source import RowSource, tensor_of, torch_dtype

_Result = TypeVar("_Result")
Compute = Callable[[torch.Tensor, int], torch.Tensor]

_SECONDS_TO_CONNECT = 10
_one_block = threading.Lock()


def map_rows(
    array: Any, compute: Callable[[torch.Tensor, int | None], torch.Tensor], n_columns: int
) -> Any:
    """Apply a function to the rows of a Dask array lazily, in the array's float type.

    ``compute(rows, first)`` gives the rows of the result; ``first`` is the number of the first row,
    None in an array whose chunks have unknown lengths.
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
    """Return the rows of a source as a lazy Dask array, whose workers read the files themselves."""
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


def write_on_cluster(
    source: RowSource,
    chunks: Sequence[slice],
    compute: Compute,
    writer: RowsWriter,
    client: Any,
    written: Callable[[slice], object],
) -> None:
    """Compute and write chunks of a Zarr store, each in a task of a cluster.

    The chunks of a worker that is lost are computed again by another. ``written(chunk)`` is called
    after each one.
    """
    if not isinstance(writer, ZarrWriter):
        raise InvalidInputError(
            "a cluster writes Zarr stores, and out is another file.",
            ways_out=["name an output that ends in .zarr"],
        )
    job = (source, compute, str(writer.location), writer.digest)
    with closing(run_on_cluster(_write_chunk, job, chunks, client)) as done:
        for chunk in done:
            written(chunk)


def connect(address: str) -> Any:
    """Connect to the scheduler of a cluster, by its address (tcp://host:8786)."""
    _import_dask()
    from distributed import Client
    from distributed.comm.addressing import get_address_host_port

    try:
        # A client that fails to read its address stays in Dask's list of live clients. If it were
        # the default, every later computation of this process would wait for it.
        get_address_host_port(address)
        return Client(  # type: ignore[no-untyped-call]
            address, timeout=_SECONDS_TO_CONNECT, set_as_default=False
        )
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"no Dask scheduler answers at {address} ({reason_of(error)})."
        ) from error


def _write_chunk(job: tuple[RowSource, Compute, str, str], chunk: slice) -> slice:
    source, compute, location, digest = job
    writer = ZarrWriter.join(location, digest)
    # The results of a lost worker are gone, but the chunks that it wrote are there.
    if not writer.has(chunk):
        rows = in_turn(lambda: compute(source.read(chunk.start, chunk.stop), chunk.start))
        with writing():
            # The client may have ended meanwhile, and another run may have replaced the store.
            ZarrWriter.join(location, digest).write(chunk, rows)
    return chunk


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
    """Compute one block at a time if torch uses several cores; otherwise Dask's threads do so."""
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
