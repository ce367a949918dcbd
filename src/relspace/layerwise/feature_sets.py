"""Feature sets of several models: all their layers, compared at the same places of the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from relspace._validation import ItemId, check_random_state, name_some
from relspace.errors import InvalidInputError
from relspace.features import FeatureSet, Places, TokenGrid, choose_places
from relspace.layerwise.layer_comparison import LayerComparison, compare_layers
from relspace.layerwise.model_comparison import ModelComparison, compare_models
from relspace.pairing import pair_sets

_MEASURED_ROWS = 1000
_FEWEST_GROUPS = 4


def compare_feature_sets(
    sets: Mapping[str, FeatureSet],
    *,
    measure: str = "affinity",
    n_permutations: int = 99,
    random_state: int = 0,
    progress: Callable[[str], None] | None = None,
) -> LayerComparison | ModelComparison:
    """Compare all layers of models whose tokens may lie on different grids.

    Layers are read at the same places, as many in each image, which are permuted image by image.
    Layers of one row for each item are compared as they are.

    Parameters
    ----------
    sets : mapping of str to FeatureSet
        Two models or more over the same images.
    measure, n_permutations, random_state, progress
        As in :func:`relspace.compare_layers`. Of fewer than 4 images there are no p-values.

    Returns
    -------
    LayerComparison or ModelComparison
        Of two models the first.

    Raises
    ------
    ItemMismatchError
        If the sets don't hold the same images.
    InvalidInputError
        If some layers have tokens on grids, and others one row for each item.
    """
    if len(sets) < 2:
        raise InvalidInputError(f"there is {len(sets)} feature set; give two or more.")
    seed = check_random_state(random_state)
    paired, _ = pair_feature_sets(sets)
    grids = grids_of_layers(paired)
    models: dict[str, Any] = dict(paired)
    places: Places | None = None
    if grids:
        n_images = len(next(iter(paired.values())))
        per_image = max(1, _MEASURED_ROWS // n_images)
        # Other places than the landmarks that a seed gives.
        places = choose_places(grids, per_image * n_images, random_state=seed + 1)
        if progress is not None:
            progress("Reading all layers at the same places")
        models = {
            name: {layer: fs.read_places(places, layer=layer) for layer in fs.layers}
            for name, fs in paired.items()
        }
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


def pair_feature_sets(
    sets: Mapping[str, FeatureSet],
) -> tuple[dict[str, FeatureSet], tuple[ItemId, ...] | None]:
    """Bring sets into the order of the first by their ids, and return these, if they have some."""
    shared, order = pair_sets(
        {name: len(fs) for name, fs in sets.items()},
        {name: fs.ids for name, fs in sets.items()},
        {name: fs.contents for name, fs in sets.items()},
    )
    paired = {}
    for name, fs in sets.items():
        rows = order[name]
        paired[name] = fs if rows is None else fs.select(images=rows)
    return paired, shared


def grids_of_layers(sets: Mapping[str, FeatureSet]) -> dict[str, TokenGrid]:
    """The grids of all layers; none where all sets have one row for each item."""
    found = {f"{name}, {layer}": fs[layer].grid for name, fs in sets.items() for layer in fs.layers}
    without = [layer for layer, grid in found.items() if grid is None]
    if without and len(without) < len(found):
        raise InvalidInputError(
            f"{name_some(without)} have one row for each image and other layers tokens on grids; "
            'give layers of tokens, or pool all sets by fs.pool("mean").'
        )
    return {layer: grid for layer, grid in found.items() if grid is not None}
