"""Matching layers of two networks before and after alignment, on items that are no landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from relspace.kernels import choose_landmarks, squared_distances
from relspace.space.align import align
from relspace.space.item_space import ItemSpace

NEAREST = 5
RATE_TITLES = {
    "top1": "Same image is nearest (top-1)",
    "top5": "Same image among 5 nearest (top-5)",
    "label": "Nearest other image shows the same digit",
}


@dataclass(frozen=True)
class Split:
    """Row numbers of items that only describe, and of items that only are asked for."""

    landmarks: Tensor
    queried: Tensor

    @staticmethod
    def draw(n_items: int, n_landmarks: int, random_state: int) -> Split:
        """Choose landmarks at random; all other items are queried."""
        landmarks = choose_landmarks(n_items, n_landmarks, random_state=random_state)
        queried = torch.ones(n_items, dtype=torch.bool)
        queried[landmarks] = False
        return Split(landmarks, queried.nonzero().flatten())


def pad_to_common_width(X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Fill the narrower features up with columns of zeros."""
    width = max(X.shape[1], Y.shape[1])
    return (
        functional.pad(X, (0, width - X.shape[1])),
        functional.pad(Y, (0, width - Y.shape[1])),
    )


def bring_to_unit_norm(X: Tensor, landmarks: Tensor) -> Tensor:
    """Centre features on the landmarks' mean and scale every row to length 1."""
    return functional.normalize(X - X[landmarks].mean(0))


def nearest_before(X: Tensor, Y: Tensor, queried: Tensor) -> Tensor:
    """The 5 nearest queried items of Y, (q, 5), for each of X, padded to a common width."""
    distances = torch.as_tensor(squared_distances(*pad_to_common_width(X[queried], Y[queried])))
    return queried[distances.topk(NEAREST, largest=False).indices]


def nearest_after(space: ItemSpace, a: str, b: str, queried: Tensor) -> Tensor:
    """The same in the common space."""
    return torch.as_tensor(space.match(a, b, NEAREST, items=queried).indices)


def with_shuffled_landmarks(Y: Tensor, landmarks: Tensor, random_state: int) -> Tensor:
    """Exchange the landmarks' features among themselves: the control that must fall to chance."""
    generator = torch.Generator().manual_seed(random_state)
    shuffled = Y.clone()
    shuffled[landmarks] = Y[landmarks[torch.randperm(len(landmarks), generator=generator)]]
    return shuffled


def rates(nearest: Tensor, queried: Tensor, labels: Tensor) -> dict[str, float]:
    """How often the nearest items are the right ones.

    ``top1``, ``top5``: the item itself is the nearest, is among the five nearest. ``label``: the
    nearest *other* item is of the same class.
    """
    itself = nearest == queried[:, None]
    other = torch.where(itself[:, 0], nearest[:, 1], nearest[:, 0])
    return {
        "top1": float(itself[:, 0].double().mean()),
        "top5": float(itself.any(1).double().mean()),
        "label": float((labels[other] == labels[queried]).double().mean()),
    }


def chance_rates(queried: Tensor, labels: Tensor) -> dict[str, float]:
    """What :func:`rates` would be with nearest items chosen at random."""
    n = len(queried)
    of_class = labels[queried].bincount().double()
    return {
        "top1": 1 / n,
        "top5": NEAREST / n,
        "label": float((of_class * (of_class - 1)).sum() / (n * (n - 1))),
    }


def compare_penultimate(
    X: Tensor, Y: Tensor, labels: Tensor, split: Split, random_state: int
) -> dict[str, dict[str, float]]:
    """Match one layer of each network: before, after, with shuffled landmarks, by chance.

    Networks differ in scale, which alone can spoil a comparison of padded features;
    ``before_scaled`` takes that away, with the normalisation that alignment uses too.
    """
    queried = split.queried
    shuffled = with_shuffled_landmarks(Y, split.landmarks, random_state)
    space = align({"x": X, "y": Y, "shuffled": shuffled}, landmarks=split.landmarks)
    nearest = {
        "before": nearest_before(X, Y, queried),
        "before_scaled": nearest_before(
            bring_to_unit_norm(X, split.landmarks), bring_to_unit_norm(Y, split.landmarks), queried
        ),
        "after": nearest_after(space, "x", "y", queried),
        "shuffled": nearest_after(space, "x", "shuffled", queried),
    }
    return {key: rates(found, queried, labels) for key, found in nearest.items()} | {
        "chance": chance_rates(queried, labels)
    }


def layer_rates(
    layers_a: Mapping[str, Tensor],
    layers_b: Mapping[str, Tensor],
    labels: Tensor,
    split: Split,
) -> dict[str, dict[str, list[list[float]]]]:
    """Match every layer of one network with every layer of another, ``before`` and ``after``.

    In each there is a table (layers of a) x (layers of b) for every rate.
    """
    space = align(
        {f"a {name}": X for name, X in layers_a.items()}
        | {f"b {name}": Y for name, Y in layers_b.items()},
        landmarks=split.landmarks,
    )
    queried = split.queried
    found = {
        "before": [
            [rates(nearest_before(X, Y, queried), queried, labels) for Y in layers_b.values()]
            for X in layers_a.values()
        ],
        "after": [
            [
                rates(nearest_after(space, f"a {a}", f"b {b}", queried), queried, labels)
                for b in layers_b
            ]
            for a in layers_a
        ],
    }
    return {
        when: {rate: [[cell[rate] for cell in row] for row in table] for rate in RATE_TITLES}
        for when, table in found.items()
    }
