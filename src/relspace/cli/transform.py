"""``relspace transform``: features of any size -> relative features on disk, in a saved space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relspace.cli.group import Progress, commands
from relspace.cli.inputs import Source, parse_sources
from relspace.cli.options import with_json
from relspace.cli.written_rows import Written, with_rows_written, write_rows

if TYPE_CHECKING:
    from relspace.rows.ledger import Resume


@commands.command(short_help="Bring features of any size into a saved space, on disk.")
@click.argument("space", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name")
@click.argument("sources", nargs=-1, required=True, callback=parse_sources, metavar="FILE...")
@with_rows_written
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
    with Progress() as progress:
        result = write_rows(
            lambda opened: opened.aligner(name),
            space,
            sources,
            progress,
            Written(output, force, resume, dtype, memory_budget, device, scheduler),
        )
    done = {"output": output, "n_items": result.shape[0], "n_landmarks": result.shape[1]}
    text = f"{result.shape[0]} rows over {result.shape[1]} landmarks saved to {output}"
    click.echo(json.dumps(done, indent=2) if as_json else text)
