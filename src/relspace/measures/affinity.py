"""Affinity: whole affinity matrices at one density, compared entry by entry."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from relspace._core.arguments import check_choice, check_density, check_number
from relspace.errors import InvalidInputError
from relspace.kernels.bandwidth import solve_bandwidth
from relspace.kernels.frame import Cloud, Frame, place_sets
from relspace.kernels.normalization import NORMALIZATIONS, normalize_by_own
from relspace.kernels.tiles import fill_half_squared
from relspace.measures._measure import Measure, Names
from relspace.measures.pair_matrix import Centering, PairEntries, PairMatrix, PairMeasure

_LARGEST_SPREAD = 100.0
# The exponential of a larger number overflows.
_LARGEST_POWER = math.log(sys.float_info.max)


@dataclass(frozen=True, kw_only=True, repr=False)
class Affinity(PairMeasure):
    r"""Correlation of the affinities of two sets at one density, times how alike they spread.

    .. math::
        s = r \left(\frac{2 \sigma_A \sigma_B}{\sigma_A^2 + \sigma_B^2}\right)^p

    Here r is the correlation of A_ij with B_ij over distinct items and sigma their standard
    deviations, which say how clustered a set is, for both matrices have the same mean, the
    density. With p = 1 it is Lin's concordance correlation (1989), which is 1 minus the squared
    Frobenius distance of the affinities over what that is on average when items are permuted.
    Unrelated features give 0 on average for any p and any number of items and features.

    Attributes
    ----------
    density : float
        Mean affinity between distinct items for which each set's bandwidth is solved.
    normalize : str
        What is done to items before, one of :data:`relspace.kernels.NORMALIZATIONS`.
    profile : "mean" or "rows"
        What is taken off the affinities: their mean, or each item's mean too (U-centred), so that
        items which are close to everything count no more than others.
    spread : float
        How much it counts that the affinities of one set spread wider than those of the other: p
        in the formula; 0 gives the correlation, 1 Lin's concordance.
    """

    density: float = 0.2
    normalize: str = "quarter-whiten+unit"
    profile: Literal["mean", "rows"] = "mean"
    spread: float = 1.0

    def __post_init__(self) -> None:
        check_density(self.density)
        check_choice(self.normalize, "normalize", NORMALIZATIONS)
        check_choice(self.profile, "profile", ("mean", "rows"))
        if not 0 <= check_number(self.spread, "spread") <= _LARGEST_SPREAD:
            raise InvalidInputError(
                f"spread is {self.spread}; it must be from 0 to {_LARGEST_SPREAD:g}, beyond which "
                "rounding decides whether two sets spread alike."
            )

    @property
    def invariances(self) -> Names:
        if self.normalize == "unit":
            return ("rotation", "scale", "item scale")
        if self.normalize.startswith("zscore"):
            return ("scale", "shift", "channel scale")
        return super().invariances

    @property
    def chance(self) -> str:
        return "0"

    @property
    def _centering(self) -> Centering:
        return "mean" if self.profile == "mean" else "unbiased"

    def _entries(self, X: torch.Tensor, name: str) -> PairEntries:
        X = normalize_by_own(X, self.normalize)
        return affinity_entries(X, float(solve_bandwidth(X, density=self.density)))

    def pooled(self, factors: Sequence[Any]) -> PairMatrix | None:
        # A mean of affinities spreads less than they do, which counts unless spread is 0.
        return super().pooled(factors) if self.spread == 0 else None

    def _size(self, x: PairMatrix, y: PairMatrix) -> float:
        geometric, arithmetic = super()._size(x, y), (x.squared_norm + y.squared_norm) / 2
        power = self.spread * math.log(arithmetic / geometric)
        # Where it overflows, the value is 0.
        return geometric * math.exp(power) if power < _LARGEST_POWER else math.inf


def affinity_entries(X: torch.Tensor, sigma: float) -> PairEntries:
    """Gaussian affinities of pairs of items at a bandwidth, in units of the features."""
    frame = Frame.of(X)
    scale = frame.inverse_variance(sigma)

    def fill(out: torch.Tensor, x: Cloud, y: Cloud) -> None:
        fill_half_squared(out, x, y)
        # Beyond the largest float a distance of 0 would give 0 * inf.
        out.mul_(min(scale, math.sqrt(torch.finfo(out.dtype).max))).exp_()

    return PairEntries(place_sets(X, None, frame, scale=scale)[0], fill, with_itself=1.0)


MEASURES: tuple[Measure, ...] = (
    Affinity(
        name="affinity",
        title="Affinity",
        source="This library; with spread = 1 the concordance of Lin 1989",
    ),
)
