"""A fitted function of rows applied to whatever holds rows: in blocks, on disk, or on Dask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from relspace._core.validation import Array, to_numpy
from relspace.errors import InvalidInputError
from relspace.rows.dask import map_rows, write_rows_on_cluster
from relspace.rows.output import RowsWriter, ZarrWriter
from relspace.rows.source import DaskRows, RowSource
from relspace.rows.transform import Output, begin_output, collect_rows, write_rows

Progress = Callable[[int, int], None]


class RowFunction(Protocol):
    """What makes rows of rows, each from its own; workers of a cluster are sent it."""

    @property
    def device(self) -> torch.device:
        """Where it computes; rows may be anywhere."""

    def __call__(self, rows: torch.Tensor, first: int | None) -> torch.Tensor:
        """Make the result's rows of some rows; ``first`` is the number of the first, if known."""


def write_result(
    source: RowSource,
    compute: RowFunction,
    n_columns: int,
    *,
    out: str | Path | Output,
    job: Mapping[str, Any],
    columns: str,
    client: Any = None,
    progress: Progress | None = None,
) -> RowSource:
    """Write what a function makes of rows, chunk by chunk, or resume where the same job stopped.

    Parameters
    ----------
    source : RowSource
        Where rows come from.
    compute : callable
        ``compute(rows, first)`` of some rows and the number of the first gives the result's.
    n_columns : int
        The width of the result.
    out : str, Path or Output
        Where it goes.
    job : mapping
        What it depends on besides the source, as plain values.
    columns : str
        What one column is, such as ``"landmark"``.
    client : distributed.Client, optional
        A cluster that makes the chunks.
    progress : callable, optional
        ``progress(n_done, n_rows)`` after every chunk.
    """
    output = out if isinstance(out, Output) else Output(out)
    with begin_output(output, source, n_columns, job, compute.device, columns=columns) as writer:
        return write_begun(writer, output, source, compute, client, progress)


def write_begun(
    writer: RowsWriter,
    output: Output,
    source: RowSource,
    compute: RowFunction,
    client: Any,
    progress: Progress | None,
) -> RowSource:
    """Write what is missing of an output that was begun, here or on a cluster.

    Parameters
    ----------
    writer : RowsWriter
        What :func:`relspace.rows.transform.begin_output` gave for the output.
    output, source, compute, client, progress
        As for :func:`write_result`.
    """
    if client is None:
        return write_rows(source, compute, writer, progress, compute.device)
    if not isinstance(writer, ZarrWriter):
        raise InvalidInputError(
            f"out is {str(output.path)!r}; a cluster writes Zarr stores, ending in .zarr."
        )
    return write_rows_on_cluster(source, compute, writer, client, progress)


def gather_result(
    source: RowSource,
    compute: RowFunction,
    n_columns: int,
    *,
    like: object,
    memory_budget: int | None = None,
) -> Array:
    """Gather what a function makes of rows that are read in blocks; of a Dask array, lazily.

    Parameters
    ----------
    source : RowSource
        Where rows come from.
    compute : callable
        As for :func:`write_result`.
    n_columns : int
        The width of the result.
    like : object
        What the user gave: of an array the result is one, else a tensor.
    memory_budget : int, optional
        Bytes that working memory may take.

    Raises
    ------
    MemoryBudgetError
        If the result would not fit into the free memory.
    """
    if isinstance(source, DaskRows):
        return cast("Array", map_rows(source.array, compute, n_columns, None))
    dtype = source.dtype if source.dtype.is_floating_point else torch.float32
    collected = collect_rows(
        source, compute, n_columns, dtype, memory_budget=memory_budget, device=compute.device
    )
    return to_numpy(collected) if hasattr(like, "__array__") else collected
