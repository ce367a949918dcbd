"""Canonical correlation analysis (CCA): mean CCA, SVCCA and projection-weighted CCA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from relspace._core.arguments import check_choice, check_number
from relspace.errors import InvalidInputError, UndefinedValueError
from relspace.measures._measure import WIDE_FEATURES_LOOK_ALIKE, Measure, Names, Range, centered
from relspace.measures.sums.cross_products import CrossProducts


@dataclass(frozen=True)
class PrincipalAxes:
    """Centred features as ``basis @ loadings``: orthonormal columns (n, r), and weights (r, d)."""

    basis: torch.Tensor
    loadings: torch.Tensor


@dataclass(frozen=True, kw_only=True, repr=False)
class CCA(Measure):
    r"""Mean of the canonical correlations of two sets of features.

    With orthonormal bases U and V of the centred features, the canonical correlations
    :math:`\rho_i` are the singular values of :math:`U^\top V`, and

    .. math:: \sum_i w_i \rho_i \Big/ \sum_i w_i, \qquad i = 1 \ldots \min(r_X, r_Y)

    where all :math:`w_i` are 1, or (PWCCA) how much of the first set's features the i-th canonical
    variate h_i accounts for, :math:`w_i = \sum_j |\langle h_i, x_j \rangle|`. Where the dimensions
    of both sets together reach the number of items, some correlations are 1 whatever the features;
    that is refused.

    Attributes
    ----------
    variance : float
        Principal axes are kept until they explain this share of the variance (SVCCA: 0.99).
    weights : "equal" or "projection"
        Of the canonical correlations.
    """

    variance: float = 1.0
    weights: Literal["equal", "projection"] = "equal"

    def __post_init__(self) -> None:
        if not 0.0 < check_number(self.variance, "variance") <= 1.0:
            raise InvalidInputError(
                f"variance is {self.variance}; it must be above 0 and at most 1."
            )
        check_choice(self.weights, "weights", ("equal", "projection"))

    @property
    def range(self) -> Range:
        return (0.0, 1.0)

    @property
    def symmetric(self) -> bool:
        return self.weights == "equal"

    @property
    def invariances(self) -> Names:
        if self.weights == "projection":
            return ("scale", "shift")
        if self.variance < 1.0:
            return ("rotation", "scale", "shift")
        return ("rotation", "scale", "shift", "channel scale", "linear map")

    @property
    def chance(self) -> str:
        return WIDE_FEATURES_LOOK_ALIKE

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> PrincipalAxes:
        basis, sizes, axes = principal_axes(X)
        rank = self._kept(sizes)
        return PrincipalAxes(basis[:, :rank], sizes[:rank, None] * axes[:rank])

    def from_factors(
        self, x: PrincipalAxes, y: PrincipalAxes, permutation: torch.Tensor | None = None
    ) -> float:
        left = x.basis if permutation is None else x.basis[permutation]
        return self._mean(len(x.basis), left.T @ y.basis, x.loadings)

    @property
    def copies_of_products(self) -> int:
        return 3

    def from_cross_products(self, products: CrossProducts) -> float:
        axes, sizes = products.x.principal
        kept_x, kept_y = self._kept(sizes), self._kept(products.y.principal[1])
        loadings = (axes * sizes)[:, :kept_x].T
        return self._mean(products.n_items, products.coupling[:kept_x, :kept_y], loadings)

    def _kept(self, sizes: torch.Tensor) -> int:
        """How many principal axes explain ``variance``."""
        if self.variance == 1.0:
            return len(sizes)
        explained = sizes.square().cumsum(0) / sizes.square().sum()
        return min(len(sizes), int((explained < self.variance).sum()) + 1)

    def _mean(self, n_items: int, coupling: torch.Tensor, loadings: torch.Tensor) -> float:
        """The mean of the canonical correlations, from the products of two orthonormal bases."""
        refuse_too_many_dimensions(n_items, *coupling.shape)
        if self.weights == "equal":
            return float(torch.linalg.svdvals(coupling).clamp_max(1.0).mean())
        turn, correlations, _ = torch.linalg.svd(coupling, full_matrices=False)
        weights = (turn.T @ loadings).abs().sum(dim=1)
        return float((weights * correlations.clamp_max(1.0)).sum() / weights.sum())


def principal_axes(X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Orthonormal basis (n, r), sizes (r,) and axes (r, d) of centred features above rounding."""
    basis, sizes, axes = torch.linalg.svd(centered(X), full_matrices=False)
    keep = sizes > max(X.shape) * torch.finfo(X.dtype).eps * sizes[0]
    return basis[:, keep], sizes[keep], axes[keep]


def refuse_too_many_dimensions(n_items: int, rank_x: int, rank_y: int) -> None:
    """Refuse sets of which some canonical correlations are 1 whatever the features."""
    if rank_x + rank_y > n_items - 1:
        raise UndefinedValueError(
            f"the sets have {rank_x} and {rank_y} dimensions and {n_items} items: from "
            f"{n_items} dimensions together, some canonical correlations are 1 whatever the "
            "features; give more items, keep less variance, or use another measure."
        )


MEASURES: tuple[Measure, ...] = (
    CCA(name="cca", title="Mean CCA", source="Kornblith et al. 2019, section 3"),
    CCA(name="svcca", title="SVCCA", source="Raghu et al. 2017", variance=0.99),
    CCA(name="pwcca", title="PWCCA", source="Morcos et al. 2018", weights="projection"),
)
