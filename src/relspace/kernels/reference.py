r"""Reference implementation in plain torch, one function per formula; the oracle of the tests.

All is computed in float64, from differences of coordinates, without regard to speed or memory. The
public functions compute the same in tiles, in float32, for features of any scale.
"""

from __future__ import annotations

import math

import torch


def squared_distances(X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
    r""":math:`d_{ij}^2 = \lVert x_i - y_j \rVert^2`."""
    return (X.double()[:, None, :] - Y.double()[None, :, :]).square().sum(dim=-1)


def squared_cosine_distances(X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
    r""":math:`(1 - \cos(x_i, y_j))^2`."""
    x, y = (Z.double() / Z.double().norm(dim=1, keepdim=True) for Z in (X, Y))
    cosines: torch.Tensor = x @ y.T
    return (1 - cosines).square()


def affinity(squared: torch.Tensor, sigma: float) -> torch.Tensor:
    r""":math:`A_{ij} = \exp(-d_{ij}^2 / (2 \sigma^2))`."""
    return torch.exp(-squared / (2 * sigma**2))


def density(A: torch.Tensor, *, of_one_set: bool) -> float:
    """The mean affinity; of a set with itself, over pairs of distinct items."""
    n_self = len(A) if of_one_set else 0
    return float((A.sum() - (A.diagonal().sum() if of_one_set else 0)) / (A.numel() - n_self))


def bandwidth(squared: torch.Tensor, target: float, *, of_one_set: bool) -> float:
    r"""The root :math:`\sigma` of :math:`\rho(\sigma) = c`, by bisection in log sigma.

    The density grows with sigma, from the share of pairs that coincide to 1.
    """
    low, high = -400.0, 400.0
    for _ in range(200):
        middle = (low + high) / 2
        A = affinity(squared, math.exp(middle))
        low, high = (middle, high) if density(A, of_one_set=of_one_set) < target else (low, middle)
    return math.exp((low + high) / 2)


def normalize(X: torch.Tensor, landmarks: torch.Tensor, method: str) -> torch.Tensor:
    r"""Normalised tokens: :math:`(x - \bar l) V \mathrm{diag}(s^{-a})`, then unit norm.

    The mean and the principal axes V, with deviations s, are the landmarks'; a is 1/4 or 1/2. Loud
    axes, which the library damps, are left as they are.
    """
    x, mean = X.double(), landmarks.double().mean(dim=0)
    centered = landmarks.double() - mean
    step = method.removesuffix("+unit")
    if step not in ("none", "unit"):
        x = x - mean
    if step == "zscore":
        x = x / centered.std(dim=0, correction=0)
    if step in ("quarter-whiten", "half-whiten"):
        _, s, axes = torch.linalg.svd(centered / math.sqrt(len(landmarks)), full_matrices=False)
        x = x @ axes.T * s.pow(-0.25 if step == "quarter-whiten" else -0.5)
    norms: torch.Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / norms if method.endswith("unit") else x


def relative_rows(
    A: torch.Tensor, of_landmarks: torch.Tensor, own: torch.Tensor, how: str
) -> torch.Tensor:
    r"""Rows of affinities A with the shared profile taken off, standardised and decorrelated.

    :math:`z = W \mathrm{diag}(1 / \delta) (a - \mu)`, where mean and deviation of a column are over
    the *other* landmarks and W = (C + 0.1 tr(C) / m)^(-1/2) for their correlations C; a row's own
    column (``own``, -1 for none) is 0 before and after, and counts for neither its mean nor norm.
    """
    L, m = of_landmarks.double(), len(of_landmarks)
    others = ~torch.eye(m, dtype=torch.bool)
    mean = torch.stack([L[others[:, j], j].mean() for j in range(m)])
    deviation = torch.stack([L[others[:, j], j].std(correction=0) for j in range(m)])
    scale = torch.ones_like(deviation) if how == "none" else 1 / deviation
    mixing = torch.eye(m, dtype=torch.float64)
    if how in ("whiten", "half-whiten"):
        Z = (L - mean) * scale
        C = Z.T @ Z / m
        values, vectors = torch.linalg.eigh(C + 0.1 * C.trace() / m * torch.eye(m))
        mixing = vectors * values.pow(-0.5 if how == "whiten" else -0.25) @ vectors.T
    rows = []
    for a, column in zip(A.double(), own.tolist(), strict=True):
        kept = torch.arange(m) != column
        z = ((a - mean) * scale * kept) @ mixing
        z = torch.where(kept, z - z[kept].mean(), 0.0)
        rows.append(z / z.norm())
    return torch.stack(rows)


def correlation(a: torch.Tensor, b: torch.Tensor, left_out: torch.Tensor) -> float:
    """Pearson's correlation of two rows over the columns that are not left out."""
    x, y = (row.double()[~left_out] - row.double()[~left_out].mean() for row in (a, b))
    return float(x @ y / (x.norm() * y.norm()))
