"""``relspace report``: a saved common space -> one interactive page."""

from __future__ import annotations

from pathlib import Path

import click

from relspace.cli.group import Progress, commands
from relspace.errors import InvalidInputError


@commands.command(short_help="Write the interactive page of a saved space.")
@click.argument("space", type=click.Path(path_type=Path), metavar="SPACE")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    metavar="PAGE",
    help="The HTML file.",
)
@click.option("--force", is_flag=True, help="Overwrite PAGE if it exists.")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The items' images, found by their ids or, without ids, in the order of their names.",
)
@click.option("--title", help="What the page is called.")
@click.option(
    "--n-images",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="How many images are explored, where a space holds tokens of images; the first ones.",
)
@click.option(
    "--permutations",
    type=click.IntRange(min=0),
    default=999,
    show_default=True,
    help="How many permutations p-values rest on.",
)
@click.option("--random-state", type=int, default=0, show_default=True, help="Seed.")
def report(
    space: Path,
    output: Path,
    force: bool,
    images: Path | None,
    title: str | None,
    n_images: int,
    permutations: int,
    random_state: int,
) -> None:
    """Write one interactive page about a space that ``relspace align`` saved.

    The page needs no network. Of tokens on grids it shows panels in joint colours: point at a
    patch, and every model shows what is like it. Of items without grids it shows points and
    matches. All numbers come with their chance level and p-value, all tables as CSV.

    \b
    relspace report space.safetensors -o report.html
    relspace report space.safetensors -o report.html --images photos/
    """
    if output.exists() and not force:
        raise InvalidInputError(f"{output} exists; overwrite it with --force or name another file")
    if output.suffix not in (".html", ".htm"):
        raise InvalidInputError(f"a report is saved as .html, and {output} is not named so")
    with Progress() as progress:
        progress("Loading torch")
        import relspace

        progress(f"Reading {space}")
        loaded = relspace.load_space(space)
        progress("Measuring, colouring and drawing")
        relspace.write_report(
            loaded,
            output,
            images=images,
            title=title,
            n_images=n_images,
            n_permutations=permutations,
            random_state=random_state,
        )
    size = output.stat().st_size / 1e6
    click.echo(f"Report: {output} ({size:.1f} MB)")
