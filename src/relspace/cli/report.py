"""``relspace report``: a saved common space, or features of several models -> one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from relspace.cli.group import Progress, commands
from relspace.cli.inputs import Source, named_sources, parse_sources, read_sets, with_ids
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
@with_ids
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
    ids_from: Sequence[str],
    columns_from: Sequence[str],
    by_position: bool,
    random_state: int,
) -> None:
    """Write one interactive page that needs no network.

    SPACE is what ``relspace align`` saved. Of tokens on grids the page shows panels in joint
    colours: point at a patch, and every model shows what is like it. Of items without grids it
    shows points and matches.

    A B ... are feature stores of several models over the same images, each [NAME=]FOLDER. The
    page shows all their layers, aligned and compared layer by layer. Other files, each
    [NAME=]FILE[::KEY], are aligned as ``relspace align`` does it, and the page is of their space.

    All values come with their chance level and p-value, all tables as CSV.

    \b
    relspace report dino.npy clip.npy -o report.html
    relspace report space.safetensors -o report.html
    relspace report space.safetensors --features sam=sam.zarr --features dino=dino.zarr
    relspace report sam=sam.zarr dino=dino.zarr -o report.html --images photos/
    """
    check_page(output, force=force, inputs=[one.location for one in (*sources, *features)])
    named = named_sources(sources) if len(sources) > 1 else {}
    before = named_sources(features) if features else {}
    with Progress() as progress:
        progress.step("Loading torch")
        import relspace
        from relspace.features import open_features

        of: Any
        if not named:
            progress.step(f"Reading {sources[0].location}")
            of = relspace.load_space(sources[0].location)
        else:
            tables, ids = read_sets(
                named, ids_from, columns_from, by_position, progress, in_parts=True
            )
            of = {name: table.features for name, table in tables.items()}
            is_store = {
                name: isinstance(one, relspace.FeatureSet) and named[name].key is None
                for name, one in of.items()
            }
            if all(is_store.values()):
                of = {name: open_features(source.location) for name, source in named.items()}
                if by_position:
                    of = {name: fs.with_ids(None) for name, fs in of.items()}
            else:
                of = relspace.align(of, ids=ids, random_state=random_state, progress=progress)
        relspace.report(
            of,
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
