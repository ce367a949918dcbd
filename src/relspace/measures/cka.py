"""Centred kernel alignment (CKA), linear and Gaussian, unbiased and biased."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from relspace._core.arguments import check_choice, check_positive
from relspace._core.memory import row_slices
from relspace.errors import InvalidInputError, UndefinedValueError
from relspace.kernels.frame import Cloud, Frame, place_sets, squared_norms
from relspace.kernels.precision import full_precision
from relspace.kernels.ties import ROUNDINGS
from relspace.kernels.tiles import fill_half_squared
from relspace.measures._measure import Measure, centered
from relspace.measures.affinity import affinity_entries
from relspace.measures.pair_matrix import (
    EstimatedMeasure,
    PairEntries,
    PairMatrix,
    nothing_to_compare,
    pair_matrix,
)
from relspace.measures.sums.cross_products import CrossProducts

_PAIRS_FOR_MEDIAN = 2**22
_BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class CenteredItems:
    """Features of so many items that products of features are summed, not those of items.

    ``mean`` (d,) is that of the ``features`` (n, d) in float64, ``lengths`` (n,) are the squared
    lengths of the centred items, and the numbers are those of a
    :class:`relspace.measures.pair_matrix.PairMatrix`.
    """

    features: torch.Tensor
    mean: torch.Tensor
    lengths: torch.Tensor
    squared_norm: float
    total: float
    trace: float
    kept: None = None

    def __len__(self) -> int:
        return len(self.features)

    def some(self, items: slice | torch.Tensor) -> torch.Tensor:
        """Centred features of some items, in float64."""
        return self.features[items].to(torch.float64) - self.mean


@dataclass(frozen=True, kw_only=True, repr=False)
class CKA(EstimatedMeasure):
    r"""Centred kernel alignment.

    .. math::
        \mathrm{CKA} = \frac{\mathrm{HSIC}(K, L)}{\sqrt{\mathrm{HSIC}(K, K)\,\mathrm{HSIC}(L, L)}}

    Attributes
    ----------
    kernel : "linear" or "rbf"
        Inner products of items, or Gaussian affinities.
    estimator : "unbiased" or "biased"
        That of HSIC by Song et al. 2012, or that of Kornblith et al. 2019. Unrelated features give
        0 on average with the first, and more with the second.
    bandwidth : float
        Of the Gaussian kernel, in units of the median distance between items.
    features : "all" or "sample"
        Whether the features are all there are, or a sample of more, as recorded neurons are. Few
        features make the sets' own HSIC too large, and so CKA too small. For a sample it is the
        mean over pairs of different features (Chun et al. 2025, arXiv 2502.15104):
        :math:`(\mathrm{HSIC}(K, K) - \sum_p \mathrm{HSIC}(x_p x_p^\top, x_p x_p^\top))\,d/(d - 1)`.
        Needs ``kernel="linear"`` and ``estimator="unbiased"``, and all items in memory. Estimates
        above 1 are given as 1; features that have nothing in common with each other are refused.
    """

    kernel: Literal["linear", "rbf"] = "linear"
    bandwidth: float = 0.4
    features: Literal["all", "sample"] = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.kernel, "kernel", ("linear", "rbf"))
        check_positive(self.bandwidth, "bandwidth")
        check_choice(self.features, "features", ("all", "sample"))
        if self.features == "sample" and (self.kernel, self.estimator) != ("linear", "unbiased"):
            raise InvalidInputError(
                f'features is "sample", with kernel {self.kernel!r} and estimator '
                f"{self.estimator!r}; only the unbiased linear CKA is corrected for a sample of "
                'features: take "cka", or features="all".'
            )

    def _entries(self, X: torch.Tensor, name: str) -> PairEntries:
        if self.kernel == "rbf":
            median = median_distance(X)
            if median == 0.0:
                raise UndefinedValueError(
                    f"at least half of the pairs of items of {name} coincide, so their median "
                    "distance is 0 and the Gaussian kernel has no bandwidth: remove duplicate "
                    'items, or use another measure, such as "cka" or "affinity".'
                )
            return affinity_entries(X, self.bandwidth * median)
        points = centered(X)
        points = (points / points.square().sum(dim=1).mean().sqrt()).to(X.dtype)
        return PairEntries(Cloud(points, squared_norms(points) / 2), _inner_products)

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Any:
        n, d = X.shape
        if self.kernel == "linear" and d < n and n * n * X.element_size() > memory_budget:
            factor: Any = self._items(X, name)
        else:
            factor = super()._factor(X, name, memory_budget)
        return factor if self.features == "all" else self._without_own_terms(factor, X, name)

    def _without_own_terms(self, factor: Any, X: torch.Tensor, name: str) -> Any:
        """A factor of which pairs of different features alone make the squared norm."""
        n, d = X.shape
        points = centered(X)
        if isinstance(factor, PairMatrix):
            points = points / points.square().sum(dim=1).mean().sqrt()
        squares, fourths = points.square().sum(dim=0), points.pow(4).sum(dim=0)
        own = squares.square() * (1 + 1 / ((n - 1) * (n - 2))) - fourths * (n / (n - 2))
        others = (factor.squared_norm - float(own.sum())) * d / max(1, d - 1)
        if not others > 64 * torch.finfo(X.dtype).eps * factor.squared_norm:
            raise UndefinedValueError(
                f"the {d} features of {name} have nothing in common with each other beyond chance, "
                "so that nothing can be said of the features that they are a sample of; give more "
                'features or items, or compare those that there are by features="all".'
            )
        return replace(factor, squared_norm=others)

    def _items(self, X: torch.Tensor, name: str) -> CenteredItems:
        mean = X.mean(dim=0, dtype=torch.float64)
        blank = CenteredItems(X, mean, mean, 0.0, 0.0, 0.0)
        blocks = row_slices(len(X), 16 * X.shape[1], _BLOCK_BYTES)
        lengths = torch.cat([blank.some(rows).square().sum(dim=1) for rows in blocks])
        blank = replace(blank, lengths=lengths)
        squared_norm = self._hsic_of_items(blank, blank, None)
        rounding = max(len(X) * torch.finfo(torch.float64).eps, torch.finfo(X.dtype).eps ** 2)
        if not squared_norm > rounding * float(lengths.square().sum()):
            raise nothing_to_compare(name)
        trace = float(lengths.sum()) if self.estimator == "biased" else 0.0
        return replace(blank, squared_norm=squared_norm, total=-trace, trace=trace)

    def _hsic_of_items(
        self, x: CenteredItems, y: CenteredItems, permutation: torch.Tensor | None
    ) -> float:
        n = len(x)
        products = x.mean.new_zeros(x.features.shape[1], y.features.shape[1])
        for rows in row_slices(n, 16 * sum(products.shape), _BLOCK_BYTES):
            paired = rows if permutation is None else permutation[rows].to(x.features.device)
            products.addmm_(x.some(paired).T, y.some(rows))
        lengths = x.lengths if permutation is None else x.lengths[permutation.to(x.lengths.device)]
        traces = float(x.lengths.sum()), float(y.lengths.sum())
        return self._hsic(n, products, *traces, float(lengths @ y.lengths))

    def _hsic(
        self, n: int, products: torch.Tensor, trace_x: float, trace_y: float, squares: float
    ) -> float:
        """HSIC up to a factor, from the products of two sets' centred features."""
        total = float(products.square().sum())
        if self.estimator == "biased":
            return total
        # Song et al. 2012, equation 5, times n (n - 3). Of centred features the rows of a kernel
        # sum to 0, so without its diagonal to minus that.
        corrected = trace_x * trace_y / ((n - 1) * (n - 2)) - 2 * squares / (n - 2)
        return total - squares + corrected

    def table(
        self, x: Sequence[Any], y: Sequence[Any], permutation: torch.Tensor | None = None
    ) -> torch.Tensor:
        if not any(isinstance(one, CenteredItems) for one in (*x, *y)):
            return super().table(x, y, permutation)
        if not all(isinstance(one, CenteredItems) for one in (*x, *y)):
            # One set has as many features as items, so that pairs of items are fewer.
            x, y = ([self._pairs(one) for one in of] for of in (x, y))
            return super().table(x, y, permutation)
        products = [[self._hsic_of_items(a, b, permutation) for b in y] for a in x]
        return self._normalized(torch.tensor(products, dtype=torch.float64), x, y)

    def _pairs(self, one: CenteredItems | PairMatrix) -> PairMatrix:
        if isinstance(one, PairMatrix):
            return one
        return pair_matrix(self._entries(one.features, "X"), self._centering, "X", 0)

    @property
    def streams(self) -> bool:
        return self.kernel == "linear" and self.features == "all"

    def from_cross_products(self, products: CrossProducts) -> float:
        if not self.streams:
            raise self.needs_items()
        n, traces = products.n_items, (products.x.trace, products.y.trace)
        both = self._hsic(n, products.both, *traces, products.squares)
        x, y = (
            self._hsic(n, one.products, trace, trace, one.squares)
            for one, trace in zip((products.x, products.y), traces, strict=True)
        )
        low, high = self.range
        return min(high, max(low, both / math.sqrt(x * y)))


def _inner_products(out: torch.Tensor, x: Cloud, y: Cloud) -> None:
    torch.mm(x.points, y.points.T, out=out)


@full_precision()
def median_distance(X: torch.Tensor) -> float:
    """Median distance of distinct items, of a sample of pairs if many; 0 if float64 sees none."""
    frame = Frame.of(X)
    for one in (frame, frame.wide()):
        cloud, _ = place_sets(X, None, one)
        half = _median_half_squared(X, cloud)
        rounding = ROUNDINGS * torch.finfo(cloud.points.dtype).eps
        if half > rounding * float(cloud.half_norms.median()):
            return frame.length(math.sqrt(2 * half))
    return 0.0


def _median_half_squared(X: torch.Tensor, cloud: Cloud) -> float:
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
    return -float(median)


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
