"""Sums of products over items, which some measures need no more than: they stream over any number.

Two features' covariances hold d x d, e x e and d x e numbers, however many items there are. Linear
CKA, the CCAs and Procrustes distances are functions of them, linear predictivity of those of its
folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from relspace.measures.sums.folded_products import Folds, principal


@dataclass(frozen=True, eq=False)
class SetProducts:
    """Sums over items of products of one set's centred features, in float64.

    Attributes
    ----------
    products : tensor of shape (d, d)
        :math:`X^\\top X`.
    squares : float
        Sum of :math:`|x_i|^4`, which the estimators without the diagonal take away.
    """

    products: torch.Tensor
    squares: float

    @property
    def trace(self) -> float:
        """The sum of the squares of all features."""
        return float(self.products.trace())

    @cached_property
    def principal(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Principal axes of shape (d, r), and sizes of the set along them, largest first."""
        return principal(self.products)


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Sums over items of products of two sets' centred features, in float64.

    Attributes
    ----------
    n_items : int
        Items summed over.
    x, y : SetProducts
        Of each set.
    both : tensor of shape (d, e)
        :math:`X^\\top Y`.
    squares : float
        Sum of :math:`|x_i|^2 |y_i|^2`.
    folds : Folds or None
        The same by folds, for a measure that holds items out.
    """

    n_items: int
    x: SetProducts
    y: SetProducts
    both: torch.Tensor
    squares: float
    folds: Folds | None = None

    def swapped(self) -> CrossProducts:
        """The same with the two sets in the other order."""
        folds = None if self.folds is None else self.folds.swapped()
        return CrossProducts(self.n_items, self.y, self.x, self.both.T, self.squares, folds)
