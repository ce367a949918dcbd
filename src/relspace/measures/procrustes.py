"""Procrustes: how far apart two sets of features are after the best rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from relspace._core.arguments import check_choice
from relspace.measures._measure import Measure, Range, centered, in_fewest_dimensions
from relspace.measures.sums.cross_products import CrossProducts


@dataclass(frozen=True, kw_only=True, repr=False)
class Procrustes(Measure):
    r"""Distance of two sets of features, centred and of unit norm, under the best rotation.

    .. math::
        d = \min_{Q^\top Q = I} \lVert X - Y Q \rVert_F
          = \sqrt{2 - 2 \lVert X^\top Y \rVert_*}, \qquad
        \theta = \arccos \lVert X^\top Y \rVert_*

    Both are metrics (Williams et al. 2021, section 2). Features that are many while items
    are few make unrelated sets look alike: read the value beside its chance level.

    Attributes
    ----------
    form : "distance" or "angle"
        Which of the two, the angle in radians.
    """

    form: Literal["distance", "angle"] = "distance"

    def __post_init__(self) -> None:
        check_choice(self.form, "form", ("distance", "angle"))

    @property
    def range(self) -> Range:
        return (0.0, math.sqrt(2) if self.form == "distance" else math.pi / 2)

    @property
    def chance(self) -> str:
        return "below the largest, to 0 as n_features / n_items grows"

    @property
    def permutations_for_chance(self) -> int:
        # Under permutation the distance of 100 items varies by 2 % of its value, of more by less;
        # every permutation costs all singular values.
        return 5

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> torch.Tensor:
        points = centered(X)
        return in_fewest_dimensions(points / torch.linalg.matrix_norm(points))

    def from_factors(
        self, x: torch.Tensor, y: torch.Tensor, permutation: torch.Tensor | None = None
    ) -> float:
        left = x if permutation is None else x[permutation]
        return self._of(float(torch.linalg.svdvals(left.T @ y).sum()))

    def from_cross_products(self, products: CrossProducts) -> float:
        size = math.sqrt(products.x.trace * products.y.trace)
        return self._of(float(torch.linalg.svdvals(products.both).sum()) / size)

    def _of(self, product: float) -> float:
        """The distance or angle, from the nuclear norm of the products of sets of unit norm."""
        if self.form == "angle":
            return math.acos(min(1.0, product))
        return math.sqrt(max(0.0, 2 - 2 * product))


MEASURES: tuple[Measure, ...] = (
    Procrustes(
        name="procrustes",
        title="Procrustes distance",
        source="Williams et al. 2021, section 2",
        direction="distance",
        identical=0.0,
    ),
    Procrustes(
        name="procrustes_angle",
        title="Angular shape distance",
        source="Williams et al. 2021, section 2",
        direction="distance",
        identical=0.0,
        form="angle",
    ),
)
