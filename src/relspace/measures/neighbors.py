"""Neighbourhood measures: how far the nearest neighbours of an item are the same in two sets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from relspace._core.arguments import check_choice, check_count
from relspace._core.memory import row_slices
from relspace._core.threads import on_one_core
from relspace.errors import InvalidInputError, UndefinedValueError
from relspace.measures._measure import Measure, Names, Range, is_small
from relspace.measures.approximate_neighbors import find_approximately
from relspace.measures.neighborhoods import (
    BLOCK_BYTES,
    Lookup,
    Neighborhoods,
    Paired,
    SharedCandidates,
    bytes_of_lookup,
    find_neighborhoods,
    permutations_at_once,
)
from relspace.measures.tie_breaks import expected_jaccard

_TINY = 1e-8


@dataclass(frozen=True, kw_only=True, repr=False)
class NeighborhoodMeasure(Measure):
    """A measure of the k nearest neighbours of each item in the two sets.

    An item that is tied for the last neighbours is one with the probability that it has when ties
    are broken at random, independently in each set. So the value does not depend on the order of
    the items, and sets with ties agree with themselves less than fully.

    Attributes
    ----------
    k : int
        How many neighbours.
    metric : "cosine" or "euclidean"
        The distance.
    index : "exact" or "approximate"
        Whether all items are looked through for neighbours, or those of the nearest cells of
        faiss's inverted file, for items beyond 100,000. Results then say the ``recall``: the share
        of the neighbours that were found, measured on 1,000 items. Items with ties are refused.
    """

    k: int = 10
    metric: Literal["cosine", "euclidean"] = "cosine"
    index: Literal["exact", "approximate"] = "exact"

    def __post_init__(self) -> None:
        check_count(self.k, "k")
        check_choice(self.metric, "metric", ("cosine", "euclidean"))
        check_choice(self.index, "index", ("exact", "approximate"))

    @property
    def invariances(self) -> Names:
        if self.metric == "euclidean":
            return ("rotation", "scale", "shift")
        return ("rotation", "scale", "item scale")

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Neighborhoods:
        n, d = X.shape
        if self.k > n - 2:
            raise InvalidInputError(
                f"k is {self.k} and {name} has {n} items, of which each has {n - 1} others: with "
                "all of them as neighbours every set agrees with every other; ask for fewer."
            )
        if self.metric == "cosine" and d < 2:
            raise UndefinedValueError(
                f'{name} has 1 feature, on which every cosine is 1 or -1: use metric="euclidean".'
            )
        if self.index == "approximate":
            return find_approximately(X, self.k, self.metric, name)
        return self._find_exactly(X, name)

    def _find_exactly(self, X: torch.Tensor, name: str) -> Neighborhoods:
        return find_neighborhoods(X, self.k, self.metric, name)

    def recall(self, factor: Neighborhoods) -> float | None:
        return factor.recall

    def from_factors(
        self, x: Neighborhoods, y: Neighborhoods, permutation: torch.Tensor | None = None
    ) -> float:
        if permutation is None:
            permutation = torch.arange(len(x))
        only = permutation.to(x.candidates.device)[None]

        def work() -> float:
            return float(self._compare([x], [y], only))

        return on_one_core(work, only.device) if is_small(len(x)) else work()

    def _permutations_at_once(self, x: Sequence[Neighborhoods], y: Sequence[Neighborhoods]) -> int:
        return permutations_at_once(x, y)

    def _tables(
        self, x: Sequence[Neighborhoods], y: Sequence[Neighborhoods], permutations: torch.Tensor
    ) -> torch.Tensor:
        return self._compare(x, y, permutations.to(x[0].candidates.device)).cpu()

    @abstractmethod
    def _compare(
        self, x: Sequence[Neighborhoods], y: Sequence[Neighborhoods], permutations: torch.Tensor
    ) -> torch.Tensor:
        """Values of all pairs of sets under permutations (b, n): (b, len(x), len(y))."""


@dataclass(frozen=True, kw_only=True, repr=False)
class MeanAgreement(NeighborhoodMeasure):
    """A measure that is the mean over items of how far their neighbourhoods agree."""

    def _compare(
        self, x: Sequence[Neighborhoods], y: Sequence[Neighborhoods], permutations: torch.Tensor
    ) -> torch.Tensor:
        b, n = permutations.shape
        total = torch.zeros(b, len(x), len(y), dtype=torch.float64, device=permutations.device)
        width = max(one.candidates.shape[1] for one in (*x, *y))
        for rows in row_slices(n, bytes_of_lookup(n, width, b), BLOCK_BYTES):
            paired = [Paired.by(one, permutations, rows) for one in x]
            for j, second in enumerate(y):
                lookup = Lookup(second, rows)
                for i, first in enumerate(paired):
                    total[:, i, j] += self._agreement(first, lookup).sum(dim=0)
        return total / n

    @property
    def range(self) -> Range:
        return (0.0, 1.0)

    @abstractmethod
    def _agreement(self, paired: Paired, lookup: Lookup) -> torch.Tensor:
        """How far the neighbours of r items agree, under b permutations: (r, b)."""


@dataclass(frozen=True, kw_only=True, repr=False)
class MutualNeighbors(MeanAgreement):
    r"""Mean share of an item's k nearest neighbours that are the same in both sets.

    .. math:: \frac{1}{n} \sum_i \frac{|N_X(i) \cap N_Y(i)|}{k}

    Huh et al. 2024; by chance k / (n - 1). With ties it is the mean over all ways to break them at
    random in each set.
    """

    @property
    def chance(self) -> str:
        return "k / (n - 1)"

    def _agreement(self, paired: Paired, lookup: Lookup) -> torch.Tensor:
        return SharedCandidates.count(paired, lookup).expected(paired, lookup) / self.k

    def expected_by_chance(self, x: Neighborhoods, y: Neighborhoods) -> float:
        return self.k / (len(x) - 1)


@dataclass(frozen=True, kw_only=True, repr=False)
class JaccardNeighbors(MeanAgreement):
    r"""Mean Jaccard index of an item's neighbourhoods in the two sets.

    .. math::
        \frac{1}{n} \sum_i \frac{|N_X(i) \cap N_Y(i)|}{|N_X(i) \cup N_Y(i)|}

    With ties it is the mean over all ways to break them at random in each set.
    """

    @property
    def chance(self) -> str:
        return "near k / (2 n)"

    def _agreement(self, paired: Paired, lookup: Lookup) -> torch.Tensor:
        shared = SharedCandidates.count(paired, lookup)
        if shared.tied is None:
            return shared.sure / (2 * self.k - shared.sure)
        return expected_jaccard(shared, paired, lookup)


@dataclass(frozen=True, kw_only=True, repr=False)
class SecondOrderCosine(MeanAgreement):
    r"""Mean cosine of an item's similarities to the neighbours it has in either set.

    .. math::
        \frac{1}{n} \sum_i \cos\bigl(s_X(i), s_Y(i)\bigr), \qquad
        s_X(i)_j = \cos(x_i, x_j), \quad j \in N_X(i) \cup N_Y(i)

    Hamilton et al. 2016, on the union of neighbourhoods. A tied item counts in the sums of the
    cosine with the probability that it is in the union.
    """

    metric: Literal["cosine"] = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.metric, "metric", ("cosine",))

    @property
    def range(self) -> Range:
        return (-1.0, 1.0)

    @property
    def chance(self) -> str:
        return "depends on the features, often far above 0"

    def _agreement(self, paired: Paired, lookup: Lookup) -> torch.Tensor:
        x, y = paired.of, lookup.of
        # Neighbours in the first set that are none in the second, then those in the second.
        weights = paired.take(x.weights) * (1 - lookup.at(lookup.weights, paired))
        own = paired.take(x.similarities)
        items = torch.arange(lookup.rows.start, lookup.rows.stop, device=own.device)[:, None]
        others = y.inner_products(items.expand(paired.items.shape), paired.partners)
        products = (weights * own * others).sum(dim=0)
        squares_x, squares_y = ((weights * one.square()).sum(dim=0) for one in (own, others))
        weights, own = (of[lookup.rows].T[:, :, None] for of in (y.weights, y.similarities))
        others = x.inner_products(paired.items, paired.back(y.candidates[lookup.rows].T))
        products += (weights * own * others).sum(dim=0)
        squares_x += (weights * others.square()).sum(dim=0)
        squares_y += (weights * own.square()).sum(dim=0)
        # As in torch's cosine, that of a vector of length 0 is 0.
        return products / (squares_x.sqrt().clamp_min(_TINY) * squares_y.sqrt().clamp_min(_TINY))


MEASURES: tuple[Measure, ...] = (
    MutualNeighbors(
        name="mutual_neighbors",
        title="Mutual nearest neighbours",
        source="Huh et al. 2024, mutual k-nearest neighbours",
    ),
    JaccardNeighbors(
        name="jaccard_neighbors",
        title="Jaccard of neighbourhoods",
        source="Klabunde et al. 2025, neighbourhood-based measures",
    ),
    SecondOrderCosine(
        name="second_order_cosine",
        title="Second-order cosine",
        source="Hamilton et al. 2016",
    ),
)
