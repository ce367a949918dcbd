"""Opens what is compared: layers of models over the same items, held or summed over in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from relspace import measures
from relspace._core.arguments import check_count
from relspace._core.items import ItemId
from relspace._core.pairing import pair_sets
from relspace._core.progress import Listener
from relspace._core.resources import Resources
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.kernels.landmarks import draw_distinct
from relspace.measures import MIN_ITEMS, Measure
from relspace.measures.common_pairs import on_common_pairs
from relspace.measures.from_function import Function
from relspace.resampling import Units, labels_by_id, number_units
from relspace.rows.source import RowSource
from relspace.similarity.held import Held, hold_layers
from relspace.similarity.model_layers import ModelLayers
from relspace.similarity.summed import Summed, needs_items_again, sum_layers
from relspace.similarity.tables import Items

Ids = Mapping[str, object] | Sequence[ItemId] | str | None
#: What ``measure=`` takes.
MeasureLike = str | Measure | Function

# In float64, of the largest layer while it is prepared.
_COPIES_WHILE_PREPARED = 3
# A ceiling prepares two halves beside the whole.
_SETS_OF_CEILING = 2


def open_models(
    models: Mapping[str, object],
    measure: Measure,
    blocks: Sequence[tuple[str, str]],
    *,
    ids: Ids,
    groups: object | None,
    seed: int,
    max_items: int | None,
    memory_budget: int | str | None,
    client: Any | None,
    tell: Listener,
    n_permutations: int,
    n_bootstraps: int = 0,
    ceiling: bool = False,
    held: bool = False,
) -> Held | Summed:
    """Open the layers of models, so that any two can be compared.

    Layers in memory stay there. Those on disk are loaded where they fit into the budget, by default
    half of the free memory, and else summed over in blocks. ``blocks`` are the pairs of models that
    will be compared under permutations; ``n_permutations``, ``n_bootstraps`` and ``ceiling`` are
    what will be asked for, which sums can't all give. With ``held``, layers that don't fit are
    refused. The rest is as in :func:`relspace.compare_layers`.
    """
    memory_budget = Resources.of(memory_budget).memory
    if max_items is not None:
        max_items = check_count(max_items, "max_items", at_least=MIN_ITEMS)
    opened, shared, order = pair_models(models, ids)
    n_available = opened[0].n_items
    in_part = max_items is not None and max_items < n_available
    if in_part and client is not None:
        raise InvalidInputError(
            "max_items chooses a part that one machine compares, and a cluster sums over all "
            "items: give max_items or client, not both."
        )
    first_ids = opened[0].ids
    groups = opened[0].images if groups is None else labels_by_id(groups, lambda: first_ids)
    chosen = None
    if in_part and max_items is not None:
        chosen = draw_items(n_available, max_items, seed, groups)
        order = {name: chosen if own is None else own[chosen] for name, own in order.items()}
        groups = None if groups is None else np.asarray(groups)[chosen.numpy()]
        shared = None if shared is None else tuple(shared[row] for row in chosen.tolist())
    n_items = n_available if chosen is None else len(chosen)
    missing = {name: count for model in opened for name, count in model.missing_pairs.items()}
    items = Items(
        n_items=n_items,
        n_available=n_available,
        n_units=n_items if groups is None else int(number_units(n_items, groups).max()) + 1,
        matched_by="position" if shared is None else "ids",
        ids=shared,
        groups=groups,
        missing_pairs=missing,
    )
    if any(model.has_dissimilarities for model in opened):
        if client is not None or ceiling:
            raise InvalidInputError(
                "dissimilarities are compared in memory, and have no features to split in halves: "
                "leave out " + ("client." if client is not None else "ceiling.")
            )
        if missing:
            measure = on_common_pairs(measure)
    n_sets = sum(len(model.layers) for model in opened) + (_SETS_OF_CEILING if ceiling else 0)
    measure.refuse_too_many(n_items, n_sets, memory_budget)
    if client is not None or (not in_part and _is_too_large(opened, memory_budget)):
        if held:
            raise needs_items_again("a ranking")
        return sum_layers(
            opened,
            measure,
            items,
            order,
            blocks,
            memory_budget=memory_budget,
            client=client,
            tell=tell,
            n_permutations=n_permutations,
            n_bootstraps=n_bootstraps,
            ceiling=ceiling,
            seed=seed,
        )
    return hold_layers(
        opened,
        measure,
        items,
        order,
        memory_budget=memory_budget,
        tell=tell,
        keep_features=bool(n_bootstraps or ceiling),
    )


def pair_models(
    models: Mapping[str, object], ids: Ids
) -> tuple[list[ModelLayers], tuple[ItemId, ...] | None, dict[str, torch.Tensor | None]]:
    """Pair the items of models: their layers, the ids shared, and the rows of each in one order."""
    opened = [
        ModelLayers.of(given, name, _ids_of_model(ids, name, list(models)))
        for name, given in models.items()
    ]
    shared, order = pair_sets(
        {model.name: model.n_items for model in opened},
        {model.name: model.ids for model in opened},
        {model.name: model.contents for model in opened},
    )
    return opened, shared, order


def _is_too_large(models: Sequence[ModelLayers], memory_budget: int | None) -> bool:
    """Whether layers on disk are more than may be held: in float64, with copies of the largest."""
    layers = [layer for model in models for layer in model.layers.values()]
    on_disk = [layer for layer in layers if isinstance(layer, RowSource)]
    if not on_disk:
        return False
    entries = [layer.shape[0] * layer.shape[1] for layer in on_disk]
    needed = 8 * (sum(entries) + _COPIES_WHILE_PREPARED * max(entries))
    return not Resources.of(memory_budget).holds(needed)


def draw_items(
    n_items: int, max_items: int, seed: int, groups: object | None = None
) -> torch.Tensor:
    """Choose items at random, or whole groups of them, in the order they are stored."""
    generator = torch.Generator().manual_seed(seed)
    if groups is None:
        return draw_distinct(n_items, max_items, generator)
    units = Units.of(n_items, groups)
    order = torch.randperm(len(units), generator=generator)
    ends = torch.tensor([len(units.rows[unit]) for unit in order]).cumsum(0)
    chosen = order[: int((ends <= max_items).sum())].tolist()
    if not chosen:
        raise InvalidInputError(f"max_items={max_items} is less than the items of one group.")
    return torch.cat([units.rows[unit] for unit in chosen]).sort().values


def as_measure(measure: object) -> Measure:
    """Look a measure up by its name, make one of a function, or take it as it is."""
    if isinstance(measure, Measure):
        return measure
    if isinstance(measure, str):
        return measures.get(measure)
    if callable(measure) and not isinstance(measure, type):
        return measures.from_function(measure)
    raise InvalidTypeError(
        f"measure is of type {type(measure).__name__}; it must be the name of a measure, what "
        "relspace.measures.get gives, or a function (X, Y) -> float of two sets of features."
    )


def check_names(names: object, what: str) -> tuple[str, str] | None:
    """Check the names of two sets or models; None where none are given."""
    if names is None:
        return None
    if not isinstance(names, list | tuple) or not all(isinstance(k, str) and k for k in names):
        raise InvalidTypeError(
            f"names is {names!r}; it must be a list of two strings that are not empty."
        )
    if len(names) != 2 or names[0] == names[1]:
        raise InvalidInputError(
            f"names is {names!r}; give each of the two {what} a name of its own."
        )
    return names[0], names[1]


def _ids_of_model(ids: Ids, name: str, names: Sequence[str]) -> object | None:
    """Return the ids of one model, where ids are given for each model or for all."""
    if not isinstance(ids, Mapping):
        return ids
    unknown = [str(key) for key in ids if key not in names]
    if unknown:
        raise InvalidInputError(
            f"ids names {', '.join(unknown)}; what is compared is {', '.join(names)}."
        )
    return ids.get(name)
