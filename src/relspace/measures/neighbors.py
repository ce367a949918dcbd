"""Neighbourhoods: how far the nearest neighbours of an item are the same in two sets."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch

from relspace._blocks import row_slices
from relspace._validation import check_choice, check_count
from relspace.errors import InvalidInputError, UndefinedValueError
from relspace.kernels.distances import fill_half_squared
from relspace.kernels.frame import Cloud, Frame, squared_norms, unit_vectors
from relspace.kernels.precision import full_precision
from relspace.measures._base import Measure

BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class Neighborhoods:
    """The nearest neighbours of every item of a set.

    Attributes
    ----------
    indices : LongTensor of shape (n, k)
        Neighbours, nearest first; never the item itself.
    points : tensor of shape (n, d)
        The items, of unit norm where the metric is the cosine.
    """

    indices: torch.Tensor
    points: torch.Tensor

    def permuted(self, permutation: torch.Tensor | None) -> Neighborhoods:
        """Give every item the number of the item that it is paired with."""
        if permutation is None:
            return self
        permutation = permutation.to(self.indices.device)
        place = torch.empty_like(permutation)
        place[permutation] = torch.arange(len(permutation), device=permutation.device)
        return Neighborhoods(place[self.indices[permutation]], self.points[permutation])


def nearest_neighbors(cloud: Cloud, k: int) -> torch.Tensor:
    """Find the k nearest other points of every point, some rows at a time."""
    points = cloud.points
    n = len(points)
    indices = torch.empty((n, k), dtype=torch.long, device=points.device)
    for rows in row_slices(n, n * points.element_size(), BLOCK_BYTES):
        nearness = points.new_empty((rows.stop - rows.start, n))
        with full_precision():
            fill_half_squared(nearness, cloud.rows(rows), cloud)
        item = torch.arange(rows.start, rows.stop, device=points.device)
        nearness[item - rows.start, item] = -torch.inf
        indices[rows] = nearness.topk(k, dim=1).indices
    return indices


@dataclass(frozen=True, kw_only=True, repr=False)
class NeighborhoodMeasure(Measure):
    """A measure of the k nearest neighbours of each item in the two sets.

    Attributes
    ----------
    k : int
        How many neighbours.
    metric : "cosine" or "euclidean"
        Which distance they are the nearest by.
    """

    k: int = 10
    metric: Literal["cosine", "euclidean"] = "cosine"

    def __post_init__(self) -> None:
        check_count(self.k, "k")
        check_choice(self.metric, "metric", ("cosine", "euclidean"))

    @property
    def invariances(self) -> tuple[str, ...]:
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
        if self.metric == "cosine":
            if d < 2:
                raise UndefinedValueError(
                    f"{name} has 1 feature, on which every cosine is 1 or -1: "
                    'use metric="euclidean".'
                )
            points = unit_vectors(X, name)
            cloud = Cloud(points, squared_norms(points) / 2)
        else:
            cloud = Frame.of(X).place(X)
        return Neighborhoods(nearest_neighbors(cloud, self.k), cloud.points)


def shared_neighbors(x: Neighborhoods, y: Neighborhoods, rows: slice) -> torch.Tensor:
    """Which neighbours in the first set are neighbours in the second, for some items: (rows, k)."""
    return (x.indices[rows][:, :, None] == y.indices[rows][:, None, :]).any(dim=2)


@dataclass(frozen=True, kw_only=True, repr=False)
class MeanAgreement(NeighborhoodMeasure):
    """A measure that is the mean over items of how far their neighbourhoods agree."""

    def from_factors(
        self, x: Neighborhoods, y: Neighborhoods, permutation: torch.Tensor | None = None
    ) -> float:
        """Compare two sets by their neighbourhoods: the mean agreement over the items."""
        x = x.permuted(permutation)
        n, k = y.indices.shape
        width = k * (k + x.points.shape[1] + y.points.shape[1])
        total = 0.0
        for rows in row_slices(n, 4 * width, BLOCK_BYTES):
            total += float(self._agreement(x, y, rows).sum())
        return total / n

    @abstractmethod
    def _agreement(self, x: Neighborhoods, y: Neighborhoods, rows: slice) -> torch.Tensor:
        """How far each item's neighbours agree, for some items."""


@dataclass(frozen=True, kw_only=True, repr=False)
class MutualNeighbors(MeanAgreement):
    r"""Mean share of an item's k nearest neighbours that are the same in both sets.

    .. math:: \frac{1}{n} \sum_i \frac{|N_X(i) \cap N_Y(i)|}{k}

    Huh et al. 2024; by chance k / (n - 1).
    """

    @property
    def range(self) -> tuple[float, float]:
        return (0.0, 1.0)

    @property
    def chance(self) -> str:
        return "k / (n - 1)"

    def _agreement(self, x: Neighborhoods, y: Neighborhoods, rows: slice) -> torch.Tensor:
        return shared_neighbors(x, y, rows).sum(dim=1, dtype=torch.float64) / self.k

    def expected_by_chance(self, x: Neighborhoods, y: Neighborhoods) -> float:
        """A neighbour in one set is one in the other as often as any other item is."""
        return self.k / (len(x.indices) - 1)


@dataclass(frozen=True, kw_only=True, repr=False)
class JaccardNeighbors(MeanAgreement):
    r"""Mean Jaccard index of an item's neighbourhoods in the two sets.

    .. math::
        \frac{1}{n} \sum_i \frac{|N_X(i) \cap N_Y(i)|}{|N_X(i) \cup N_Y(i)|}
    """

    @property
    def range(self) -> tuple[float, float]:
        return (0.0, 1.0)

    @property
    def chance(self) -> str:
        return "near k / (2 n)"

    def _agreement(self, x: Neighborhoods, y: Neighborhoods, rows: slice) -> torch.Tensor:
        shared = shared_neighbors(x, y, rows).sum(dim=1, dtype=torch.float64)
        return shared / (2 * self.k - shared)


@dataclass(frozen=True, kw_only=True, repr=False)
class SecondOrderCosine(MeanAgreement):
    r"""Mean cosine of an item's similarities to the neighbours it has in either set.

    .. math::
        \frac{1}{n} \sum_i \cos\bigl(s_X(i), s_Y(i)\bigr), \qquad
        s_X(i)_j = \cos(x_i, x_j), \quad j \in N_X(i) \cup N_Y(i)

    Hamilton et al. 2016, on the union of neighbourhoods.
    """

    metric: Literal["cosine"] = "cosine"

    def __post_init__(self) -> None:
        check_count(self.k, "k")
        check_choice(self.metric, "metric", ("cosine",))

    @property
    def chance(self) -> str:
        return "depends on the features, often far above 0"

    def _agreement(self, x: Neighborhoods, y: Neighborhoods, rows: slice) -> torch.Tensor:
        union = torch.cat([x.indices[rows], y.indices[rows]], dim=1)
        # A neighbour in both sets stands twice; it counts once.
        counted = torch.ones_like(union, dtype=torch.bool)
        counted[:, : self.k] = ~shared_neighbors(x, y, rows)
        s_x = similarities(x.points, rows, union) * counted
        s_y = similarities(y.points, rows, union) * counted
        return torch.cosine_similarity(s_x.double(), s_y.double(), dim=1)


@full_precision()
def similarities(points: torch.Tensor, rows: slice, others: torch.Tensor) -> torch.Tensor:
    """Inner products of some items with others, a row of them for each."""
    return torch.einsum("id,ikd->ik", points[rows], points[others])


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
