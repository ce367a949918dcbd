"""Part retrieval: are a patch's nearest patches of the other model, in other images, its part?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

NEAREST = 5
_ROWS = 256


@dataclass(frozen=True)
class Patches:
    """Patches of images in one network.

    Attributes
    ----------
    images : LongTensor of shape (n,)
        The image of each patch.
    parts : LongTensor of shape (n,)
        The part that each patch shows, as an index of ``names``; below 0 if it is unknown.
    centers : tensor of shape (n, 2)
        The patch's centre, y and x.
    names : tuple of str
        Names of the parts.
    """

    images: Tensor
    parts: Tensor
    centers: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def select(self, rows: Tensor) -> Patches:
        """Return some of the patches, by row numbers or by a mask."""
        return replace(
            self, images=self.images[rows], parts=self.parts[rows], centers=self.centers[rows]
        )


@dataclass(frozen=True)
class Retrieval:
    """How often the nearest patches across models show the same part.

    Attributes
    ----------
    per_part : dict of str to float
        Share of the 5 nearest patches that show the same part, by part of the query.
    mean : float
        Mean over the parts, each with the same weight.
    """

    per_part: dict[str, float]

    @property
    def mean(self) -> float:
        return sum(self.per_part.values()) / len(self.per_part)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return {"mean": self.mean, "per_part": dict(self.per_part)}


def choose_queries(patches: Patches, per_part: int, random_state: int) -> Tensor:
    """Choose at most ``per_part`` patches of each part at random; return their row numbers."""
    generator = torch.Generator().manual_seed(random_state)
    order = torch.randperm(len(patches), generator=generator)
    kept = [order[patches.parts[order] == part][:per_part] for part in range(len(patches.names))]
    return torch.cat(kept).sort().values


def moved_centers(patches: Sequence[Patches], by: float) -> tuple[Tensor, Tensor]:
    """Return centres of two networks' patches, moved at random so that no two coincide."""
    generator = torch.Generator().manual_seed(0)
    first, second = (
        one.centers + by * torch.randn(one.centers.shape, generator=generator) for one in patches
    )
    return first, second


def nearest_by_correlation(
    rows: Tensor, others: Tensor, images: Tensor, other_images: Tensor, k: int = NEAREST
) -> Tensor:
    """Find the k nearest rows in other images by inner product: (n, k) row numbers."""
    found = torch.empty(len(rows), k, dtype=torch.long)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        similarity = rows[part] @ others.T
        similarity[images[part, None] == other_images] = -torch.inf
        found[part] = similarity.topk(k, dim=1).indices
    return found


def for_euclidean(rows: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Add a column by which the largest inner product has the least Euclidean distance."""
    return (
        functional.pad(rows, (0, 1), value=1.0),
        torch.cat([others, -others.square().sum(1, keepdim=True) / 2], dim=1),
    )


def retrieval_of(asked: Tensor, found: Tensor, names: Sequence[str]) -> Retrieval:
    """Count how many of the patches found (n, k) show the part of their query (n,)."""
    right = (found == asked[:, None]).double().mean(1)
    return Retrieval({name: float(right[asked == part].mean()) for part, name in enumerate(names)})


def mean_of(several: list[Retrieval]) -> Retrieval:
    """Average retrievals part by part, both directions between two models for example."""
    return Retrieval(
        {
            part: sum(one.per_part[part] for one in several) / len(several)
            for part in several[0].per_part
        }
    )


def chance(patches: Patches) -> Retrieval:
    """Return the retrieval of patches that are drawn at random: each part's share."""
    known = patches.parts[patches.parts >= 0]
    share = torch.bincount(known, minlength=len(patches.names)).double() / len(known)
    return Retrieval({name: float(share[part]) for part, name in enumerate(patches.names)})
