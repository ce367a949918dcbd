"""Streams rows through a function, chunk by chunk, within a memory budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from relspace._core.arguments import check_count
from relspace._core.arrays import bytes_in_floats
from relspace._core.device_copies import Copy, copies_for
from relspace._core.devices import CPU
from relspace._core.memory import chunk_slices, empty_matrix
from relspace._core.progress import Listener, silent
from relspace._core.resources import Resources
from relspace.rows.ahead import prefetched, write_behind
from relspace.rows.dask import write_on_cluster
from relspace.rows.identity import Identity, hash_ids, identify
from relspace.rows.locations import refuse_inputs, refuse_shared
from relspace.rows.output import (
    STORED_TYPES,
    NpyWriter,
    Output,
    RowsWriter,
    ZarrWriter,
    check_job,
    check_location,
    open_writer,
)
from relspace.rows.source import RowSource

# A chunk of the output, uncompressed: large enough for a file system, small enough to lose.
_CHUNK_BYTES = 2**25
_INPUT_BYTES = 4 * _CHUNK_BYTES
_COPIES_OF_INPUT = 3
_COPIES_OF_OUTPUT = 5
# With a GPU, blocks and results are in pinned memory too, in sizes that are powers of 2.
_PINNED_COPIES = 4
# On the device: three blocks that are copied in, and copies that normalisation makes; results, and
# one that is copied back.
_DEVICE_COPIES_OF_INPUT = 8
_DEVICE_COPIES_OF_OUTPUT = 5


def begin_output(
    output: Output,
    source: RowSource,
    n_columns: int,
    job: Mapping[str, Any],
    device: torch.device = CPU,
    *,
    columns: str = "column",
    with_ids: bool = True,
    identity: Identity | None = None,
) -> ZarrWriter | NpyWriter:
    """Open the output of a job, new or begun before, for rows that are computed from a source.

    It is locked until the writer is closed. The identities of the source (``identity``, if it is
    known already) and of its ids are added to the job, and chunks fit the memory of the device.
    """
    whole = _whole_job(output, source, n_columns, job, identity)
    if with_ids:
        whole["ids"] = hash_ids(source.ids)
    n = source.shape[0]
    if output.chunk_rows is not None:
        chunk_rows = check_count(output.chunk_rows, "chunk_rows")
    else:
        fitting = rows_at_once(source, n_columns, output.memory_budget, device)
        # For a narrow result, much more is read than written.
        read_at_once = _INPUT_BYTES // (source.shape[1] * max(4, source.dtype.itemsize))
        wanted = min(n, fitting, _CHUNK_BYTES // (4 * n_columns), read_at_once)
        chunk_rows = source.whole_chunks(wanted)
    return open_writer(
        output,
        (n, n_columns),
        dtype=whole["dtype"],
        chunk_rows=chunk_rows,
        job=whole,
        ids=source.ids if with_ids else None,
        columns=columns,
    )


def check_output(
    output: Output,
    source: RowSource,
    n_columns: int,
    job: Mapping[str, Any],
    identity: Identity | None = None,
) -> None:
    """Refuse an output that :func:`begin_output` would refuse, before the whole job is known."""
    check_job(output, _whole_job(output, source, n_columns, job, identity))


def check_outputs(
    outputs: Mapping[str, Output],
    inputs: Iterable[str | Path],
    files: Mapping[str, str | Path] | None = None,
) -> None:
    """Refuse outputs of one run that can't be written, or would overwrite inputs or each other.

    ``inputs`` are all locations that are read, and ``files`` other files that are written, by the
    names that errors use.
    """
    read = tuple(inputs)
    paths = {name: output.path for name, output in outputs.items()} | dict(files or {})
    for name, path in paths.items():
        is_out = name in outputs
        called = ("out" if len(outputs) == 1 else f"out[{name!r}]") if is_out else name
        refuse_inputs(path, read, called=called)
    refuse_shared(paths)
    for output in outputs.values():
        check_location(output.path)


def _whole_job(
    output: Output,
    source: RowSource,
    n_columns: int,
    job: Mapping[str, Any],
    identity: Identity | None,
) -> dict[str, Any]:
    check_outputs({"out": output}, source.locations())
    dtype = output.dtype
    if dtype is None:
        own = str(source.dtype).removeprefix("torch.")
        dtype = own if own in STORED_TYPES else "float32"
    return {
        **job,
        "source": identify(source) if identity is None else identity,
        "shape": [source.shape[0], n_columns],
        "dtype": dtype,
    }


def write_rows(
    source: RowSource,
    compute: Callable[[torch.Tensor, int], torch.Tensor],
    writer: RowsWriter,
    tell: Listener = silent,
    device: torch.device = CPU,
    client: Any = None,
) -> RowSource:
    """Write what a function computes from rows; finished chunks are not computed again.

    ``compute(rows, first)`` of some rows and the number of the first gives rows of the result. The
    cluster of a ``client`` computes and writes the chunks of a Zarr store, each in a task.
    """
    chunks = writer.missing()
    n = source.shape[0]
    done = n - sum(chunk.stop - chunk.start for chunk in chunks)

    def written(chunk: slice) -> None:
        nonlocal done
        done += chunk.stop - chunk.start
        tell(done, n, "Transforming rows")

    if client is None:
        _stream(source, chunks, compute, writer.write, device, written)
    else:
        write_on_cluster(source, chunks, compute, writer, client, written)
    return writer.finish()


def collect_rows(
    source: RowSource,
    compute: Callable[[torch.Tensor, int], torch.Tensor],
    n_columns: int,
    dtype: torch.dtype,
    *,
    memory_budget: int | None = None,
    device: torch.device = CPU,
    tell: Listener = silent,
) -> torch.Tensor:
    """Gather what a function computes from rows, read block by block, in one tensor on the CPU.

    ``device`` is where it is computed, and ``tell`` is told ``(done, total, text)``.

    Raises
    ------
    MemoryBudgetError
        If it would not fit into the free memory.
    """
    n = source.shape[0]
    Resources().require(
        n * n_columns * dtype.itemsize,
        f"the result of {n} rows and {n_columns} columns",
        "write it as it is made: {out='aligned.zarr'}",
    )
    result = empty_matrix(n, n_columns, like=torch.empty(0, dtype=dtype))
    at_once = rows_at_once(source, n_columns, memory_budget, device, at_most=_INPUT_BYTES)
    chunks = chunk_slices(n, source.whole_chunks(at_once))

    def convert(rows: torch.Tensor, first: int) -> torch.Tensor:
        return compute(rows, first).to(dtype)

    def written(chunk: slice) -> None:
        tell(chunk.stop, n, "Transforming rows")

    _stream(source, chunks, convert, result.__setitem__, device, written)
    return result


def _stream(
    source: RowSource,
    chunks: Iterable[slice],
    compute: Callable[[torch.Tensor, int], torch.Tensor],
    write: Callable[[slice, torch.Tensor], object],
    device: torch.device,
    written: Callable[[slice], object],
) -> None:
    """Compute every chunk on a device, while the next one is read and the last one is written."""
    copies = copies_for(device)

    def land(chunk: slice, copy: Copy) -> None:
        write(chunk, copies.land(copy))

    with (
        write_behind(land, written, one_core=not copies.overlap) as put,
        prefetched(source, chunks, copies) as blocks,
    ):
        for chunk, rows in blocks:
            put(chunk, copies.fetch(compute(rows, chunk.start)))


def rows_at_once(
    source: RowSource,
    n_columns: int,
    memory_budget: int | None,
    device: torch.device,
    *,
    at_most: int | None = None,
) -> int:
    """How many rows fit the budget, on the host and on the device of the computation.

    The budget is by default a quarter of the free memory of each. ``at_most`` is the number of
    bytes up to which reading more rows at once is worth it.
    """
    budget = Resources.of(memory_budget).for_blocks()
    fitting = min(budget, at_most or budget) // bytes_per_row(source, n_columns, device)
    if device.type != "cuda":
        return fitting
    budget = Resources.of(memory_budget, device=device).for_blocks()
    width = source.shape[1]
    per_row = bytes_in_floats(source.dtype) * (
        _DEVICE_COPIES_OF_INPUT * width + _DEVICE_COPIES_OF_OUTPUT * n_columns
    )
    return min(fitting, budget // per_row)


def bytes_per_row(source: RowSource, n_columns: int, device: torch.device = CPU) -> int:
    """Bytes of host memory for one row and its result, in all their copies.

    While a block is computed the next one is read, and the result of the last one is written, which
    exists as computed, in the type of the output, and compressed.
    """
    width, of_number = source.shape[1], bytes_in_floats(source.dtype)
    pinned = _PINNED_COPIES if device.type == "cuda" else 0
    return (_COPIES_OF_INPUT + pinned) * width * of_number + (
        (_COPIES_OF_OUTPUT + pinned) * n_columns * of_number
    )
