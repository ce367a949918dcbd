"""Applies a fitted function to rows: in memory, written to an output, or on Dask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from relspace._core.matrices import Array, to_numpy
from relspace._core.progress import Listener, silent
from relspace.rows.dask import map_rows
from relspace.rows.output import Output
from relspace.rows.registry import gives_arrays
from relspace.rows.source import RowSource
from relspace.rows.transform import begin_output, collect_rows, write_rows


class RowFunction(Protocol):
    """A function that computes each row of the result from one row; it can be pickled."""

    @property
    def device(self) -> torch.device:
        """The device of the computation; rows may be on any."""

    def __call__(self, rows: torch.Tensor, first: int | None) -> torch.Tensor:
        """Compute rows of the result; ``first`` is the number of the first row, if known."""


@dataclass(frozen=True)
class RowMap:
    """A fitted function of rows, with the width of its result and what one column is.

    ``check(shape, names)`` refuses features of another width or other names, and ``job()`` gives
    everything that the result depends on besides the rows, as plain values.
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
        """Write the result chunk by chunk, or resume an interrupted run of the same job."""
        output = out if isinstance(out, Output) else Output(out)
        if output.memory_budget is None:
            output = replace(output, memory_budget=memory_budget)
        with begin_output(
            output, source, self.n_columns, self.job(), self.compute.device, columns=self.column
        ) as writer:
            return write_rows(source, self.compute, writer, tell, self.compute.device, client)

    def collect(
        self,
        source: RowSource,
        *,
        dtype: torch.dtype | None = None,
        memory_budget: int | None = None,
        tell: Listener = silent,
    ) -> torch.Tensor:
        """Compute the result in blocks, in one tensor; refused if it would not fit."""
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
        """The result for a Dask array, as a lazy Dask array."""
        return cast("Array", map_rows(array, self.compute, self.n_columns))


def as_given(result: torch.Tensor, like: object) -> Array:
    """Convert the result to an array if an array was given."""
    return to_numpy(result) if gives_arrays(like) else result
