"""``relspace compare``: how similar feature sets in files are, by several measures, as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relspace._core.text_tables import text_table
from relspace.cli.group import Progress, commands, say
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
    RESAMPLES,
    cluster_at,
    with_comparison,
    with_dissimilarities,
    with_pool,
)
from relspace.cli.results import number_cell, said_of_items
from relspace.errors import InvalidInputError, MemoryBudgetError

if TYPE_CHECKING:
    from relspace.similarity.compare import Comparison


def _list_measures(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from relspace import measures

    rows = [
        (one.name, one.title, one.direction, one.chance, ", ".join(one.invariances))
        for one in map(measures.get, measures.names())
    ]
    header = ("name", "measure", "direction", "unrelated features", "does not change under")
    click.echo("\n".join(text_table(header, rows, of_text=True)))
    context.exit()


@commands.command(short_help="Compare features in files: values beside chance.")
@click.argument("sources", nargs=-1, required=True, callback=parse_sources, metavar="A B [C]...")
@click.option(
    "--measure",
    "measure_names",
    default="affinity,cka,rsa",
    show_default=True,
    metavar="NAME[,NAME]...",
    help="Measures by name, or 'all'.",
)
@click.option(
    "--list-measures",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_measures,
    help="Show the measures there are, and exit.",
)
@click.option(
    "--bootstraps",
    type=RESAMPLES,
    default=0,
    show_default=True,
    help="On how many random halves of the items a 95 % interval rests; of random parts of them "
    "where they are read in blocks.",
)
@click.option(
    "--groups",
    "groups_from",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Text file with a label in each line, one for each row of A, such as the image a patch "
    "is from; groups are permuted and resampled as a whole.",
)
@with_pool()
@click.option("--ceiling", is_flag=True, help="Say what split halves of the features reach.")
@with_dissimilarities
@with_ids
@with_comparison
def compare(
    sources: Sequence[Source],
    measure_names: str,
    permutations: int,
    alpha: float,
    bootstraps: int,
    groups_from: Path | None,
    pool: str,
    ceiling: bool,
    dissimilarities: bool,
    ids_from: Sequence[str],
    columns_from: Sequence[str],
    by_position: bool,
    max_items: int | None,
    memory_budget: int | None,
    scheduler: str | None,
    random_state: int,
    as_json: bool,
) -> None:
    """Measure how similar features of the same items are, every pair of sets by every measure.

    A set is [NAME=]FILE[::KEY], as for relspace align; of feature stores, images are compared.
    Every value stands beside its chance level: its mean and standard deviation when items are
    permuted. p is the share of permutations that reach the value, and the calibrated score is 0
    where it is above --alpha and 1 for identical sets. Files larger than memory are
    read in blocks (--memory-budget), or compared in part (--max-items).

    \b
    relspace compare dino.npy clip.npy
    relspace compare dino.npy clip.npy --measure affinity,cka,rsa --permutations 999
    relspace compare sam.zarr::rows dino.zarr::rows --measure cka --memory-budget 2GiB
    relspace compare a=patches.npz::a b=patches.npz::b --groups images.txt --bootstraps 200 --json
    """
    named = named_sources(sources)
    in_parts = bool(max_items or memory_budget or scheduler)
    with Progress() as progress, ExitStack() as stack:
        features: dict[str, object]
        ids: Any = None
        if dissimilarities:
            if ids_from or columns_from:
                raise click.UsageError("--dissimilarities are matched by position, without ids")
            features = load_dissimilarities(named)
            read = {one: {"path": it.location, "key": it.key} for one, it in named.items()}
        else:
            tables, ids = read_sets(
                named, ids_from, columns_from, by_position, progress, in_parts=in_parts
            )
            features = {name: rows_of(table, pool) for name, table in tables.items()}
            read = files(tables)
        client = stack.enter_context(cluster_at(scheduler, progress))
        import relspace

        chosen = [one.strip() for one in measure_names.split(",") if one.strip()]
        if chosen == ["all"]:
            chosen = list(relspace.measures.names())
        records = [relspace.measures.get(name) for name in chosen]
        if not records:
            raise InvalidInputError("--measure names no measure")
        groups = None if groups_from is None else read_labels(groups_from)
        pairs = list(combinations(named, 2))
        results: list[tuple[str, str, str, Comparison | str]] = []
        for first, second in pairs:
            for record in records:
                progress.step(f"Comparing {first} and {second}: {record.title}")
                compared: Comparison | str
                try:
                    compared = relspace.compare(
                        features[first],
                        features[second],
                        measure=record,
                        names=(first, second),
                        ids={name: ids[name] for name in (first, second)}
                        if isinstance(ids, dict)
                        else ids,
                        n_permutations=permutations,
                        n_bootstraps=bootstraps,
                        groups=groups,
                        ceiling=ceiling,
                        max_items=max_items,
                        memory_budget=memory_budget,
                        client=client,
                        random_state=random_state,
                        alpha=alpha,
                        progress=progress,
                    )
                except (InvalidInputError, MemoryBudgetError) as error:
                    # One measure that can't be taken of these features must not hide the others.
                    if len(records) == 1:
                        raise
                    compared = say(error)
                results.append((first, second, record.name, compared))
    if all(isinstance(compared, str) for *_, compared in results):
        raise InvalidInputError(str(results[0][3]))
    if as_json:
        click.echo(json.dumps(_as_json(results) | {"files": read}, indent=2))
    else:
        click.echo(_report(results))


def _as_json(results: Sequence[tuple[str, str, str, Comparison | str]]) -> dict[str, Any]:
    def plain(measure: str, compared: Comparison | str) -> Mapping[str, Any]:
        if isinstance(compared, str):
            return {"measure": measure, "error": compared}
        return compared.to_dict()

    return {
        "comparisons": [
            {"from": first, "to": second, **plain(measure, compared)}
            for first, second, measure, compared in results
        ]
    }


def _report(results: Sequence[tuple[str, str, str, Comparison | str]]) -> str:
    shown = [compared for *_, compared in results if not isinstance(compared, str)]
    has_p = any(one.p_value is not None for one in shown)
    has_interval = any(one.interval is not None for one in shown)
    has_ceiling = any(one.ceiling is not None for one in shown)
    several = len({(first, second) for first, second, *_ in results}) > 1
    header = ["measure", "value", "chance", "sd"]
    header += (
        ["p", "calibrated"] * has_p + ["from", "to"] * has_interval + ["ceiling"] * has_ceiling
    )
    rows, notes = [], []
    for first, second, measure, compared in results:
        pair = [f"{first} - {second}"] * several
        if isinstance(compared, str):
            rows.append([*pair, measure, "refused", *[""] * (len(header) - 2)])
            notes.append(f"{measure}: {compared}")
            continue
        cells = [compared.value, compared.chance, compared.chance_std]
        if has_p:
            calibrated = compared.calibrated if compared.is_calibrated else None
            cells += [compared.p_value, calibrated]
        line = [number_cell(one, "") for one in cells]
        line += [number_cell(one, "") for one in compared.interval or (None, None)] * has_interval
        rows.append([*pair, measure, *line, *[number_cell(compared.ceiling, "")] * has_ceiling])
    said = said_of_items(shown[0].to_dict())
    header = ["pair"] * several + header
    return "\n".join([*text_table(header, rows), "", *dict.fromkeys(notes), said])
