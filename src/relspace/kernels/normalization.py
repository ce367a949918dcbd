"""Normalisation of tokens before the kernel: location, scale of channels or axes, norm."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from relspace._validation import check_choice
from relspace.kernels.precision import full_precision

#: The share of each principal axis's deviation, in the exponent, that partial whitening takes off.
_WHITENING = {"quarter-whiten": 0.25, "half-whiten": 0.5}

# Beyond so many times the third largest deviation an axis is taken for a massive activation (Sun et
# al. 2024) or an outlier; trained networks without them have 1 to 2.
_LOUD = 5.0

#: What can be done to tokens before affinities are taken.
NORMALIZATIONS = (
    "none",
    "unit",
    "center",
    "center+unit",
    "zscore",
    "zscore+unit",
    "quarter-whiten",
    "quarter-whiten+unit",
    "half-whiten",
    "half-whiten+unit",
)


@dataclass(frozen=True)
class Normalization:
    """What is subtracted from every token, what is done to its axes, and whether its norm is 1.

    Attributes
    ----------
    center : tensor of shape (d,) or None
        Mean of the features it was fitted on.
    scale : tensor of shape (d,) or None
        Standard deviation of each channel; channels that don't vary have 1.
    axes : tensor of shape (d, k) or None
        The map onto partially whitened principal axes.
    unit : bool
        Whether tokens are brought to unit norm.
    """

    center: torch.Tensor | None
    scale: torch.Tensor | None
    axes: torch.Tensor | None
    unit: bool

    def apply(self, X: torch.Tensor) -> torch.Tensor:
        """Normalise tokens; one that equals the centre stays at 0."""
        if self.center is not None:
            X = X - self.center
        if self.scale is not None:
            X = X / self.scale
        if self.axes is not None:
            with full_precision():
                X = X @ self.axes
        if self.unit:
            norms = torch.linalg.vector_norm(X, dim=1, keepdim=True)
            X = X / torch.where(norms > 0, norms, torch.ones_like(norms))
        return X


def fit_normalization(X: torch.Tensor, method: str) -> Normalization:
    r"""Fit a normalisation to features.

    Partial whitening divides the coordinate along each principal axis by a power of its standard
    deviation,

    .. math:: \tilde x = (x - \bar x) \, V \operatorname{diag}(s_1^{-a}, \dots, s_k^{-a}),

    with a = 1/4 or 1/2; a = 1 would be whitening. A few loud directions then no longer decide
    alone what is near, and yet what comes out keeps its distances when features are rotated,
    reflected or shifted, and their ratios when they are scaled. One or two axes that vary more
    than 5 times as much as the third do are massive activations or outliers; they come out like
    the third does.

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
    step = method.removesuffix("+unit")
    center = scale = axes = None
    if step in ("center", "zscore", *_WHITENING):
        center = X.to(torch.float64).mean(dim=0).to(X.dtype)
    if step == "zscore":
        deviation = (X - X.mean(dim=0)).square().mean(dim=0).sqrt()
        # A channel whose spread is rounding holds nothing; dividing by it would make it loud.
        floor = torch.finfo(X.dtype).eps * X.abs().amax(dim=0)
        scale = torch.where(deviation > floor, deviation, torch.ones_like(deviation))
    if step in _WHITENING:
        axes = whitening_axes(X, _WHITENING[step])
    return Normalization(center, scale, axes, method.endswith("unit"))


def whitening_axes(X: torch.Tensor, exponent: float) -> torch.Tensor:
    """Principal axes, each divided by a power of the standard deviation along it.

    Parameters
    ----------
    X : tensor of shape (n, d)
        Features.
    exponent : float
        The power, 0 for a rotation, 1 for whitening.

    Returns
    -------
    tensor of shape (d, k)
        The map, over the k axes along which features vary by more than rounding.
    """
    points = X.to(torch.float64)
    points = points - points.mean(dim=0)
    n, d = points.shape
    # Of the two products, the smaller one.
    small = points.T @ points if d <= n else points @ points.T
    variances, vectors = torch.linalg.eigh(small / n)
    size = variances[-1].clamp_min(torch.finfo(torch.float64).tiny)
    kept = variances > size * max(n, d) * torch.finfo(torch.float64).eps
    if not kept.any():
        return X.new_zeros((d, 1))
    deviations, vectors = variances[kept].sqrt(), vectors[:, kept]
    axes = vectors if d <= n else points.T @ vectors / (deviations * n**0.5)
    third = deviations[-min(3, len(deviations))]
    is_loud = (deviations > _LOUD * third) & (len(deviations) > 3)
    # An axis of deviation s comes out with s^(1 - exponent), a loud one like the third does.
    wanted = torch.where(is_loud, third, deviations).pow(1 - exponent)
    result: torch.Tensor = (axes * (wanted / deviations)).to(X.dtype)
    return result
