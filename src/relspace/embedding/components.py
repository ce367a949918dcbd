"""The leading eigenvectors of a graph's random walk, by Lanczos iteration."""

from __future__ import annotations

import numpy as np
import torch

from relspace.kernels.axes import with_fixed_signs
from relspace.kernels.precision import full_precision


@full_precision()
def leading_components(weights: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    r"""The k leading eigenvectors of the random walk on a graph, without the constant one.

    They are those of :math:`D^{-1/2} W D^{-1/2}` divided by :math:`D^{1/2}`, scaled to unit mean
    square over nodes weighted by their degree; the largest entry is positive. The result is the
    eigenvalues (k,), falling, and the vectors (n, k).
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    n = weights.shape[0]
    degrees = weights.sum(dim=1, dtype=torch.float64)
    root = degrees.sqrt()
    scaled = weights / root[:, None].to(weights) / root.to(weights)

    def product(vector: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(np.ascontiguousarray(vector.ravel())).to(scaled)
        return (scaled @ given).double().cpu().numpy()

    operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
    # The constant eigenvector is known; a start of random signs sees all the others.
    start = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    values, vectors = eigsh(operator, k=k + 1, which="LA", v0=start.numpy())
    order = np.argsort(values)[::-1][1:]
    found = torch.from_numpy(vectors[:, order].copy()) / root.cpu()[:, None]
    found *= (degrees.cpu().sum() / (degrees.cpu()[:, None] * found.square()).sum(0)).sqrt()
    return torch.from_numpy(values[order].copy()).to(weights), with_fixed_signs(found).to(weights)
