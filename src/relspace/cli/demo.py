"""``relspace demo``: the embedded case study."""

from __future__ import annotations

from pathlib import Path

import click

from relspace.cli.group import Progress, commands
from relspace.cli.resamples import with_random_state


@commands.command(short_help="Align two networks that see the same digits, offline.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("relspace-demo"),
    show_default=True,
    metavar="FOLDER",
    help="Folder for the figures, the numbers and the report; files of these names are replaced.",
)
@with_random_state
def demo(output: Path, random_state: int) -> None:
    """Align two networks that see the same images in different ways, offline, in seconds.

    A CNN and a vision transformer learned handwritten digits, each for itself; how often does an
    image in one find itself in the other, before alignment, after it, and by chance?
    """
    with Progress() as progress:
        progress("Loading torch")
        from relspace.demo.run import run_demo, summary_table

        summary = run_demo(output, random_state=random_state, progress=progress)
    click.echo(summary_table(summary))
    click.echo(f"\nReport: {output / 'report.html'}")
