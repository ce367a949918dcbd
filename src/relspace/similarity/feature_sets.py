"""Feature sets of several models: all their layers, compared at the same positions of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relspace._core.arguments import check_random_state
from relspace._core.limits import DEFAULT_ALPHA, DEFAULT_PERMUTATIONS
from relspace._core.progress import Progress, as_listener
from relspace.errors import InvalidInputError
from relspace.features import FeatureSet
from relspace.similarity.layers import LayerComparison, compare_layers
from relspace.similarity.models import ModelComparison, compare_models
from relspace.similarity.same_positions import (
    grids_of_layers,
    pair_feature_sets,
    read_at_positions,
)

_FEWEST_GROUPS = 4


def compare_feature_sets(
    sets: Mapping[str, FeatureSet],
    *,
    measure: str = "affinity",
    n_permutations: int = DEFAULT_PERMUTATIONS,
    random_state: int = 0,
    alpha: float = DEFAULT_ALPHA,
    progress: Progress = None,
) -> LayerComparison | ModelComparison:
    """Compare all layers of models whose tokens may lie on different grids.

    Layers are read at the same positions, as many in each image, which are permuted image by image.
    Layers of one row for each item are compared as they are.

    Parameters
    ----------
    sets : mapping of str to FeatureSet
        Two models or more over the same images.
    measure, n_permutations, random_state, alpha, progress
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
    tell, seed = as_listener(progress), check_random_state(random_state)
    paired, shared = pair_feature_sets(sets)
    grids = grids_of_layers(paired)
    models: dict[str, Any] = dict(paired)
    groups, ids = None, None
    if grids:
        read = read_at_positions(paired, grids, shared, None, seed, tell)
        models, ids = dict(read.models), read.position_ids
        if read.n_images < _FEWEST_GROUPS:
            n_permutations = 0
        else:
            groups = read.groups()
    settings: dict[str, Any] = {
        "measure": measure,
        "n_permutations": n_permutations,
        "groups": groups,
        "ids": ids,
        "random_state": seed,
        "alpha": alpha,
        "progress": tell,
    }
    if len(models) == 2:
        return compare_layers(*models.values(), names=list(models), **settings)
    return compare_models(models, **settings)
