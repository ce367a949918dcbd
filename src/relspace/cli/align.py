"""``relspace align``: files of features -> a saved common space and a table about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from relspace._core.text_tables import text_table
from relspace.cli.group import Progress, commands
from relspace.cli.inputs import (
    Source,
    files,
    named_sources,
    parse_sources,
    read_sets,
    with_ids,
)
from relspace.cli.options import (
    cluster_at,
    with_force,
    with_json,
    with_memory_budget,
    with_random_state,
    with_scheduler,
)
from relspace.cli.outputs import check_output
from relspace.errors import InvalidInputError


@commands.command(short_help="Align features in files and save the common space.")
@click.argument("sources", nargs=-1, required=True, callback=parse_sources, metavar="A B [C]...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="SPACE",
    help="File for the aligned space, ending in .safetensors.",
)
@with_force("SPACE")
@with_ids
@click.option(
    "--landmarks",
    type=click.IntRange(min=3),
    default=1024,
    show_default=True,
    help="How many items rows are described by; all, if there are fewer.",
)
@click.option(
    "--on-missing",
    type=click.Choice(["raise", "intersect"]),
    default="raise",
    show_default=True,
    help="Where ids differ between sets: raise an error, or keep the items that all sets hold.",
)
@click.option(
    "--density",
    type=float,
    default=None,
    help="Mean affinity that sigma is solved for: 0.2 by default.",
)
@click.option(
    "--normalize",
    default=None,
    help="Before the kernel: quarter-whiten+unit by default.",
)
@click.option(
    "--standardize",
    type=click.Choice(["whiten", "half-whiten", "columns", "none"]),
    default=None,
    help="What is done to landmark columns: whiten for items, half-whiten for tokens on grids.",
)
@with_random_state
@with_scheduler(reach="the files")
@with_memory_budget(
    "Up to what size the sets' relative features are held and saved, such as 2GiB; by default "
    "half of the free memory. Larger ones are made as they are read, and not saved."
)
@with_json
def align(
    sources: Sequence[Source],
    output: Path,
    force: bool,
    ids_from: Sequence[str],
    columns_from: Sequence[str],
    by_position: bool,
    landmarks: int,
    on_missing: Literal["raise", "intersect"],
    density: float | None,
    normalize: str | None,
    standardize: str | None,
    random_state: int,
    scheduler: str | None,
    memory_budget: int | None,
    as_json: bool,
) -> None:
    """Align the features of two or more models, layers or brains on the same items.

    A set is [NAME=]FILE[::KEY]. FILE ends in .npy, .npz, .pt, .pth, .safetensors, .h5, .hdf5,
    .csv, .tsv or .parquet and holds one row for each item. KEY picks an entry when the file holds
    several matrices. NAME is what the set is called, otherwise the file's name. FILE may also be
    a Zarr store, at a URL too (s3://, gs://); of one of "relspace extract" KEY is a layer (by
    default the last): tokens of images then keep their own grids, and landmarks are positions in
    the images. .npy, .safetensors, .h5, .parquet and Zarr are read in parts.

    Rows are matched by their ids where files bring some, otherwise by position.

    \b
    relspace align dino.npy clip.npy -o space.safetensors
    relspace align dino=a.h5::block11 clip=b.npz::layer_6 -o space.safetensors
    relspace align a.csv b.parquet --id-column image -o space.safetensors --json
    relspace align sam.zarr::layer_11 dino.zarr -o space.safetensors
    """
    named = named_sources(sources)
    check_output(
        output,
        what="a space",
        endings=[".safetensors"],
        force=force,
        inputs=[source.location for source in sources],
    )
    with Progress() as progress:
        tables, ids = read_sets(
            named,
            ids_from,
            columns_from,
            by_position,
            progress,
            in_parts=True,
            on_missing=on_missing,
        )
        import relspace

        sets: dict[str, object] = {name: table.features for name, table in tables.items()}
        if scheduler is not None:
            from relspace.features import FeatureSet, scan
            from relspace.rows.dask import rows_as_array
            from relspace.rows.source import RowSource

            for name, one in sets.items():
                if isinstance(one, FeatureSet) and one.grid is not None:
                    raise InvalidInputError(
                        f"{name} holds tokens on grids, which are aligned here and not on a "
                        "cluster: leave --scheduler away"
                    )
            sets = {
                name: rows_as_array(
                    table.features
                    if isinstance(table.features, RowSource)
                    else scan(table.source, key=table.key)
                )
                for name, table in tables.items()
            }
        with cluster_at(scheduler, progress):
            space = relspace.align(
                sets,
                ids=ids,
                landmarks=landmarks,
                on_missing=on_missing,
                density=density,
                normalize=normalize,
                standardize=standardize,
                random_state=random_state,
                memory_budget=memory_budget,
                progress=progress,
            )
            # Saved first: what can't be compared, such as tokens of two images, is aligned yet.
            progress.step(f"Saving {output}")
            space.save(output)
            progress.step("Comparing sets")
            summary = space.summary()
    summary |= {"files": files(tables), "output": str(output)}
    click.echo(json.dumps(summary, indent=2) if as_json else _align_report(summary))


def _align_report(summary: Mapping[str, Any]) -> str:
    sets = [
        (
            name,
            f"{one['n_items']} x {one['n_features']}",
            f"{one['sigma']:.4g}",
            f"{one['density']:.4g}",
        )
        for name, one in summary["sets"].items()
    ]
    pairs = [
        (
            f"{pair['from']} -> {pair['to']}",
            f"{pair['match_accuracy']:.4f}",
            f"{pair['match_chance']:.4f}",
            f"{pair['distance']:.4f}",
            f"{pair['distance_chance']:.4f}",
        )
        for pair in summary["pairs"]
    ]
    n_matched = summary["pairs"][0]["n_items_matched"]
    if summary["item"] == "image":
        counts = f"{summary['n_landmarks']} positions in them are landmarks", "tokens"
    else:
        counts = f"{summary['n_landmarks']} of them landmarks", "items"
    given = summary["parameters"].get("n_given", {})
    of = f" (of {', '.join(f'{n} in {name}' for name, n in given.items())})" if given else ""
    return "\n".join(
        [
            *text_table(("set", "rows x features", "sigma", "density"), sets),
            "",
            *text_table(("pair", "top-1 match", "chance", "distance", "chance"), pairs),
            "",
            f"{summary['n_items']} {summary['item']}s{of} matched by {summary['matched_by']}, "
            f"{counts[0]}; top-1 match among {n_matched} {counts[1]}",
            f"Space saved to {summary['output']}",
        ]
    )
