"""``relspace compare-models``: models and images -> features, alignment and one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from relspace.cli.group import Progress, commands
from relspace.cli.models import extraction_options, load_named, named_models, with_extraction
from relspace.errors import InvalidInputError


@commands.command("compare-models", short_help="Compare pretrained models on images, all at once.")
@click.argument("arguments", nargs=-1, required=True, metavar="MODEL MODEL [MODEL]... IMAGES")
@click.option(
    "--models",
    "further",
    multiple=True,
    metavar="MODEL",
    help="One more model (may be repeated).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    metavar="PAGE",
    help="The HTML file; one that exists is replaced.",
)
@click.option(
    "--features",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder that the stores of features go into, and are reused from; by default "
    "PAGE without its ending, and -features.",
)
@with_extraction
@click.option("--title", help="What the page is called.")
@click.option(
    "--n-images",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="How many images are explored on the page, the first ones.",
)
@click.option(
    "--permutations",
    type=click.IntRange(min=0),
    default=99,
    show_default=True,
    help="How many permutations p-values rest on.",
)
def compare_models(
    arguments: Sequence[str],
    further: Sequence[str],
    output: Path,
    features: Path | None,
    title: str | None,
    n_images: int,
    permutations: int,
    **options: Any,
) -> None:
    """Extract features of several models, align them, compare them layer by layer, write a page.

    A MODEL is [NAME=]FOLDER, as transformers or diffusers save it, a name on the Hugging Face hub,
    or a feature store (.zarr) that ``relspace extract`` wrote. IMAGES is what ``relspace extract``
    takes: a folder, a glob pattern in quotes, or a saved dataset; for text models a text file.

    Features are kept, so that a second run, or one after an interruption, doesn't extract again.

    \b
    relspace compare-models models/dinov2 models/clip photos/ -o report.html
    relspace compare-models a=models/sam b=dino.zarr photos/ --models c=models/mae --layers 0,6,-1
    """
    if len(arguments) + len(further) < 3:
        raise click.UsageError("name two models or more, and their images or texts")
    models, items = named_models([*arguments[:-1], *further]), arguments[-1]
    if output.suffix not in (".html", ".htm"):
        raise InvalidInputError(f"a report is saved as .html, and {output} is not named so")
    folder = output.with_name(f"{output.stem}-features") if features is None else features
    with Progress() as progress:
        progress("Loading torch")
        import relspace
        from relspace.features.store import is_store

        sets = {}
        for name, place in models.items():
            if is_store(Path(place)):
                progress(f"Reading {place}")
                sets[name] = relspace.open_features(place)
                continue
            progress(f"Loading {place}")
            model = load_named(name, place, options)
            found = relspace.extract(
                model,
                items,
                folder / f"{name}.zarr",
                progress=progress,
                **extraction_options(options),
            )
            assert isinstance(found, relspace.FeatureSet)
            sets[name] = found
        on_grids = all(fs.image_sizes is not None for fs in sets.values())
        relspace.report(
            sets,
            output,
            images=items if on_grids else None,
            title=title,
            n_images=n_images,
            n_permutations=permutations,
            random_state=options["random_state"],
            progress=progress,
        )
    for name, fs in sets.items():
        click.echo(f"{name}: {len(fs)} items, {len(fs.layers)} layers, {fs.metadata['path']}")
    click.echo(f"Report: {output} ({output.stat().st_size / 1e6:.1f} MB)")
