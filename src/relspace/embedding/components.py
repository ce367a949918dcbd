"""The leading eigenvectors of a graph's random walk, by Lanczos iteration."""

from __future__ import annotations

import numpy as np
import torch

from relspace.kernels.axes import with_fixed_signs
from relspace.kernels.precision import full_precision

# Restarts of the iteration before the matrix is decomposed at once: separate eigenvalues take few.
_RESTARTS = 100


@full_precision()
def leading_components(weights: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    r"""The k leading eigenvectors of the random walk on a graph, without the constant one.

    They are those of :math:`D^{-1/2} W D^{-1/2}` divided by :math:`D^{1/2}`, scaled to unit mean
    square over nodes weighted by their degree; the largest entry is positive. The result is the
    eigenvalues (k,), falling, and the vectors (n, k).
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    n = weights.shape[0]
    degrees = weights.sum(dim=1, dtype=torch.float64)
    root = degrees.sqrt()
    scaled = weights / root[:, None].to(weights) / root.to(weights)
    # The constant eigenvector is known. Moved from 1 to -1 it comes last, also where a graph in
    # several parts has more eigenvectors of 1.
    constant: np.ndarray = (root / torch.linalg.vector_norm(root)).cpu().numpy()

    def product(vector: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(vector.ravel())
        walked: np.ndarray = (scaled @ torch.from_numpy(flat).to(scaled)).double().cpu().numpy()
        return walked - 2 * float(constant @ flat) * constant

    operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
    start = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    try:
        # Products are rounded as the weights are, so nothing more exact could be found.
        rounding = torch.finfo(weights.dtype).eps
        values, vectors = eigsh(
            operator, k=k, which="LA", v0=start.numpy(), tol=rounding, maxiter=_RESTARTS
        )
    except ArpackNoConvergence:
        values, vectors = _all_at_once(scaled, constant, k)
    order = np.argsort(values)[::-1]
    found = torch.from_numpy(vectors[:, order].copy()) / root.cpu()[:, None]
    found *= (degrees.cpu().sum() / (degrees.cpu()[:, None] * found.square()).sum(0)).sqrt()
    return torch.from_numpy(values[order].copy()).to(weights), with_fixed_signs(found).to(weights)


def _all_at_once(
    scaled: torch.Tensor, constant: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Decompose the matrix itself, for eigenvalues too close for an iteration to separate."""
    from scipy.linalg import eigh

    n = len(constant)
    matrix = scaled.double().cpu().numpy() - 2 * np.outer(constant, constant)
    found: tuple[np.ndarray, np.ndarray] = eigh(
        matrix, subset_by_index=[n - k, n - 1], overwrite_a=True
    )
    return found
