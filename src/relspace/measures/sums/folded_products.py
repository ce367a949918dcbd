"""Sums of products by fold, from which items that are held out are predicted by the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch


def principal(products: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Axes and sizes of the directions that products of rounded features can tell from none."""
    values, axes = torch.linalg.eigh(products)
    keep = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    return axes[:, keep].flip(1), values[keep].flip(0).sqrt()


@dataclass(frozen=True)
class Training:
    """A set's items without one fold, along their principal axes, and those of the fold.

    Attributes
    ----------
    n_items : int
        How many are trained on.
    shift : float
        By how many times the products of the fold's sums its products grow, once its items are
        taken about the mean of those trained on.
    axes, variances : tensor of shape (d, r) and (r,)
        Principal axes of the features trained on, centred, and sums of squares along them.
    held_out : tensor of shape (r, r)
        Products of the held-out features, less the mean of those trained on, along the axes.
    """

    n_items: int
    shift: float
    axes: torch.Tensor
    variances: torch.Tensor
    held_out: torch.Tensor


@dataclass(frozen=True, eq=False)
class FoldedSet:
    """Sums over each fold of the products of a set's features about their mean over all items.

    Attributes
    ----------
    sizes : tensor of shape (n_folds,)
        Items.
    sums : tensor of shape (n_folds, d)
        Sums of features.
    products : tensor of shape (n_folds, d, d)
        Sums of products.
    """

    sizes: torch.Tensor
    sums: torch.Tensor
    products: torch.Tensor

    @cached_property
    def traces(self) -> torch.Tensor:
        """Sums of squares of all features: (n_folds,)."""
        return self.products.diagonal(dim1=1, dim2=2).sum(dim=1)

    @cached_property
    def trainings(self) -> tuple[Training, ...]:
        """What predicts the items of each fold."""
        n, total = int(self.sizes.sum()), self.products.sum(dim=0)
        trainings = []
        for size, own, products in zip(self.sizes.tolist(), self.sums, self.products, strict=True):
            n_train, outer = n - int(size), torch.outer(own, own)
            shift = 2 / n_train + size / n_train**2
            # Features sum to 0, so that those trained on sum to minus the sum of the others.
            axes, sizes = principal(total - products - outer / n_train)
            held_out = axes.T @ (products + shift * outer) @ axes
            trainings.append(Training(n_train, shift, axes, sizes.square(), held_out))
        return tuple(trainings)

    def columns(self, columns: slice) -> FoldedSet:
        """The same of some features."""
        return FoldedSet(self.sizes, self.sums[:, columns], self.products[:, columns, columns])

    def roots(self) -> list[torch.Tensor]:
        """For each fold, columns (d, r) whose products are those of its centred features."""
        found = []
        for size, own, products in zip(self.sizes, self.sums, self.products, strict=True):
            axes, sizes = principal(products - torch.outer(own, own) / size)
            found.append(axes * sizes)
        return found


@dataclass(frozen=True)
class Folds:
    """Two sets by the same folds.

    Attributes
    ----------
    x, y : FoldedSet
        The sets.
    both : tensor of shape (n_folds, d, e)
        Sums of products of both sets' features.
    """

    x: FoldedSet
    y: FoldedSet
    both: torch.Tensor

    def swapped(self) -> Folds:
        """The same with the two sets in the other order."""
        return Folds(self.y, self.x, self.both.mT)
