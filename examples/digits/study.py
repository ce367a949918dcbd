"""The digits case study: from the two networks that ship to numbers and points."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from examples.digits.digits import N_TRAIN, SPLIT_SEED, Digits, extract, load_split
from examples.digits.matching import (
    RATE_TITLES,
    Split,
    bring_to_unit_norm,
    compare_penultimate,
    layer_rates,
    nearest_after,
    nearest_before,
    pad_to_common_width,
)
from examples.digits.networks import NETWORKS, load_network
from relspace import __version__
from relspace._core.arguments import check_random_state
from relspace._core.progress import Progress, as_listener
from relspace.kernels.axes import principal_plane
from relspace.space.align import align

N_LANDMARKS = 297
N_DRAWS = 20


@dataclass(frozen=True)
class Study:
    """What the case study found: all its numbers, and what its pictures are drawn from.

    Attributes
    ----------
    summary : dict
        Numbers, seeds, versions and parameters, ready for JSON.
    digits : Digits
        The queried digits.
    points : dict of str to list of two arrays of shape (q, 2)
        ``before`` (unit norm, padded) and ``after``: for each network, the queried digits on the
        first two principal components of both networks' rows together.
    nearest : dict of str to LongTensor of shape (q,)
        ``before``, ``after`` and ``after_first`` (the first layers instead of the penultimate
        ones): for each queried digit in the first network, the nearest one in the second, as an
        index into ``digits``.
    """

    summary: dict[str, Any]
    digits: Digits
    points: dict[str, list[NDArray[np.float64]]]
    nearest: dict[str, Tensor]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one torch thread, and restore the caller's number.

    The study's matrices are so small that threads mostly wait for each other, on a busy machine
    three times as long as the work takes.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def run_study(*, random_state: int = 0, progress: Progress = None) -> Study:
    """Align the two networks on held-out digits and match them, before and after.

    ``random_state`` seeds the choice of landmarks and is the first of the seeds of its repetitions;
    ``progress`` gets a line at the start of every step.
    """
    seed = check_random_state(random_state)
    tell = as_listener(progress)
    tell(0, 0, "Loading two networks and the digits they have never seen")
    held_out = load_split()[1]
    loaded = {name: load_network(name) for name in NETWORKS}
    tell(0, 0, "Extracting the features of every layer")
    layers = {name: extract(network, held_out.images) for name, (network, _) in loaded.items()}
    (a, layers_a), (b, layers_b) = layers.items()
    last_a, last_b = list(layers_a)[-1], list(layers_b)[-1]
    X, Y, labels = layers_a[last_a], layers_b[last_b], held_out.labels
    n = len(labels)

    tell(0, 0, "Matching every layer of one network with every layer of the other")
    split = Split.draw(n, N_LANDMARKS, seed)
    tables = layer_rates(layers_a, layers_b, labels, split)
    tell(0, 0, f"Repeating the penultimate layers with {N_DRAWS} choices of landmarks")
    draws = [
        compare_penultimate(X, Y, labels, Split.draw(n, N_LANDMARKS, draw), draw)
        for draw in range(seed, seed + N_DRAWS)
    ]

    space = align({a: X, b: Y}, landmarks=split.landmarks, random_state=seed)
    first = {name: next(iter(features.values())) for name, features in layers.items()}
    first_space = align(first, landmarks=split.landmarks, random_state=seed)
    queried = split.queried
    number_of = torch.full((n,), -1)
    number_of[queried] = torch.arange(len(queried))
    summary = {
        "relspace": __version__,
        "random_state": seed,
        "data": {
            "name": "scikit-learn's handwritten digits, 8 x 8",
            "n_train": N_TRAIN,
            "n_held_out": n,
            "split_seed": SPLIT_SEED,
        },
        "networks": {
            name: {**record, "layers": {layer: X.shape[1] for layer, X in layers[name].items()}}
            for name, (_, record) in loaded.items()
        },
        "alignment": {
            "n_landmarks": len(split.landmarks),
            "n_queried": len(queried),
            **space.parameters,
            "bandwidths": {name: space.aligner(name).bandwidth_.to_dict() for name in (a, b)},
        },
        "penultimate": {
            "from": {"network": a, "layer": last_a, "width": X.shape[1]},
            "to": {"network": b, "layer": last_b, "width": Y.shape[1]},
            **draws[0],
            "distance": _mean_distances(space.pairwise(a, b), queried),
        },
        "draws": {
            "n_draws": N_DRAWS,
            **{
                when: {rate: _spread([draw[when][rate] for draw in draws]) for rate in RATE_TITLES}
                for when in draws[0]
            },
        },
        "layers": {
            "rows": {"network": a, "layers": list(layers_a)},
            "columns": {"network": b, "layers": list(layers_b)},
            **tables,
            "chance": draws[0]["chance"],
        },
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    scaled = [bring_to_unit_norm(one, split.landmarks) for one in (X, Y)]
    padded = pad_to_common_width(*(one[queried] for one in scaled))
    rows = {name: torch.as_tensor(space[name])[queried] for name in (a, b)}
    nearest = {
        "before": nearest_before(scaled[0], scaled[1], queried),
        "after": nearest_after(space, a, b, queried),
        "after_first": nearest_after(first_space, a, b, queried),
    }
    return Study(
        summary=summary,
        digits=held_out.take(queried),
        points={
            "before": list(principal_plane({a: padded[0], b: padded[1]}).values()),
            "after": list(principal_plane(rows).values()),
        },
        nearest={when: number_of[found[:, 0]] for when, found in nearest.items()},
    )


def summary_table(summary: Mapping[str, Any]) -> str:
    """Lay the study's main numbers out for a terminal, as several lines."""
    found, draws = summary["penultimate"], summary["draws"]
    sides = [
        f"{NETWORKS[side['network']].title} ({side['layer']}, {side['width']} features)"
        for side in (found["from"], found["to"])
    ]
    counts = summary["alignment"]
    lines = [
        f"{sides[0]} -> {sides[1]}",
        f"{counts['n_queried']} held-out digits are matched; "
        f"{counts['n_landmarks']} others are the landmarks.",
        "",
        f"{'':<42}{'before':>8}{'after':>8}{'chance':>8}   after, {draws['n_draws']} draws",
    ]
    for rate, title in RATE_TITLES.items():
        spread = draws["after"][rate]
        before, after, chance = (found[when][rate] for when in ("before", "after", "chance"))
        lines.append(
            f"{title:<42}{before:>8.3f}{after:>8.3f}{chance:>8.3f}"
            f"   {spread['mean']:.3f} +- {spread['standard_deviation']:.3f}"
        )
    table = summary["layers"]
    value, row, column = max(
        (value, row, column)
        for row, line in enumerate(table["after"]["top1"])
        for column, value in enumerate(line)
    )
    pair = f"{table['rows']['layers'][row]} -> {table['columns']['layers'][column]}"
    lines += [
        "",
        f"Of all {len(table['rows']['layers']) * len(table['columns']['layers'])} pairs of layers "
        f"{pair} matches best: top-1 {table['before']['top1'][row][column]:.3f} before, "
        f"{value:.3f} after.",
    ]
    return "\n".join(lines)


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "mean": statistics.fmean(values),
        "standard_deviation": statistics.stdev(values),
        "lowest": min(values),
        "highest": max(values),
    }


def _mean_distances(pairwise: object, queried: Tensor) -> dict[str, float]:
    among = torch.as_tensor(pairwise)[queried][:, queried].double()
    n = len(among)
    same = among.diagonal().sum()
    return {
        "same_item": float(same / n),
        "other_items": float((among.sum() - same) / (n * (n - 1))),
        "chance": 1.0,
    }
