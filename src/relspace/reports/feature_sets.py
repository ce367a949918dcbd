"""Feature sets of several models, all their layers -> a plain summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from relspace._core.arguments import check_count, check_random_state
from relspace._core.limits import DEFAULT_PERMUTATIONS
from relspace._core.matrices import as_features
from relspace._core.progress import Progress, as_listener
from relspace.errors import BandwidthError
from relspace.features import FeatureSet, Positions, choose_positions
from relspace.kernels.bandwidth import DEFAULT_DENSITY
from relspace.reports.page.data import Quantization, ReportModel
from relspace.reports.patches import ModelPatches, report_models, require_patches
from relspace.reports.thumbnails import Thumbnails, grid_boxes, thumbnails_of
from relspace.similarity import LayerComparison, ModelComparison, compare_feature_sets
from relspace.similarity.same_positions import grids_of_layers, pair_feature_sets
from relspace.space.aligner import Aligner
from relspace.space.defaults import DEFAULT_LANDMARKS

_NORMALIZE = "center+unit"


@dataclass(frozen=True, kw_only=True)
class FeatureSetsSummary:
    """What is found in feature sets of several models.

    Attributes
    ----------
    compared : LayerComparison or ModelComparison
        How alike the features of their layers are.
    n_images : int
        How many images or items there are.
    matched_by : str
        How those of different models were matched: "ids" or "position".
    pictures : Thumbnails
        Of the first images, where layers lie on grids.
    models : tuple of ReportModel
        Patches of the first images in the common space.
    quantization : Quantization, optional
        Of the patches.
    parameters : dict
        What the patches depend on.
    """

    compared: LayerComparison | ModelComparison
    n_images: int
    matched_by: str
    pictures: Thumbnails = field(default_factory=Thumbnails)
    models: tuple[ReportModel, ...] = ()
    quantization: Quantization | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The models."""
        return tuple(self.compared.models)


def summarize_feature_sets(
    sets: Mapping[str, FeatureSet],
    *,
    images: object = None,
    compared: LayerComparison | ModelComparison | None = None,
    measure: str = "affinity",
    landmarks: int = DEFAULT_LANDMARKS,
    n_images: int = 16,
    n_permutations: int = DEFAULT_PERMUTATIONS,
    random_state: int = 0,
    progress: Progress = None,
) -> FeatureSetsSummary:
    """Align all layers of all models, and compare them layer by layer.

    Landmarks are positions in the images, the same for all layers of all models. Layers are
    compared at other positions, as many in each image, permuted image by image. Sets of one row for
    each item are compared as they are, and have nothing to explore.

    Parameters
    ----------
    sets : mapping of str to FeatureSet
        Two models or more over the same images.
    images : path, glob pattern, array, or a sequence of paths, arrays or PIL images, optional
        The images, by id where there are ids.
    compared : LayerComparison or ModelComparison, optional
        How alike the layers are, from :func:`relspace.similarity.compare_feature_sets`; found by
        default.
    measure : str
        What layers are compared by, see :func:`relspace.compare_layers`.
    landmarks : int
        How many positions are landmarks.
    n_images : int
        How many images are explored, the first ones.
    n_permutations : int
        How many permutations p-values rest on.
    random_state : int
        Seed.
    progress : callable or bool, optional
        Told ``(done, total, text)`` at every step; True prints lines on stderr.

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
    n, matched_by = len(next(iter(paired.values()))), "position" if ids is None else "ids"
    if not grids:
        return FeatureSetsSummary(compared=compared, n_images=n, matched_by=matched_by)
    n_shown = min(n_images, n)
    pictures = thumbnails_of(images, ids, next(iter(grids.values())), n_shown)
    positions = choose_positions(grids, landmarks, random_state=seed)
    require_patches(
        {
            f"{name}, {layer}": (
                n_shown * one.tokens_per_image,
                fs[layer].shape[1] + len(positions),
            )
            for name, fs in paired.items()
            for layer in fs.layers
            if (one := fs[layer].grid) is not None
        },
        n_shown,
    )
    patches = {}
    for name, fs in paired.items():
        tell(0, 0, f"Aligning {len(fs.layers)} layers of {name}")
        patches[name] = _patches(name, fs, positions, n_shown)
    tell(0, 0, "Colouring patches")
    models, quantization = report_models(patches, random_state=seed)
    return FeatureSetsSummary(
        compared=compared,
        n_images=n,
        matched_by=matched_by,
        pictures=pictures,
        models=models,
        quantization=quantization,
        parameters={
            "landmarks": len(positions),
            "rows compared": compared.n_items,
            "density": DEFAULT_DENSITY,
            "normalize": _NORMALIZE,
            "random state": seed,
        },
    )


def _patches(name: str, fs: FeatureSet, positions: Positions, n_images: int) -> ModelPatches:
    """All layers of the first images in the common space."""
    relative, features, grids, boxes = {}, {}, {}, {}
    for layer in fs.layers:
        one = fs[layer]
        assert one.grid is not None
        tokens = as_features(one.tokens(slice(0, n_images)), f"{name}, {layer}").tensor
        aligner = Aligner(density=DEFAULT_DENSITY, normalize=_NORMALIZE, standardize="columns")
        try:
            aligner.fit(one.read_positions(positions).to(tokens))
        except BandwidthError as error:
            raise error.about(f"landmarks of {name}, {layer}") from error
        relative[layer] = torch.as_tensor(aligner.transform(tokens))
        features[layer] = tokens
        grids[layer] = (one.grid.rows, one.grid.columns)
        boxes[layer] = grid_boxes(one.grid, n_images)
    return ModelPatches(relative, grids, features, boxes)
