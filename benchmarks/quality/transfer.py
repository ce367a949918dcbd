"""Tasks 5 and 6: layers, positions and images of pretrained networks that see the same photographs.

Sentences too: a network of texts reads their first and their last two thirds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from quality.conditions import seeded
from quality.layers import prepared, similarities
from quality.matchers import Matcher, Views
from quality.matching import top1
from quality.pretrained import (
    DECODER,
    ENCODER,
    ENDINGS,
    N_CROPS_OF_TOKENS,
    N_TOKENS_PER_CROP,
    OPENINGS,
    STAGE_OF_STRIDE,
    Half,
    ends_of_stages,
    layer_at_stride,
    seen,
)
from quality.results import Scores
from quality.scores import identification_rate
from relspace.measures import Measure

#: Disjoint draws over which layers are compared: how many rows, and at most how many draws.
N_TOKENS, N_FEW, N_POOLED, N_SENTENCES, MOST_DRAWS = 384, 40, 200, 200, 8
#: Landmarks of a way of matching: tokens, images that all networks see, and images that some do.
N_LANDMARKS, N_IMAGE_LANDMARKS, N_FEW_IMAGE_LANDMARKS = 500, 250, 64


def identify_pretrained_layers(
    measures: Mapping[str, Measure], half: Half, progress: Callable[[str], None]
) -> tuple[Scores, Scores]:
    """How often each measure finds the layer that is the counterpart of one of another network.

    Of EfficientNets with as many blocks these are the blocks of the same number, of others the
    first and the last blocks of the same stage.

    Parameters
    ----------
    measures : mapping of str to Measure
        What is compared, by name.
    half : Half
        Which networks, photographs and sentences.
    progress : callable
        Told what is done.

    Returns
    -------
    found : Scores
        How often the most similar layer is the counterpart, both ways.
    depth : Scores
        One minus the mean difference in depth of a layer and the most similar one, in networks.
    """
    found = Scores("Layers of pretrained networks")
    depth = Scores("Depth of the layer found")
    sources = [
        ("tokens", "tokens", N_TOKENS, half.alike),
        (f"{N_FEW} tokens", "tokens", N_FEW, half.alike),
        ("images", "pooled", N_POOLED, half.alike),
        ("sentences", "pooled", N_SENTENCES, ((OPENINGS, ENDINGS),)),
    ]
    for column, kind, n_rows, pairs in sources:
        for pair in pairs:
            both = [getattr(seen(one, half, progress), kind) for one in pair]
            networks = _counterparts(pair, both)
            n = len(networks[0][0])
            draws = min(n // n_rows, MOST_DRAWS)
            progress(f"layers: {column} of {' and '.join(pair)}")
            for rows in torch.randperm(n, generator=seeded(0))[: draws * n_rows].view(draws, -1):
                a, b = ([prepared(measures, X[rows]) for X in one] for one in networks)
                for name, measure in measures.items():
                    table = similarities(measure, [x[name] for x in a], [y[name] for y in b])
                    block = " and ".join(pair)
                    found.add(name, column, block, identification_rate(table))
                    depth.add(name, column, block, 1 - depth_error(table))
    return found, depth


def _counterparts(
    pair: tuple[str, str], layers: Sequence[Mapping[str, Tensor]]
) -> list[list[Tensor]]:
    """Features of the layers of two networks that have counterparts in the other, in order."""
    if len(layers[0]) == len(layers[1]):
        return [list(one.values()) for one in layers]
    return [
        [one[name] for name in ends_of_stages(network)]
        for network, one in zip(pair, layers, strict=True)
    ]


def depth_error(similarity: Tensor) -> float:
    """Mean difference in relative depth of a layer and the most similar one, both ways."""
    errors = []
    for table in (similarity, similarity.T):
        own, other = (torch.linspace(0, 1, n, dtype=torch.float64) for n in table.shape)
        errors.append((other[table.argmax(1)] - own).abs().mean())
    return float(torch.stack(errors).mean())


def match_pretrained(
    matchers: Mapping[str, Matcher], half: Half, n_splits: int, progress: Callable[[str], None]
) -> Scores:
    """How often each method finds a position or an image of one network in another.

    Landmarks are of other crops than what is looked for.

    Parameters
    ----------
    matchers : mapping of str to callable
        What is compared, by name.
    half : Half
        Which networks and photographs.
    n_splits : int
        Draws of the landmarks.
    progress : callable
        Told what is done.
    """
    scores = Scores("Matching of pretrained networks")
    for relation, pairs in (("same family", half.matched), ("others", half.unlike)):
        for (a, b), stride in itertools.product(pairs, STAGE_OF_STRIDE):
            layers = [layer_at_stride(one, stride) for one in (a, b)]
            if None in layers:
                continue
            progress(f"matching of pretrained networks: {a} and {b}, 1/{stride}")
            both = [seen(one, half, progress) for one in (a, b)]
            block = f"{a} and {b}, 1/{stride}"
            for seed in range(n_splits):
                X, Y = (one.tokens[str(layer)] for one, layer in zip(both, layers, strict=True))
                landmarks, others = split_of_crops(seed)
                views = Views(X[landmarks], Y[landmarks], X[others], Y[others])
                _add(scores, matchers, f"tokens, {relation}", block, views)
                X, Y = (one.pooled[str(layer)] for one, layer in zip(both, layers, strict=True))
                n = min(len(X), len(Y))
                few = ENCODER in (a, b) or DECODER in (a, b)
                m = N_FEW_IMAGE_LANDMARKS if few else N_IMAGE_LANDMARKS
                order = torch.randperm(n, generator=seeded(seed))
                views = Views(X[order[:m]], Y[order[:m]], X[order[m:]], Y[order[m:]])
                _add(scores, matchers, f"images, {relation}", block, views)
    return scores


def _add(
    scores: Scores, matchers: Mapping[str, Matcher], column: str, block: str, views: Views
) -> None:
    for name, matcher in matchers.items():
        scores.add(name, column, block, top1(matcher(views)))


def split_of_crops(seed: int) -> tuple[Tensor, Tensor]:
    """Tokens of some crops to be landmarks, and all tokens of the other crops."""
    crops = torch.randperm(N_CROPS_OF_TOKENS, generator=seeded(seed))
    tokens = crops[:, None] * N_TOKENS_PER_CROP + torch.arange(N_TOKENS_PER_CROP)
    n = -(-N_LANDMARKS // N_TOKENS_PER_CROP)
    return tokens[:n].flatten()[:N_LANDMARKS], tokens[n:].flatten()
