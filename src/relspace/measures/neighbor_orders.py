"""Measures of neighbours in their order, and of the way from one set to the other and back."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch

from relspace._core.arguments import check_random_state
from relspace.measures._measure import Measure
from relspace.measures.neighborhoods import Lookup, Neighborhoods, Paired, order_neighborhoods
from relspace.measures.neighbors import MeanAgreement


@dataclass(frozen=True, kw_only=True, repr=False)
class BrokenTies(MeanAgreement):
    """A measure of the k nearest neighbours in their order, with ties broken at random.

    Attributes
    ----------
    random_state : int
        Seed by which ties are broken, in each set by itself. Without ties it changes nothing.
    """

    random_state: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_random_state(self.random_state)

    def _find_exactly(self, X: torch.Tensor, name: str) -> Neighborhoods:
        return order_neighborhoods(X, self.k, self.metric, name, self.random_state)


@dataclass(frozen=True, kw_only=True, repr=False)
class OrderAgreement(BrokenTies):
    """A measure of how far the neighbours that an item shares have the same ranks."""

    def _agreement(self, paired: Paired, lookup: Lookup) -> torch.Tensor:
        ranks = torch.arange(1, self.k + 1, dtype=torch.int32, device=paired.items.device)
        table = lookup.table(ranks.expand(len(lookup.of), -1))
        return self._of_ranks(lookup.at(table, paired))

    @abstractmethod
    def _of_ranks(self, ranks: torch.Tensor) -> torch.Tensor:
        """The agreement (r, b), of the ranks (k, r, b) in the second set of neighbours in order.

        0 stands for items that are no neighbours in the second set.
        """


@dataclass(frozen=True, kw_only=True, repr=False)
class RankNeighbors(OrderAgreement):
    r"""Mean agreement of the ranks of the neighbours that an item has in both sets.

    .. math::
        \frac{1}{n} \sum_i \frac{1}{H_{|S_i|}} \sum_{j \in S_i}
        \frac{2}{(1 + |r_X(i,j) - r_Y(i,j)|) (r_X(i,j) + r_Y(i,j))}

    with the neighbours :math:`S_i` that i has in both sets, their ranks r from 1 to k, and the
    harmonic number H; 0 without a shared neighbour. It says nothing of how many are shared.
    """

    @property
    def chance(self) -> str:
        return "above 0, to 0 as n / k^2 grows"

    def _of_ranks(self, ranks: torch.Tensor) -> torch.Tensor:
        own = torch.arange(1, self.k + 1, dtype=torch.float64, device=ranks.device)[:, None, None]
        shared = ranks > 0
        terms = 2 / ((1 + (own - ranks).abs()) * (own + ranks))
        harmonic = torch.cumsum(1 / own.flatten(), dim=0)
        n_shared = shared.sum(dim=0)
        return (terms * shared).sum(dim=0) / harmonic[(n_shared - 1).clamp_min(0)]


@dataclass(frozen=True, kw_only=True, repr=False)
class CommonSubsequence(OrderAgreement):
    r"""Mean length of the longest common subsequence of an item's neighbours, as a share of k.

    .. math:: \frac{1}{nk} \sum_i \mathrm{LCS}\bigl(N_X(i), N_Y(i)\bigr)
    """

    @property
    def chance(self) -> str:
        return "below k / (n - 1)"

    def _of_ranks(self, ranks: torch.Tensor) -> torch.Tensor:
        # No item occurs twice, so this is the longest run of rising ranks.
        lengths = torch.zeros_like(ranks)
        lengths[0] = ranks[0] > 0
        for a in range(1, self.k):
            before = (lengths[:a] * (ranks[:a] < ranks[a])).amax(dim=0)
            lengths[a] = torch.where(ranks[a] > 0, before + 1, 0)
        return lengths.amax(dim=0).double() / self.k


@dataclass(frozen=True, kw_only=True, repr=False)
class EditNeighbors(OrderAgreement):
    r"""1 minus the mean edit distance of an item's neighbours in order, as a share of k.

    .. math:: 1 - \frac{1}{nk} \sum_i \mathrm{Levenshtein}\bigl(N_X(i), N_Y(i)\bigr)
    """

    @property
    def chance(self) -> str:
        return "below k / (n - 1)"

    def _of_ranks(self, ranks: torch.Tensor) -> torch.Tensor:
        column = torch.arange(self.k + 1, dtype=ranks.dtype, device=ranks.device)[:, None, None]
        edits = column.expand(-1, *ranks.shape[1:]).contiguous()
        for rank in ranks:
            kept = edits[:-1] + (column[1:] != rank)
            edits = edits + 1
            edits[1:] = torch.minimum(edits[1:], kept)
            # Insertions, each of which adds 1 to what comes before.
            edits = torch.cummin(edits - column, dim=0).values + column
        return 1 - edits[-1].double() / self.k


@dataclass(frozen=True, kw_only=True, repr=False)
class CycleNeighbors(BrokenTies):
    r"""Share of items that the first set leads back to from their neighbours in the second.

    .. math::
        \frac{1}{n} \bigl|\{i : i \in N_X(j) \text{ for some } j \in N_Y(i)\}\bigr|
    """

    @property
    def symmetric(self) -> bool:
        return False

    @property
    def chance(self) -> str:
        return "near 1 - (1 - k / (n - 1))^k"

    def _agreement(self, paired: Paired, lookup: Lookup) -> torch.Tensor:
        first = paired.of
        there = paired.back(lookup.of.candidates[lookup.rows].T)
        wanted = there * len(first) + paired.items
        at = torch.searchsorted(first.edges, wanted).clamp_max(len(first.edges) - 1)
        return (first.edges[at] == wanted).any(dim=0).double()

    def expected_by_chance(self, x: Neighborhoods, y: Neighborhoods) -> float:
        n, k = len(x), self.k
        # Of how many items each is a neighbour: none of k random ones may be among them.
        counts = torch.bincount(x.candidates.flatten(), minlength=n).double()
        factorials = torch.lgamma(torch.arange(1, n + 1, dtype=torch.float64, device=counts.device))
        left = (n - 1 - counts).long()
        none = factorials[left] - factorials[(left - k).clamp_min(0)]
        none = (none - factorials[n - 1] + factorials[n - 1 - k]).exp() * (left >= k)
        return 1 - float(none.mean())


MEASURES: tuple[Measure, ...] = (
    RankNeighbors(
        name="rank_neighbors",
        title="Ranks of neighbours",
        source="Klabunde et al. 2025, rank similarity",
    ),
    CommonSubsequence(
        name="lcs_neighbors",
        title="Common subsequence of neighbours",
        source="Huh et al. 2024, lcs_knn of their code, over k",
    ),
    EditNeighbors(
        name="edit_neighbors",
        title="Edit distance of neighbours",
        source="Huh et al. 2024, edit_distance_knn of their code",
    ),
    CycleNeighbors(
        name="cycle_neighbors",
        title="Cycle of neighbours",
        source="Huh et al. 2024, cycle_knn of their code",
        identical=math.nan,
    ),
)
