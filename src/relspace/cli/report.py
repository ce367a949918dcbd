"""``relspace report``: a saved common space, or features of several models -> one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from relspace.cli.group import Progress, commands
from relspace.cli.inputs import Source, named_sources, parse_sources
from relspace.cli.options import with_force, with_page, with_random_state
from relspace.cli.outputs import check_page, said_of_page


@commands.command(short_help="Write an interactive page about a space, or about models.")
@click.argument(
    "sources", nargs=-1, required=True, callback=parse_sources, metavar="SPACE | A B [C]..."
)
@with_page
@with_force("PAGE")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The items' images, found by their ids or, without ids, in the order of their names.",
)
@click.option(
    "--features",
    multiple=True,
    callback=parse_sources,
    metavar="[NAME=]STORE",
    help="What was aligned to SPACE, for the colours before alignment; once for each set.",
)
@with_random_state
def report(
    sources: Sequence[Source],
    output: Path,
    force: bool,
    images: Path | None,
    features: Sequence[Source],
    title: str | None,
    n_images: int,
    permutations: int,
    random_state: int,
) -> None:
    """Write one interactive page that needs no network.

    SPACE is what ``relspace align`` saved. Of tokens on grids the page shows panels in joint
    colours: point at a patch, and every model shows what is like it. Of items without grids it
    shows points and matches.

    A B ... are feature stores of several models over the same images, each [NAME=]FOLDER. The
    page shows all their layers, aligned and compared layer by layer.

    All values come with their chance level and p-value, all tables as CSV.

    \b
    relspace report space.safetensors -o report.html
    relspace report space.safetensors --features sam=sam.zarr --features dino=dino.zarr
    relspace report sam=sam.zarr dino=dino.zarr -o report.html --images photos/
    """
    check_page(output, force=force, inputs=[one.location for one in (*sources, *features)])
    stores = named_sources(sources) if len(sources) > 1 else {}
    before = named_sources(features) if features else {}
    with Progress() as progress:
        progress.step("Loading torch")
        import relspace
        from relspace.features import open_features

        progress.step(f"Reading {', '.join(one.location for one in sources)}")
        relspace.report(
            {name: open_features(source.location) for name, source in stores.items()}
            or relspace.load_space(sources[0].location),
            output,
            images=images,
            features={name: open_features(one.location) for name, one in before.items()} or None,
            title=title,
            n_images=n_images,
            n_permutations=permutations,
            random_state=random_state,
            overwrite=force,
            progress=progress,
        )
    click.echo(said_of_page(output))
