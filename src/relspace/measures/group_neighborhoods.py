"""Nearest groups of items, where each group has any number of items in each of two sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from relspace._core.memory import row_slices
from relspace.errors import InvalidInputError
from relspace.measures.neighborhoods import BLOCK_BYTES, nearness_of, points_of
from relspace.resampling import Permutations

_ENTRIES_AT_ONCE = 2**17


@dataclass(frozen=True, eq=False)
class GroupNeighborhoods:
    """How often each group is among the k nearest other groups of a group's items.

    The distance of an item to a group is that to the nearest of the group's items. ``keys`` are
    ``g * n_groups + h`` in rising order, for every group h that is near an item of group g, and
    ``shares`` the share of the items of g that it is near to.
    """

    n_groups: int
    k: int
    keys: torch.Tensor
    shares: torch.Tensor

    def agreement(self, other: GroupNeighborhoods) -> float:
        r"""Mean share of the k nearest groups that are the same in both sets.

        .. math:: \frac{1}{Gk} \sum_g \frac{1}{|X_g||Y_g|} \sum_{i \in X_g} \sum_{j \in Y_g}
                  |N_X(i) \cap N_Y(j)|
        """
        return float(self.agreements(other, torch.arange(self.n_groups)[None]))

    def null(self, other: GroupNeighborhoods, families: Sequence[Permutations]) -> torch.Tensor:
        """The same under permutations, of the group of this set that each of the other is with."""
        at_once = max(1, _ENTRIES_AT_ONCE // len(other.keys))
        batches = (batch for family in families for batch in family.batches(at_once))
        return torch.cat([self.agreements(other, batch).cpu() for batch in batches])

    def agreements(self, other: GroupNeighborhoods, permutations: torch.Tensor) -> torch.Tensor:
        """Agreements under permutations (b, n_groups): (b,) in float64."""
        permutations = permutations.to(self.keys.device)
        first = permutations[:, other.keys // self.n_groups]
        wanted = first * self.n_groups + permutations[:, other.keys % self.n_groups]
        at = torch.searchsorted(self.keys, wanted).clamp_max(len(self.keys) - 1)
        shared = self.shares[at] * other.shares * (self.keys[at] == wanted)
        return shared.sum(dim=1) / (self.n_groups * self.k)


def find_group_neighborhoods(
    X: torch.Tensor, group_of: torch.Tensor, k: int, metric: str, name: str, seed: int
) -> GroupNeighborhoods:
    """Find the k nearest other groups of every item; ties are broken at random, by the seed.

    ``group_of`` (n,) numbers the groups from 0; none is empty.
    """
    sizes = group_of.bincount()
    n_groups, device = len(sizes), X.device
    if k > n_groups - 2:
        raise InvalidInputError(
            f"k is {k} and {name} has {n_groups} groups, of which each has {n_groups - 1} others: "
            "with all of them as neighbours every set agrees with every other; ask for fewer."
        )
    # The first of equals is found first, so groups are numbered in a random order for the search.
    generator = torch.Generator().manual_seed(seed)
    number_of = torch.randperm(n_groups, generator=generator).to(device)
    group_of, sizes = group_of.to(device), sizes.to(device)
    numbered, group_by_number = number_of[group_of], number_of.argsort()
    _, cloud = points_of(X, metric, name)
    found = torch.empty((len(X), k), dtype=torch.long, device=device)
    for rows in row_slices(len(X), len(X) * cloud.points.element_size(), BLOCK_BYTES):
        items = torch.arange(rows.start, rows.stop, device=device)
        nearness = nearness_of(cloud, items)
        of_groups = nearness.new_full((len(items), n_groups), -torch.inf)
        of_groups.scatter_reduce_(1, numbered.expand_as(nearness), nearness, "amax")
        of_groups.scatter_(1, numbered[items, None], -torch.inf)
        found[rows] = group_by_number[of_groups.topk(k, dim=1).indices]
    keys, counts = torch.unique(group_of[:, None] * n_groups + found, return_counts=True)
    return GroupNeighborhoods(n_groups, k, keys, counts / sizes[keys // n_groups].double())
