"""What is fitted, in use: its function of rows over rows that lie anywhere, and its file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import torch

from relspace._core.archive import read_archive, write_archive
from relspace._core.validation import Array, check_count, to_numpy
from relspace.errors import FileFormatError, InvalidInputError
from relspace.rows.dask import map_rows, write_rows_on_cluster
from relspace.rows.locations import reading, refuse_inputs
from relspace.rows.output import RowsWriter, ZarrWriter
from relspace.rows.registry import gives_arrays
from relspace.rows.source import RowSource
from relspace.rows.transform import Output, begin_output, collect_rows, write_rows

Progress = Callable[[int, int], None]
_S = TypeVar("_S", bound="Saved")

#: Version of the files of :class:`Saved`; those without one are of version 1.
FORMAT_VERSION = 1


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
        progress: Progress | None = None,
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
            return write_begun(writer, output, source, self.compute, client, progress)

    def collect(
        self,
        source: RowSource,
        *,
        dtype: torch.dtype | None = None,
        memory_budget: int | None = None,
    ) -> torch.Tensor:
        """Gather the result, read in blocks, in one tensor; refused where it would not fit."""
        if dtype is None:
            dtype = source.dtype if source.dtype.is_floating_point else torch.float32
        device = self.compute.device
        return collect_rows(
            source, self.compute, self.n_columns, dtype, memory_budget=memory_budget, device=device
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
    progress: Progress | None,
) -> RowSource:
    """Write the missing chunks of an output that was begun, here or on a cluster."""
    if client is None:
        return write_rows(source, compute, writer, progress, compute.device)
    if not isinstance(writer, ZarrWriter):
        raise InvalidInputError(
            f"out is {str(output.path)!r}; a cluster writes Zarr stores, ending in .zarr."
        )
    return write_rows_on_cluster(source, compute, writer, client, progress)


class Saved(ABC):
    """What is kept in one safetensors file, with a checksum of all that it holds."""

    #: What the file says it holds.
    _kind: ClassVar[str]
    #: Tensors, by the last part of their names, in which infinity has a meaning.
    _may_be_infinite: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def _stored(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What a file holds: tensors, and plain values beside them."""

    @classmethod
    @abstractmethod
    def _restored(cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> Self:
        """Check what a file holds, and make of it what was saved."""

    def _read_from(self) -> Iterable[str | Path]:
        """Files that results are read from, which a saved file must not overwrite."""
        return ()

    def save(self, path: str | Path) -> Path:
        """Write it into one safetensors file, whole or not at all.

        Results that were written by ``out`` stay where they are and are no part of it.

        Parameters
        ----------
        path : str or Path
            The file; one that exists is replaced.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        InvalidInputError
            If the file is one that results are read from.
        """
        tensors, metadata = self._stored()
        refuse_inputs(path, self._read_from(), called="path")
        return write_archive(
            path, self._kind, tensors, {"format_version": FORMAT_VERSION, **metadata}
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote: the same to the bit, on the CPU.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        FileFormatError
            If it is damaged, holds something else, or comes from a later version.
        """
        return load_saved(path, cls)


def load_saved(path: str | Path, *classes: type[_S]) -> _S:
    """Read a file that one of these classes saved."""
    of_kind = {one._kind: one for one in classes}
    infinite = {name for one in classes for name in one._may_be_infinite}
    tensors, metadata = read_archive(path, *of_kind, may_be_infinite=infinite)
    with reading(path, f"a saved {classes[0].__name__}"):
        version = check_count(metadata.get("format_version", 1), "format_version")
        if version > FORMAT_VERSION:
            raise FileFormatError(
                f"{path} has format version {version}; this relspace reads up to "
                f"{FORMAT_VERSION}: install a newer one."
            )
        return of_kind[metadata["kind"]]._restored(tensors, metadata)


def as_given(result: torch.Tensor, like: object) -> Array:
    """The result as an array where an array was given."""
    return to_numpy(result) if gives_arrays(like) else result
