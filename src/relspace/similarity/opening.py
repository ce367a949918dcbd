"""Layers of models, opened for comparison: held as factors, or summed over their items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relspace._core.progress import Listener
from relspace._core.validation import ItemId, check_count, name_some
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.features import FeatureSet
from relspace.measures import MIN_ITEMS, Measure
from relspace.similarity.inputs import ModelLayers
from relspace.similarity.layers_by_sums import is_summed, sum_layers
from relspace.similarity.layers_held import hold_layers
from relspace.similarity.same_positions import at_same_places
from relspace.similarity.tables import LayerTables


def open_tables(
    models: Mapping[str, object],
    measure: Measure,
    blocks: Sequence[tuple[str, str]],
    *,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None,
    groups: object | None,
    seed: int,
    max_items: int | None,
    memory_budget: int | None,
    client: Any | None,
    progress: Listener,
) -> LayerTables:
    """Open the layers of models so that any of them can be compared.

    Parameters
    ----------
    models : mapping of str to (FeatureSet or mapping)
        Layers by model. Tokens on different grids are read at the same places of the images.
    measure : Measure
        What they are compared by.
    blocks : sequence of (str, str)
        Models whose layers will be compared under permutations.
    ids, groups, max_items, memory_budget, client, progress
        As in :func:`relspace.compare_layers`.
    seed : int
        Of the items and places that are chosen.
    """
    if max_items is not None:
        max_items = check_count(max_items, "max_items", at_least=MIN_ITEMS)
    places = at_same_places(models, ids=ids, max_items=max_items, seed=seed, progress=progress)
    if places is not None:
        models, ids, groups = places.models, places.place_ids, places.groups(groups)
    names = list(models)
    read = [
        ModelLayers.of(given, name, _ids_of_model(ids, name, names))
        for name, given in models.items()
    ]
    if is_summed(read, measure, max_items, memory_budget, client):
        return sum_layers(
            read,
            measure,
            blocks,
            groups=groups,
            memory_budget=memory_budget,
            client=client,
            progress=progress,
        )
    return hold_layers(
        read,
        measure,
        groups=groups,
        max_items=max_items,
        seed=seed,
        memory_budget=memory_budget,
        progress=progress,
    )


def named_models(models: Sequence[object], names: Sequence[str] | None) -> dict[str, object]:
    """Say what models are called: as given, as their feature sets say, or by their number."""
    if names is not None:
        if not isinstance(names, list | tuple) or len(names) != len(models):
            raise InvalidInputError(f"names is {names!r}; give one name for each model.")
        if not all(isinstance(name, str) and name for name in names):
            raise InvalidTypeError(f"names is {names!r}; names are strings, and not empty.")
        called = list(names)
        if len(set(called)) < len(called):
            raise InvalidInputError(f"models have the names {name_some(called)}; they must differ.")
        return dict(zip(called, models, strict=True))
    own = [
        model.metadata.get("model") if isinstance(model, FeatureSet) else None for model in models
    ]
    if all(isinstance(name, str) for name in own) and len(set(own)) == len(own):
        return {str(name): model for name, model in zip(own, models, strict=True)}
    return dict(zip(("first", "second"), models, strict=True))


def _ids_of_model(
    ids: Mapping[str, object] | Sequence[ItemId] | str | None, name: str, names: Sequence[str]
) -> object | None:
    """Pick a model's ids from what was given for each or for all."""
    if not isinstance(ids, Mapping):
        return ids
    unknown = [str(key) for key in ids if key not in names]
    if unknown:
        raise InvalidInputError(
            f"ids names {', '.join(unknown)}; the models are {', '.join(names)}."
        )
    return ids.get(name)
