"""Random groups of items whose pairs estimate a density, and how well they do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from relspace.kernels.frame import Cloud, Frame
from relspace.kernels.precision import full_precision
from relspace.kernels.tiles import PairTiles

#: Items in a group, all of whose pairs count.
GROUP = 64

# Features that are drawn at once.
_DRAWN_AT_ONCE = 2**22


def projected_sample(n: int, width: int, dtype: torch.dtype) -> int:
    """Bytes for drawing groups, without their distances: features and points of two sets."""
    at_once = min(n * width, max(_DRAWN_AT_ONCE, GROUP * width))
    return 4 * at_once * dtype.itemsize


@dataclass(frozen=True)
class Sample:
    """Pairs within random groups of items, and the number of items in them."""

    pairs: PairTiles
    n_groups: int
    n_items: int
    n_available: int

    def standard_error(self, scale: float) -> float:
        r"""Standard error of the mean affinity over the sampled pairs.

        With groups of g items, N items in all out of n, the mean of the groups' U-statistics has

        .. math::
            \mathrm{Var} = \frac{4 (g-2)}{(g-1) N} \zeta_1 \Bigl(1 - \frac{N}{n}\Bigr)
                         + \frac{2}{(g-1) N} \zeta_2

        where :math:`\zeta_2` is the variance of a pair's affinity and :math:`\zeta_1` that of an
        item's mean affinity (Hoeffding 1948, section 5). The variance between groups, which holds
        both, gives :math:`\zeta_1`. Where items are drawn in several passes, each pass has its own
        N, and the last may be a part of one.
        """
        means, total, squares = [], 0.0, 0.0
        for tile in self.pairs.tiles:
            affinity = (tile * scale).exp().to(torch.float64)
            sums = affinity.sum(dim=(1, 2))
            own = tile.shape[1] if self.pairs.n_self else 0
            means.append((sums - own) / (tile.shape[1] * tile.shape[2] - own))
            total += float(sums.sum()) - own * len(sums)
            squares += float(affinity.square().sum()) - own * len(sums)
        mean = total / self.pairs.n_pairs
        of_pairs = max(0.0, squares / self.pairs.n_pairs - mean**2)
        between = float(torch.cat(means).var())
        if not self.pairs.n_self:
            # Items of two sets: the variance between groups as it stands, on the safe side.
            return math.sqrt(between / self.n_groups)
        from_pairs = 2 * of_pairs * self.n_groups / self.pairs.n_pairs
        from_items = max(0.0, between - from_pairs)
        return math.sqrt((from_items * self._left_out() + from_pairs) / self.n_groups)

    def _left_out(self) -> float:
        """1 - N / n, averaged over the groups."""
        size = self.pairs.tiles[0].shape[1]
        per_pass = self.n_available // size
        n_passes, rest = divmod(self.n_groups, per_pass)
        in_passes = n_passes * per_pass * (1 - per_pass * size / self.n_available)
        return (in_passes + rest * (1 - rest * size / self.n_available)) / self.n_groups


class Sampler:
    """Draws groups of random items, without replacement until all items are used."""

    def __init__(self, X: torch.Tensor, Y: torch.Tensor | None, frame: Frame, seed: int) -> None:
        self.sets = (X,) if Y is None else (X, Y)
        self.sizes = tuple(min(GROUP, len(Z)) for Z in self.sets)
        self.frame = frame
        self.generator = torch.Generator().manual_seed(seed)
        self.orders: list[torch.Tensor] = [torch.empty(0, dtype=torch.long) for _ in self.sets]
        self.tiles: list[torch.Tensor] = []
        self.n_groups = 0

    def grow(self, n_groups: int) -> Sample:
        """Draw groups until there are ``n_groups``; distances already computed are kept."""
        step = max(1, _DRAWN_AT_ONCE // (GROUP * self.sets[0].shape[1]))
        while self.n_groups < n_groups:
            wanted = min(step, n_groups - self.n_groups)
            clouds = [self.frame.place(X[self._draw(k, wanted)]) for k, X in enumerate(self.sets)]
            self.tiles.append(self._half_squared(clouds[0], clouds[-1]))
            self.n_groups += len(self.tiles[-1])
        n_self = 0 if len(self.sets) == 2 else self.n_groups * self.sizes[0]
        pairs = PairTiles(
            self.tiles,
            [1] * len(self.tiles),
            [],
            n_pairs=self.n_groups * self.sizes[0] * self.sizes[-1] - n_self,
            n_self=n_self,
        )
        n_items = sum(
            min(self.n_groups * size, len(X) // size * size)
            for X, size in zip(self.sets, self.sizes, strict=True)
        )
        return Sample(pairs, self.n_groups, n_items, sum(len(X) for X in self.sets))

    def _draw(self, which: int, n_groups: int) -> torch.Tensor:
        X, size = self.sets[which], self.sizes[which]
        rows = []
        needed = n_groups * size
        while needed:
            if len(self.orders[which]) == 0:
                order = torch.randperm(X.shape[0], generator=self.generator)
                self.orders[which] = order[: len(order) // size * size]
            rows.append(self.orders[which][:needed])
            self.orders[which] = self.orders[which][needed:]
            needed -= len(rows[-1])
        return torch.cat(rows).to(X.device)

    def _half_squared(self, left: Cloud, right: Cloud) -> torch.Tensor:
        rows, columns = self.sizes[0], self.sizes[-1]
        x = left.points.view(-1, rows, left.points.shape[1])
        y = right.points.view(-1, columns, right.points.shape[1])
        with full_precision():
            products = torch.bmm(x, y.transpose(1, 2))
        products.sub_(left.half_norms.view(-1, rows)[:, :, None])
        products.sub_(right.half_norms.view(-1, columns)[:, None, :])
        products.clamp_max_(0.0)
        if len(self.sets) == 1:
            products.diagonal(dim1=1, dim2=2).zero_()
        return products
