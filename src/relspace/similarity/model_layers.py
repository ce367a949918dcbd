"""The layers of one model, from a feature set or a mapping, read when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from relspace._core.items import ItemId, as_ids, ids_of_layers, own_ids
from relspace._core.labelled_tables import without_labels
from relspace._core.matrices import as_features
from relspace._core.pairing import ItemContents, is_by_position, refuse_another_order
from relspace.errors import InvalidTypeError, ItemMismatchError
from relspace.features import FeatureSet, contents_of, is_held, scan
from relspace.measures.dissimilarities import Dissimilarities
from relspace.rows.source import RowSource
from relspace.similarity.tables import full_name


@dataclass(frozen=True)
class ModelLayers:
    """The layers of one model.

    Attributes
    ----------
    name : str
        The model.
    layers : mapping of str to array-like of shape (n_items, d)
        From input to output. Features that are a single matrix are one layer with an empty name.
    n_items : int
        Rows of every layer.
    ids : tuple or None
        The items' ids, where they have some.
    images : tuple or None
        For each item the image it is a token of, where items are tokens of images.
    contents : ItemContents or None
        Digests of the items' content, unless the caller gave ids.
    """

    name: str
    layers: Mapping[str, Any]
    n_items: int
    ids: tuple[ItemId, ...] | None
    images: tuple[ItemId, ...] | None
    contents: ItemContents | None = None

    @property
    def missing_pairs(self) -> dict[str, int]:
        """Of layers that are dissimilarities with gaps, how many pairs are missing."""
        return {
            full_name(self.name, layer): one.n_missing
            for layer, one in self.layers.items()
            if isinstance(one, Dissimilarities) and one.n_missing
        }

    @property
    def has_dissimilarities(self) -> bool:
        """Whether a layer is a matrix of dissimilarities."""
        return any(isinstance(one, Dissimilarities) for one in self.layers.values())

    @classmethod
    def of(cls, given: object, name: str, ids: object | None = None) -> ModelLayers:
        """Take the layers of a feature set, or of a mapping of names to features.

        ``ids`` are the items' ids, or "position" for none; by default those that the layers bring.
        """
        layers = _layers_of(given, name, labelled=ids is None)
        sizes = {layer: _n_rows(one, full_name(name, layer)) for layer, one in layers.items()}
        if len(set(sizes.values())) > 1:
            raise ItemMismatchError(
                f"the layers of {name} have different numbers of rows, {sizes}: all must be of "
                'the same items; tokens on different grids are brought together by pool("mean").'
            )
        n_items = next(iter(sizes.values()))

        def carried() -> Sequence[ItemId] | None:
            if isinstance(given, FeatureSet) and given.ids:
                return given.ids
            return own_ids(layers[""], name) if "" in layers else ids_of_layers(layers, name)

        images: tuple[ItemId, ...] | None = None
        by_position = is_by_position(ids)
        own: object | None = None if by_position else ids
        if isinstance(given, FeatureSet) and n_items != len(given):
            tokens = n_items // len(given)
            names: Sequence[ItemId] = range(len(given)) if given.ids is None else given.ids
            images = tuple(image for image in names for _ in range(tokens))
            if own is None and given.ids is not None and not by_position:
                # Tokens of one image differ by their number.
                own = [f"{image}#{token}" for image in given.ids for token in range(tokens)]
        elif own is None and not by_position:
            own = carried()
        checked = None if own is None else as_ids(own, name, n_items)
        if ids is not None and images is None:
            refuse_another_order(name, checked, carried)
        first = next(iter(layers.values()))
        contents = contents_of(first) if ids is None else None
        return cls(name, layers, n_items, checked, images, contents)

    def read(
        self, layer: str, rows: torch.Tensor | None, dtype: torch.dtype
    ) -> torch.Tensor | Dissimilarities:
        """Read a layer, or some of its rows in the order asked for.

        Types other than float32 and float64 are converted to ``dtype``.
        """
        given, name = self.layers[layer], full_name(self.name, layer)
        if isinstance(given, Dissimilarities):
            return given if rows is None else given[rows]
        if not isinstance(given, RowSource):
            features = as_features(given, name, dtype=dtype).tensor
            return features if rows is None else features[rows]
        if rows is None or len(rows) == self.n_items:
            features = as_features(given.read(0, self.n_items), name, dtype=dtype).tensor
            return features if rows is None else features[rows]
        return as_features(given.read_at(rows), name, dtype=dtype).tensor


def _layers_of(given: object, name: str, *, labelled: bool) -> dict[str, Any]:
    """Check that layers are given, and open those that are read in blocks."""
    if isinstance(given, FeatureSet):
        return {layer: given[layer] for layer in given.layers}
    if not isinstance(given, Mapping) or not given or any(not isinstance(k, str) for k in given):
        kind = f"of type {type(given).__name__}"
        if isinstance(given, Mapping) and not given:
            kind = "empty"
        raise InvalidTypeError(
            f"{name} is {kind}; it must be a feature set or a mapping of layer names to "
            'features, such as {"layer_1": X, "layer_2": Y}.'
        )
    layers = {layer: one if is_held(one) else scan(one) for layer, one in given.items()}
    if labelled:
        return layers
    return {
        layer: one
        if isinstance(one, Dissimilarities)
        else without_labels(one, full_name(name, layer))
        for layer, one in layers.items()
    }


def _n_rows(layer: object, name: str) -> int:
    # Array-likes of other libraries may take long to convert, and most have a shape.
    shape = None if isinstance(layer, torch.Tensor) else getattr(layer, "shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and all(shape):
        return int(shape[0])
    return len(as_features(layer, name, check_finite=False, cast=False).tensor)
