"""Nearest neighbours of items, with ties for the last neighbours, under many permutations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from relspace._core.memory import row_slices
from relspace._core.resources import Resources
from relspace.errors import UndefinedValueError
from relspace.kernels.frame import (
    ROUNDINGS_OF_UNIT_VECTORS,
    Cloud,
    Frame,
    squared_norms,
    unit_vectors,
)
from relspace.kernels.precision import full_precision
from relspace.kernels.ties import ROUNDINGS, cloud_for_ties, seed_of_ties, shares_of_pairs
from relspace.kernels.tiles import fill_half_squared

BLOCK_BYTES = 2**26
#: Up to so many items are looked up in tables with a column for each.
MOST_IN_TABLES = 2**12

# Entries compared together: the indices of so many, and what they gather, fit a core's cache.
_ENTRIES_AT_ONCE = 2**17
_BYTES_AT_ONCE = 2**26
# Inner products of all pairs of so few items are computed at once, where one in 16 is needed.
_MOST_PRODUCTS = 2**21
_WORTH_A_PRODUCT = 16
# Where directions differ by fewer of their roundings, rounding decides most neighbours.
_LEAST_APART = 16
# The distances of so many items to all make the seed by which ties are broken.
_ITEMS_IN_A_SEED = 16


@dataclass(frozen=True, eq=False)
class Neighborhoods:
    """The k nearest neighbours of every item of a set, and all items that are tied for the last.

    Row i of ``candidates`` (n, w) holds ``n_sure[i]`` items that are neighbours for sure, then
    ``n_tied[i]`` that are tied for the rest, then i itself as padding. Without ties w is k and all
    are sure. ``points`` (n, d) are the items, of unit norm where the metric is the cosine.
    ``recall`` is the share of the neighbours that an approximate index found; None without one.
    """

    k: int
    candidates: torch.Tensor
    n_sure: torch.Tensor
    n_tied: torch.Tensor
    points: torch.Tensor
    recall: float | None = None

    def __len__(self) -> int:
        return len(self.candidates)

    @cached_property
    def has_ties(self) -> bool:
        """Whether any item has more candidates than neighbours."""
        return bool(self.n_tied.any())

    @cached_property
    def sure(self) -> torch.Tensor:
        """Which candidates are neighbours for sure: booleans of shape (n, w)."""
        return self._column < self.n_sure[:, None]

    @cached_property
    def tied(self) -> torch.Tensor:
        """Which candidates are tied: booleans of shape (n, w)."""
        return (self._column < (self.n_sure + self.n_tied)[:, None]) & ~self.sure

    @cached_property
    def share(self) -> torch.Tensor:
        """The probability that a tied candidate of each item is a neighbour: (n,)."""
        left = (self.k - self.n_sure).to(torch.float64)
        return left / self.n_tied.clamp_min(1)

    @cached_property
    def weights(self) -> torch.Tensor:
        """The probability that each candidate is a neighbour: (n, w) in float64."""
        return self.sure + self.tied * self.share[:, None]

    @cached_property
    def mutual_weights(self) -> torch.Tensor:
        """The probability that each candidate and the item are neighbours of each other."""
        n, width = self.candidates.shape
        own = torch.arange(n, device=self.candidates.device)[:, None]
        keys, order = (own * n + self.candidates).flatten().sort()
        wanted = (self.candidates * n + own).flatten()
        at = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
        found = self.weights.flatten()[order[at]] * (keys[at] == wanted)
        return self.weights * found.view(n, width)

    @cached_property
    def edges(self) -> torch.Tensor:
        """Numbers ``i * n + j`` of every item i and each of its candidates j, in rising order."""
        own = torch.arange(len(self), device=self.candidates.device)[:, None]
        return (own * len(self) + self.candidates).flatten().sort().values

    @cached_property
    def similarities(self) -> torch.Tensor:
        """Inner products of each item with its candidates: (n, w) in float64."""
        items = torch.arange(len(self), device=self.points.device)[:, None]
        return self.inner_products(items, self.candidates.T[:, :, None])[:, :, 0].T.contiguous()

    @full_precision()
    def inner_products(self, items: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Inner products of items (r, b) with others (w, r, b), in float64."""
        n = len(self)
        if n * n <= _MOST_PRODUCTS and len(others) * items.numel() * _WORTH_A_PRODUCT >= n * n:
            index = (items * n + others).flatten()
            return self._products.flatten().index_select(0, index).view(others.shape).double()
        found = torch.empty(others.shape, dtype=torch.float64, device=self.points.device)
        bytes_of_row = 16 * items.shape[1] * self.points.shape[1]
        for rows in row_slices(len(items), bytes_of_row, BLOCK_BYTES):
            these = self.points[items[rows]]
            for out, other in zip(found, others, strict=True):
                out[rows] = torch.linalg.vecdot(these, self.points[other[rows]])
        return found

    @cached_property
    def _products(self) -> torch.Tensor:
        return self.points @ self.points.T

    @property
    def _column(self) -> torch.Tensor:
        return torch.arange(self.candidates.shape[1], device=self.candidates.device)


def find_neighborhoods(X: torch.Tensor, k: int, metric: str, name: str) -> Neighborhoods:
    """Find the k <= n - 2 nearest other items of every item, and the ties for the last of them.

    Items are tied if they are as near as the k-th to within the rounding of float64. Items whose
    neighbours float32 can't tell apart are compared again in float64.
    """
    points, cloud = points_of(X, metric, name)
    n, device = len(X), X.device
    nearest, gaps = _nearest(cloud, k, metric)
    n_sure = torch.full((n,), k, device=device)
    n_tied = torch.zeros_like(n_sure)
    items = (gaps[:, -1] <= 0).nonzero().flatten()
    if len(items) == 0:
        return Neighborhoods(k, nearest, n_sure, n_tied, points)
    found_anew = []
    for item, found, rounding in _as_near_as_the_last(X, items, k, metric, name):
        last = found.values[:, k - 1 : k]
        sure = (found.values > last + rounding).sum(dim=1)
        tied = (found.values >= last - rounding).sum(dim=1) - sure
        without = sure + tied == k
        n_sure[item] = torch.where(without, k, sure)
        n_tied[item] = torch.where(without, 0, tied)
        found_anew.append((item, found.indices))
    width = max(indices.shape[1] for _, indices in found_anew)
    Resources(device=device).require(
        32 * n * width,
        f"{name} has items with {width} others tied for {k} neighbours; holding them all",
        "compare a random part of the items by {max_items=10_000}",
        "use a measure without neighbours, such as rsa",
    )
    candidates = torch.arange(n, device=device)[:, None].repeat(1, width)
    candidates[:, :k] = nearest
    for item, indices in found_anew:
        candidates[item, : indices.shape[1]] = indices
    past = torch.arange(width, device=device) >= (n_sure + n_tied)[:, None]
    candidates[past] = past.nonzero()[:, 0]
    return Neighborhoods(k, candidates, n_sure, n_tied, points)


def order_neighborhoods(
    X: torch.Tensor, k: int, metric: str, name: str, random_state: int
) -> Neighborhoods:
    """Find the k nearest other items of every item, the nearest first, with ties broken at random.

    The seed is mixed with the order of the distances, so that two sets don't break their ties
    alike; what leaves the order as it is, such as a rotation, leaves the neighbours as they are.
    """
    points, cloud = points_of(X, metric, name)
    nearest, gaps = _nearest(cloud, k, metric)
    items = (gaps <= 0).any(dim=1).nonzero().flatten()
    if len(items):
        seed = seed_of_ties(_some_ranks(X, metric, name), random_state)
        for item, found, rounding in _as_near_as_the_last(X, items, k, metric, name):
            steps = found.values[:, :-1] - found.values[:, 1:] > rounding
            # Equals have one number, to which a random share is added.
            number = torch.nn.functional.pad(steps.cumsum(dim=1), (1, 0)).double()
            number += shares_of_pairs(item[:, None] * len(X) + found.indices, seed)
            number[found.values < found.values[:, k - 1 : k] - rounding] = torch.inf
            order = number.argsort(dim=1)[:, :k]
            nearest[item] = found.indices.gather(1, order)
    n_sure = torch.full((len(X),), k, device=X.device)
    return Neighborhoods(k, nearest, n_sure, torch.zeros_like(n_sure), points)


def _nearest(cloud: Cloud, k: int, metric: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The k nearest of every item, and how far beyond rounding each is from the next: (n, k)."""
    n, device = len(cloud.points), cloud.points.device
    nearest = torch.empty((n, k), dtype=torch.long, device=device)
    gaps = cloud.points.new_empty((n, k))
    for rows in row_slices(n, n * cloud.points.element_size(), BLOCK_BYTES):
        item = torch.arange(rows.start, rows.stop, device=device)
        found = nearness_of(cloud, item).topk(k + 1, dim=1)
        nearest[rows] = found.indices[:, :k]
        rounding = rounding_of(cloud, item, found.values[:, k - 1], metric)
        gaps[rows] = found.values[:, :-1] - found.values[:, 1:] - rounding[:, None]
    return nearest, gaps


def _as_near_as_the_last(
    X: torch.Tensor, items: torch.Tensor, k: int, metric: str, name: str
) -> Iterator[tuple[torch.Tensor, torch.return_types.topk, torch.Tensor]]:
    """Of some items, all that are as near as the k-th in float64, and the rounding: (r, 1)."""
    wide, exact = _cloud_in_double(X, metric, name)
    for some in row_slices(len(items), 8 * len(X), BLOCK_BYTES):
        item = items[some]
        nearness = nearness_of(wide, item)
        last = nearness.topk(k, dim=1).values[:, -1]
        rounding = rounding_of(wide, item, last, metric)[:, None]
        if exact:
            rounding = torch.zeros_like(rounding)
        width = int((nearness >= last[:, None] - rounding).sum(dim=1).max())
        yield item, nearness.topk(width, dim=1), rounding


def _cloud_in_double(X: torch.Tensor, metric: str, name: str) -> tuple[Cloud, bool]:
    """Items in float64, and whether their squared distances have no rounding."""
    if metric != "cosine":
        return cloud_for_ties(X)
    wide = _about_their_mean(unit_vectors(X.to(torch.float64), name))
    _refuse_one_direction(wide, name)
    return wide, False


def _some_ranks(X: torch.Tensor, metric: str, name: str) -> torch.Tensor:
    """Ranks of the distances of some items to all, the same for those tied: (r, n) integers."""
    n = len(X)
    items = torch.arange(0, n, -(-n // _ITEMS_IN_A_SEED), device=X.device)
    wide, exact = _cloud_in_double(X, metric, name)
    nearness = nearness_of(wide, items)
    ordered, order = nearness.sort(dim=1, descending=True)
    # The last is the item itself.
    rounding = 0.0 if exact else rounding_of(wide, items, ordered[:, -2], metric)[:, None]
    steps = ordered[:, :-1] - ordered[:, 1:] > rounding
    dense = torch.nn.functional.pad(steps.cumsum(dim=1), (1, 0))
    return torch.empty_like(order).scatter_(1, order, dense)


def points_of(X: torch.Tensor, metric: str, name: str) -> tuple[torch.Tensor, Cloud]:
    """Items as points, of unit norm where the metric is the cosine, and what distances are of."""
    if metric == "cosine":
        points = unit_vectors(X, name)
        return points, _about_their_mean(points)
    cloud = Frame.of(X).place(X)
    return cloud.points, cloud


def _about_their_mean(points: torch.Tensor) -> Cloud:
    """Subtract the mean of unit vectors, which loses nothing where they share a direction."""
    points = points - points.mean(dim=0, dtype=torch.float64).to(points.dtype)
    return Cloud(points, squared_norms(points) / 2)


def _refuse_one_direction(cloud: Cloud, name: str) -> None:
    """Refuse items whose directions are all the same to within the rounding of float64."""
    apart = math.sqrt(4 * float(cloud.half_norms.mean()))
    off = ROUNDINGS_OF_UNIT_VECTORS * torch.finfo(cloud.points.dtype).eps
    if apart <= _LEAST_APART * off:
        raise UndefinedValueError(
            f"all items of {name} have the same direction to within rounding ({apart:.1e} apart), "
            "so they have no nearest neighbours by the cosine: subtract from each feature its mean "
            "over items, give other items or features, or use a Euclidean distance."
        )


def nearness_of(cloud: Cloud, items: torch.Tensor) -> torch.Tensor:
    """Minus half the squared distance of some items to all; minus infinity to itself."""
    nearness = cloud.points.new_empty((len(items), len(cloud.points)))
    with full_precision():
        fill_half_squared(nearness, cloud.rows(items), cloud)
    return nearness.scatter_(1, items[:, None], -torch.inf)


def rounding_of(cloud: Cloud, items: torch.Tensor, last: torch.Tensor, metric: str) -> torch.Tensor:
    """The rounding error of nearness ``last``; unit vectors are off by a few roundings, too."""
    epsilon = torch.finfo(cloud.points.dtype).eps
    position = ROUNDINGS_OF_UNIT_VECTORS if metric == "cosine" else 0.0
    off = position * epsilon
    of_positions = off * ((-2 * last).clamp_min(0.0).sqrt() + off)
    return ROUNDINGS * epsilon * (cloud.half_norms[items] - last) + of_positions


def bytes_of_lookup(n_items: int, width: int, n_permutations: int) -> int:
    """Bytes that each row of a :class:`Lookup` takes, with what is looked up in it."""
    return 8 * n_items if n_items <= MOST_IN_TABLES else 64 * width * n_permutations


def permutations_at_once(x: Sequence[Neighborhoods], y: Sequence[Neighborhoods]) -> int:
    """How many permutations are compared together."""
    n = len(y[0])
    width = max(one.candidates.shape[1] for one in (*x, *y))
    # Every batch makes its own lookups, so a batch should hold many permutations.
    most = max(1, _BYTES_AT_ONCE // (8 * n * len(x) * max(width, 2 * len(y))))
    return min(most, max(1, _ENTRIES_AT_ONCE // (n * width), n // (8 * width)))


@dataclass(frozen=True, eq=False)
class Paired:
    """Neighbourhoods of a first set, seen from r items of the second under b permutations.

    ``permutations`` (b, n) holds the item of the first set that is paired with each of the second,
    ``items`` (r, b) those of the r items, and ``partners`` (w, r, b) the items of the second set
    that the candidates of ``items`` are paired with.
    """

    of: Neighborhoods
    permutations: torch.Tensor
    items: torch.Tensor
    partners: torch.Tensor

    @classmethod
    def by(cls, of: Neighborhoods, permutations: torch.Tensor, rows: slice) -> Paired:
        """Pair some items of the second set under permutations of shape (b, n)."""
        b, n = permutations.shape
        inverse = torch.empty((n, b), dtype=torch.long, device=permutations.device)
        numbers = torch.arange(n, device=inverse.device)[:, None].expand(n, b)
        inverse.scatter_(0, permutations.T, numbers)
        items = permutations[:, rows].T.contiguous()
        candidates = cls._of_items(of.candidates, items)
        which = torch.arange(b, device=permutations.device)
        partners = inverse.flatten().index_select(0, (candidates * b + which).flatten())
        return cls(of, permutations, items, partners.view(candidates.shape))

    def back(self, of_second: torch.Tensor) -> torch.Tensor:
        """The items of the first set that are paired with items (w, r) of the second: (w, r, b)."""
        taken = self.permutations.T.contiguous().index_select(0, of_second.flatten())
        return taken.view(*of_second.shape, -1)

    def take(self, of_candidates: torch.Tensor) -> torch.Tensor:
        """Gather values (n, w) of candidates for the paired items: (w, r, b)."""
        return self._of_items(of_candidates, self.items)

    @staticmethod
    def _of_items(values: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        taken = values.T.contiguous().index_select(1, items.flatten())
        return taken.view(-1, *items.shape)


@dataclass(frozen=True, eq=False)
class Lookup:
    """Values of the candidates of some rows of the second set, found by the candidate's number.

    Few items have a table with a column for each; candidates of many are sorted and searched.
    """

    of: Neighborhoods
    rows: slice

    @cached_property
    def _sorted(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Candidates (r, w) in rising order, and that order; None for few items."""
        if len(self.of) <= MOST_IN_TABLES:
            return None
        ordered = self.of.candidates[self.rows].sort(dim=1)
        return ordered.values, ordered.indices

    def table(self, values: torch.Tensor) -> torch.Tensor:
        """Lay out values (n, w) of candidates for :meth:`at`: (r, n), 0 elsewhere, or (r, w)."""
        if self._sorted is not None:
            return values[self.rows].gather(1, self._sorted[1])
        found = values.new_zeros((self.rows.stop - self.rows.start, len(self.of)))
        # The item itself is padding; its value is 0.
        return found.scatter_(1, self.of.candidates[self.rows], values[self.rows])

    def at(self, table: torch.Tensor, paired: Paired) -> torch.Tensor:
        """Gather values of a :meth:`table` at the partners of other candidates: (w, r, b)."""
        partners = paired.partners
        if self._sorted is not None:
            w, r, b = partners.shape
            wanted = partners.permute(1, 0, 2).reshape(r, w * b).contiguous()
            column = torch.searchsorted(self._sorted[0].contiguous(), wanted).clamp_max(
                table.shape[1] - 1
            )
            is_there = self._sorted[0].gather(1, column) == wanted
            found = table.gather(1, column).masked_fill_(~is_there, 0)
            return found.view(r, w, b).permute(1, 0, 2)
        first = torch.arange(len(table), device=table.device)[:, None] * table.shape[1]
        index = (partners + first).flatten()
        return table.flatten().index_select(0, index).view(partners.shape)

    @cached_property
    def sure(self) -> torch.Tensor:
        """Where the sure neighbours are, in bytes."""
        return self.table(self.of.sure.to(torch.uint8))

    @cached_property
    def tied(self) -> torch.Tensor:
        """Where the tied candidates are, in bytes."""
        return self.table(self.of.tied.to(torch.uint8))

    @cached_property
    def weights(self) -> torch.Tensor:
        """The probability that each item is a neighbour."""
        return self.table(self.of.weights)


@dataclass(frozen=True, eq=False)
class SharedCandidates:
    """How many candidates two neighbourhoods share, (r, b) in float64.

    They are counted by their kind in the first and the second set. Only ``sure`` is there where
    neither set has ties.
    """

    sure: torch.Tensor
    sure_tied: torch.Tensor | None = None
    tied_sure: torch.Tensor | None = None
    tied: torch.Tensor | None = None

    @classmethod
    def count(cls, paired: Paired, lookup: Lookup) -> SharedCandidates:
        """Count them for all permutations."""

        def total(flags: torch.Tensor) -> torch.Tensor:
            return flags.sum(dim=0, dtype=torch.int32).to(torch.float64)

        sure = lookup.at(lookup.sure, paired)
        if not (paired.of.has_ties or lookup.of.has_ties):
            return cls(total(sure))
        tied = lookup.at(lookup.tied, paired)
        is_sure, is_tied = paired.take(paired.of.sure), paired.take(paired.of.tied)
        return cls(*(total(b * a) for a in (is_sure, is_tied) for b in (sure, tied)))

    def expected(self, paired: Paired, lookup: Lookup) -> torch.Tensor:
        """The mean number of shared neighbours over all ways to break ties in each set."""
        if self.sure_tied is None or self.tied_sure is None or self.tied is None:
            return self.sure
        first, second = paired.of.share[paired.items], lookup.of.share[lookup.rows][:, None]
        found: torch.Tensor = self.sure + second * self.sure_tied + first * self.tied_sure
        return found + first * second * self.tied
