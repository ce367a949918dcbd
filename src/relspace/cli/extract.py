"""``relspace extract``: models and images, or texts -> stores of their features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from relspace.cli.group import Progress, commands
from relspace.cli.models import (
    extraction_options,
    load_named,
    named_models,
    preprocessing_of,
    with_extraction,
)
from relspace.cli.options import cluster_at, with_json, with_scheduler


@commands.command(short_help="Store the features of models' layers.")
@click.argument("arguments", nargs=-1, required=True, metavar="MODEL [MODEL]... ITEMS")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="STORE",
    help="The store, a folder or a URL that fsspec knows (s3://, gs://), by custom ending in "
    ".zarr; for several models the folder that their stores go into.",
)
@click.option(
    "--ids",
    "ids_from",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Text file with the id of an item in each line, in the order of ITEMS; by default paths "
    "within the folder.",
)
@with_extraction
@with_scheduler(reach="ITEMS and STORE")
@with_json
def extract(
    arguments: Sequence[str],
    output: str,
    ids_from: Path | None,
    scheduler: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Extract features of layers into a Zarr store, in one pass over the images.

    A MODEL is [NAME=]FOLDER, as transformers or diffusers save it, or a name on the Hugging Face
    hub, which is looked for in the local cache first. ITEMS is a folder of images, a glob pattern
    in quotes, a dataset that datasets saved, or, for text models, a file with one text in each
    line.

    An extraction that was interrupted is resumed where it stopped when it is run again, if models,
    settings and items are the same: the content of all items is hashed first.

    \b
    relspace extract facebook/dinov2-base photos/ -o dino.zarr
    relspace extract models/sam photos/ -o sam.zarr --ids names.txt
    relspace extract models/sam models/clip photos/ -o features/ --layers 0,6,-1
    relspace extract models/sam photos/ -o s3://bucket/sam.zarr --scheduler tcp://host:8786
    """
    if len(arguments) < 2:
        raise click.UsageError("name a model and its images or texts")
    models, items = named_models(arguments[:-1]), arguments[-1]
    preprocessing = preprocessing_of(options["preprocessing"], models)
    with Progress() as progress, cluster_at(scheduler, progress) as client:
        progress.step("Loading torch")
        import relspace
        from relspace._core.items import ids_of_text
        from relspace.rows.registry import lines_of

        ids = None if ids_from is None else ids_of_text(lines_of(ids_from, "id"))
        found = {}
        for name, location in models.items():
            progress.step(f"Loading {location}")
            found[name] = relspace.extract(
                load_named(name, location, options, preprocessing[name]),
                items,
                output if len(models) == 1 else f"{output.rstrip('/')}/{name}.zarr",
                ids=ids,
                client=client,
                progress=progress,
                **extraction_options(options),
            )
    summaries = [_summary(name, fs) for name, fs in found.items()]
    if as_json:
        click.echo(json.dumps({"stores": summaries}, indent=2))
        return
    for one in summaries:
        layers = "\n".join(f"  {layer['name']}: {layer['shape']}" for layer in one["layers"])
        click.echo(f"{one['model']}: {one['n_items']} items\n{layers}\nStored in {one['store']}")


def _summary(name: str, fs: Any) -> dict[str, Any]:
    layers = []
    for layer in fs.layers:
        grid = fs[layer].grid
        shape = [fs[layer].shape[1]] if grid is None else [
            *(grid.rows, grid.columns), fs[layer].shape[1],
        ]  # fmt: skip
        layers.append({"name": layer, "shape": " x ".join(map(str, shape))})
    return {
        "model": name,
        "n_items": len(fs),
        "layers": layers,
        "vectors": list(fs.vectors),
        "store": fs.metadata["path"],
    }
