"""``relspace plot``: a saved common space -> a figure."""

from __future__ import annotations

from pathlib import Path

import click

from relspace.cli.group import Progress, commands
from relspace.cli.options import with_force
from relspace.cli.outputs import FIGURES, check_output, write_figure


@commands.command(short_help="Draw a saved space as a figure.")
@click.argument("space", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Figure (.png, .pdf, .svg) to write.",
)
@with_force("FILE")
def plot(space: Path, output: Path, force: bool) -> None:
    """Draw a saved SPACE: items as points of a plane, or images with their tokens in joint colours.

    \b
    relspace plot space.safetensors -o space.png
    """
    check_output(output, what="a figure", endings=list(FIGURES), force=force, inputs=[space])
    with Progress() as progress:
        progress.step("Loading torch")
        from relspace.space.align import load_space

        progress.step(f"Reading {space}")
        opened = load_space(space)
        progress.step(f"Drawing {output}")
        write_figure(opened.plot(), output)
    click.echo(f"Written to {output}")
