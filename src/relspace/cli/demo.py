"""``relspace demo``: the embedded case study."""

from __future__ import annotations

from pathlib import Path

import click

from relspace.cli.group import Progress, commands


@commands.command(short_help="Align two networks on real images, offline.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("relspace-demo"),
    show_default=True,
    metavar="FOLDER",
    help="Folder for the figure, the numbers and the report; files of these names are replaced.",
)
@click.option("--random-state", type=int, default=0, show_default=True, help="Seed.")
def demo(output: Path, random_state: int) -> None:
    """Align two networks trained on handwritten digits, offline, in half a minute.

    A small CNN and a small vision transformer see the same digits. The table says how often an
    item of one network finds itself in the other: before alignment, after it, and by chance.
    """
    with Progress() as progress:
        progress("Loading torch")
        from relspace.demo.study import run_demo, summary_table

        summary = run_demo(output, random_state=random_state, progress=progress)
    click.echo(summary_table(summary))
    click.echo(f"\nReport: {output / 'report.html'}")
