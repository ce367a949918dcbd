"""Feature sets of several models, all their layers -> what their report holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from relspace._validation import as_features, check_random_state, name_some, pair_items
from relspace.aligner import Aligner
from relspace.errors import BandwidthError, InvalidInputError
from relspace.features import FeatureSet, Places, TokenGrid, choose_places
from relspace.kernels.bandwidth import DEFAULT_DENSITY
from relspace.layerwise import LayerComparison, ModelComparison, compare_layers, compare_models
from relspace.layerwise.page import comparison_page
from relspace.pages.layers import ModelPatches, report_models
from relspace.pages.summary import Curve, CurveChart, ReportData
from relspace.reporting.thumbnails import grid_boxes, thumbnails_of

_MEASURED_ROWS = 1000
_FEWEST_GROUPS = 4

Progress = Callable[[str], None]


def feature_sets_report(
    sets: Mapping[str, FeatureSet],
    *,
    images: object = None,
    title: str | None = None,
    measure: str = "affinity",
    landmarks: int = 1024,
    density: float = DEFAULT_DENSITY,
    normalize: str = "center+unit",
    n_images: int = 16,
    n_permutations: int = 99,
    random_state: int = 0,
    progress: Progress | None = None,
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
    progress : callable, optional
        Gets a line at the start of every step.

    Returns
    -------
    ReportData
        For :func:`relspace.pages.render_report`.

    Raises
    ------
    ItemMismatchError
        If the sets don't hold the same images.
    """
    if len(sets) < 2:
        raise InvalidInputError(f"there is {len(sets)} feature set; a report compares two or more.")
    say = progress or (lambda _: None)
    seed = check_random_state(random_state)
    paired, ids = _paired(sets)
    grids = _grids(paired)
    if not grids:
        compared = _compare(dict(paired), measure, None, n_permutations, seed, progress)
        return _named(comparison_page(compared), compared, title)
    n_all = len(next(iter(paired.values())))
    per_image = max(1, _MEASURED_ROWS // n_all)
    places = choose_places(grids, per_image * n_all, random_state=seed + 1)
    say("Reading all layers at the same places")
    at_places = {
        name: {layer: fs.read_places(places, layer=layer) for layer in fs.layers}
        for name, fs in paired.items()
    }
    compared = _compare(at_places, measure, places, n_permutations, seed, progress)
    chosen = min(n_images, n_all)
    marks = choose_places(grids, landmarks, random_state=seed)
    models = {}
    for name, fs in paired.items():
        say(f"Aligning {len(fs.layers)} layers of {name}")
        models[name] = _patches(name, fs, marks, chosen, density, normalize)
    say("Colouring patches")
    shown, quantization = report_models(models, random_state=seed)
    page = comparison_page(compared)
    return dataclasses.replace(
        _named(page, compared, title),
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
            "rows compared": len(places),
            "density": density,
            "normalize": normalize,
            "random state": seed,
        },
    )


def _paired(
    sets: Mapping[str, FeatureSet],
) -> tuple[dict[str, FeatureSet], tuple[Any, ...] | None]:
    ids = {name: fs.ids for name, fs in sets.items()}
    if any(own is None for own in ids.values()):
        ids = dict.fromkeys(ids)
    shared, order = pair_items({name: len(fs) for name, fs in sets.items()}, ids)
    paired = {}
    for name, fs in sets.items():
        rows = order[name]
        paired[name] = fs if rows is None else fs.select(images=rows)
    return paired, shared


def _grids(sets: Mapping[str, FeatureSet]) -> dict[str, TokenGrid]:
    """The grids of all layers; none where all sets have one row for each item."""
    found = {f"{name}, {layer}": fs[layer].grid for name, fs in sets.items() for layer in fs.layers}
    without = [layer for layer, grid in found.items() if grid is None]
    if without and len(without) < len(found):
        raise InvalidInputError(
            f"{name_some(without)} have one row for each image and other layers tokens on grids; "
            'give layers of tokens, or pool all sets by fs.pool("mean").'
        )
    return {layer: grid for layer, grid in found.items() if grid is not None}


def _compare(
    models: dict[str, Any],
    measure: str,
    places: Places | None,
    n_permutations: int,
    seed: int,
    progress: Progress | None,
) -> LayerComparison | ModelComparison:
    groups = None if places is None else places.images
    if groups is not None and len(torch.unique(groups)) < _FEWEST_GROUPS:
        groups, n_permutations = None, 0
    settings: dict[str, Any] = {
        "measure": measure,
        "n_permutations": n_permutations,
        "groups": groups,
        "random_state": seed,
        "progress": progress,
    }
    if len(models) == 2:
        return compare_layers(*models.values(), names=list(models), **settings)
    return compare_models(models, **settings)


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
            raise BandwidthError(f"landmarks of {name}, {layer}: {error}") from error
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
    nearest = np.nanmin if compared.measure.direction == "distance" else np.nanmax
    charts = []
    for name in compared.models:
        places = _layers_of(compared, name)
        curves = [
            Curve(f"with {other}", nearest(_block(compared, name, other), axis=1).tolist())
            for other in compared.models
            if other != name
        ]
        chance = float(np.mean(compared.chance))
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
