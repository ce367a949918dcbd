"""``relspace compare-models``: models and images -> features, alignment, numbers and one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relspace._core.text_tables import text_table
from relspace.cli.group import Progress, commands
from relspace.cli.models import (
    extraction_options,
    load_named,
    named_models,
    preprocessing_of,
    with_extraction,
)
from relspace.cli.options import with_alpha, with_by_position, with_json, with_measure, with_page
from relspace.cli.outputs import check_output, check_page, printed_in_any_case, said_of_page
from relspace.cli.results import number_cell, p_cell
from relspace.errors import InvalidInputError
from relspace.rows.locations import refuse_inputs

if TYPE_CHECKING:
    from relspace.features import FeatureSet
    from relspace.similarity import BestMatch, LayerComparison, ModelComparison


@commands.command("compare-models", short_help="Compare pretrained models on images, all at once.")
@click.argument("arguments", nargs=-1, required=True, metavar="MODEL MODEL [MODEL]... IMAGES")
@click.option(
    "--models",
    "further",
    multiple=True,
    metavar="MODEL",
    help="One more model (may be repeated).",
)
@with_page
@with_alpha
@click.option(
    "--panel",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PNG",
    help="Where the page's panel goes too: images across, layers of all models down, in joint "
    "colours.",
)
@click.option(
    "--features",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder that the stores of features go into, and are reused from; by default "
    "PAGE without its ending, and -features.",
)
@with_measure
@with_by_position
@with_extraction
@with_json
def compare_models(
    arguments: Sequence[str],
    further: Sequence[str],
    output: Path,
    panel: Path | None,
    features: Path | None,
    title: str | None,
    n_images: int,
    measure: str,
    permutations: int,
    alpha: float,
    by_position: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Extract features of several models, align them, compare them layer by layer, write a page.

    A MODEL is [NAME=]FOLDER, as transformers or diffusers save it, a name on the Hugging Face hub,
    or a feature store (.zarr) that ``relspace extract`` wrote. IMAGES is what ``relspace extract``
    takes: a folder, a glob pattern in quotes, or a saved dataset; for text models a text file.

    Features are kept, so that a second run, or one after an interruption, doesn't extract again.

    What is printed is of the page's layer by layer comparison: of every two models their most
    alike layers and their last ones, beside chance, which is what permuted items give.

    \b
    relspace compare-models models/dinov2 models/clip photos/ -o report.html --panel panel.png
    relspace compare-models a=models/sam b=dino.zarr photos/ --models c=models/mae --layers 0,6,-1
    """
    if len(arguments) + len(further) < 3:
        raise click.UsageError("name two models or more, and their images or texts")
    models, items = named_models([*arguments[:-1], *further]), arguments[-1]
    preprocessing = preprocessing_of(options["preprocessing"], models)
    given = [
        location for location in models.values() if "://" in location or Path(location).exists()
    ]
    check_page(output, force=options["force"], inputs=given)
    if panel is not None:
        check_output(
            panel,
            what="a panel",
            endings=[".png"],
            force=options["force"],
            inputs=given,
            called="--panel",
        )
    folder = output.with_name(f"{output.stem}-features") if features is None else features
    for name, location in models.items():
        if (store := folder / f"{name}.zarr") != Path(location):
            refuse_inputs(store, given, called=f"the store of {name!r}")
    with Progress() as progress:
        progress.step("Loading torch")
        import relspace
        from relspace._core.files import write_whole
        from relspace.features.image_files import files_of_pattern
        from relspace.features.store.reading import is_store
        from relspace.pictures.theme import LIGHT
        from relspace.reports import summarize_feature_sets
        from relspace.reports.page import render_report, report_panel
        from relspace.reports.page.comparison import feature_sets_page
        from relspace.similarity import compare_feature_sets

        if panel is not None and panel.exists():
            images = files_of_pattern(items) if has_magic(items) else [items]
            refuse_inputs(panel, images, called="--panel")
        relspace.measures.get(measure)
        sets: dict[str, FeatureSet] = {}
        for name, location in models.items():
            if is_store(Path(location)):
                progress.step(f"Reading {location}")
                sets[name] = relspace.open_features(location)
                continue
            progress.step(f"Loading {location}")
            model = load_named(name, location, options, preprocessing[name])
            found = relspace.extract(
                model,
                items,
                folder / f"{name}.zarr",
                progress=progress,
                **extraction_options(options),
            )
            assert isinstance(found, relspace.FeatureSet)
            sets[name] = found
        if by_position:
            sets = {name: fs.with_ids(None) for name, fs in sets.items()}
        on_grids = all(fs.image_sizes is not None for fs in sets.values())
        if panel is not None and not on_grids:
            raise InvalidInputError("--panel is of patches of images, and these models give none")
        seed = options["random_state"]
        compared = compare_feature_sets(
            sets,
            measure=measure,
            n_permutations=permutations,
            random_state=seed,
            alpha=alpha,
            progress=progress,
        )
        with printed_in_any_case(_said_of(compared, sets, None, None, as_json)):
            summary = summarize_feature_sets(
                sets,
                compared=compared,
                images=items if on_grids else None,
                n_images=n_images,
                random_state=seed,
                progress=progress,
            )
            progress.step(f"Writing {output}")
            data = feature_sets_page(summary, title)
            write_whole(output, render_report(data))
            if panel is not None:
                write_whole(panel, report_panel(data, LIGHT))
    click.echo(_said_of(compared, sets, output, panel, as_json))


def _said_of(
    compared: LayerComparison | ModelComparison,
    sets: Mapping[str, FeatureSet],
    output: Path | None,
    panel: Path | None,
    as_json: bool,
) -> str:
    if as_json:
        return json.dumps(_summary(compared, sets, output, panel), indent=2)
    lines = [
        f"{name}: {len(fs)} items, {len(fs.layers)} layers, {fs.metadata['path']}"
        for name, fs in sets.items()
    ]
    lines += ["", *_lines(compared)]
    if output is not None:
        lines += ["", said_of_page(output)]
    return "\n".join([*lines, *([] if panel is None else [f"Panel: {panel}"])])


def _summary(
    compared: LayerComparison | ModelComparison,
    sets: Mapping[str, FeatureSet],
    output: Path | None,
    panel: Path | None,
) -> dict[str, Any]:
    from relspace.similarity import pairs_of_models

    return {
        "stores": {name: fs.metadata["path"] for name, fs in sets.items()},
        "pairs": [pair.to_dict() for pair in pairs_of_models(compared)],
        "comparison": compared.to_dict(),
        "report": None if output is None else str(output),
        "panel": None if panel is None else str(panel),
    }


def _lines(compared: LayerComparison | ModelComparison) -> list[str]:
    from relspace.similarity import pairs_of_models

    def row(what: str, match: BestMatch) -> list[str]:
        found = match.to_dict()
        numbers = [number_cell(found[key]) for key in ("value", "chance")]
        numbers += [p_cell(found["p_value"]), number_cell(found["calibrated"], "")]
        return [what, match.layer, match.match or "none", *numbers]

    lines = []
    for pair in pairs_of_models(compared):
        header = ["", *pair.models, "value", "chance", "p (corrected)", "calibrated"]
        rows = [row("most alike layers", pair.most_alike), row("last layers", pair.last)]
        lines += [*text_table(header, rows), ""]
    said = f"{compared.measure.title}, {compared.n_items} rows"
    if compared.n_units != compared.n_items:
        said += f" at the same positions of {compared.n_units} images"
    said += f", matched by {compared.matched_by}"
    return [*lines, f"{said}; {compared.n_permutations} permutations"]
