"""Tasks 2 and 4: find an item of one network among those of another, or of a transformed copy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from quality.conditions import TRANSFORMS, seeded
from quality.layers import deep_networks
from quality.matchers import Matcher, Views
from quality.networks import FAMILIES
from quality.results import Scores
from relspace import choose_landmarks

N_LANDMARKS = 300
N_TO_MATCH = 400

#: How deep a layer lies, as a share of the layers.
DEPTHS = {"early": 1 / 3, "middle": 2 / 3, "last": 1.0}


def top1(similarity: Tensor) -> float:
    """How often an item's most similar item is itself, both ways; a tie counts as its share."""
    rates = []
    for table in (similarity, similarity.T):
        best = table == table.amax(dim=1, keepdim=True)
        rates.append((best.diagonal() / best.sum(1).clamp_min(1)).mean())
    return float(torch.stack(rates).mean())


def layer_at(layers: Mapping[str, Tensor], depth: float) -> Tensor:
    """The layer that lies so deep."""
    return list(layers.values())[round(depth * len(layers)) - 1]


def split(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Landmarks, and items to match that are none of them."""
    landmarks = choose_landmarks(n, N_LANDMARKS, random_state=seed)
    others = torch.ones(n, dtype=torch.bool)
    others[landmarks] = False
    return landmarks, others.nonzero().flatten()[:N_TO_MATCH]


def pairs_of_networks(
    seeds: Sequence[int],
) -> Iterator[tuple[str, str, tuple[str, int], tuple[str, int]]]:
    """Column, block and the two networks (family, seed): every seed but the last with the next."""
    for first, second in itertools.combinations_with_replacement(FAMILIES, 2):
        column = "same" if first == second else "different"
        for seed, following in itertools.pairwise(seeds):
            yield column, f"{first}, {second}", (first, seed), (second, following)


def match_networks(
    matchers: Mapping[str, Matcher], seeds: Sequence[int], progress: Callable[[str], None]
) -> Scores:
    """How often each method finds an item of one network in another, landmarks held out.

    Parameters
    ----------
    matchers : mapping of str to callable
        What is compared, by name.
    seeds : sequence of int
        Networks of each family; neighbours in this sequence are paired.
    progress : callable
        Told what is done.
    """
    scores = Scores("Item matching")
    networks = {
        family: dict(zip(seeds, members, strict=True))
        for family, members in deep_networks(seeds, progress).items()
    }
    for column, block, (family_a, a), (family_b, b) in pairs_of_networks(seeds):
        progress(f"item matching: {block}")
        for name, depth in DEPTHS.items():
            X = layer_at(networks[family_a][a], depth)
            Y = layer_at(networks[family_b][b], depth)
            landmarks, items = split(len(X), a)
            views = Views(X[landmarks], Y[landmarks], X[items], Y[items])
            for method, matcher in matchers.items():
                scores.add(method, f"{column}, {name}", block, top1(matcher(views)))
    return scores


def match_transformed(
    matchers: Mapping[str, Matcher],
    network: int,
    n_seeds: int,
    progress: Callable[[str], None],
) -> Scores:
    """How often each method finds an item in a transformed copy, landmarks held out.

    Features are those of the middle layers of one network of each family, by its seed; ``n_seeds``
    is how many transforms of a kind are drawn.
    """
    scores = Scores("Matching under transforms")
    networks = deep_networks([network], progress)
    for number, (transform, change) in enumerate(TRANSFORMS.items()):
        progress(f"transforms: {transform}")
        for family, (layers,) in networks.items():
            X = layer_at(layers, DEPTHS["middle"])
            landmarks, items = split(len(X), 0)
            for seed in range(n_seeds):
                Y = change(X, seeded(number, seed))
                views = Views(X[landmarks], Y[landmarks], X[items], Y[items])
                for method, matcher in matchers.items():
                    scores.add(method, transform, family, top1(matcher(views)))
    return scores
