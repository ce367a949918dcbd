"""Affinity: whole affinity matrices at one density, compared entry by entry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from relspace._validation import check_choice, check_fraction
from relspace.kernels.bandwidth import DEFAULT_DENSITY, solve_bandwidth
from relspace.kernels.distances import Cloud, Frame, fill_half_squared, place_sets
from relspace.kernels.normalization import NORMALIZATIONS, fit_normalization
from relspace.measures._base import Measure
from relspace.measures.pair_matrix import Centering, PairEntries, PairMatrix, PairMeasure

_INVARIANCES = {
    "none": ("rotation", "scale", "shift"),
    "unit": ("rotation", "scale", "item scale"),
    "center": ("rotation", "scale", "shift"),
    "center+unit": ("rotation", "scale", "shift"),
    "zscore": ("scale", "shift", "channel scale"),
    "zscore+unit": ("scale", "shift", "channel scale"),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Affinity(PairMeasure):
    r"""Concordance of the affinities of two sets, each auto-scaled to the same density.

    .. math::
        s = \frac{2 \sum_{i \neq j} (A_{ij} - \bar A)(B_{ij} - \bar B)}
                 {\sum_{i \neq j} (A_{ij} - \bar A)^2 + \sum_{i \neq j} (B_{ij} - \bar B)^2}
          = 1 - \frac{\lVert A - B \rVert_F^2}{\mathrm{E}_\pi \lVert A_\pi - B \rVert_F^2}

    Both matrices have the same mean, the density, so this is 1 minus the squared Frobenius
    distance of the affinities over what it is on average when items are permuted: Lin's
    concordance correlation (1989) of the affinities of distinct items. Unrelated features give 0
    on average for any number of items and features.

    Attributes
    ----------
    density : float
        Mean affinity between distinct items for which each set's bandwidth is solved.
    normalize : str
        What is done to items before, one of :data:`relspace.kernels.NORMALIZATIONS`.
    profile : "mean" or "rows"
        What is taken off the affinities: their mean, or each item's mean too (U-centred), so that
        items which are close to everything count no more than others.
    scaling : "concordance" or "correlation"
        Whether products are divided by the arithmetic or the geometric mean of the variances.
    """

    density: float = DEFAULT_DENSITY
    normalize: str = "none"
    profile: Literal["mean", "rows"] = "mean"
    scaling: Literal["concordance", "correlation"] = "concordance"

    def __post_init__(self) -> None:
        check_fraction(self.density, "density")
        check_choice(self.normalize, "normalize", NORMALIZATIONS)
        check_choice(self.profile, "profile", ("mean", "rows"))
        check_choice(self.scaling, "scaling", ("concordance", "correlation"))

    @property
    def invariances(self) -> tuple[str, ...]:
        return _INVARIANCES[self.normalize]

    @property
    def chance(self) -> str:
        return "0"

    @property
    def _centering(self) -> Centering:
        return "mean" if self.profile == "mean" else "unbiased"

    def _entries(self, X: torch.Tensor, name: str) -> PairEntries:
        X = fit_normalization(X, self.normalize).apply(X)
        return affinity_entries(X, float(solve_bandwidth(X, density=self.density)))

    def _size(self, x: PairMatrix, y: PairMatrix) -> float:
        if self.scaling == "concordance":
            return (x.squared_norm + y.squared_norm) / 2
        return super()._size(x, y)


def affinity_entries(X: torch.Tensor, sigma: float) -> PairEntries:
    """Gaussian affinities of pairs of items at a bandwidth, in units of the features."""
    frame = Frame.of(X)
    scale = (frame.unit / sigma) ** 2

    def fill(out: torch.Tensor, x: Cloud, y: Cloud) -> None:
        fill_half_squared(out, x, y)
        # Beyond the largest float an exponent of 0 would become 0 * inf.
        out.mul_(min(scale, math.sqrt(torch.finfo(out.dtype).max))).exp_()

    return PairEntries(place_sets(X, None, frame, scale=scale)[0], fill)


MEASURES: tuple[Measure, ...] = (
    Affinity(
        name="affinity",
        title="Affinity",
        source="Concordance (Lin 1989) of affinities auto-scaled to one density; this library",
    ),
)
