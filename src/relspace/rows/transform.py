"""Rows through a function, chunk by chunk, within a fixed memory budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from relspace._core.arguments import check_choice, check_count
from relspace._core.arrays import bytes_in_floats
from relspace._core.device_copies import Copy, copies_for
from relspace._core.devices import CPU
from relspace._core.memory import chunk_slices, empty_matrix
from relspace._core.progress import Listener, silent
from relspace._core.resources import Resources
from relspace.errors import InvalidTypeError
from relspace.rows.ahead import prefetched, write_behind
from relspace.rows.identity import Identity, hash_ids, identify
from relspace.rows.ledger import RESUME, Resume
from relspace.rows.locations import refuse_inputs, refuse_shared
from relspace.rows.output import (
    STORED_TYPES,
    NpyWriter,
    RowsWriter,
    ZarrWriter,
    check_location,
    check_place,
    open_writer,
)
from relspace.rows.source import RowSource

# A chunk of the output, uncompressed: large enough for a file system, small enough to lose.
_CHUNK_BYTES = 2**25
_INPUT_BYTES = 4 * _CHUNK_BYTES
_COPIES_OF_INPUT = 3
_COPIES_OF_OUTPUT = 5
# With a GPU, blocks and results lie in pinned memory too, whose sizes are powers of 2.
_PINNED_COPIES = 4
# On the device: three blocks on their way in, and what normalising takes; results, and one on its
# way back.
_DEVICE_COPIES_OF_INPUT = 8
_DEVICE_COPIES_OF_OUTPUT = 5


@dataclass(frozen=True)
class Output:
    """Where a streamed result goes, and how.

    It is taken wherever ``out=`` is; a path alone stands for ``Output(path)``. What is there
    already is resumed if it belongs to the same job, over the same rows, and refused otherwise.

    Attributes
    ----------
    path : str or Path
        Ending in ``.zarr`` (a folder, or a URL that fsspec knows) or ``.npy``.
    dtype : str or None
        "float16", "float32" or "float64"; that of the input by default.
    memory_budget : int or None
        Bytes that working memory may take, and on a GPU as many again; by default a quarter of what
        is free in each.
    chunk_rows : int or None
        Rows of a chunk; by default as many as make 32 MiB, of which 128 MiB are read, or fewer if
        the budget is small.
    overwrite : bool
        Whether the output of another job is replaced rather than refused.
    resume : {"identified", "trust"}
        Rows are identified by their values or files (:func:`relspace.rows.identity.identify`); an
        output whose rows can't be, such as those that code makes, is resumed only with "trust", by
        which the caller vouches that they are the same. Rows that are known to have changed are
        refused all the same.

    Examples
    --------
    >>> import tempfile, torch, relspace
    >>> X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    >>> space = relspace.align({"a": X, "b": -X}, landmarks=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     out = relspace.Output(folder + "/aligned.npy", dtype="float16", chunk_rows=16)
    ...     space.transform("a", X, out=out).shape
    (60, 20)
    """

    path: str | Path
    dtype: str | None = None
    memory_budget: int | None = None
    chunk_rows: int | None = None
    overwrite: bool = False
    resume: Resume = "identified"

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | Path) or not str(self.path) or "\0" in str(self.path):
            raise InvalidTypeError(
                f"the output is {self.path!r}; it must be the path or URL of a .zarr store, or of "
                "an .npy file."
            )


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
    """Open the output of a job, new or begun before, for rows made from those of a source.

    Nobody else writes it until the writer is closed.

    Parameters
    ----------
    output : Output
        Where it goes.
    source : RowSource
        What it is made from; it becomes a part of the job by its identity, and that of its ids.
    n_columns : int
        Its width.
    job : mapping
        What else the result depends on.
    device : torch.device
        Where it is computed: a chunk has room there too.
    columns : str
        What one column is, such as ``"landmark"``.
    with_ids : bool
        Whether the source's ids are written beside the rows.
    identity : Identity, optional
        That of the source, where it is known already.
    """
    whole = _whole_job(output, source, n_columns, job, identity)
    if with_ids:
        whole["ids"] = hash_ids(source.ids)
    n = source.shape[0]
    if output.chunk_rows is not None:
        chunk_rows = check_count(output.chunk_rows, "chunk_rows")
    else:
        fitting = rows_at_once(source, n_columns, output.memory_budget, device)
        # What is read for a narrow result is many times as large as what is written.
        read_at_once = _INPUT_BYTES // (source.shape[1] * max(4, source.dtype.itemsize))
        wanted = min(n, fitting, _CHUNK_BYTES // (4 * n_columns), read_at_once)
        chunk_rows = source.whole_chunks(wanted)
    return open_writer(
        output.path,
        (n, n_columns),
        dtype=whole["dtype"],
        chunk_rows=chunk_rows,
        job=whole,
        ids=source.ids if with_ids else None,
        columns=columns,
        overwrite=output.overwrite,
        resume=output.resume,
    )


def check_output(
    output: Output,
    source: RowSource,
    n_columns: int,
    job: Mapping[str, Any],
    identity: Identity | None = None,
) -> None:
    """Refuse an output that :func:`begin_output` would, before the whole job is known."""
    whole = _whole_job(output, source, n_columns, job, identity)
    check_place(output.path, whole, overwrite=output.overwrite, resume=output.resume)


def check_outputs(
    outputs: Mapping[str, Output],
    inputs: Iterable[str | Path],
    files: Mapping[str, str | Path] | None = None,
) -> None:
    """Refuse outputs of one run before any work, of which one could not or must not be written.

    Parameters
    ----------
    outputs : mapping of str to Output
        The output of each set.
    inputs : iterable of str or Path
        What is read for any of them (:meth:`relspace.rows.source.RowSource.locations`).
    files : mapping of str to str or Path, optional
        What else is written, by what errors call it.

    Raises
    ------
    InvalidInputError
        If one is an input or another output, holds one or lies in one, or has another ending.
    FileFormatError
        If there is something else.
    OSError
        If nothing can be written there.
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
    check_choice(output.resume, "resume", RESUME)
    check_outputs({"out": output}, source.locations())
    dtype = output.dtype
    if dtype is None:
        own = str(source.dtype).removeprefix("torch.")
        dtype = own if own in STORED_TYPES else "float32"
    check_choice(dtype, "dtype", STORED_TYPES)
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
) -> RowSource:
    """Write what a function makes of rows, chunk by chunk; chunks that are there are left.

    Parameters
    ----------
    source : RowSource
        Where rows come from.
    compute : callable
        ``compute(rows, first)`` of some rows and the number of the first gives the result's.
    writer : RowsWriter
        Where the result goes, see :func:`begin_output`.
    tell : callable
        Told ``(done, total, text)`` after every chunk.
    device : torch.device
        Where it is computed: rows are brought there, and results taken back.
    """

    def written(rows: slice) -> None:
        tell(rows.stop, source.shape[0], "Transforming rows")

    _stream(source, writer.missing(), compute, writer.write, device, written)
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
    """Gather what a function makes of rows, read block by block, into one tensor in memory.

    ``device`` is where it is computed: rows are brought there, and results taken back.

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
    _stream(
        source,
        chunks,
        lambda rows, first: compute(rows, first).to(dtype),
        result.__setitem__,
        device,
        lambda rows: tell(rows.stop, n, "Transforming rows"),
    )
    return result


def _stream(
    source: RowSource,
    chunks: Iterable[slice],
    compute: Callable[[torch.Tensor, int], torch.Tensor],
    write: Callable[[slice, torch.Tensor], object],
    device: torch.device,
    written: Callable[[slice], object] = lambda rows: None,
) -> None:
    """Read chunks ahead, compute where ``device`` says, and write results behind."""
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
    """How many rows a budget holds, on the host and on the device of the computation.

    Parameters
    ----------
    source : RowSource
        Where rows come from.
    n_columns : int
        The width of the result.
    memory_budget : int or None
        Bytes that working memory may take, in each of the two; a quarter of what is free there by
        default. Of a device never more than is free.
    device : torch.device
        Where it is computed.
    at_most : int, optional
        Bytes that are worth reading at once.
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
    """What a row takes on its way: as read, in the float type of the computation, and the result's.

    While a block is worked on, the next one is read and the one before is written, which exists as
    computed, in the type of the output, and compressed.
    """
    width, of_number = source.shape[1], bytes_in_floats(source.dtype)
    pinned = _PINNED_COPIES if device.type == "cuda" else 0
    return (_COPIES_OF_INPUT + pinned) * width * of_number + (
        (_COPIES_OF_OUTPUT + pinned) * n_columns * of_number
    )
