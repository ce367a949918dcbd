"""Layer by layer comparisons -> the data of an interactive page."""

from __future__ import annotations

from typing import Any

import numpy as np

from relspace.pictures.theme import DARK, LIGHT, figure_bytes
from relspace.reports.page.data import LayerTable, ReportData, Value, value_table
from relspace.reports.page.sections import Picture, Section, Table
from relspace.similarity.layers import BestMatch, LayerComparison
from relspace.similarity.models import ModelComparison

Compared = LayerComparison | ModelComparison


def comparison_page(compared: Compared) -> ReportData:
    """Arrange a comparison as a page: layer tables, a figure, best matches, parameters.

    Parameters
    ----------
    compared : LayerComparison or ModelComparison
        What was found.

    Returns
    -------
    ReportData
        For :func:`relspace.reports.page.render_report`.

    Raises
    ------
    MissingDependencyError
        If matplotlib isn't installed.
    """
    of_two = isinstance(compared, LayerComparison)
    tables, lead = _of_two(compared) if of_two else _of_several(compared)
    measure = compared.measure
    return ReportData(
        title="Layer by layer: " + ", ".join(compared.models),
        lead=lead,
        layer_tables=_layer_tables(compared),
        tables=tables,
        matched_by=f"{compared.n_items} items matched by {compared.matched_by}"
        + (f", in {compared.n_units} groups" if compared.n_units != compared.n_items else ""),
        parameters={
            "measure": measure.title,
            **{f"measure: {name}": value for name, value in measure.parameters.items()},
            "range": f"{measure.range[0]:.4g} to {measure.range[1]:.4g}, a {measure.direction}",
            "unrelated features": measure.chance,
            "does not change under": ", ".join(measure.invariances),
            "source": measure.source,
            **{f"left out: {layer}": reason for layer, reason in compared.left_out.items()},
            "permutations": compared.n_permutations,
            "random state": compared.random_state,
        },
        versions=compared.versions,
        sections=[_figure(compared)],
    )


def _layer_tables(compared: Compared) -> list[LayerTable]:
    is_distance = compared.measure.direction == "distance"
    if isinstance(compared, LayerComparison):
        return [
            LayerTable(
                compared.measure.title,
                *compared.models,
                *compared.layers,
                compared.values,
                chance=_shown(float(np.nanmean(compared.chance))),
                p_values=compared.p_values,
                is_distance=is_distance,
            )
        ]
    names = compared.models
    return [
        LayerTable(
            compared.measure.title,
            first,
            second,
            compared.layers[first],
            compared.layers[second],
            compared.block(first, second),
            chance=_shown(compared.mean_chance),
            is_distance=is_distance,
        )
        for number, first in enumerate(names)
        for second in names[number + 1 :]
    ]


def _of_two(compared: Any) -> tuple[list[Table], str]:
    best = compared.maximum
    first, second = compared.models
    p = "" if best.p_value is None else f" (p = {best.p_value:.3g}, corrected for all pairs)"
    lead = (
        f"Most alike are {best.layer} of {first} and {best.match} of {second}: "
        f"{best.value:.3f}{p}, where unrelated features give {_shown(best.chance):.3f}."
    )
    matches = compared.best_matches
    tables = [
        value_table(f"Most alike layers of {other}, for each layer of {name}", _values(of_one))
        for name, other, of_one in ((first, second, matches[0]), (second, first, matches[1]))
    ]
    return tables, lead


def _values(matches: tuple[BestMatch, ...]) -> list[Value]:
    return [
        Value(f"{one.layer} - {one.match}", one.value, _shown(one.chance), one.p_value)
        for one in matches
        if one.match is not None
    ]


def _shown(value: float) -> float:
    """A chance level without digits that say nothing; adding 0 turns -0 into 0."""
    return round(value, 4) + 0.0


def _of_several(compared: Any) -> tuple[list[Table], str]:
    names = compared.models
    lead = (
        f"All layers of {len(names)} models over the same items. Unrelated features give "
        f"{_shown(compared.mean_chance):.3f}."
    )
    tables = [
        Table(
            "Mean best match of the layers of two models",
            ["", *names],
            [[name, *map(float, row)] for name, row in zip(names, compared.summary, strict=True)],
        )
    ]
    if compared.p_values is not None:
        rows = [
            [name, *("" if np.isnan(one) else float(one) for one in row)]
            for name, row in zip(names, compared.p_values, strict=True)
        ]
        title = "p of the most alike layers of two models, corrected for their pairs"
        tables.append(Table(title, ["", *names], rows))
    return tables, lead


def _figure(compared: Compared) -> Section:
    description = "; ".join(repr(compared).splitlines())
    light, dark = (figure_bytes(compared.plot(theme=theme)) for theme in (LIGHT, DARK))
    caption = f"{compared.measure.title}. Light is alike; panels of curves share one scale."
    return Section("Figure", pictures=[Picture(caption, description, light, dark)])
