"""``relspace layers``: which layer of one model does what which layer of another does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relspace._core.text_tables import text_table
from relspace.cli.group import Progress, commands
from relspace.cli.inputs import Source, named_sources, parse_sources
from relspace.cli.options import (
    cluster_at,
    with_by_position,
    with_comparison,
    with_force,
    with_measure,
    with_pool,
)
from relspace.cli.outputs import FIGURES, check_output, printed_in_any_case, write_figure
from relspace.cli.results import number_cell, p_cell, said_of_items
from relspace.errors import InvalidInputError

if TYPE_CHECKING:
    from relspace.similarity import LayerComparison, ModelComparison


@commands.command(short_help="Compare models layer by layer.")
@click.argument("sources", nargs=-1, required=True, callback=parse_sources, metavar="A B [C]...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Page (.html) or figure (.png, .pdf, .svg) to write.",
)
@with_force("FILE")
@with_measure
@with_pool(
    "none",
    said="; 'none' compares the tokens themselves, on different grids read at the same positions "
    "of the images",
)
@click.option(
    "--dissimilarities",
    is_flag=True,
    help="The matrices of the files are dissimilarities of the items (n_items, n_items), which RSA "
    "measures compare as they are.",
)
@with_by_position
@with_comparison
def layers(
    sources: Sequence[Source],
    output: Path | None,
    force: bool,
    measure: str,
    permutations: int,
    alpha: float,
    pool: str,
    dissimilarities: bool,
    by_position: bool,
    max_items: int | None,
    memory_budget: int | None,
    scheduler: str | None,
    random_state: int,
    as_json: bool,
) -> None:
    """Compare every layer of one model with every layer of another, or of several.

    A model is [NAME=]FILE, whose matrices (n_items, n_features) are its layers: .npz, .pt, .pth in
    the file's order, .safetensors, .h5, .hdf5 by name, or the one of an .npy or .csv. An entry
    'ids' names the items. FILE may also be a feature store, a folder or a URL (s3://, gs://).
    Stores, .safetensors and .h5 are read in blocks where they don't fit into memory. p-values of
    two models are corrected for the number of pairs of layers.

    \b
    relspace layers dino.npz clip.npz
    relspace layers dino=a.h5 clip=b.npz -o layers.html --measure cka --permutations 999
    relspace layers a.npz b.npz c.npz -o models.png
    """
    named = named_sources(sources)
    with_key = [source for source in named.values() if source.key is not None]
    if with_key:
        raise click.UsageError(f"{with_key[0].path}: all of a file's matrices are layers, no ::KEY")
    if output is not None:
        check_output(
            output,
            what="a page or figure",
            endings=[".html", *FIGURES],
            force=force,
            inputs=[source.location for source in named.values()],
        )
    with Progress() as progress, ExitStack() as stack:
        progress.step("Loading torch")
        import relspace

        models: dict[str, object] = {}
        ids: dict[str, object] = {}
        for name, source in named.items():
            progress.step(f"Opening {source.location}")
            models[name], own = (
                _open_matrices(source) if dissimilarities else _open_model(source, pool)
            )
            if own is not None:
                ids[name] = own
        options: dict[str, Any] = {
            "ids": "position" if by_position else ids,
            "measure": measure,
            "n_permutations": permutations,
            "random_state": random_state,
            "alpha": alpha,
            "max_items": max_items,
            "memory_budget": memory_budget,
            "client": stack.enter_context(cluster_at(scheduler, progress)),
            "progress": progress,
        }
        compared: LayerComparison | ModelComparison
        if len(models) == 2:
            compared = relspace.compare_layers(*models.values(), names=list(models), **options)
        else:
            compared = relspace.compare_models(models, **options)
        if output is not None:
            progress.step(f"Writing {output}")
            with printed_in_any_case(_said_of(compared, None, as_json)):
                _write(compared, output)
    click.echo(_said_of(compared, output, as_json))


def _said_of(
    compared: LayerComparison | ModelComparison, output: Path | None, as_json: bool
) -> str:
    summary = compared.to_dict() | {"output": None if output is None else str(output)}
    if as_json:
        return json.dumps(summary, indent=2)
    lines = _layer_lines(summary) if "best_matches" in summary else _model_lines(summary)
    return "\n".join([*lines, *([] if output is None else [f"Written to {output}"])])


def _open_model(source: Source, pool: str) -> tuple[object, object]:
    """Open the layers of a file or a feature store, and the ids that a file brings beside them."""
    from relspace.features import open_features, scan_layers
    from relspace.features.store.reading import is_store

    if "://" not in source.location and not is_store(source.path):
        opened = scan_layers(source.path)
        return opened.layers, opened.ids
    features = open_features(source.location)
    if pool != "none" and any(features[layer].grid is not None for layer in features.layers):
        features = features.pool(pool)
    # A feature set knows its ids itself, and those of its tokens.
    return features, None


def _open_matrices(source: Source) -> tuple[object, object]:
    """Read the matrices of a file as dissimilarities, and its ids."""
    from relspace.features import scan_layers
    from relspace.measures.dissimilarities import Dissimilarities
    from relspace.rows.source import RowSource

    opened = scan_layers(source.path)
    matrices: dict[str, object] = {}
    for layer, given in opened.layers.items():
        values = given.read(0, given.shape[0]) if isinstance(given, RowSource) else given
        try:
            matrices[layer] = Dissimilarities(values)
        except InvalidInputError as error:
            raise error.about(f"{source.location}, {layer}") from error
    return matrices, opened.ids


def _write(compared: LayerComparison | ModelComparison, output: Path) -> None:
    if output.suffix.lower() != ".html":
        write_figure(compared.plot(), output)
        return
    from relspace._core.files import write_whole
    from relspace.reports.page import render_report
    from relspace.reports.page.comparison import comparison_page

    write_whole(output, render_report(comparison_page(compared)))


def _layer_lines(summary: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, other in (summary["models"], summary["models"][::-1]):
        rows = [
            (
                one["layer"],
                one["match"] or "none",
                number_cell(one["value"]),
                number_cell(one["chance"]),
                p_cell(one["p_value"]),
                number_cell(one["calibrated"], ""),
            )
            for one in summary["best_matches"][name]
        ]
        numbers = ("value", "chance", "p (corrected)", "calibrated")
        header = (f"layer of {name}", f"most alike in {other}", *numbers)
        lines += [*text_table(header, rows), ""]
    correlations = [
        f"{one:.2f} ({name})"
        for name, one in summary["depth_correlations"].items()
        if one is not None
    ]
    if correlations:
        lines.append(
            "Spearman's correlation of a layer's depth with the depth of its best match: "
            f"{', '.join(correlations)}; near 1, later layers match later layers"
        )
    return [*lines, f"{summary['measure']}, {said_of_items(summary)}"]


def _model_lines(summary: dict[str, Any]) -> list[str]:
    names = list(summary["layers"])
    rows = [
        [name, *map(number_cell, row)] for name, row in zip(names, summary["summary"], strict=True)
    ]
    lines = text_table(["mean best match", *names], rows)
    if summary["p_values"] is not None:
        tested = [
            [name, *map(p_cell, row)] for name, row in zip(names, summary["p_values"], strict=True)
        ]
        lines += ["", *text_table(["p of the most alike layers", *names], tested)]
    if summary["calibrated"] is not None:
        scores = [
            [name, *(number_cell(one, "") for one in row)]
            for name, row in zip(names, summary["calibrated"], strict=True)
        ]
        lines += ["", *text_table(["calibrated", *names], scores)]
    return [*lines, "", f"{summary['measure']}, {said_of_items(summary)}"]
