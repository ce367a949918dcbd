"""``relspace transform``: features of any size -> relative features on disk, in a saved space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relspace.cli.group import Progress, commands
from relspace.cli.inputs import Source, parse_sources
from relspace.cli.options import (
    cluster_at,
    with_json,
    with_memory_budget,
    with_resume,
    with_scheduler,
)
from relspace.rows.locations import refuse_inputs

if TYPE_CHECKING:
    from relspace.rows.ledger import Resume


@commands.command(short_help="Bring features of any size into a saved space, on disk.")
@click.argument("space", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name")
@click.argument("sources", nargs=-1, required=True, callback=parse_sources, metavar="FILE...")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    help="A Zarr store (.zarr; a folder or a URL that fsspec knows) or an .npy file.",
)
@click.option("--force", is_flag=True, help="Replace the output of another job.")
@with_resume
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32", "float64"]),
    help="Type of the output; by default that of the input.",
)
@with_memory_budget(
    "What working memory may take, such as 2GiB; by default a quarter of what is free."
)
@click.option(
    "--device", default="cpu", show_default=True, help="Where to compute: auto, cpu, cuda, cuda:1."
)
@with_scheduler(reach="FILE and OUT")
@with_json
def transform(
    space: Path,
    name: str,
    sources: list[Source],
    output: str,
    force: bool,
    resume: Resume,
    dtype: str | None,
    memory_budget: int | None,
    device: str,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Describe features of set NAME of a saved SPACE by its landmarks, chunk by chunk.

    FILE is anything that holds rows of this model's features, as FILE[::KEY]: .npy, .safetensors,
    .h5 and .zarr are read in parts, so that they may be larger than memory; several files are
    taken one after the other. A run that was cut off is resumed where it stopped when the same
    command is given again, over files of the same content.

    \b
    relspace transform space.safetensors dino tokens.npy -o aligned.zarr --memory-budget 2GiB
    relspace transform space.safetensors dino shard-*.npy -o s3://bucket/aligned.zarr
    """
    if scheduler is not None and device != "cpu":
        raise click.UsageError("workers of a cluster compute on their CPUs: leave out --device.")
    refuse_inputs(output, [space, *(one.location for one in sources)], called="--output")
    with Progress() as progress:
        progress.step("Loading torch")
        import relspace
        from relspace.features import scan
        from relspace.rows.output import Output

        progress.step(f"Reading {space}")
        aligner = relspace.load_space(space).aligner(name).to(device)
        shards = [scan(one.location, key=one.key) for one in sources]
        rows = shards[0] if len(shards) == 1 else scan(shards)
        with cluster_at(scheduler, progress) as client:
            result = aligner.transform(
                rows,
                out=Output(
                    output,
                    dtype=dtype,
                    memory_budget=memory_budget,
                    overwrite=force,
                    resume=resume,
                ),
                client=client,
                progress=progress,
            )
    done = {"output": output, "n_items": result.shape[0], "n_landmarks": result.shape[1]}
    text = f"{result.shape[0]} rows over {result.shape[1]} landmarks saved to {output}"
    click.echo(json.dumps(done, indent=2) if as_json else text)
