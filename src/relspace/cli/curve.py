"""``relspace curve``: how the similarity of two sets changes with the number of items."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from relspace.cli.group import Progress, commands
from relspace.cli.inputs import (
    Source,
    files,
    named_sources,
    option_by_set,
    parse_sources,
    read_labels,
    read_sets,
    rows_of,
    with_ids,
)
from relspace.cli.options import (
    with_force,
    with_json,
    with_permutations,
    with_pool,
    with_random_state,
)
from relspace.cli.outputs import FIGURES, check_output, printed_in_any_case, write_figure
from relspace.errors import InvalidInputError


def _parse_sizes(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[int] | None:
    if value is None:
        return None
    try:
        return [int(one) for one in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no list of whole numbers") from error


@commands.command(short_help="Compare features on galleries of rising size.")
@click.argument("sources", nargs=2, required=True, callback=parse_sources, metavar="A B")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Figure (.png, .pdf, .svg) or table (.csv) to write.",
)
@with_force("FILE")
@click.option(
    "--measure",
    default="mutual_neighbors",
    show_default=True,
    help="What is compared by; relspace compare --list-measures shows all.",
)
@click.option(
    "--k", type=click.IntRange(min=1), help="How many neighbours, for measures of neighbours."
)
@click.option(
    "--sizes",
    callback=_parse_sizes,
    metavar="N[,N]...",
    help="How many items galleries have; by default from 100 to all, doubling.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many random orders of the items galleries are the first items of.",
)
@click.option(
    "--groups",
    "groups_from",
    multiple=True,
    metavar="[NAME=]FILE",
    help="Text file with a label in each line, one for each row, of both sets or of the one called "
    "NAME (may be repeated): items with the same label are right answers to each other, such as "
    "an image and its captions.",
)
@with_pool()
@with_ids
@with_permutations
@with_random_state
@with_json
def curve(
    sources: Sequence[Source],
    output: Path | None,
    force: bool,
    measure: str,
    k: int | None,
    sizes: list[int] | None,
    draws: int,
    groups_from: Sequence[str],
    pool: str,
    ids_from: Sequence[str],
    columns_from: Sequence[str],
    by_position: bool,
    permutations: int,
    random_state: int,
    as_json: bool,
) -> None:
    """Compare two sets of features on galleries from 100 items to all, beside chance.

    A set is [NAME=]FILE[::KEY], as for relspace align; of feature stores, images are compared.
    The value, its chance level and the calibrated value, which is 0 where nothing is shown beyond
    chance and 1 of identical features, are means over random draws; the exponent is that of a
    power law of the value against the number of items.

    \b
    relspace curve dino.npy clip.npy -o curve.png
    relspace curve a.npy b.npy --measure cka --sizes 100,1000,10000 --json
    relspace curve image=i.npy text=t.npy --groups image=i.txt --groups text=t.txt
    """
    named = named_sources(sources)
    if output is not None:
        check_output(
            output,
            what="a figure or table",
            endings=[*FIGURES, ".csv"],
            force=force,
            inputs=[source.location for source in named.values()],
        )
    with Progress() as progress:
        own_labels, all_labels = option_by_set("--groups", groups_from, list(named))
        if groups_from and all_labels is None and len(own_labels) < 2:
            raise InvalidInputError("--groups is given for one of the two sets; name both")
        # Groups pair the sets, so their rows needn't be the same.
        tables, ids = read_sets(
            named, ids_from, columns_from, by_position or bool(groups_from), progress
        )
        import relspace

        groups: Any = None
        if groups_from:
            groups = {
                name: read_labels(Path(own_labels.get(name, all_labels or ""))) for name in named
            }
        found = relspace.similarity_curve(
            *(rows_of(table, pool) for table in tables.values()),
            measure=relspace.measures.get(measure, **({} if k is None else {"k": k})),
            sizes=sizes,
            n_draws=draws,
            n_permutations=permutations,
            names=list(named),
            ids=None if groups_from else ids,
            groups=groups,
            random_state=random_state,
            progress=progress,
        )
        said = repr(found)
        if as_json:
            where = {"output": None if output is None else str(output), "files": files(tables)}
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
