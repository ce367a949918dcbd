"""Measures of topology: which items merge first, by the minimum spanning trees of two sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import check_choice, check_random_state
from relspace.kernels.ties import mean_ranks, seed_of_ties
from relspace.measures._measure import Measure, Names, Range
from relspace.measures.pair_matrix import InnerProductMeasure, PairMatrix, kept_pair_matrix
from relspace.measures.rsa import DISTANCE_INVARIANCES, DISTANCES, Distance, rank_matrix

_ENTRIES_AT_ONCE = 2**17
# Of the difference of two ranks that aren't tied.
_NOISE = 0.25

Matrix = NDArray[np.float64]


def spanning_tree(lengths: Matrix) -> tuple[NDArray[np.int64], Matrix]:
    """The minimum spanning tree of a complete graph (Prim 1957): edges (n - 1, 2) and lengths.

    Examples
    --------
    >>> import numpy as np
    >>> line = np.array([0.0, 1.0, 3.0, 10.0])
    >>> edges, lengths = spanning_tree(np.abs(line[:, None] - line))
    >>> edges.tolist(), lengths.tolist()
    ([[0, 1], [1, 2], [2, 3]], [1.0, 2.0, 7.0])
    """
    n = len(lengths)
    nearest, reach = np.zeros(n, dtype=np.int64), lengths[0].copy()
    reach[0] = np.inf
    outside = np.ones(n, dtype=bool)
    outside[0] = False
    edges, found = np.empty((n - 1, 2), dtype=np.int64), np.empty(n - 1)
    for step in range(n - 1):
        new = int(reach.argmin())
        edges[step], found[step] = (nearest[new], new), reach[new]
        outside[new] = False
        closer = (lengths[new] < reach) & outside
        nearest[closer], reach[closer] = new, lengths[new][closer]
        reach[new] = np.inf
    return edges, found


def merge_heights(edges: NDArray[np.int64], lengths: Matrix) -> Matrix:
    """At which edge length each two items merge (n, n), by the edges of a spanning tree.

    This is the longest edge on their path, and the cophenetic distance of single linkage.
    """
    n = len(edges) + 1
    heights = np.zeros((n, n))
    clusters = [np.array([item]) for item in range(n)]
    cluster_of = np.arange(n)
    for at in lengths.argsort(kind="stable").tolist():
        first, second = (cluster_of[item] for item in edges[at])
        a, b = clusters[first], clusters[second]
        heights[a[:, None], b] = heights[b[:, None], a] = lengths[at]
        clusters[first] = np.concatenate([a, b])
        cluster_of[b] = first
    return heights


@dataclass(frozen=True, kw_only=True, repr=False)
class MergeOrders(InnerProductMeasure):
    r"""Rank correlation of the orders in which pairs of items merge, when distances rise.

    .. math:: \rho_{\text{Spearman}}\bigl(h_X(i,j), h_Y(i,j)\bigr)_{i<j}

    :math:`h(i,j)` is the longest edge on the path from i to j along the minimum spanning tree, the
    distance at which both are in one connected component. It says which items form clusters, not
    how far apart they are within one.

    Attributes
    ----------
    distance : str
        As in :class:`relspace.measures.rsa.RSA`.
    """

    distance: Distance = "euclidean"

    def __post_init__(self) -> None:
        check_choice(self.distance, "distance", DISTANCES)

    @property
    def invariances(self) -> Names:
        return DISTANCE_INVARIANCES[self.distance]

    @property
    def chance(self) -> str:
        return "0"

    def bytes_per_pair(self, n_sets: int) -> int:
        # The heights' ranks of each set, and temporaries of ranking distances.
        return 8 * (n_sets + 6)

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> PairMatrix:
        ranks = _distance_ranks(X, self.distance, name)
        heights = torch.from_numpy(merge_heights(*spanning_tree(ranks))).to(X.device)
        above = torch.ones_like(heights, dtype=torch.bool).triu_(1)
        values = mean_ranks(heights[above], exact=True)
        matrix = torch.zeros_like(heights)
        matrix[above] = (values - values.mean()) / len(values)
        return kept_pair_matrix(matrix + matrix.T, name)


@dataclass(frozen=True, eq=False)
class Tree:
    """Edges (n - 1, 2) of a spanning tree, and their numbers ``i * n + j``, i < j, rising."""

    edges: torch.Tensor
    keys: torch.Tensor

    def __len__(self) -> int:
        return len(self.edges) + 1


@dataclass(frozen=True, kw_only=True, repr=False)
class TreeEdges(Measure):
    r"""Share of the edges of the minimum spanning trees that both sets have.

    .. math:: \frac{|T_X \cap T_Y|}{n - 1}

    Attributes
    ----------
    distance : str
        As in :class:`relspace.measures.rsa.RSA`.
    random_state : int
        Seed by which ties are broken, in each set by itself. Without ties it changes nothing.
    """

    distance: Distance = "euclidean"
    random_state: int = 0

    def __post_init__(self) -> None:
        check_choice(self.distance, "distance", DISTANCES)
        check_random_state(self.random_state)

    @property
    def range(self) -> Range:
        return (0.0, 1.0)

    @property
    def invariances(self) -> Names:
        return DISTANCE_INVARIANCES[self.distance]

    @property
    def chance(self) -> str:
        return "2 / n"

    def bytes_per_pair(self, n_sets: int) -> int:
        # Temporaries of ranking distances; of each set only the tree is kept.
        return 8 * 6

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Tree:
        ranks = _distance_ranks(X, self.distance, name)
        n = len(ranks)
        rng = np.random.default_rng(seed_of_ties(torch.from_numpy(ranks), self.random_state))
        noise = np.triu(rng.uniform(0.0, _NOISE, size=(n, n)), 1)
        edges = torch.from_numpy(spanning_tree(ranks + noise + noise.T)[0]).to(X.device)
        return Tree(edges, self._keys(edges[:, 0], edges[:, 1], n).sort().values)

    def from_factors(self, x: Tree, y: Tree, permutation: torch.Tensor | None = None) -> float:
        if permutation is None:
            permutation = torch.arange(len(x))
        return float(self._shares(x, y, permutation.to(x.keys.device)[None]))

    def _permutations_at_once(self, x: Sequence[Tree], y: Sequence[Tree]) -> int:
        return max(1, _ENTRIES_AT_ONCE // len(y[0]))

    def _tables(
        self, x: Sequence[Tree], y: Sequence[Tree], permutations: torch.Tensor
    ) -> torch.Tensor:
        permutations = permutations.to(x[0].keys.device)
        rows = [torch.stack([self._shares(a, b, permutations) for b in y], dim=1) for a in x]
        return torch.stack(rows, dim=1).cpu()

    def _shares(self, x: Tree, y: Tree, permutations: torch.Tensor) -> torch.Tensor:
        """Shares of shared edges under permutations (b, n): (b,)."""
        ends = permutations[:, y.edges]
        wanted = self._keys(ends[..., 0], ends[..., 1], len(x))
        at = torch.searchsorted(x.keys, wanted).clamp_max(len(x.keys) - 1)
        return (x.keys[at] == wanted).sum(dim=1).double() / (len(x) - 1)

    @staticmethod
    def _keys(first: torch.Tensor, second: torch.Tensor, n: int) -> torch.Tensor:
        return torch.minimum(first, second) * n + torch.maximum(first, second)

    def expected_by_chance(self, x: Tree, y: Tree) -> float:
        # Every permutation brings an edge to any pair with the same probability.
        return 2 / len(x)


def _distance_ranks(X: torch.Tensor, distance: str, name: str) -> Matrix:
    """Ranks (n, n) of the distances from 1 on, half-integers where some are tied."""
    matrix = rank_matrix(X, distance, name).kept
    assert matrix is not None
    n = len(matrix)
    ranks: Matrix = matrix.cpu().numpy() * (n * (n - 1) / 2)
    # The smallest is at least 1, the mean rank is in the middle; multiples of a half are exact.
    return np.round(2 * (ranks + (n * (n - 1) / 2 + 1) / 2)) / 2


MEASURES: tuple[Measure, ...] = (
    MergeOrders(
        name="merge_orders",
        title="Merge orders",
        source="Wang and Hu 2026 (arXiv 2606.06342), normalized topological similarity; here of "
        "all pairs of items (cophenetic, Sokal and Rohlf 1962)",
    ),
    TreeEdges(
        name="tree_edges",
        title="Edges of spanning trees",
        source="This library; edges shared by two minimum spanning trees (Prim 1957)",
    ),
)
