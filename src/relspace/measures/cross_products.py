"""Sums of products over items, which some measures need no more than: they stream over any number.

Two features' covariances hold d x d, e x e and d x e numbers, however many items there are. Linear
CKA, the CCAs and Procrustes distances are functions of them, linear predictivity of those of its
folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from relspace.errors import InvalidInputError
from relspace.measures.folded_products import Folds, principal


@dataclass(frozen=True)
class CrossProducts:
    """Sums over items of products of two sets' centred features, in float64.

    Attributes
    ----------
    n_items : int
        Items summed over.
    of_x, of_y, of_both : tensor of shape (d, d), (e, e) and (d, e)
        :math:`X^\\top X`, :math:`Y^\\top Y` and :math:`X^\\top Y`.
    squares_x, squares_y, squares_both : float
        Sums of :math:`|x_i|^4`, :math:`|y_i|^4` and :math:`|x_i|^2 |y_i|^2`, which the estimators
        without the diagonal take away.
    folds : Folds or None
        The same by folds, for a measure that holds items out.
    """

    n_items: int
    of_x: torch.Tensor
    of_y: torch.Tensor
    of_both: torch.Tensor
    squares_x: float
    squares_y: float
    squares_both: float
    folds: Folds | None = None

    def equivalent_items(self) -> tuple[torch.Tensor, torch.Tensor]:
        r"""A few items with the same products: what is a function of products can't tell them.

        With :math:`X^\top X = V_X D_X^2 V_X^\top`, likewise of Y, and
        :math:`C = D_X^{-1} V_X^\top X^\top Y V_Y D_Y^{-1}`, whose singular values are the
        canonical correlations,

        .. math::
            \tilde X = H \begin{pmatrix} D_X V_X^\top \\ 0 \end{pmatrix}, \qquad
            \tilde Y = H \begin{pmatrix} C \\ (I - C^\top C)^{1/2} \end{pmatrix} D_Y V_Y^\top

        where the columns of H are orthonormal and have mean 0.

        Returns
        -------
        tensors of shape (k, d) and (k, e)
            k is 1 more than the dimensions that both sets span.
        """
        (axes_x, sizes_x), (axes_y, sizes_y) = principal(self.of_x), principal(self.of_y)
        ranks = len(sizes_x), len(sizes_y)
        if sum(ranks) > self.n_items - 1:
            raise InvalidInputError(
                f"the sets have {ranks[0]} and {ranks[1]} dimensions and {self.n_items} items, too "
                "few to be compared by sums over them: compare them in memory, by a larger "
                "memory_budget."
            )
        coupling = (axes_x.T @ self.of_both @ axes_y) / sizes_x[:, None] / sizes_y
        left, correlations, right = torch.linalg.svd(coupling, full_matrices=True)
        correlations = correlations.clamp_max(1.0)
        coupling = (left[:, : len(correlations)] * correlations) @ right[: len(correlations)]
        rest = torch.ones_like(sizes_y)
        rest[: len(correlations)] = (1 - correlations.square()).sqrt()
        own = (right.T * rest) @ right
        x = torch.cat([torch.diag(sizes_x), sizes_x.new_zeros(ranks[1], ranks[0])]) @ axes_x.T
        y = (torch.cat([coupling, own]) * sizes_y) @ axes_y.T
        return _with_mean_zero(x), _with_mean_zero(y)


def _with_mean_zero(X: torch.Tensor) -> torch.Tensor:
    """Map k rows to k + 1 whose mean is 0, with the same products: Helmert's matrix times them."""
    k = torch.arange(1, len(X) + 1, dtype=X.dtype, device=X.device)
    helmert = torch.tril(torch.ones(len(X), len(X) + 1, dtype=X.dtype, device=X.device))
    helmert[torch.arange(len(X)), torch.arange(1, len(X) + 1)] = -k
    return (helmert / (k * (k + 1)).sqrt()[:, None]).T @ X
