"""Feature sets of several models, all their layers -> what their report holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from relspace._core.progress import Progress, as_listener
from relspace._core.validation import as_features, check_count, check_random_state
from relspace.errors import BandwidthError
from relspace.features import FeatureSet, Places, choose_places
from relspace.kernels.bandwidth import DEFAULT_DENSITY
from relspace.pictures.theme import DARK, LIGHT
from relspace.reports.comparison import comparison_page
from relspace.reports.page.data import Curve, CurveChart, ReportData
from relspace.reports.page.layers import ModelPatches, report_models
from relspace.reports.page.panel import report_panel
from relspace.reports.page.sections import Picture, Section
from relspace.reports.thumbnails import grid_boxes, said_of_images, thumbnails_of
from relspace.similarity import LayerComparison, ModelComparison, compare_feature_sets
from relspace.similarity.same_positions import grids_of_layers, pair_feature_sets
from relspace.similarity.tables import most_alike
from relspace.space.aligner import Aligner


def feature_sets_report(
    sets: Mapping[str, FeatureSet],
    *,
    images: object = None,
    title: str | None = None,
    compared: LayerComparison | ModelComparison | None = None,
    measure: str = "affinity",
    landmarks: int = 1024,
    density: float = DEFAULT_DENSITY,
    normalize: str = "center+unit",
    n_images: int = 16,
    n_permutations: int = 99,
    random_state: int = 0,
    progress: Progress = None,
) -> ReportData:
    """Align all layers of all models, compare layer by layer, and gather what a report shows.

    Landmarks are places in the images, the same for all layers of all models. Layers are compared
    at other places, as many in each image, permuted image by image. Sets of one row for each item
    are compared as they are, and have nothing to explore.

    Parameters
    ----------
    sets : mapping of str to FeatureSet
        Two models or more over the same images.
    images : path, glob pattern, array, or a sequence of paths, arrays or PIL images, optional
        The images, by id where there are ids.
    title : str, optional
        What the page is called.
    compared : LayerComparison or ModelComparison, optional
        How alike the layers are, from :func:`relspace.similarity.compare_feature_sets`; found by
        default.
    measure : str
        What layers are compared by, see :func:`relspace.compare_layers`.
    landmarks, density, normalize
        As in :func:`relspace.align`.
    n_images : int
        How many images are explored, the first ones.
    n_permutations : int
        How many permutations p-values rest on.
    random_state : int
        Seed.
    progress : callable or bool, optional
        Told ``(done, total, text)`` at every step; True prints lines on stderr.

    Returns
    -------
    ReportData
        For :func:`relspace.reports.page.render_report`.

    Raises
    ------
    ItemMismatchError
        If the sets don't hold the same images.
    """
    tell = as_listener(progress)
    seed = check_random_state(random_state)
    check_count(n_images, "n_images")
    if compared is None:
        compared = compare_feature_sets(
            sets,
            measure=measure,
            n_permutations=n_permutations,
            random_state=seed,
            progress=tell,
        )
    paired, ids = pair_feature_sets(sets)
    grids = grids_of_layers(paired)
    page = comparison_page(compared)
    if not grids:
        return _named(page, compared, title)
    n = len(next(iter(paired.values())))
    chosen = min(n_images, n)
    marks = choose_places(grids, landmarks, random_state=seed)
    models = {}
    for name, fs in paired.items():
        tell(0, 0, f"Aligning {len(fs.layers)} layers of {name}")
        models[name] = _patches(name, fs, marks, chosen, density, normalize)
    tell(0, 0, "Colouring patches")
    shown, quantization = report_models(models, random_state=seed)
    data = dataclasses.replace(
        _named(page, compared, title),
        lead=page.lead if chosen == n else f"{page.lead} {said_of_images(chosen, n)}",
        images=thumbnails_of(images, ids, next(iter(grids.values())), chosen),
        models=shown,
        quantization=quantization,
        matched_by=(
            f"Images were matched by {'position' if ids is None else 'ids'}. Landmarks and the "
            "rows that layers are compared by are places in them, read off each model's own grid."
        ),
        parameters={
            **page.parameters,
            "landmarks": len(marks),
            "rows compared": compared.n_items,
            "density": density,
            "normalize": normalize,
            "random state": seed,
        },
    )
    if images is None:
        return data
    return dataclasses.replace(data, sections=[_panel(data), *data.sections])


def _panel(data: ReportData) -> Section:
    """What all models make of the first images, in the colours that the page explores."""
    names = ", ".join(model.name for model in data.models)
    return Section(
        "One concept, one colour",
        pictures=[
            Picture(
                "The first images, and under each of them its patches in layers of every model. "
                "Right: patches whose relative features are alike have one colour, whatever the "
                "model.",
                f"Images across, layers of {names} down, before and after alignment.",
                report_panel(data, LIGHT),
                report_panel(data, DARK),
            )
        ],
    )


def _patches(
    name: str, fs: FeatureSet, marks: Places, n_images: int, density: float, normalize: str
) -> ModelPatches:
    """All layers of the first images in the common space."""
    relative, features, grids, boxes = {}, {}, {}, {}
    for layer in fs.layers:
        one = fs[layer]
        assert one.grid is not None
        tokens = as_features(one.tokens(slice(0, n_images)), f"{name}, {layer}").tensor
        aligner = Aligner(density=density, normalize=normalize, standardize="columns")
        try:
            aligner.fit(one.read_places(marks).to(tokens))
        except BandwidthError as error:
            raise error.about(f"landmarks of {name}, {layer}") from error
        relative[layer] = torch.as_tensor(aligner.transform(tokens))
        features[layer] = tokens
        grids[layer] = (one.grid.rows, one.grid.columns)
        boxes[layer] = grid_boxes(one.grid, n_images)
    return ModelPatches(relative, grids, features, boxes)


def _named(
    page: ReportData, compared: LayerComparison | ModelComparison, title: str | None
) -> ReportData:
    names = list(compared.models)
    return dataclasses.replace(
        page, title=title or f"{', '.join(names[:-1])} and {names[-1]}", charts=_charts(compared)
    )


def _charts(compared: LayerComparison | ModelComparison) -> list[CurveChart]:
    """For each layer of a model, its value with the most alike layer of every other model."""
    title = compared.measure.title
    larger = compared.measure.direction == "similarity"
    charts = []
    for name in compared.models:
        places = _layers_of(compared, name)
        curves = [
            Curve(
                f"with {other}",
                most_alike(_block(compared, name, other), 1, larger=larger).tolist(),
            )
            for other in compared.models
            if other != name
        ]
        chance = float(np.nanmean(compared.chance))
        heading = f"Most alike layer, for each of {name}"
        charts.append(CurveChart(heading, title, places, curves, chance))
    return charts


def _layers_of(compared: LayerComparison | ModelComparison, name: str) -> tuple[str, ...]:
    if isinstance(compared, LayerComparison):
        return compared.layers[compared.models.index(name)]
    return compared.layers[name]


def _block(compared: LayerComparison | ModelComparison, name: str, other: str) -> np.ndarray:
    if isinstance(compared, ModelComparison):
        return compared.block(name, other)
    return compared.values if name == compared.models[0] else compared.values.T
