"""Ways to predict one model's features from another's, fitted on features of the same items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from relspace._core.arrays import refuse_non_finite
from relspace.kernels.landmarks import choose_landmarks
from relspace.kernels.ridge import ridge_weights
from relspace.space.aligner import Aligner, RelativeRows

#: Landmarks of a local translation; more make it no better than they make it slower.
N_CENTERS = 1024
_LOCAL_DENSITY = 0.2
# Of the variance of predictions, by the axes of a translation of low rank.
_SHARE_KEPT = 0.95


@dataclass(frozen=True)
class Translation:
    """A fitted function of rows: ``shift`` (e,) plus ``weights`` times rows less ``center``.

    ``weights`` are (d, e), or (m, e) for affinities to the m landmarks of ``aligner``.
    """

    weights: torch.Tensor
    shift: torch.Tensor
    center: torch.Tensor
    aligner: Aligner | None = None

    @property
    def device(self) -> torch.device:
        return self.weights.device

    @property
    def n_features(self) -> int:
        """The width of rows."""
        return len(self.weights) if self.aligner is None else self.aligner.n_features_in_

    def __call__(self, rows: torch.Tensor, first: int | None = None) -> torch.Tensor:
        if self.aligner is None:
            refuse_non_finite(rows, "X", first_row=first or 0)
            described = rows.to(self.weights)
        else:
            relative = RelativeRows(self.aligner, standardized=False)
            described = relative(rows.to(self.aligner.landmarks_), first).to(self.weights)
        # Centred before the product, in which features far from 0 would cancel.
        return torch.addmm(self.shift, described - self.center, self.weights)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Translation:
        """The same on a device, with other floats."""
        weights, shift, center = (
            one.to(device, dtype) for one in (self.weights, self.shift, self.center)
        )
        aligner = None if self.aligner is None else self.aligner.to(device)
        return Translation(weights, shift, center, aligner)


def _linear(x: torch.Tensor, Y: torch.Tensor, weights: torch.Tensor) -> Translation:
    """The linear translation that takes the mean of x to the mean of Y."""
    return Translation(weights, Y.mean(dim=0), x.mean(dim=0))


def fit_procrustes(X: torch.Tensor, Y: torch.Tensor, seed: int) -> Translation:
    r"""The rotation and scale that bring centred X nearest to centred Y.

    With :math:`X^T Y = U S V^T` this is :math:`U V^T \operatorname{tr} S / \lVert X \rVert^2`
    (Schoenemann 1966). Between different widths it keeps the min(d, e) axes that agree.
    """
    x, y = X.double() - X.double().mean(dim=0), Y - Y.mean(dim=0)
    left, sizes, right = torch.linalg.svd(x.T @ y, full_matrices=False)
    return _linear(X.double(), Y, left @ right * (sizes.sum() / x.square().sum()))


def fit_ridge(X: torch.Tensor, Y: torch.Tensor, seed: int) -> Translation:
    """Ridge regression, see :func:`relspace.kernels.ridge.ridge_weights`."""
    x = X.double()
    return _linear(x, Y, ridge_weights(x - x.mean(dim=0), Y - Y.mean(dim=0)))


def fit_low_rank(X: torch.Tensor, Y: torch.Tensor, seed: int) -> Translation:
    """Ridge regression whose predictions keep the axes that hold 95 % of their variance.

    Reduced-rank regression (Izenman 1975) with a penalty.
    """
    x = X.double()
    weights = ridge_weights(x - x.mean(dim=0), Y - Y.mean(dim=0))
    predicted = (x - x.mean(dim=0)) @ weights
    _, sizes, axes = torch.linalg.svd(predicted, full_matrices=False)
    share = sizes.square().cumsum(0) / sizes.square().sum()
    kept = axes[: int((share < _SHARE_KEPT).sum()) + 1]
    return _linear(x, Y, weights @ kept.T @ kept)


def fit_local(X: torch.Tensor, Y: torch.Tensor, seed: int) -> Translation:
    r"""Kernel ridge regression with the auto-scaled affinity to at most 1024 of the items.

    .. math::
        \hat Y = \bar Y + (A - \bar A) K^{-1/2} W, \qquad
        W = \operatorname{ridge}\left((A - \bar A) K^{-1/2},\ Y - \bar Y\right)

    with A the affinities to the landmarks and K those between them: for up to 1024 items kernel
    ridge regression, beyond it the Nystroem approximation (Williams and Seeger 2001).
    """
    chosen = X
    if len(X) > N_CENTERS:
        chosen = X[choose_landmarks(len(X), N_CENTERS, random_state=seed)]
    aligner = Aligner(density=_LOCAL_DENSITY, standardize="none").fit(chosen)
    relative = RelativeRows(aligner, standardized=False)
    affinities = relative(X).double()
    among = affinities if chosen is X else relative(chosen).double()
    values, vectors = torch.linalg.eigh((among + among.T) / 2)
    kept = values > len(values) * torch.finfo(X.dtype).eps * values[-1]
    root = vectors[:, kept] / values[kept].sqrt()
    mean = affinities.mean(dim=0)
    weights = root @ ridge_weights((affinities - mean) @ root, Y - Y.mean(dim=0))
    return Translation(weights, Y.mean(dim=0), mean, aligner)


#: Ways to translate by name, the simplest first.
METHODS: Mapping[str, Callable[[torch.Tensor, torch.Tensor, int], Translation]] = {
    "procrustes": fit_procrustes,
    "ridge": fit_ridge,
    "low-rank": fit_low_rank,
    "local": fit_local,
}
