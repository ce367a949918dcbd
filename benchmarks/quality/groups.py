"""Task 3: a small ReSi (Klabunde et al. 2024): are networks trained alike found to be alike?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from quality.conditions import seeded
from quality.features import Recipe, trained
from quality.layers import N_ITEMS, deep_networks, prepared, similarities
from quality.networks import SHALLOW
from quality.results import Scores
from quality.scores import group_scores, order_conformity
from quality.training import Treatment
from relspace.measures import Measure

#: By design of the digits, groups of networks that have learnt the same.
DESIGNS = {
    "labels": [Treatment(random_labels=share) for share in (0.0, 0.25, 0.5, 1.0)],
    "shortcut": [Treatment(shortcut=share) for share in (0.0, 0.5, 0.8, 1.0)],
    "augmentation": [Treatment(noise=level) for level in (0.0, 0.2, 0.5, 1.0)],
    "accuracy": [Treatment(n_train=n) for n in (1000, 300, 100, 30)],
}


def tell_groups(
    measures: Mapping[str, Measure], seeds: Sequence[int], progress: Callable[[str], None]
) -> Scores:
    """How well each measure tells groups of networks apart, and keeps the order of layers.

    Parameters
    ----------
    measures : mapping of str to Measure
        What is compared, by name.
    seeds : sequence of int
        Networks of each group.
    progress : callable
        Told what is done.
    """
    scores = Scores("ReSi")
    treatments = list(dict.fromkeys(one for group in DESIGNS.values() for one in group))
    found = trained(
        [
            Recipe(family, seed, True, treatment)
            for family in SHALLOW
            for treatment in treatments
            for seed in seeds
        ],
        progress,
    )
    for family in SHALLOW:
        progress(f"groups of networks: {family}")
        penultimate = {
            (treatment, seed): list(found[Recipe(family, seed, True, treatment)].layers.values())[
                -1
            ]
            for treatment in treatments
            for seed in seeds
        }
        n = len(next(iter(penultimate.values())))
        items = torch.randperm(n, generator=seeded(0))[:N_ITEMS]
        factors = {key: prepared(measures, X[items]) for key, X in penultimate.items()}
        for name, measure in measures.items():
            for design, groups in DESIGNS.items():
                own = [factors[treatment, seed][name] for treatment in groups for seed in seeds]
                table = similarities(measure, own, own)
                labels = torch.arange(len(groups)).repeat_interleave(len(seeds))
                precision, conformity = group_scores(table, labels)
                scores.add(name, f"{design}, AUPRC", family, precision)
                scores.add(name, f"{design}, conformity", family, conformity)
    for family, members in deep_networks(seeds, progress).items():
        progress(f"order of layers: {family}")
        for layers in members:
            prepared_layers = [prepared(measures, X[items]) for X in layers.values()]
            for name, measure in measures.items():
                own = [one[name] for one in prepared_layers]
                table = similarities(measure, own, own)
                scores.add(name, "layer order, conformity", family, order_conformity(table))
    return scores
