"""GULP: how far apart ridge regressions on two sets of features can be, over all targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from relspace._core.arguments import check_positive
from relspace.measures._measure import Measure, Range
from relspace.measures.cca import principal_axes
from relspace.measures.product_measure import Points, ProductMeasure, far_apart
from relspace.measures.sums.cross_products import CrossProducts, SetProducts


@dataclass(frozen=True, kw_only=True, repr=False)
class GULP(ProductMeasure):
    r"""Distance of the predictions of ridge regressions on two sets, over all targets of norm 1.

    .. math::
        d^2 = \lVert H_X - H_Y \rVert_F^2, \qquad
        H_X = \tfrac{1}{n} X \bigl(\tfrac{1}{n} X^\top X + \lambda I\bigr)^{-1} X^\top

    with centred features whose variances sum to 1. The traces of :math:`H_X^2` and :math:`H_Y^2`
    are effective dimensions, which :math:`d^2` never exceeds together. A pseudometric.

    Attributes
    ----------
    penalty : float
        Of the regressions (lambda), in units of the total variance of the features. A small one
        lets small variances count, as CCA does.
    """

    penalty: float = 0.01

    def __post_init__(self) -> None:
        check_positive(self.penalty, "penalty")

    @property
    def range(self) -> Range:
        return (0.0, math.inf)

    @property
    def chance(self) -> str:
        return "near the root of both effective dimensions together"

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Points:
        basis, sizes, _ = principal_axes(X)
        kept = self._kept(sizes)
        return Points(basis * kept.sqrt(), float(kept @ kept))

    def from_cross_products(self, products: CrossProducts) -> float:
        of_x, of_y = (self._kept_of(one) for one in (products.x, products.y))
        both = of_x.sqrt()[:, None] * products.coupling * of_y.sqrt()
        return float(self._of_products(both[None], float(of_x @ of_x), float(of_y @ of_y)))

    @property
    def copies_of_products(self) -> int:
        return 3

    def _kept_of(self, one: SetProducts) -> torch.Tensor:
        return self._kept(one.principal[1])

    def _kept(self, sizes: torch.Tensor) -> torch.Tensor:
        """How much (r,) of a target along each principal axis is predicted."""
        variances = sizes.square() / sizes.square().sum()
        return variances / (variances + self.penalty)

    def _of_products(self, products: torch.Tensor, size_x: float, size_y: float) -> torch.Tensor:
        both = size_x + size_y
        return (both * far_apart(2 * products.square().sum(dim=(1, 2)) / both)).sqrt()


MEASURES: tuple[Measure, ...] = (
    GULP(
        name="gulp",
        title="GULP distance",
        source="Boix-Adsera et al. 2022",
        direction="distance",
        identical=0.0,
    ),
)
