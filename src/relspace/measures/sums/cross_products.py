"""Sums of products over any number of items, from which some measures can be computed.

Linear CKA, the CCAs, Procrustes distances and matchings of units are functions of the
(cross-)covariances of two sets, what is cross-validated of those of its folds. Without folds, all
items are one fold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch


def principal(products: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Principal axes (d, r) and sizes (r,) from products (d, d), those above rounding."""
    values, axes = torch.linalg.eigh(products)
    keep = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    return axes[:, keep].flip(1), values[keep].flip(0).sqrt()


@dataclass(frozen=True)
class Training:
    """A set without one fold, along its principal axes, and that fold.

    ``n_items`` are trained on, with ``variances`` (r,) along ``axes`` (d, r). ``held_out`` (r, r)
    are products of the fold along the axes, about the mean of the items trained on: about it,
    products grow by ``shift`` times those of the fold's sums.
    """

    n_items: int
    shift: float
    axes: torch.Tensor
    variances: torch.Tensor
    held_out: torch.Tensor


@dataclass(frozen=True, eq=False)
class SetProducts:
    """Sums over the items of each fold, about the mean over all items, in float64.

    ``sizes`` (n_folds,) are the items, ``sums`` (n_folds, d) the sums of features and ``by_fold``
    (n_folds, d, d) those of their products. ``varying`` (d,) are the features that differ between
    items. ``squares`` is the sum of |x_i|^4 over all items. The features themselves are 2^exponent
    times as large.
    """

    sizes: torch.Tensor
    sums: torch.Tensor
    by_fold: torch.Tensor
    varying: torch.Tensor
    squares: float
    exponent: int = 0

    @cached_property
    def products(self) -> torch.Tensor:
        """X'X (d, d) over all items."""
        return over_folds(self.by_fold)

    @cached_property
    def traces(self) -> torch.Tensor:
        """Sums of squares of all features: (n_folds,)."""
        return self.by_fold.diagonal(dim1=1, dim2=2).sum(dim=1)

    @property
    def trace(self) -> float:
        """The sum of squares of all features over all items."""
        return float(self.products.trace())

    @cached_property
    def principal(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Principal axes (d, r) and sizes of the set along them, largest first."""
        return principal(self.products)

    @cached_property
    def trainings(self) -> tuple[Training, ...]:
        """The items trained on, for each fold."""
        n, trainings = int(self.sizes.sum()), []
        for size, own, products in zip(self.sizes.tolist(), self.sums, self.by_fold, strict=True):
            n_train, outer = n - int(size), torch.outer(own, own)
            shift = 2 / n_train + size / n_train**2
            # All features sum to 0, so those trained on sum to minus the fold's sum.
            axes, sizes = principal(self.products - products - outer / n_train)
            held_out = axes.T @ (products + shift * outer) @ axes
            trainings.append(Training(n_train, shift, axes, sizes.square(), held_out))
        return tuple(trainings)

    def columns(self, columns: slice, squares: float = 0.0, exponent: int = 0) -> SetProducts:
        """The same of some features."""
        by_fold = self.by_fold[:, columns, columns]
        varying = self.varying[columns]
        return SetProducts(self.sizes, self.sums[:, columns], by_fold, varying, squares, exponent)

    def roots(self) -> list[torch.Tensor]:
        """For each fold, columns (d, r) whose products are those of its centred features."""
        found = []
        for size, own, products in zip(self.sizes, self.sums, self.by_fold, strict=True):
            axes, sizes = principal(products - torch.outer(own, own) / size)
            found.append(axes * sizes)
        return found


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Two sets, the products X'Y of each fold (n_folds, d, e), and the sum of |x_i|^2 |y_i|^2."""

    x: SetProducts
    y: SetProducts
    by_fold: torch.Tensor
    squares: float

    @property
    def n_items(self) -> int:
        """How many items there are."""
        return round(float(self.x.sizes.sum()))

    @cached_property
    def both(self) -> torch.Tensor:
        """X'Y (d, e) over all items."""
        return over_folds(self.by_fold)

    @property
    def coupling(self) -> torch.Tensor:
        """Products (r, s) of orthonormal bases of both sets, along their principal axes."""
        (axes_x, sizes_x), (axes_y, sizes_y) = self.x.principal, self.y.principal
        return (axes_x.T @ self.both @ axes_y) / sizes_x[:, None] / sizes_y

    def swapped(self) -> CrossProducts:
        """The same with the two sets in the other order."""
        return replace(self, x=self.y, y=self.x, by_fold=self.by_fold.mT)


def over_folds(products: torch.Tensor) -> torch.Tensor:
    """Sum over folds, without a copy of one."""
    return products[0] if len(products) == 1 else products.sum(dim=0)
