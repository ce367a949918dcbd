"""Normalisation of tokens before the kernel: location, scale per channel, norm per token."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from relspace._validation import check_choice

#: What can be done to tokens before affinities are taken.
NORMALIZATIONS = ("none", "unit", "center", "center+unit", "zscore", "zscore+unit")


@dataclass(frozen=True)
class Normalization:
    """What is subtracted from every token, what it is divided by, and whether its norm is 1 then.

    Attributes
    ----------
    center : tensor of shape (d,) or None
        Mean of the features it was fitted on.
    scale : tensor of shape (d,) or None
        Standard deviation of each channel; channels that don't vary have 1.
    unit : bool
        Whether tokens are brought to unit norm.
    """

    center: torch.Tensor | None
    scale: torch.Tensor | None
    unit: bool

    def apply(self, X: torch.Tensor) -> torch.Tensor:
        """Normalise tokens; one that equals the centre stays at 0."""
        if self.center is not None:
            X = X - self.center
        if self.scale is not None:
            X = X / self.scale
        if self.unit:
            norms = torch.linalg.vector_norm(X, dim=1, keepdim=True)
            X = X / torch.where(norms > 0, norms, torch.ones_like(norms))
        return X


def fit_normalization(X: torch.Tensor, method: str) -> Normalization:
    """Fit a normalisation to features.

    Parameters
    ----------
    X : tensor of shape (n, d)
        Features.
    method : str
        One of :data:`NORMALIZATIONS`.

    Returns
    -------
    Normalization
        What :meth:`Normalization.apply` does to any token of this model.

    Raises
    ------
    InvalidInputError
        If the method is unknown.

    Examples
    --------
    >>> import torch
    >>> from relspace.kernels import fit_normalization
    >>> X = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    >>> fit_normalization(X, "center+unit").apply(X)
    tensor([[-1.,  0.],
            [ 1.,  0.]])
    """
    check_choice(method, "normalize", NORMALIZATIONS)
    center = scale = None
    if method.startswith(("center", "zscore")):
        center = X.to(torch.float64).mean(dim=0).to(X.dtype)
    if method.startswith("zscore"):
        deviation = (X - X.mean(dim=0)).square().mean(dim=0).sqrt()
        # A channel whose spread is rounding holds nothing; dividing by it would make it loud.
        floor = torch.finfo(X.dtype).eps * X.abs().amax(dim=0)
        scale = torch.where(deviation > floor, deviation, torch.ones_like(deviation))
    return Normalization(center, scale, method.endswith("unit"))
