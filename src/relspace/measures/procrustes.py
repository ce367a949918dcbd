"""Procrustes: how far apart two sets of features are after the best rotation or permutation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from relspace._core.arguments import check_choice
from relspace.kernels.scale import to_unit_scale
from relspace.measures._measure import (
    Measure,
    Names,
    Range,
    centered,
    in_fewest_dimensions,
    varying,
)
from relspace.measures.product_measure import Points, ProductMeasure, far_apart
from relspace.measures.sums.cross_products import CrossProducts
from relspace.measures.transport import best_assignments


@dataclass(frozen=True, kw_only=True, repr=False)
class Procrustes(ProductMeasure):
    r"""Distance of two sets of centred features under the best rotation or permutation of features.

    With :math:`p = \max_Q \langle X, Y Q \rangle / \lVert X \rVert \lVert Y \rVert`, which for
    rotations and reflections Q is the nuclear norm of the products,

    .. math::
        d = \sqrt{2 - 2 p}, \qquad \theta = \arccos p, \qquad
        d_s = \min_Q \lVert X - Y Q \rVert / \sqrt{n}

    The last one, size-and-shape, is of features as large as they are, and the root of a mean over
    items, so that it can be compared between numbers of items; Williams et al. sum over them. All
    are metrics (Williams et al. 2021, section 2). Permutations match every feature of the narrower
    set to one of the wider set, whose others are left as they are; features that are the same for
    all items count for nothing. Features that are many while items are few make unrelated sets
    look alike: read the value beside its chance level.

    Attributes
    ----------
    form : "distance", "angle" or "size"
        Which of the three, the angle in radians.
    alignment : "rotation" or "permutation"
        What Q may be.
    """

    form: Literal["distance", "angle", "size"] = "distance"
    alignment: Literal["rotation", "permutation"] = "rotation"

    def __post_init__(self) -> None:
        check_choice(self.form, "form", ("distance", "angle", "size"))
        check_choice(self.alignment, "alignment", ("rotation", "permutation"))

    @property
    def range(self) -> Range:
        if self.form == "size":
            return (0.0, math.inf)
        largest = {"rotation": (math.sqrt(2), math.pi / 2), "permutation": (2.0, math.pi)}
        return (0.0, largest[self.alignment][self.form == "angle"])

    @property
    def invariances(self) -> Names:
        turn = ("rotation",) if self.alignment == "rotation" else ()
        return (*turn, "shift") if self.form == "size" else (*turn, "scale", "shift")

    @property
    def chance(self) -> str:
        if self.form == "size":
            return "depends on the sizes of both sets, and on n_features / n_items"
        return "below the largest, to 0 as n_features / n_items grows"

    @property
    def permutations_for_chance(self) -> int:
        # Under permutation the distance of 100 items varies by 2 % of its value, of more by less;
        # every permutation costs all singular values.
        return 5

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Points:
        # Of size-and-shape distances this is the only scaling.
        X, exponent = to_unit_scale(X)
        points = centered(X)
        norm = torch.linalg.matrix_norm(points)
        points = points / norm
        if self.alignment == "rotation":
            points = in_fewest_dimensions(points)
        else:
            points = points[:, varying(X)]
        return Points(points, math.ldexp(float(norm) / math.sqrt(len(X)), exponent))

    def from_cross_products(self, products: CrossProducts) -> float:
        both = products.both / math.sqrt(products.x.trace * products.y.trace)
        if self.alignment == "permutation":
            both = both[products.x.varying][:, products.y.varying]
        sizes = (
            math.ldexp(math.sqrt(one.trace / products.n_items), one.exponent)
            for one in (products.x, products.y)
        )
        return float(self._of_products(both[None], *sizes))

    def _of_products(self, products: torch.Tensor, size_x: float, size_y: float) -> torch.Tensor:
        if self.alignment == "rotation":
            alike = torch.linalg.svdvals(products).sum(dim=1)
        else:
            alike = best_assignments(products)
        apart = far_apart(alike)
        if self.form == "angle":
            return (1 - apart).clamp(min=-1.0).acos()
        if self.form == "distance":
            return (2 * apart).sqrt()
        larger = max(size_x, size_y)
        a, b = size_x / larger, size_y / larger
        return larger * ((a - b) ** 2 + 2 * a * b * apart).sqrt()


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
    Procrustes(
        name="size_and_shape_procrustes",
        title="Size-and-shape distance",
        source="Williams et al. 2021, section 2, over the root of the number of items",
        direction="distance",
        identical=0.0,
        form="size",
    ),
    Procrustes(
        name="permutation_procrustes",
        title="Permutation Procrustes distance",
        source="Williams et al. 2021, section 2, with permutations of features",
        direction="distance",
        identical=0.0,
        alignment="permutation",
    ),
)
