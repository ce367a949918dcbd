"""Agreement of joint colours: do parts have the same colour in both models, and only they?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relspace.demo.retrieval import (
    Patches,
    Retrieval,
    for_euclidean,
    mean_of,
    nearest_by_correlation,
    retrieval_of,
)
from relspace.pictures.oklab import srgb_to_oklab


@dataclass(frozen=True)
class ColorAgreement:
    """How colours of two models agree.

    Attributes
    ----------
    consistency : float
        Distance between the two models' mean colours of a part, averaged over parts, divided by
        that between mean colours of different parts: 0 for the same colours, about 1 for colours
        that are independent of the parts.
    per_part : dict of str to float
        The same for each part.
    retrieval : Retrieval
        Part retrieval across models by colour alone. Colours can be consistent without meaning
        anything (all parts of one colour, or colours of positions), which this shows.
    """

    consistency: float
    per_part: dict[str, float]
    retrieval: Retrieval

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return {
            "consistency": self.consistency,
            "per_part": dict(self.per_part),
            "retrieval": self.retrieval.to_dict(),
        }


def mean_agreement(several: Sequence[ColorAgreement]) -> ColorAgreement:
    """Average agreements number by number."""
    n = len(several)
    return ColorAgreement(
        consistency=sum(one.consistency for one in several) / n,
        per_part={
            name: sum(one.per_part[name] for one in several) / n for name in several[0].per_part
        },
        retrieval=mean_of([one.retrieval for one in several]),
    )


def mean_colors(lab: Tensor, parts: Tensor, n_parts: int) -> Tensor:
    """Mean colour of each part, (n_parts, 3)."""
    return torch.stack([lab[parts == part].mean(0) for part in range(n_parts)])


def color_agreement(
    colors: Sequence[Tensor], patches: Sequence[Patches], queries: Sequence[Tensor]
) -> ColorAgreement:
    """Compare sRGB colours (n, 3) of two models' patches with the truth; see ColorAgreement.

    ``queries`` are the row numbers of the patches that are looked for in the other model.
    """
    lab = [srgb_to_oklab(one) for one in colors]
    names = patches[0].names
    first, second = (
        mean_colors(one, its.parts, len(names)) for one, its in zip(lab, patches, strict=True)
    )
    apart = torch.cdist(first, second)
    same = apart.diagonal()
    different = apart[~torch.eye(len(names), dtype=torch.bool)].mean()
    return ColorAgreement(
        consistency=float(same.mean() / different),
        per_part={name: float(same[part] / different) for part, name in enumerate(names)},
        retrieval=retrieval_both_ways(lab, patches, queries, euclidean=True),
    )


def retrieval_both_ways(
    rows: Sequence[Tensor],
    patches: Sequence[Patches],
    queries: Sequence[Tensor],
    *,
    euclidean: bool = False,
) -> Retrieval:
    """Part retrieval from the first model to the second and back, averaged.

    The nearest rows have the largest inner product, or the least distance if ``euclidean``.
    """
    found = []
    for here, there in ((0, 1), (1, 0)):
        asked, others = rows[here][queries[here]], rows[there]
        if euclidean:
            asked, others = for_euclidean(asked, others)
        images, parts = patches[here].images[queries[here]], patches[here].parts[queries[here]]
        nearest = nearest_by_correlation(asked, others, images, patches[there].images)
        found.append(retrieval_of(parts, patches[there].parts[nearest], patches[here].names))
    return mean_of(found)
