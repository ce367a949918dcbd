"""Feature sets whose distances, densities and bandwidths are known in closed form."""

from __future__ import annotations

import math

import torch


def simplex(n: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """n points, any two of them at a squared distance of 2."""
    return torch.eye(n, dtype=dtype)


def simplex_bandwidth(density: float) -> float:
    """exp(-2 / (2 sigma^2)) = density."""
    return math.sqrt(-1.0 / math.log(density))


def gaussian_cloud(
    n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    """n draws of N(0, I)."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gaussian_density(sigma: float, d: int) -> float:
    """E exp(-|x - y|^2 / (2 sigma^2)) for x, y from N(0, I): x - y is N(0, 2 I)."""
    return float((1 + 2 / sigma**2) ** (-d / 2))


def gaussian_bandwidth(density: float, d: int) -> float:
    """The inverse of :func:`gaussian_density`."""
    return math.sqrt(2 / (density ** (-2 / d) - 1))


def reference_affinity(
    X: torch.Tensor, Y: torch.Tensor | None = None, *, sigma: float
) -> torch.Tensor:
    """Affinities from coordinate differences in float64."""
    x = X.to(torch.float64)
    y = x if Y is None else Y.to(torch.float64)
    squared = (x[:, None, :] - y[None, :, :]).square().sum(-1)
    return torch.exp(-squared / (2 * sigma**2))


def mean_off_diagonal(A: torch.Tensor) -> float:
    """Mean over distinct pairs, in float64."""
    A = A.detach().to(torch.float64)
    n = len(A)
    return float((A.sum() - A.diagonal().sum()) / (n * (n - 1)))
