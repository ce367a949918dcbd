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
    axes, variances : tensor of shape (d, r) and (r,)
        Principal axes of the features trained on, centred, and sums of squares along them.
    held_out : tensor of shape (r, r)
        Products of the held-out features, less the mean of those trained on, along the axes.
    """

    n_items: int
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
    def trainings(self) -> tuple[Training, ...]:
        """What predicts the items of each fold."""
        n, total = int(self.sizes.sum()), self.products.sum(dim=0)
        trainings = []
        for size, own, products in zip(self.sizes.tolist(), self.sums, self.products, strict=True):
            n_train = n - int(size)
            # Features sum to 0, so that those trained on sum to minus the sum of the others.
            axes, sizes = principal(total - products - torch.outer(own, own) / n_train)
            about = products + _shift(int(size), n_train) * torch.outer(own, own)
            trainings.append(Training(n_train, axes, sizes.square(), axes.T @ about @ axes))
        return tuple(trainings)

    def targets(self, other: FoldedSet, both: torch.Tensor) -> FoldedTargets:
        """Another set's features over the same folds, by the products (n_folds, d, e) with it."""
        traces = other.products.diagonal(dim1=1, dim2=2).sum(dim=1)
        return FoldedTargets(both, other.sums, traces)


@dataclass(frozen=True)
class FoldedTargets:
    """What is predicted from a set: sums over its folds of another set's features.

    Attributes
    ----------
    products : tensor of shape (n_folds, d, e)
        Sums of products of both sets' features.
    sums : tensor of shape (n_folds, e)
        Sums of features.
    traces : tensor of shape (n_folds,)
        Sums of squares of all features.
    """

    products: torch.Tensor
    sums: torch.Tensor
    traces: torch.Tensor

    def of_training(self, own: FoldedSet, fold: int) -> tuple[torch.Tensor, float]:
        """Products with the set predicted from, and the sum of squares, without one fold."""
        n_train = own.trainings[fold].n_items
        there, here = own.sums[fold], self.sums[fold]
        products = (
            self.products.sum(dim=0) - self.products[fold] - torch.outer(there, here) / n_train
        )
        squares = float(self.traces.sum() - self.traces[fold] - here.square().sum() / n_train)
        return products, squares

    def held_out(self, own: FoldedSet, fold: int) -> tuple[torch.Tensor, float]:
        """The same of one fold, about the means of the others."""
        shift = _shift(int(own.sizes[fold]), own.trainings[fold].n_items)
        there, here = own.sums[fold], self.sums[fold]
        products = self.products[fold] + shift * torch.outer(there, here)
        return products, float(self.traces[fold] + shift * here.square().sum())

    @property
    def n_folds(self) -> int:
        """How many folds there are."""
        return len(self.products)


def _shift(n_fold: int, n_train: int) -> float:
    """What products of a fold's sums count, once its items are taken about the others' mean."""
    return 2 / n_train + n_fold / n_train**2


@dataclass(frozen=True)
class Folds:
    """Two sets by folds, and each in the folds of the other; permuted, these are not the same.

    Attributes
    ----------
    x, y : FoldedSet
        What is predicted from.
    y_by_x, x_by_y : FoldedTargets
        What is predicted.
    """

    x: FoldedSet
    y: FoldedSet
    y_by_x: FoldedTargets
    x_by_y: FoldedTargets

    def swapped(self) -> Folds:
        """The same with the two sets in the other order."""
        return Folds(self.y, self.x, self.x_by_y, self.y_by_x)


def draw_targets(
    both: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    shares: torch.Tensor,
    n_items: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Draw how a permutation's products are shared among the folds of one set.

    With the shares :math:`p_f` of the items, :math:`R R^\top` the products of a set, and normal
    :math:`A_f` with :math:`\sum_f p_f^{1/2} A_f = 0`, the limit for many items (Hoeffding 1951) is

    .. math:: X_f^\top Y = p_f X^\top Y + p_f^{1/2} R_X A_f R_Y^\top / (n - 1)^{1/2}

    Parameters
    ----------
    both : tensor of shape (d, e)
        The products over all folds under the permutation.
    x, y : tensor of shape (d, r) and (e, s)
        Roots R of the products of the set whose folds they are, and of the other.
    shares : tensor of shape (n_folds,)
        Of the items.
    n_items : int
        How many there are.
    generator : torch.Generator
        What is drawn from.

    Returns
    -------
    tensors of shape (n_folds, d, e) and (n_folds, e)
        Products, and sums of the other set's features.
    """
    roots = shares.sqrt()
    shape = len(shares), x.shape[1], y.shape[1]
    noise = torch.randn(shape, dtype=torch.float64, generator=generator)
    mean = torch.tensordot(roots, noise, dims=1)
    products = torch.empty(len(shares), len(x), len(y), dtype=torch.float64)
    # One fold after the other, for these are the largest matrices there are.
    for own, of_fold, share in zip(noise, products, shares.tolist(), strict=True):
        torch.mm(x @ own.sub_(mean, alpha=share**0.5), y.T, out=of_fold)
        of_fold.mul_((share / (n_items - 1)) ** 0.5).add_(both, alpha=share)
    noise = torch.randn(len(shares), y.shape[1], dtype=torch.float64, generator=generator)
    noise = roots[:, None] * noise - shares[:, None] * (roots @ noise)
    return products, noise @ y.T * (n_items / (n_items - 1)) ** 0.5
