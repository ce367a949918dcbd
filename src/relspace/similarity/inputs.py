"""A model's layers from whatever holds them, over items that are paired across models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from relspace._core.memory import memory_budget_bytes
from relspace._core.pairing import ItemContents, is_by_position, pair_sets, refuse_another_order
from relspace._core.progress import Listener
from relspace._core.validation import (
    ItemId,
    as_features,
    as_ids,
    ids_of_layers,
    name_some,
    without_labels,
)
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    ItemMismatchError,
    UndefinedValueError,
)
from relspace.features import FeatureSet, contents_of, is_held, scan
from relspace.measures import Measure
from relspace.rows.source import RowSource
from relspace.similarity.by_sums import draw_items, select_labels


@dataclass(frozen=True)
class Undefined:
    """Stands for the factor of a layer on which a measure has no value, and says why."""

    reason: str


@dataclass(frozen=True)
class ModelLayers:
    """The layers of one model, read when they are asked for.

    Attributes
    ----------
    name : str
        The model.
    layers : mapping of str to array-like of shape (n_items, d)
        From input to output.
    n_items : int
        Rows of every layer.
    ids : tuple or None
        The items' ids, where they have some.
    images : tuple or None
        For each item the image it is a token of, where items are tokens of images.
    contents : ItemContents or None
        What is known of the items' content, unless the caller said what belongs together.
    """

    name: str
    layers: Mapping[str, Any]
    n_items: int
    ids: tuple[ItemId, ...] | None
    images: tuple[ItemId, ...] | None
    contents: ItemContents | None = None

    @classmethod
    def of(cls, given: object, name: str, ids: object | None = None) -> ModelLayers:
        """Take the layers of a feature set, or of a mapping of names to features.

        Parameters
        ----------
        given : FeatureSet or mapping
            The layers.
        name : str
            What errors call the model.
        ids : sequence or "position", optional
            The items' ids, or that items have none; by default those that the layers bring.

        Raises
        ------
        InvalidTypeError
            If it is neither.
        ItemMismatchError
            If layers have different numbers of rows.
        """
        if isinstance(given, FeatureSet):
            layers: dict[str, Any] = {layer: given[layer] for layer in given.layers}
        elif isinstance(given, Mapping) and given and all(isinstance(key, str) for key in given):
            layers = {layer: one if is_held(one) else scan(one) for layer, one in given.items()}
            if ids is not None:
                layers = {
                    layer: without_labels(one, f"{name}, {layer}") for layer, one in layers.items()
                }
        else:
            kind = f"of type {type(given).__name__}"
            if isinstance(given, Mapping) and not given:
                kind = "empty"
            raise InvalidTypeError(
                f"{name} is {kind}; it must be a feature set or a mapping of layer names to "
                'features, such as {"layer_1": X, "layer_2": Y}.'
            )
        sizes = {layer: _n_rows(one, f"{name}, {layer}") for layer, one in layers.items()}
        if len(set(sizes.values())) > 1:
            raise ItemMismatchError(
                f"the layers of {name} have different numbers of rows, {sizes}: all must be of "
                'the same items; tokens on different grids are brought together by pool("mean").'
            )
        n_items = next(iter(sizes.values()))
        images: tuple[ItemId, ...] | None = None
        by_position = is_by_position(ids)
        own: object | None = None if by_position else ids
        contents = None
        if ids is None:
            contents = contents_of(next(iter(layers.values())))
        if isinstance(given, FeatureSet) and n_items != len(given):
            tokens = n_items // len(given)
            names: Sequence[ItemId] = range(len(given)) if given.ids is None else given.ids
            images = tuple(image for image in names for _ in range(tokens))
            if own is None and given.ids is not None and not by_position:
                # Tokens of one image are told apart by their number.
                own = [f"{image}#{token}" for image in given.ids for token in range(tokens)]
        elif own is None and not by_position:
            own = _carried_ids(given, layers, name)
        checked = None if own is None else as_ids(own, name, n_items)
        if ids is not None and images is None:
            refuse_another_order(name, checked, lambda: _carried_ids(given, layers, name))
        return cls(name, layers, n_items, checked, images, contents)

    def factors(
        self,
        measure: Measure,
        rows: torch.Tensor | None,
        memory_budget: int,
        progress: Listener,
    ) -> list[Any | Undefined]:
        """Prepare every layer, the rows asked for in that order, for comparisons by a measure.

        Raises
        ------
        UndefinedValueError
            If the measure has no value on any layer; what it has none on is else marked so.
        """
        factors: list[Any | Undefined] = []
        for number, (layer, given) in enumerate(self.layers.items(), start=1):
            progress(number, len(self.layers), f"Preparing layers of {self.name}")
            name = f"{self.name}, {layer}"
            if rows is not None and len(rows) < self.n_items and isinstance(given, RowSource):
                features = as_features(given.read_at(rows), name).tensor
            else:
                whole = given.read(0, self.n_items) if isinstance(given, RowSource) else given
                features = as_features(whole, name).tensor
                features = features if rows is None else features[rows]
            try:
                factors.append(measure.prepare(features, name, memory_budget=memory_budget))
            except UndefinedValueError as error:
                factors.append(Undefined(str(error)))
        gaps = [one.reason for one in factors if isinstance(one, Undefined)]
        if len(gaps) == len(factors):
            raise UndefinedValueError(gaps[0])
        return factors


def _carried_ids(given: object, layers: Mapping[str, Any], name: str) -> Sequence[ItemId] | None:
    """The ids of a feature set, or those that all layers bring."""
    own = given.ids if isinstance(given, FeatureSet) else None
    return own or ids_of_layers(layers, name)


def _n_rows(layer: object, name: str) -> int:
    shape = None if isinstance(layer, torch.Tensor) else getattr(layer, "shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and all(shape):
        return int(shape[0])
    # What is no matrix is refused here; reading it costs nothing or is the way to know its shape.
    return len(as_features(layer, name, check_finite=False, cast=False).tensor)


@dataclass(frozen=True)
class PreparedModels:
    """Factors of every layer of every model, over the same items in one order.

    Attributes
    ----------
    factors : list of list
        By model, by layer; :class:`Undefined` where the measure has no value on a layer.
    n_items : int
        How many items there are.
    groups : object or None
        A label for each item: the groups given, or the images that tokens are of.
    matched_by : str
        ``"ids"`` or ``"position"``.
    n_available : int
        How many items there were; more than ``n_items`` where some were chosen at random.
    """

    factors: list[list[Any]]
    n_items: int
    groups: object | None
    matched_by: str
    n_available: int


def prepare_models(
    models: Sequence[ModelLayers],
    measure: Measure,
    *,
    groups: object | None,
    memory_budget: int | None,
    progress: Listener,
    max_items: int | None = None,
    seed: int = 0,
) -> PreparedModels:
    """Pair the models' items and prepare all their layers, each once; at most so many items."""
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"models have the names {name_some(names)}; they must differ.")
    sizes = {model.name: model.n_items for model in models}
    ids = {model.name: model.ids for model in models}
    contents = {model.name: model.contents for model in models}
    shared, order = pair_sets(sizes, ids, contents)
    n_sets = sum(len(model.layers) for model in models)
    budget = memory_budget_bytes(memory_budget) // (2 * n_sets)
    own_groups = models[0].images if groups is None else groups
    n_items = n_available = models[0].n_items
    if max_items is not None and max_items < n_available:
        chosen = draw_items(n_available, max_items, seed, own_groups)
        order = {name: chosen if own is None else own[chosen] for name, own in order.items()}
        own_groups, n_items = select_labels(own_groups, chosen), len(chosen)
    measure.refuse_too_many(n_items, n_sets, memory_budget)
    factors = [model.factors(measure, order[model.name], budget, progress) for model in models]
    return PreparedModels(
        factors, n_items, own_groups, "position" if shared is None else "ids", n_available
    )
