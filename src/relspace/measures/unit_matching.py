"""Matching of units: how alike features of two sets are one by one, without turning their axes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch

from relspace._core.arguments import check_choice
from relspace.measures._measure import Measure, Names, Range, centered, varying
from relspace.measures.product_measure import Points, ProductMeasure, far_apart
from relspace.measures.sums.cross_products import CrossProducts, SetProducts
from relspace.measures.transport import best_assignments, best_transports

_BEST_OF_MANY = "above 0: of many units some are alike by chance; less with more items"


@dataclass(frozen=True, kw_only=True, repr=False)
class UnitMatching(ProductMeasure):
    """A measure of how well units match, by their correlations or covariances.

    Features that are the same for all items are no units, and count for nothing.
    """

    @property
    def invariances(self) -> Names:
        return ("scale", "shift", "channel scale")

    @property
    def chance(self) -> str:
        return _BEST_OF_MANY

    def _sizes(self, squares: torch.Tensor) -> torch.Tensor:
        """What units are divided by, from their sums of squares (d,)."""
        return squares.sqrt()

    @abstractmethod
    def _match(self, products: torch.Tensor) -> torch.Tensor:
        """The values (b,) of the correlations or covariances (b, r, s) of units."""

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Points:
        units = centered(X)[:, varying(X)]
        return Points(units / self._sizes(units.square().sum(dim=0)))

    def _of_products(self, products: torch.Tensor, size_x: float, size_y: float) -> torch.Tensor:
        return self._match(products).clamp(*self.range)

    def from_cross_products(self, products: CrossProducts) -> float:
        both = products.both[products.x.varying][:, products.y.varying]
        both = both / self._sizes_of(products.x)[:, None] / self._sizes_of(products.y)
        return float(self._of_products(both[None], 1.0, 1.0))

    def _sizes_of(self, one: SetProducts) -> torch.Tensor:
        return self._sizes(one.products.diagonal()[one.varying])


@dataclass(frozen=True, kw_only=True, repr=False)
class PermutationMatching(UnitMatching):
    r"""Mean correlation of the units of two sets, matched one to one.

    .. math:: \max_\pi \frac{1}{\min(d, e)} \sum_i \operatorname{corr}(x_i, y_{\pi(i)})

    Each unit of the narrower set is matched to another one of the wider set, whose other units
    count for nothing.
    """

    def _match(self, products: torch.Tensor) -> torch.Tensor:
        return best_assignments(products) / min(products.shape[1:])


@dataclass(frozen=True, kw_only=True, repr=False)
class CorrelationMatching(UnitMatching):
    r"""Mean correlation of each unit with the one of the other set that it correlates with most.

    .. math:: \frac{1}{d} \sum_i \max_j \operatorname{corr}(x_i, y_j)

    and the mean with the same of the units of the second set (semi-matching of Li et al. 2015).
    Several units may have one partner.

    Attributes
    ----------
    matched : "both", "first" or "second"
        Of which set each unit seeks a partner in the other one.
    """

    matched: Literal["both", "first", "second"] = "both"

    def __post_init__(self) -> None:
        check_choice(self.matched, "matched", ("both", "first", "second"))

    @property
    def symmetric(self) -> bool:
        return self.matched == "both"

    def _match(self, products: torch.Tensor) -> torch.Tensor:
        found = []
        if self.matched != "second":
            found.append(products.amax(dim=2).mean(dim=1))
        if self.matched != "first":
            found.append(products.amax(dim=1).mean(dim=1))
        return torch.stack(found).mean(dim=0)


@dataclass(frozen=True, kw_only=True, repr=False)
class SoftMatching(UnitMatching):
    r"""Mean correlation, or distance, of the units of two sets under the best transport plan.

    .. math::
        s = \max_P \sum_{ij} P_{ij} \operatorname{corr}(x_i, y_j), \qquad
        d = \min_P \Bigl(\sum_{ij} P_{ij} \lVert x_i - y_j \rVert^2\Bigr)^{1/2}

    over plans :math:`P \ge 0` whose rows sum to 1 over the width of the first set, and columns to 1
    over that of the second: every unit counts as much as any other of its set, whatever the widths.
    Of sets of one width these are one-to-one matchings. For the distance, units keep their
    variances, and their mean square over each set is 1; it is a metric (Khosla and Williams 2024).

    Attributes
    ----------
    form : "correlation" or "distance"
        Which of the two.
    """

    form: Literal["correlation", "distance"] = "correlation"

    def __post_init__(self) -> None:
        check_choice(self.form, "form", ("correlation", "distance"))

    @property
    def range(self) -> Range:
        return (-1.0, 1.0) if self.form == "correlation" else (0.0, 2.0)

    @property
    def invariances(self) -> Names:
        return super().invariances if self.form == "correlation" else ("scale", "shift")

    @property
    def chance(self) -> str:
        if self.form == "correlation":
            return _BEST_OF_MANY
        return "below 1.41: of many units some are alike by chance; closer to it with more items"

    def _sizes(self, squares: torch.Tensor) -> torch.Tensor:
        if self.form == "correlation":
            return super()._sizes(squares)
        return squares.mean().sqrt().expand(len(squares))

    def _match(self, products: torch.Tensor) -> torch.Tensor:
        alike = best_transports(products)
        return alike if self.form == "correlation" else (2 * far_apart(alike)).sqrt()


MEASURES: tuple[Measure, ...] = (
    SoftMatching(
        name="soft_matching",
        title="Soft matching of units",
        source="Khosla and Williams 2024, correlation score",
    ),
    SoftMatching(
        name="soft_matching_distance",
        title="Soft matching distance",
        source="Khosla and Williams 2024, distance",
        direction="distance",
        identical=0.0,
        form="distance",
    ),
    PermutationMatching(
        name="permutation_matching",
        title="Permutation matching of units",
        source="Li et al. 2015, bipartite matching",
    ),
    CorrelationMatching(
        name="correlation_matching",
        title="Correlation matching of units",
        source="Li et al. 2015, semi-matching, both directions",
    ),
)
