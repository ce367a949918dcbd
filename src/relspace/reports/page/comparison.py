"""Comparisons of layers, and summaries of feature sets -> what their pages say."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from relspace.pictures.theme import DARK, LIGHT, axes_bytes
from relspace.reports.feature_sets import FeatureSetsSummary
from relspace.reports.page.data import (
    Curve,
    CurveChart,
    LayerTable,
    Picture,
    ReportData,
    Section,
    Table,
    Value,
    value_table,
)
from relspace.reports.page.panel import report_panel
from relspace.reports.page.sentences import ABOUT_CHANCE, said_of_images, said_of_pictures
from relspace.similarity.layers import BestMatch, LayerComparison
from relspace.similarity.models import ModelComparison
from relspace.similarity.tables import most_alike

Compared = LayerComparison | ModelComparison


def comparison_page(compared: Compared) -> ReportData:
    """Arrange a comparison as a page: layer maps and curves, best matches, parameters."""
    measure, models = compared.measure, compared.models
    items = f"{compared.n_items:,} items"
    if compared.n_available > compared.n_items:
        items = f"{compared.n_items:,} of {compared.n_available:,} items, at random,"
    grouped = compared.n_units != compared.n_items
    about = f"{measure.title} of the features themselves, layer by layer: the values to cite."
    page = ReportData(
        title="Layer by layer: " + ", ".join(models),
        about_layers=[about, *[ABOUT_CHANCE] * grouped],
        layer_tables=_layer_tables(compared),
        charts=[_chart(compared, name) for name in models],
        matched_by=f"{items} matched by {compared.matched_by}"
        + (f", in {compared.n_units} groups" if grouped else ""),
        parameters={
            "measure": measure.title,
            **{f"measure: {name}": value for name, value in measure.parameters.items()},
            **({} if compared.recall is None else {"recall": f"{compared.recall:.4f}"}),
            "range": f"{measure.range[0]:.4g} to {measure.range[1]:.4g}, a {measure.direction}",
            "unrelated features": measure.chance,
            "does not change under": ", ".join(measure.invariances),
            "source": measure.source,
            **{f"left out: {layer}": reason for layer, reason in compared.left_out.items()},
            "permutations": compared.n_permutations,
            "random state": compared.random_state,
        },
        versions=compared.versions,
    )
    if isinstance(compared, LayerComparison):
        tables = _best_matches(compared)
        return dataclasses.replace(page, lead=_lead_of_two(compared), folded_tables=tables)
    return dataclasses.replace(
        page,
        lead=f"All layers of {len(models)} models over the same items. Unrelated features give "
        f"{_rounded(compared.mean_chance, 3):.3f}.",
        tables=_tables_of_several(compared),
        sections=[_models_section(compared)],
    )


def feature_sets_page(summary: FeatureSetsSummary, title: str | None = None) -> ReportData:
    """Arrange feature sets as a page: patches of all layers to explore, and their comparison."""
    page, pictures = comparison_page(summary.compared), summary.pictures
    names = list(summary.compared.models)
    page = dataclasses.replace(page, title=title or f"{', '.join(names[:-1])} and {names[-1]}")
    if not summary.models:
        return page
    explored = said_of_images(len(pictures.images), summary.n_images)
    data = dataclasses.replace(
        page,
        lead=" ".join([page.lead, *explored]),
        images=pictures.images,
        models=summary.models,
        quantization=summary.quantization,
        matched_by=" ".join(
            [
                f"Images were matched by {summary.matched_by}. Landmarks and the rows that layers "
                "are compared by are positions in them, read off each model's own grid.",
                *said_of_pictures(pictures, "image"),
                "Densities and normalisations differ on purpose: those of the measure find layers "
                "that correspond, those of the patches make colours, and relspace.align has its "
                "own, which find the same item.",
            ]
        ),
        parameters={**page.parameters, **summary.parameters},
    )
    if pictures.matched_by is None:
        return data
    return dataclasses.replace(data, sections=[_panel_section(data), *data.sections])


def _panel_section(data: ReportData) -> Section:
    """What all models make of the first images, in the colours that the page explores."""
    names = ", ".join(model.name for model in data.models)
    picture = Picture(
        "The first images, and under each of them its patches in layers of every model. Right: "
        "patches whose relative features are alike have one colour, whatever the model.",
        f"Images across, layers of {names} down, before and after alignment.",
        report_panel(data, LIGHT),
        report_panel(data, DARK),
    )
    return Section("One concept, one colour", pictures=[picture])


def _models_section(compared: ModelComparison) -> Section:
    light, dark = (axes_bytes(compared.plot(theme=theme)) for theme in (LIGHT, DARK))
    caption = f"{compared.measure.title}. Light is alike; panels of curves share one scale."
    description = "; ".join(repr(compared).splitlines())
    return Section("Models", pictures=[Picture(caption, description, light, dark)])


def _rounded(value: float, digits: int = 4) -> float:
    """A value without digits that say nothing; adding 0 turns -0 into 0."""
    return round(value, digits) + 0.0


def _layer_tables(compared: Compared) -> list[LayerTable]:
    measure = compared.measure
    chance = _rounded(float(np.nanmean(compared.chance)))
    return [
        LayerTable(
            measure.title,
            *one.models,
            *one.layers,
            one.values,
            chance=chance,
            p_values=one.p_values,
            is_distance=measure.direction == "distance",
        )
        for one in _pairs(compared)
    ]


def _pairs(compared: Compared) -> list[LayerComparison]:
    """The comparisons of every two models."""
    if isinstance(compared, LayerComparison):
        return [compared]
    return [compared.pair(*names) for names in itertools.combinations(compared.models, 2)]


def _lead_of_two(compared: LayerComparison) -> str:
    best = compared.maximum
    first, second = compared.models
    p = "" if best.p_value is None else f" (p = {best.p_value:.3g}, corrected for all pairs)"
    lead = (
        f"Most alike are {best.layer} of {first} and {best.match} of {second}: "
        f"{best.value:.3f}{p}, where unrelated features give {_rounded(best.chance, 3):.3f}."
    )
    depths = [one for one in compared.depth_correlations if np.isfinite(one)]
    if depths and min(depths) > 0:
        said = " and ".join(f"{one:.2f}" for one in depths)
        lead += f" Later layers match later layers (rank correlation of depths {said})."
    return lead


def _best_matches(compared: LayerComparison) -> list[Table]:
    """Of both models the most alike layers of the other, with chance and p-values."""

    def values(matches: tuple[BestMatch, ...]) -> list[Value]:
        return [
            Value(
                f"{one.layer} - {one.match}",
                one.value,
                _rounded(one.chance),
                one.p_value,
                one.calibrated,
            )
            for one in matches
            if one.match is not None
        ]

    a, b = compared.models
    of_a, of_b = compared.best_matches
    return [
        value_table(f"Most alike layers of {other}, for each layer of {name}", values(matches))
        for name, other, matches in ((a, b, of_a), (b, a, of_b))
    ]


def _tables_of_several(compared: ModelComparison) -> list[Table]:
    names = compared.models

    def square(title: str, values: np.ndarray) -> Table:
        rows: list[list[str | float]] = [
            [name, *("" if np.isnan(one) else float(one) for one in row)]
            for name, row in zip(names, values, strict=True)
        ]
        return Table(title, ["", *names], rows)

    tables = [square("Mean best match of the layers of two models", compared.summary)]
    if compared.p_values is not None:
        title = "p of the most alike layers of two models, corrected for their pairs"
        tables.append(square(title, compared.p_values))
    if compared.is_calibrated and compared.calibrated is not None:
        title = "Calibrated score of the most alike layers of two models"
        tables.append(square(title, compared.calibrated))
    return tables


def _chart(compared: Compared, name: str) -> CurveChart:
    """For each layer of a model, its value with the most alike layer of every other model."""
    larger = compared.measure.direction == "similarity"
    turned = [
        one if one.models[0] == name else one.transposed
        for one in _pairs(compared)
        if name in one.models
    ]
    curves = [
        Curve(f"with {one.models[1]}", most_alike(one.values, 1, larger=larger).tolist())
        for one in turned
    ]
    if isinstance(compared, LayerComparison):
        # The last layer has no next one.
        next_layer = [*map(float, turned[0].drift[0]), float("nan")]
        curves.append(Curve("with its next layer", next_layer, is_control=True))
    layers = turned[0].layers[0]
    chance = float(np.nanmean(compared.chance))
    title = f"Most alike layer, for each of {name}"
    return CurveChart(title, compared.measure.title, layers, curves, chance)
