"""The study's command: ``python -m examples.portraits``, from the root of the repository."""

from __future__ import annotations

from pathlib import Path

import click

from relspace.cli.group import Progress


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("relspace-portraits"),
    show_default=True,
    metavar="FOLDER",
    help="Folder for the figures, the numbers and the report; files of these names are replaced.",
)
@click.option("--random-state", type=int, default=0, show_default=True, help="Seed.")
def main(output: Path, random_state: int) -> None:
    """Align a network that learned boundaries and one that learned parts, offline, in a minute.

    How often does a patch of one find the same part in the other, before alignment, after it, and
    by chance? The report holds the digits study too.
    """
    with Progress() as progress:
        progress.step("Loading torch")
        from examples.portraits.run import run
        from examples.portraits.table import summary_table

        summary = run(output, random_state=random_state, progress=progress)
    click.echo("Portraits")
    click.echo(summary_table(summary["portraits"]))
    click.echo(f"\nReport: {output / 'report.html'}")


if __name__ == "__main__":
    main()
