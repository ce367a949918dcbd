"""A fitted function of rows over rows that lie anywhere: gathered, written, or on Dask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from relspace._core.matrices import Array, to_numpy
from relspace._core.progress import Listener, silent
from relspace.errors import InvalidInputError
from relspace.rows.dask import map_rows, write_rows_on_cluster
from relspace.rows.output import RowsWriter, ZarrWriter
from relspace.rows.registry import gives_arrays
from relspace.rows.source import RowSource
from relspace.rows.transform import Output, begin_output, collect_rows, write_rows


class RowFunction(Protocol):
    """What makes rows of rows, each from its own; workers of a cluster are sent it."""

    @property
    def device(self) -> torch.device:
        """Where it computes; rows may be anywhere."""

    def __call__(self, rows: torch.Tensor, first: int | None) -> torch.Tensor:
        """Make the result's rows of some rows; ``first`` is the number of the first, if known."""


@dataclass(frozen=True)
class RowMap:
    """A fitted function of rows, and what is known of its result.

    Attributes
    ----------
    compute : RowFunction
        The function.
    n_columns : int
        The width of its result.
    column : str
        What one column is, such as ``"landmark"``.
    check : callable
        ``check(shape, names)`` refuses features of another width or other names.
    job : callable
        Gives what the result depends on besides the rows, as plain values.
    """

    compute: RowFunction
    n_columns: int
    column: str
    check: Callable[[tuple[int, ...], tuple[str, ...] | None], None]
    job: Callable[[], Mapping[str, Any]]

    def write(
        self,
        source: RowSource,
        out: str | Path | Output,
        *,
        memory_budget: int | None = None,
        client: Any = None,
        tell: Listener = silent,
    ) -> RowSource:
        """Write the result chunk by chunk, or resume where the same job stopped."""
        output = out if isinstance(out, Output) else Output(out)
        if output.memory_budget is None:
            output = replace(output, memory_budget=memory_budget)
        with begin_output(
            output,
            source,
            self.n_columns,
            self.job(),
            self.compute.device,
            columns=self.column,
        ) as writer:
            return write_begun(writer, output, source, self.compute, client, tell)

    def collect(
        self,
        source: RowSource,
        *,
        dtype: torch.dtype | None = None,
        memory_budget: int | None = None,
        tell: Listener = silent,
    ) -> torch.Tensor:
        """Gather the result, read in blocks, in one tensor; refused where it would not fit."""
        if dtype is None:
            dtype = source.dtype if source.dtype.is_floating_point else torch.float32
        device = self.compute.device
        return collect_rows(
            source,
            self.compute,
            self.n_columns,
            dtype,
            memory_budget=memory_budget,
            device=device,
            tell=tell,
        )

    def lazily(self, array: Any) -> Array:
        """The result of a Dask array as another one."""
        return cast("Array", map_rows(array, self.compute, self.n_columns))


def write_begun(
    writer: RowsWriter,
    output: Output,
    source: RowSource,
    compute: RowFunction,
    client: Any,
    tell: Listener,
) -> RowSource:
    """Write the missing chunks of an output that was begun, here or on a cluster."""
    if client is None:
        return write_rows(source, compute, writer, tell, compute.device)
    if not isinstance(writer, ZarrWriter):
        raise InvalidInputError(
            f"out is {str(output.path)!r}; a cluster writes Zarr stores, ending in .zarr."
        )
    return write_rows_on_cluster(source, compute, writer, client, tell)


def as_given(result: torch.Tensor, like: object) -> Array:
    """The result as an array where an array was given."""
    return to_numpy(result) if gives_arrays(like) else result
