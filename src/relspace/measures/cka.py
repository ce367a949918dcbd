"""Centred kernel alignment (CKA), linear and Gaussian, unbiased and biased."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from relspace._validation import check_choice, check_positive
from relspace.kernels.distances import Cloud, Frame, fill_half_squared, squared_norms
from relspace.kernels.precision import full_precision
from relspace.measures._base import WIDE_FEATURES_LOOK_ALIKE, Measure, centered
from relspace.measures.affinity import affinity_entries
from relspace.measures.cross_products import CrossProducts
from relspace.measures.pair_matrix import Centering, PairEntries, PairMeasure

_PAIRS_FOR_MEDIAN = 2**22


@dataclass(frozen=True, kw_only=True, repr=False)
class CKA(PairMeasure):
    r"""Centred kernel alignment.

    .. math::
        \mathrm{CKA} = \frac{\mathrm{HSIC}(K, L)}{\sqrt{\mathrm{HSIC}(K, K)\,\mathrm{HSIC}(L, L)}}

    With the unbiased estimator of HSIC (Song et al. 2012) unrelated features give 0 on
    average; with the biased one (Kornblith et al. 2019) more, up to 1 where features
    are many and items few.

    Attributes
    ----------
    kernel : "linear" or "rbf"
        Inner products of items, or Gaussian affinities.
    estimator : "unbiased" or "biased"
        Of HSIC.
    bandwidth : float
        Of the Gaussian kernel, in units of the median distance between items.
    """

    kernel: Literal["linear", "rbf"] = "linear"
    estimator: Literal["unbiased", "biased"] = "unbiased"
    bandwidth: float = 0.4

    def __post_init__(self) -> None:
        check_choice(self.kernel, "kernel", ("linear", "rbf"))
        check_choice(self.estimator, "estimator", ("unbiased", "biased"))
        check_positive(self.bandwidth, "bandwidth")

    @property
    def range(self) -> tuple[float, float]:
        return (-1.0, 1.0) if self.estimator == "unbiased" else (0.0, 1.0)

    @property
    def invariances(self) -> tuple[str, ...]:
        return ("rotation", "scale", "shift")

    @property
    def chance(self) -> str:
        return "0" if self.estimator == "unbiased" else WIDE_FEATURES_LOOK_ALIKE

    @property
    def _centering(self) -> Centering:
        return "unbiased" if self.estimator == "unbiased" else "double"

    def _entries(self, X: torch.Tensor, name: str) -> PairEntries:
        if self.kernel == "rbf":
            return affinity_entries(X, self.bandwidth * median_distance(X))
        points = centered(X)
        points = (points / points.square().sum(dim=1).mean().sqrt()).to(X.dtype)
        return PairEntries(Cloud(points, squared_norms(points) / 2), _inner_products)

    @property
    def streams(self) -> bool:
        return self.kernel == "linear"

    @property
    def copies_of_products(self) -> int:
        return 1

    def from_cross_products(self, products: CrossProducts) -> float:
        """Compare two sets by sums over their items, with the linear kernel."""
        if self.kernel != "linear":
            raise self.needs_items()
        hsic = _unbiased_hsic if self.estimator == "unbiased" else _biased_hsic
        n, traces = products.n_items, (float(products.of_x.trace()), float(products.of_y.trace()))
        both = hsic(n, products.of_both, *traces, products.squares_both)
        x = hsic(n, products.of_x, traces[0], traces[0], products.squares_x)
        y = hsic(n, products.of_y, traces[1], traces[1], products.squares_y)
        low, high = self.range
        return min(high, max(low, both / math.sqrt(x * y)))


def _biased_hsic(
    n: int, products: torch.Tensor, trace_x: float, trace_y: float, squares: float
) -> float:
    return float(products.square().sum())


def _unbiased_hsic(
    n: int, products: torch.Tensor, trace_x: float, trace_y: float, squares: float
) -> float:
    """Song et al. 2012, equation 5, times n (n - 3).

    Of centred features the kernel's rows sum to 0, so without its diagonal to minus that.
    """
    off_diagonal = float(products.square().sum()) - squares
    return off_diagonal + trace_x * trace_y / ((n - 1) * (n - 2)) - 2 * squares / (n - 2)


def _inner_products(out: torch.Tensor, x: Cloud, y: Cloud) -> None:
    torch.mm(x.points, y.points.T, out=out)


@full_precision()
def median_distance(X: torch.Tensor) -> float:
    """Median Euclidean distance between distinct items, of a seeded sample of pairs if many."""
    frame = Frame.of(X)
    cloud = frame.place(X)
    n = len(X)
    if n * (n - 1) // 2 <= _PAIRS_FOR_MEDIAN:
        half = X.new_empty((n, n), dtype=cloud.points.dtype)
        fill_half_squared(half, cloud, cloud)
        above = torch.ones((n, n), dtype=torch.bool, device=X.device).triu_(1)
        median = np.median(half[above].cpu())
    else:
        generator = torch.Generator().manual_seed(0)
        rows = min(n, int(_PAIRS_FOR_MEDIAN**0.5)) // 2
        chosen = torch.randperm(n, generator=generator)[: 2 * rows].to(X.device)
        left, right = cloud.rows(chosen[:rows]), cloud.rows(chosen[rows:])
        half = X.new_empty((rows, rows), dtype=cloud.points.dtype)
        fill_half_squared(half, left, right)
        median = np.median(half.cpu())
    return math.sqrt(-2 * float(median)) * frame.unit


MEASURES: tuple[Measure, ...] = (
    CKA(
        name="cka",
        title="Linear CKA",
        source="Kornblith et al. 2019, equation 4, with the unbiased HSIC of Song et al. 2012",
    ),
    CKA(
        name="cka_biased",
        title="Linear CKA, biased",
        source="Kornblith et al. 2019, equation 4",
        estimator="biased",
    ),
    CKA(
        name="cka_rbf",
        title="RBF CKA",
        source="Kornblith et al. 2019, equation 4, with the unbiased HSIC of Song et al. 2012",
        kernel="rbf",
    ),
    CKA(
        name="cka_rbf_biased",
        title="RBF CKA, biased",
        source="Kornblith et al. 2019, equation 4",
        kernel="rbf",
        estimator="biased",
    ),
)
