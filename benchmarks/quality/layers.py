"""Task 1: which layer of another network is this one? (Kornblith et al. 2019, section 6.1)"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from quality.conditions import seeded, with_massive_channel, with_outliers
from quality.features import Recipe, trained
from quality.networks import FAMILIES
from quality.results import Scores
from quality.scores import identification_rate
from relspace.errors import InvalidInputError
from relspace.measures import Measure
from relspace.measures.affinity import Affinity

N_ITEMS = 300
N_FEW = 40

#: What is done to the features of each layer, independently: its name, the items, the map.
CONDITIONS: dict[str, tuple[int, Callable[[Tensor, torch.Generator], Tensor]]] = {
    "clean": (N_ITEMS, lambda X, generator: X),
    "5 % outliers": (N_ITEMS, lambda X, generator: with_outliers(X, 0.05, generator)),
    f"n = {N_FEW}": (N_FEW, lambda X, generator: X),
    "massive channel": (N_ITEMS, with_massive_channel),
}


def deep_networks(
    seeds: Sequence[int], progress: Callable[[str], None]
) -> dict[str, list[dict[str, Tensor]]]:
    """Layers of the networks of each family, one per seed."""
    found = trained([Recipe(family, seed) for family in FAMILIES for seed in seeds], progress)
    return {family: [found[Recipe(family, seed)].layers for seed in seeds] for family in FAMILIES}


def prepared(measures: Mapping[str, Measure], X: Tensor) -> dict[str, Any]:
    """The factors of one layer by measure; weights of the spread share one."""
    shared: dict[Any, Any] = {}
    for measure in measures.values():
        key = _without_spread(measure)
        if key not in shared:
            shared[key] = measure.prepare(X)
    return {name: shared[_without_spread(measure)] for name, measure in measures.items()}


def _without_spread(measure: Measure) -> Measure:
    return replace(measure, spread=0.0) if isinstance(measure, Affinity) else measure


def similarities(measure: Measure, a: Sequence[Any], b: Sequence[Any]) -> Tensor:
    """A measure's values by their factors, with their sign such that larger means more alike.

    A pair that a measure refuses to compare, as CCA does where items are too few, is the least
    alike.
    """
    sign = 1.0 if measure.direction == "similarity" else -1.0
    try:
        return sign * measure.table(a, b)
    except InvalidInputError:
        table = torch.full((len(a), len(b)), -torch.inf, dtype=torch.float64)
        for (i, x), (j, y) in itertools.product(enumerate(a), enumerate(b)):
            with suppress(InvalidInputError):
                table[i, j] = sign * measure.from_factors(x, y)
        return table


def identify_layers(
    measures: Mapping[str, Measure], seeds: Sequence[int], progress: Callable[[str], None]
) -> Scores:
    """How often each measure finds the layer of the same depth in a network of another seed.

    Parameters
    ----------
    measures : mapping of str to Measure
        What is compared, by name.
    seeds : sequence of int
        Networks of each family.
    progress : callable
        Told what is done.
    """
    scores = Scores("Layer identification")
    networks = deep_networks(seeds, progress)
    for (condition, (n_items, change)), (family, members) in itertools.product(
        CONDITIONS.items(), networks.items()
    ):
        progress(f"layer identification: {condition}, {family}")
        n = len(next(iter(members[0].values())))
        items = torch.randperm(n, generator=seeded(0))[:n_items]
        features = [
            [
                change(X[items], seeded(list(FAMILIES).index(family), seed, depth))
                for depth, X in enumerate(layers.values())
            ]
            for seed, layers in zip(seeds, members, strict=True)
        ]
        factors = [[prepared(measures, X) for X in layers] for layers in features]
        for name, measure in measures.items():
            for a, b in itertools.combinations(factors, 2):
                table = similarities(measure, [x[name] for x in a], [y[name] for y in b])
                scores.add(name, condition, family, identification_rate(table))
    return scores
