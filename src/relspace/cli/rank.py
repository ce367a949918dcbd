"""``relspace rank``: which of several models is closest to references, and is it shown?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from relspace._core.limits import MOST_RESAMPLES
from relspace.cli.group import Progress, commands
from relspace.cli.inputs import (
    Source,
    files,
    load_dissimilarities,
    named_sources,
    parse_sources,
    read_labels,
    read_sets,
    rows_of,
    with_ids,
)
from relspace.cli.options import (
    with_alpha,
    with_dissimilarities,
    with_force,
    with_json,
    with_measure,
    with_permutations,
    with_pool,
    with_random_state,
)
from relspace.cli.outputs import FIGURES, check_output, printed_in_any_case, write_figure


@commands.command(short_help="Rank rival models by how close they are to references.")
@click.argument("references", nargs=-1, required=True, callback=parse_sources, metavar="REF...")
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    callback=parse_sources,
    metavar="[NAME=]FILE",
    help="One of the rival models (may be repeated).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Figure (.png, .pdf, .svg) or table of the models (.csv) to write.",
)
@with_force("FILE")
@with_measure
@click.option(
    "--bootstraps",
    type=click.IntRange(20, MOST_RESAMPLES),
    default=200,
    show_default=True,
    help="On how many random halves of the items intervals and tests rest.",
)
@click.option(
    "--correction",
    type=click.Choice(["holm", "benjamini_hochberg", "none"]),
    default="holm",
    show_default=True,
    help="How p-values of several tests are corrected.",
)
@click.option(
    "--groups",
    "groups_from",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Text file with a label in each line, one for each row of the first model; groups are "
    "permuted and resampled as a whole.",
)
@with_pool()
@with_dissimilarities
@with_ids
@with_permutations
@with_alpha
@with_random_state
@with_json
def rank(
    references: Sequence[Source],
    models: Sequence[Source],
    output: Path | None,
    force: bool,
    measure: str,
    bootstraps: int,
    correction: str,
    groups_from: Path | None,
    pool: str,
    dissimilarities: bool,
    ids_from: Sequence[str],
    columns_from: Sequence[str],
    by_position: bool,
    permutations: int,
    alpha: float,
    random_state: int,
    as_json: bool,
) -> None:
    """Rank models by how close they are to one or several references, and test the differences.

    A REF, such as a subject's brain, and a model is [NAME=]FILE[::KEY], as for relspace align, all
    of the same items. Every model has its value with an interval, its chance level and whether it
    is above; every two models have the p-value of their difference. Several references are
    resampled with the items, so that results hold for others, and give a noise ceiling.

    \b
    relspace rank brain.npy --model dino=dino.npy --model clip=clip.npy -o rank.png
    relspace rank s1.npy s2.npy s3.npy --model a.npy --model b.npy --measure rsa_spearman
    relspace rank human.npy --model monkey.npy --dissimilarities --measure rsa
    """
    named = named_sources([*models, *references])
    names = list(named)[: len(models)]
    if output is not None:
        check_output(
            output,
            what="a figure or table",
            endings=[*FIGURES, ".csv"],
            force=force,
            inputs=[source.location for source in named.values()],
        )
    with Progress() as progress:
        ids: Any = None
        features: dict[str, object]
        if dissimilarities:
            if ids_from or columns_from:
                raise click.UsageError("--dissimilarities are matched by position, without ids")
            features = load_dissimilarities(named)
            read = {one: {"path": it.location, "key": it.key} for one, it in named.items()}
        else:
            tables, ids = read_sets(named, ids_from, columns_from, by_position, progress)
            features = {name: rows_of(table, pool) for name, table in tables.items()}
            read = files(tables)
        import relspace

        found = relspace.compare_to(
            {name: one for name, one in features.items() if name not in names},
            {name: features[name] for name in names},
            measure=measure,
            ids=ids,
            n_permutations=permutations,
            n_bootstraps=bootstraps,
            groups=None if groups_from is None else read_labels(groups_from),
            correction=correction,
            alpha=alpha,
            random_state=random_state,
            progress=progress,
        )
        said = repr(found)
        if as_json:
            where = {"output": None if output is None else str(output), "files": read}
            said = json.dumps(found.to_dict() | where, indent=2)
        if output is not None:
            progress.step(f"Writing {output}")
            with printed_in_any_case(said):
                if output.suffix.lower() == ".csv":
                    found.to_csv(output)
                else:
                    write_figure(found.plot(), output)
    click.echo(said)
    if output is not None and not as_json:
        click.echo(f"Written to {output}")
