"""Layers of tokens on different grids, read at the same positions of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any

import torch

from relspace._core.arguments import name_some
from relspace._core.items import ItemId
from relspace._core.pairing import is_by_position, pair_sets
from relspace._core.progress import Listener
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError
from relspace.features import FeatureSet, TokenGrid, choose_positions

_MEASURED_ROWS = 1000


@dataclass(frozen=True, eq=False)
class LayersAtPositions:
    """All layers of all models at the same positions, as many in each image.

    Attributes
    ----------
    models : mapping of str to mapping of str to tensor of shape (n_positions, d)
        Layers by model.
    images : LongTensor of shape (n_positions,)
        The image that each position lies in.
    ids : tuple or None
        The images' ids, where all sets have some.
    n_images : int
        How many images there are.
    """

    models: Mapping[str, Mapping[str, torch.Tensor]]
    images: torch.Tensor
    ids: tuple[ItemId, ...] | None
    n_images: int

    def groups(self, of_images: object | None = None) -> list[Any]:
        """A label for each position: its image, or the label that its image is given."""
        if of_images is None:
            return self.images.tolist()
        if not isinstance(of_images, Sized):
            raise InvalidTypeError(
                f"groups is of type {type(of_images).__name__}; it must be a list with one label "
                "for each image."
            )
        labels: Any = of_images
        if len(labels) != self.n_images:
            raise ItemMismatchError(
                f"there are {self.n_images} images and {len(labels)} group labels: layers on "
                "different grids are read at the same positions, so give one label for each image."
            )
        return [labels[image] for image in self.images.tolist()]

    @property
    def position_ids(self) -> list[str] | None:
        """Ids of the positions, where images have some."""
        if self.ids is None:
            return None
        return [f"{self.ids[image]}@{k}" for k, image in enumerate(self.images.tolist())]


def at_same_positions(
    models: Mapping[str, object],
    ids: Any,
    groups: object | None,
    max_items: int | None,
    seed: int,
    tell: Listener,
) -> tuple[Mapping[str, object], Any, object | None]:
    """Read layers of feature sets at the same positions, where tokens lie on different grids.

    Other features, and tokens on one grid, are returned as they are. Returns models, ids and groups
    for :func:`relspace.similarity.inputs.open_models`.
    """
    sets = {name: one for name, one in models.items() if isinstance(one, FeatureSet)}
    if len(sets) < len(models) or all(
        fs[layer].grid is None for fs in sets.values() for layer in fs.layers
    ):
        return models, ids, groups
    by_position = is_by_position(ids)
    paired, shared = pair_feature_sets(sets, by_position=by_position)
    grids = grids_of_layers(paired)
    first = next(iter(grids.values()))
    if all(grid == first for grid in grids.values()):
        return models, ids, groups
    if ids and not by_position:
        raise InvalidInputError(
            "ids are given, and tokens lie on different grids, which are read at the same "
            "positions of images: give the images' ids to the feature sets."
        )
    read = read_at_positions(paired, grids, shared, max_items, seed, tell)
    return read.models, read.position_ids, read.groups(groups)


def read_at_positions(
    paired: Mapping[str, FeatureSet],
    grids: Mapping[str, TokenGrid],
    ids: tuple[ItemId, ...] | None,
    max_items: int | None,
    seed: int,
    tell: Listener,
) -> LayersAtPositions:
    """Read all layers of sets of the same images in one order at positions that all grids saw.

    There are about 1,000 positions, or ``max_items`` at most.
    """
    n_images = len(next(iter(paired.values())))
    per_image = max(1, (max_items or _MEASURED_ROWS) // n_images)
    # A seed of its own, so that positions differ from the landmarks.
    positions = choose_positions(grids, per_image * n_images, random_state=seed + 1)
    tell(0, 0, "Reading all layers at the same positions")
    models = {
        name: {layer: fs.read_positions(positions, layer=layer) for layer in fs.layers}
        for name, fs in paired.items()
    }
    return LayersAtPositions(models, positions.images, ids, n_images)


def pair_feature_sets(
    sets: Mapping[str, FeatureSet], *, by_position: bool = False
) -> tuple[dict[str, FeatureSet], tuple[ItemId, ...] | None]:
    """Bring sets into the order of the first by their ids, and return these, if they have some."""
    shared, order = pair_sets(
        {name: len(fs) for name, fs in sets.items()},
        {name: None if by_position else fs.ids for name, fs in sets.items()},
        {name: None if by_position else fs.contents for name, fs in sets.items()},
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
