"""Representational similarity analysis (RSA): matrices of dissimilarities, compared as vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from relspace._core.arguments import check_choice, name_some
from relspace._core.resources import Resources
from relspace.errors import UndefinedValueError
from relspace.kernels.frame import (
    NEGLIGIBLE,
    ROUNDINGS_OF_UNIT_VECTORS,
    Cloud,
    Frame,
    squared_norms,
    unit_vectors,
)
from relspace.kernels.ties import cloud_for_ties, mean_ranks
from relspace.kernels.tiles import fill_half_squared
from relspace.measures._measure import Measure, Names
from relspace.measures.dissimilarities import Dissimilarities
from relspace.measures.pair_matrix import (
    Centering,
    PairEntries,
    PairMatrix,
    PairMeasure,
    kept_pair_matrix,
    nothing_to_compare,
)

DISTANCES = ("euclidean", "squared_euclidean", "correlation", "cosine")
COMPARISONS = ("correlation", "spearman", "cosine", "whitened_correlation", "whitened_cosine")

Distance = Literal["euclidean", "squared_euclidean", "correlation", "cosine"]

# By how much the difference of two unit vectors in float64 may be off.
_OFF = ROUNDINGS_OF_UNIT_VECTORS * torch.finfo(torch.float64).eps

# Of dissimilarities up to 1.
_NO_STRUCTURE = 64 * torch.finfo(torch.float64).eps

DISTANCE_INVARIANCES = {
    "euclidean": ("rotation", "scale", "shift"),
    "squared_euclidean": ("rotation", "scale", "shift"),
    "correlation": ("scale", "item scale", "item shift"),
    "cosine": ("rotation", "scale", "item scale"),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class RSA(PairMeasure):
    r"""Agreement of two representational dissimilarity matrices (RDMs) over distinct items.

    Attributes
    ----------
    distance : str
        The entries of an RDM: ``"euclidean"``, ``"squared_euclidean"``, ``"correlation"`` (1 - r
        over features) or ``"cosine"`` distances.
    comparison : str
        How RDMs are compared: by their Pearson ``"correlation"``, by that of their ranks
        (``"spearman"``; ties share their mean rank), or by their ``"cosine"``. Dissimilarities of
        one item depend on each other: ``"whitened_correlation"`` and ``"whitened_cosine"`` account
        for the covariance that they have if the items' noise is independent and equal (Diedrichsen
        et al. 2021; ``corr_cov`` and ``cosine_cov`` of rsatoolbox).
    """

    distance: Distance = "correlation"
    comparison: Literal[
        "correlation", "spearman", "cosine", "whitened_correlation", "whitened_cosine"
    ] = "correlation"

    def __post_init__(self) -> None:
        check_choice(self.distance, "distance", DISTANCES)
        check_choice(self.comparison, "comparison", COMPARISONS)

    @property
    def invariances(self) -> Names:
        return DISTANCE_INVARIANCES[self.distance]

    @property
    def chance(self) -> str:
        above = self.comparison in ("cosine", "whitened_cosine")
        return "above 0: distances are rarely negative" if above else "0"

    @property
    def _centering(self) -> Centering:
        return "none" if self.comparison == "cosine" else "mean"

    def bytes_per_pair(self, n_sets: int) -> int:
        # The ranks of each set, and temporaries of ranking one.
        return 8 * (n_sets + 4) if self._needs_all_pairs else 0

    @property
    def _needs_all_pairs(self) -> bool:
        return self.comparison not in ("correlation", "cosine")

    def _entries(self, X: torch.Tensor, name: str) -> PairEntries:
        return _entries(X, self.distance, name)

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> PairMatrix:
        if self.comparison == "spearman":
            return rank_matrix(X, self.distance, name)
        if self._needs_all_pairs:
            return _whole(pair_distances(X, self.distance, name), self.comparison, name)
        return super()._factor(X, name, memory_budget)

    def _factor_of_pairs(self, given: Dissimilarities, name: str) -> PairMatrix:
        return _whole(given.values, self.comparison, name)


def pair_distances(
    X: torch.Tensor, distance: str, name: str, *, ranked: bool = False
) -> torch.Tensor:
    """The distances (n, n) of features in float64, or their ranks."""
    n = len(X)
    Resources(device=X.device).require(5 * n * n * 8, f"the distances of {n} items")
    if ranked:
        return _ranks(X, distance, name)
    entries = _entries(X.to(torch.float64), distance, name)
    return entries.tile(slice(None), slice(None), on_diagonal=True)


def _whole(distances: torch.Tensor, comparison: str, name: str) -> PairMatrix:
    """Centre all dissimilarities (n, n) as a comparison asks for."""
    largest = float(distances.abs().max())
    if largest == 0.0:
        raise nothing_to_compare(name)
    n = len(distances)
    matrix = distances / largest
    if comparison == "spearman":
        matrix = _ranks_of(matrix, exact=True)
    centred = comparison in ("correlation", "whitened_correlation")
    if centred:
        matrix = matrix - matrix.sum() / (n * (n - 1))
        matrix.fill_diagonal_(0.0)
    if float(matrix.abs().max()) <= _NO_STRUCTURE:
        raise nothing_to_compare(name)
    if not comparison.startswith("whitened"):
        return kept_pair_matrix(matrix, name)
    # Whitened dissimilarities are the second moments of the items, each with itself too.
    moments = matrix - matrix.mean(dim=0) - matrix.mean(dim=1, keepdim=True) + matrix.mean()
    trace = float(moments.trace())
    return PairMatrix(
        entries=None,
        kept=moments,
        offset=moments.new_zeros(n),
        has_diagonal=True,
        squared_norm=float(moments.square().sum()),
        total=float(moments.sum()) - trace,
        trace=trace,
    )


def euclidean_distances(out: torch.Tensor, x: Cloud, y: Cloud) -> None:
    """Write the Euclidean distances between the points of two clouds into ``out``."""
    _squared_distances(out, x, y)
    out.sqrt_()


def _squared_distances(out: torch.Tensor, x: Cloud, y: Cloud) -> None:
    fill_half_squared(out, x, y)
    out.mul_(-2.0)


def _cosine_distances(out: torch.Tensor, x: Cloud, y: Cloud) -> None:
    # 1 - x.y = |x - y|^2 / 2 of unit vectors.
    fill_half_squared(out, x, y)
    out.neg_()


def _entries(X: torch.Tensor, distance: str, name: str) -> PairEntries:
    if distance == "euclidean":
        return PairEntries(Frame.of(X).place(X), euclidean_distances, with_itself=0.0)
    if distance == "squared_euclidean":
        return PairEntries(Frame.of(X).place(X), _squared_distances, with_itself=0.0)
    needed = 3 if distance == "correlation" else 2
    if X.shape[1] < needed:
        raise UndefinedValueError(
            f"{name} has {X.shape[1]} features; {distance} distances are all 0 or 2 on fewer than "
            f"{needed}: use a Euclidean distance."
        )
    wide = X.to(torch.float64)
    if distance == "correlation":
        wide = _without_item_means(wide, X.dtype, name)
    cloud = _about_what_they_share(unit_vectors(wide, name), X.dtype, name)
    return PairEntries(cloud, _cosine_distances, with_itself=0.0)


def _without_item_means(X: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """Subtract each item's mean from its features, which were given as ``dtype``."""
    rounding = 4 * torch.finfo(dtype).eps * X.abs().amax(dim=1)
    X = X - X.mean(dim=1, keepdim=True)
    flat = (X.abs().amax(dim=1) <= rounding).nonzero().flatten().tolist()
    if flat:
        raise UndefinedValueError(
            f"{name} has {len(flat)} items whose features are all the same, rows "
            f"{name_some(flat)}, among {len(X)}: they have no correlation distance; remove these "
            "items, or use a Euclidean distance or another measure."
        )
    return X


def _about_what_they_share(directions: torch.Tensor, dtype: torch.dtype, name: str) -> Cloud:
    """Subtract the mean of unit vectors, so that directions which differ little keep all digits."""
    points = (directions - directions.mean(dim=0)).to(dtype)
    half_norms = squared_norms(points) / 2
    apart = math.sqrt(4 * float(half_norms.mean(dtype=torch.float64)))
    if NEGLIGIBLE * apart < _OFF:
        raise UndefinedValueError(
            f"all items of {name} have the same direction to within rounding ({apart:.1e} apart), "
            "so there is no structure to compare: subtract from each feature its mean over items, "
            "give other items or features, or use a Euclidean distance."
        )
    return Cloud(points, half_norms)


def rank_matrix(X: torch.Tensor, distance: str, name: str) -> PairMatrix:
    """Centred ranks of the distances of distinct items; ties share their mean rank.

    Distances are compared in float64. Those that differ by rounding alone are tied. Squared
    Euclidean distances of whole multiples of a power of two have no rounding.
    """
    n = len(X)
    Resources(device=X.device).require(
        5 * n * n * 8,
        f"ranking the distances of {n} items",
        "compare them by their correlation instead, or a random part of the items by {max_items}",
    )
    return kept_pair_matrix(_ranks(X, distance, name), name)


def _ranks(X: torch.Tensor, distance: str, name: str) -> torch.Tensor:
    """Centred ranks (n, n) of the distances of features."""
    entries, exact = _rankable_entries(X, distance, name)
    distances = entries.tile(slice(None), slice(None))
    off = 0.0
    if distance in ("correlation", "cosine"):
        distinct = distances.triu(1)
        off = _OFF * (math.sqrt(2 * float(distinct.max())) + _OFF)
    return _ranks_of(distances, exact=exact, off=off)


def _ranks_of(distances: torch.Tensor, *, exact: bool, off: float = 0.0) -> torch.Tensor:
    return ranks_of_pairs(distances, above_diagonal(distances), exact=exact, off=off)


def above_diagonal(matrix: torch.Tensor) -> torch.Tensor:
    """A mask of the entries above the diagonal."""
    return torch.ones_like(matrix, dtype=torch.bool).triu_(1)


def ranks_of_pairs(
    distances: torch.Tensor, above: torch.Tensor, *, exact: bool = True, off: float = 0.0
) -> torch.Tensor:
    """Centred ranks (n, n) among some pairs above the diagonal; 0 for the others."""
    ranks = mean_ranks(distances[above], exact=exact, off=off)
    matrix = torch.zeros_like(distances)
    matrix[above] = (ranks - ranks.mean()) / len(ranks)
    return matrix + matrix.T


def _rankable_entries(X: torch.Tensor, distance: str, name: str) -> tuple[PairEntries, bool]:
    """Entries in the order of the distances, and whether they have no rounding."""
    if distance in ("euclidean", "squared_euclidean"):
        # A root would separate small distances that differ by rounding alone.
        cloud, exact = cloud_for_ties(X)
        return PairEntries(cloud, _squared_distances), exact
    return _entries(X.to(torch.float64), distance, name), False


@dataclass(frozen=True, eq=False)
class RankedPairs:
    """Ranks (n, n) of pairs, a mask of those above the diagonal, the share of untied ranks."""

    ranks: torch.Tensor
    above: torch.Tensor
    untied: float


@dataclass(frozen=True, kw_only=True, repr=False)
class KendallRSA(Measure):
    r"""Kendall's tau-a of two RDMs: concordant less discordant pairs of entries, over all pairs.

    .. math:: \tau_a = \frac{C - D}{m (m - 1) / 2}, \qquad m = n (n - 1) / 2

    Attributes
    ----------
    distance : str
        As in :class:`RSA`.
    """

    distance: Distance = "correlation"

    def __post_init__(self) -> None:
        check_choice(self.distance, "distance", DISTANCES)

    @property
    def invariances(self) -> Names:
        return DISTANCE_INVARIANCES[self.distance]

    @property
    def chance(self) -> str:
        return "0"

    def bytes_per_pair(self, n_sets: int) -> int:
        # The ranks of each set, and temporaries of counting concordant pairs.
        return 8 * (n_sets + 6)

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> RankedPairs:
        return self._of_all_pairs(rank_matrix(X, self.distance, name))

    def _factor_of_pairs(self, given: Dissimilarities, name: str) -> RankedPairs:
        return self._of_all_pairs(_whole(given.values, "spearman", name))

    def _of_all_pairs(self, ranks: PairMatrix) -> RankedPairs:
        assert ranks.kept is not None
        return self.ranked(ranks.kept, above_diagonal(ranks.kept))

    def ranked(self, matrix: torch.Tensor, above: torch.Tensor) -> RankedPairs:
        """The factor of centred ranks of some pairs above the diagonal."""
        counts = np.unique(matrix[above].cpu().numpy(), return_counts=True)[1]
        n_pairs = int(above.sum())
        tied = float(counts @ (counts - 1.0)) / (n_pairs * (n_pairs - 1))
        return RankedPairs(matrix, above, 1 - tied)

    def pooled(self, factors: Sequence[RankedPairs]) -> RankedPairs:
        # The order of the mean ranks, as rsatoolbox has it: near the best one, which is NP-hard.
        above = factors[0].above
        n_pairs = int(above.sum())
        total = torch.stack([one.ranks for one in factors]).sum(dim=0) * n_pairs
        # Twice a rank is a whole number, so that equal means are ties whatever the rounding.
        ranks = ranks_of_pairs((2 * total).round(), above)
        if not bool(ranks.any()):
            raise nothing_to_compare("the mean")
        return self.ranked(ranks, above)

    def from_factors(
        self, x: RankedPairs, y: RankedPairs, permutation: torch.Tensor | None = None
    ) -> float:
        from scipy.stats import kendalltau

        left = x.ranks if permutation is None else x.ranks[permutation][:, permutation]
        a, b = left[x.above].cpu().numpy(), y.ranks[x.above].cpu().numpy()
        # tau-b leaves tied pairs out of its denominator; tau-a counts them.
        untied = math.sqrt(x.untied * y.untied)
        return float(kendalltau(a, b, variant="b").statistic) * untied

    def expected_by_chance(self, x: RankedPairs, y: RankedPairs) -> float:
        return 0.0


MEASURES: tuple[Measure, ...] = (
    RSA(
        name="rsa",
        title="RSA, correlation",
        source="Kriegeskorte et al. 2008; Pearson correlation of the RDMs",
    ),
    RSA(
        name="rsa_spearman",
        title="RSA, Spearman",
        source="Kriegeskorte et al. 2008; rank correlation of the RDMs",
        comparison="spearman",
    ),
    KendallRSA(
        name="rsa_kendall",
        title="RSA, Kendall tau-a",
        source="Nili et al. 2014",
    ),
    RSA(
        name="rsa_cosine",
        title="RSA, cosine",
        source="Walther et al. 2016; cosine of the RDMs",
        comparison="cosine",
    ),
)
