"""Layers of tokens on different grids, read at the same places of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from relspace._core.pairing import is_by_position, pair_sets
from relspace._core.progress import Listener
from relspace._core.validation import ItemId, name_some
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError
from relspace.features import FeatureSet, TokenGrid, choose_positions

_MEASURED_ROWS = 1000


@dataclass(frozen=True, eq=False)
class LayersAtPlaces:
    """All layers of all models at the same places, as many in each image.

    Attributes
    ----------
    models : mapping of str to mapping of str to tensor of shape (n_places, d)
        Layers by model.
    images : LongTensor of shape (n_places,)
        The image that each place lies in.
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
        """A label for each place: its image, or the label that its image is given."""
        if of_images is None:
            return self.images.tolist()
        if not isinstance(of_images, Sequence) and not hasattr(of_images, "__len__"):
            raise InvalidTypeError(
                f"groups is of type {type(of_images).__name__}; it must be a list with one label "
                "for each image."
            )
        labels: Any = of_images
        if len(labels) != self.n_images:
            raise ItemMismatchError(
                f"there are {self.n_images} images and {len(labels)} group labels: layers on "
                "different grids are read at the same places, so give one label for each image."
            )
        return [labels[image] for image in self.images.tolist()]

    @property
    def place_ids(self) -> list[str] | None:
        """Ids of the places, where images have some."""
        if self.ids is None:
            return None
        return [f"{self.ids[image]}@{k}" for k, image in enumerate(self.images.tolist())]


def at_same_places(
    models: Mapping[str, object],
    *,
    ids: object | None = None,
    max_items: int | None = None,
    seed: int = 0,
    progress: Listener,
) -> LayersAtPlaces | None:
    """Read layers of feature sets at the same places, where their tokens lie on different grids.

    Parameters
    ----------
    models : mapping of str to object
        What is to be compared.
    ids : object, optional
        Ids of items, which places have none of; or ``"position"``.
    max_items : int, optional
        How many places at most; about 1,000 by default.
    seed : int
        Of the places.
    progress : callable
        Told ``(done, total, text)``.

    Returns
    -------
    LayersAtPlaces or None
        None where rows are the same items as they are: of other features than tokens, or tokens
        on one grid.
    """
    sets = {name: one for name, one in models.items() if isinstance(one, FeatureSet)}
    if len(sets) < len(models) or all(
        fs[layer].grid is None for fs in sets.values() for layer in fs.layers
    ):
        return None
    by_position = is_by_position(ids)
    paired, shared = pair_feature_sets(sets, by_position=by_position)
    grids = grids_of_layers(paired)
    first = next(iter(grids.values()))
    if all(grid == first for grid in grids.values()):
        return None
    if ids and not by_position:
        raise InvalidInputError(
            "ids are given, and tokens lie on different grids, which are read at the same places "
            "of images: give the images' ids to the feature sets."
        )
    return read_at_places(paired, grids, shared, max_items=max_items, seed=seed, progress=progress)


def read_at_places(
    paired: Mapping[str, FeatureSet],
    grids: Mapping[str, TokenGrid],
    ids: tuple[ItemId, ...] | None,
    *,
    max_items: int | None = None,
    seed: int = 0,
    progress: Listener,
) -> LayersAtPlaces:
    """Read all layers of sets of the same images in one order at places that all grids saw."""
    n_images = len(next(iter(paired.values())))
    per_image = max(1, (max_items or _MEASURED_ROWS) // n_images)
    # Other places than the landmarks that a seed gives.
    places = choose_positions(grids, per_image * n_images, random_state=seed + 1)
    progress(0, 0, "Reading all layers at the same places")
    models = {
        name: {layer: fs.read_positions(places, layer=layer) for layer in fs.layers}
        for name, fs in paired.items()
    }
    return LayersAtPlaces(models, places.images, ids, n_images)


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
