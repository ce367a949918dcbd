"""What commands share that write rows, made from files by what a space holds, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relspace.cli.group import Progress
from relspace.cli.inputs import Source
from relspace.cli.options import (
    cluster_at,
    together,
    with_memory_budget,
    with_resume,
    with_scheduler,
)
from relspace.rows.locations import refuse_inputs

if TYPE_CHECKING:
    from relspace.rows.fitted import FittedMap
    from relspace.rows.ledger import Resume
    from relspace.rows.source import RowSource
    from relspace.space.base import CommonSpace

#: The options of these commands.
with_rows_written = together(
    click.option(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="A Zarr store (.zarr; a folder or a URL that fsspec knows) or an .npy file.",
    ),
    click.option("--force", is_flag=True, help="Replace the output of another job."),
    with_resume,
    click.option(
        "--dtype",
        type=click.Choice(["float16", "float32", "float64"]),
        help="Type of the output; by default that of the input.",
    ),
    with_memory_budget(
        "What working memory may take, such as 2GiB; by default a quarter of what is free."
    ),
    click.option(
        "--device",
        default="cpu",
        show_default=True,
        help="Where to compute: auto, cpu, cuda, cuda:1.",
    ),
    with_scheduler(reach="FILE and OUT"),
)


@dataclass(frozen=True)
class Written:
    """What the options say of the output and of the computation."""

    output: str
    force: bool
    resume: Resume
    dtype: str | None
    memory_budget: int | None
    device: str
    scheduler: str | None


def write_rows(
    fitted_of: Callable[[CommonSpace], FittedMap],
    space: Path,
    sources: Sequence[Source],
    progress: Progress,
    asked: Written,
) -> RowSource:
    """Apply what a saved space holds to files, taken one after the other, and write the result."""
    if asked.scheduler is not None and asked.device != "cpu":
        raise click.UsageError("workers of a cluster compute on their CPUs: leave out --device.")
    refuse_inputs(asked.output, [space, *(one.location for one in sources)], called="--output")
    progress.step("Loading torch")
    import relspace
    from relspace.features import scan
    from relspace.rows.output import Output

    progress.step(f"Reading {space}")
    fitted = fitted_of(relspace.load_space(space)).to(asked.device)
    shards = [scan(one.location, key=one.key) for one in sources]
    rows = shards[0] if len(shards) == 1 else scan(shards)
    output = Output(
        asked.output,
        dtype=asked.dtype,
        memory_budget=asked.memory_budget,
        overwrite=asked.force,
        resume=asked.resume,
    )
    with cluster_at(asked.scheduler, progress) as client:
        return fitted.transform(rows, out=output, client=client, progress=progress)
