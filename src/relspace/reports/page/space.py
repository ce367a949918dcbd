"""Summaries of common spaces -> what their pages say: captions, tables, sentences."""

from __future__ import annotations

import platform
from typing import Any

import torch

from relspace import __version__
from relspace.reports.page.data import (
    KeyNumber,
    ReportData,
    Scatter,
    Table,
    value_table,
)
from relspace.reports.page.sentences import ABOUT_CHANCE, said_of_images, said_of_pictures
from relspace.reports.space import MatchedItems, Pair, SpaceSummary

_ABOUT_VALUES = (
    "Values are of relative features, after alignment, which was fitted to these sets. To say how "
    "alike two models are, cite relspace.compare, which takes the features themselves."
)


def space_page(summary: SpaceSummary, title: str | None = None) -> ReportData:
    """Arrange what was found in a common space as a page."""
    names, of_tokens = summary.names, summary.item == "image"
    named = " and ".join(names) if len(names) < 4 else f"{len(names)} sets"
    n_items, n_pictures = summary.numbers["n_items"], len(summary.pictures.images)
    lead = (
        f"{n_items:,} {summary.item}s as {len(names)} sets of features see "
        "them, each described by its affinities to the same "
        f"{summary.numbers['n_landmarks']:,} landmarks."
    )
    matched = f"{summary.item.capitalize()}s of different sets were matched by "
    matched += f"{summary.numbers['matched_by']}."
    return ReportData(
        title=title or f"{named} in one space",
        lead=" ".join([lead, *said_of_images(n_pictures, n_items)] if of_tokens else [lead]),
        key_numbers=_key_numbers(summary),
        images=summary.pictures.images,
        models=summary.models,
        quantization=summary.quantization,
        scatters=_scatters(summary),
        about_values=[_ABOUT_VALUES, *[ABOUT_CHANCE] * of_tokens],
        tables=[
            _pairs_table(summary),
            *_value_tables(summary),
            _sets_table(summary),
            *(_match_table(summary, pair, one) for pair, one in summary.matches.items()),
        ],
        matched_by=" ".join([matched, *said_of_pictures(summary.pictures, summary.item)]),
        parameters=summary.parameters,
        versions={
            "relspace": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    )


def _part(shown: int, whole: int, what: str) -> str:
    """How many of how many are shown."""
    return (
        f"all {whole:,} {what}" if shown == whole else f"{shown:,} of {whole:,} {what}, at random"
    )


def _item_title(summary: SpaceSummary, item: int) -> str:
    return str(item if summary.ids is None else summary.ids[item])


def _scatters(summary: SpaceSummary) -> list[Scatter]:
    if summary.points is None:
        return []
    shown = summary.points
    part = _part(len(shown.items), summary.numbers["n_items"], "items of each set")
    return [
        Scatter(
            f"Common space, first two principal components: {part}",
            [_item_title(summary, item) for item in shown.items.tolist()],
            shown.points,
            shown.colors,
            shows_images=bool(summary.pictures.images),
        )
    ]


def _key_numbers(summary: SpaceSummary) -> list[KeyNumber]:
    """The first pair's match and distance."""
    if not summary.numbers["pairs"]:
        return []
    pair = summary.numbers["pairs"][0]
    a, b = pair["from"], pair["to"]
    found = f"of the items of {a} have themselves as the nearest item of {b}"
    apart = f"mean distance between the same item in {a} and in {b}"
    if summary.item == "image":
        found = f"of the tokens of {a} have the one at their position as the nearest token of {b}"
        apart = f"mean distance between tokens of {a} and {b} at the same position"
    return [
        KeyNumber(
            f"{pair['match_accuracy']:.3f}",
            found,
            f"chance {pair['match_chance']:.2g}",
        ),
        KeyNumber(
            f"{pair['distance']:.3f}",
            apart,
            f"chance {pair['distance_chance']:.3f}",
        ),
    ]


def _pairs_table(summary: SpaceSummary) -> Table:
    p_values = summary.match_p_values
    rows: list[list[str | float]] = []
    for pair in summary.numbers["pairs"]:
        a, b = pair["from"], pair["to"]
        numbers = [pair["match_accuracy"], pair["match_chance"]]
        numbers += [p_values[a, b]] if p_values else []
        numbers += [pair["distance"], pair["distance_chance"]]
        rows.append([f"{a} \u2192 {b}", *map(float, numbers)])
    columns = ["", "top-1 match", "chance", *["p"] * bool(p_values), "mean distance", "chance"]
    return Table("Matching across sets, in the common space", columns, rows, emphasis=1)


def _value_tables(summary: SpaceSummary) -> list[Table]:
    measured, whole = summary.n_measured, summary.n_rows
    of = f"{measured:,} positions in the images"
    if summary.item == "item":
        of = _part(measured, whole, "items")
    return [
        value_table(f"How alike the relative features of {a} and {b} are: {of}", values)
        for (a, b), values in summary.values.items()
    ]


def _sets_table(summary: SpaceSummary) -> Table:
    sets = summary.numbers["sets"]
    grid = all("rows" in one for one in sets.values())
    rows: list[list[str | float]] = []
    for name, one in sets.items():
        own: list[Any] = [name, one["n_items"], one["n_features"]]
        own += [float(one["sigma"]), float(one["density"])]
        rows.append([*own, *[f"{one.get('rows')} \u00d7 {one.get('columns')}"] * grid])
    columns = ["", "rows", "features", "sigma", "density", *["grid"] * grid]
    return Table("The sets", columns, rows)


def _match_table(summary: SpaceSummary, pair: Pair, found: MatchedItems) -> Table:
    a, b = pair
    said = ""
    if len(found.items) < summary.numbers["n_items"]:
        said = f" ({len(found.items)} of {summary.numbers['n_items']} items, at random"
        said += ", matched among themselves" if found.among_themselves else ""
        said += "; space.match(a, b) gives all)"
    rows: list[list[str | float]] = [
        [
            _item_title(summary, item),
            _item_title(summary, other),
            "yes" if item == other else "no",
            float(distance),
        ]
        for item, other, distance in zip(
            found.items.tolist(), found.nearest.tolist(), found.distances, strict=True
        )
    ]
    columns = ["item", f"nearest in {b}", "the same", "distance"]
    return Table(f"Nearest item in {b} of each item of {a}{said}", columns, rows)
