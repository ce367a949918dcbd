"""Ridge regression whose penalty minimizes the generalized cross-validation error."""

from __future__ import annotations

import torch

#: Penalties tried, in units of the total variance of the predicting features.
PENALTIES = tuple(10.0**power for power in range(-9, 3))


def ridge_weights(X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
    r"""Weights W of the ridge regression of centred Y (n, e) on centred X (n, d).

    .. math::
        W = (X^T X + \lambda I)^{-1} X^T Y

    One penalty serves all targets, the one of the smallest generalized cross-validation error
    (Golub, Heath and Wahba 1979) among :data:`PENALTIES` times the squared norm of X.

    Returns
    -------
    tensor of shape (d, e)
        Of the float type of X.
    """
    n, d = X.shape
    precision = max(n, d) * torch.finfo(X.dtype).eps
    if n >= 2 * d:
        # The products of the features are cheaper to decompose than the features.
        variances, axes = torch.linalg.eigh(X.T @ X)
        kept = variances > precision * variances[-1]
        variances, axes = variances[kept], axes[:, kept]
        along = axes.T @ (X.T @ Y)
    else:
        basis, sizes, axes = torch.linalg.svd(X, full_matrices=False)
        kept = sizes > precision * sizes[0]
        # Centred features have fewer axes than items; one more would be rounding.
        kept[n - 1 :] = False
        variances, axes = sizes[kept].square(), axes[kept].T
        along = sizes[kept][:, None] * (basis[:, kept].T @ Y)
    explained = along.square().sum(dim=1) / variances
    penalty = best_penalty(variances, explained[None], Y.square().sum()[None], n)
    weights: torch.Tensor = axes @ (along / (variances + penalty)[:, None])
    return weights


def best_penalty(
    variances: torch.Tensor, explained: torch.Tensor, squares: torch.Tensor, n_items: int
) -> torch.Tensor:
    """The penalty (..., e) of the smallest generalized cross-validation error for each target.

    ``variances`` (r,) are sums of squares of the predicting features along their principal axes,
    ``explained`` (..., e, r) those of each target that each axis explains without a penalty,
    ``squares`` (..., e) those of each centred target.
    """
    penalties = torch.tensor(PENALTIES, dtype=variances.dtype, device=variances.device)
    penalties = penalties[:, None] * variances.sum()
    left = penalties / (variances + penalties)
    unused = n_items - 1 - len(variances)
    # As many axes as items explain everything; the rest is rounding.
    outside = (squares - explained.sum(dim=-1)).clamp_min(0.0)[..., None] if unused else 0.0
    errors = (outside + explained @ left.square().T) / (unused + left.sum(dim=1)).square()
    best: torch.Tensor = penalties[errors.argmin(dim=-1), 0]
    return best
