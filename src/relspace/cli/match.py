"""``relspace match``: which item of one set of a saved space is nearest to which of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from relspace.cli.group import Progress, commands
from relspace.cli.options import with_force, with_json
from relspace.cli.outputs import check_output


@commands.command(short_help="Write which item matches which, across two sets of a space.")
@click.argument("space", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Table (.csv) to write.",
)
@with_force("FILE")
@click.option(
    "--neighbors",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many nearest items of B are listed for each item of A.",
)
@click.option(
    "--hubness",
    type=click.Choice(["none", "csls"]),
    default="none",
    show_default=True,
    help="csls sets items of B back that are near to everything.",
)
@with_json
def match(
    space: Path,
    a: str,
    b: str,
    output: Path,
    force: bool,
    neighbors: int,
    hubness: Literal["none", "csls"],
    as_json: bool,
) -> None:
    """List the nearest items of set B for every item of set A of a saved SPACE, with distances.

    Items are named by their ids, or by their numbers from 0 where they have none; tokens by their
    image and their number in it.

    \b
    relspace match space.safetensors dino clip -o matches.csv
    relspace match space.safetensors dino clip -o matches.csv --neighbors 5
    """
    check_output(output, what="a table", endings=[".csv"], force=force, inputs=[space])
    with Progress() as progress:
        progress.step("Loading torch")
        from relspace.space.align import load_space

        progress.step(f"Reading {space}")
        opened = load_space(space)
        progress.step(f"Matching {a} with {b}")
        found = opened.match(a, b, neighbors, hubness=hubness)
        found.to_csv(output)
    summary = found.to_dict() | {"from": a, "to": b, "output": str(output)}
    text = (
        f"top-{neighbors} match of {a} in {b}: {found.accuracy:.4f}, chance {found.chance:.4f}, "
        f"{found.n_items} {opened._item if opened._item == 'item' else 'token'}s\n"
        f"Written to {output}"
    )
    click.echo(json.dumps(summary, indent=2) if as_json else text)
