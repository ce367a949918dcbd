"""Affinities with the argument names of the implemented interface."""

from __future__ import annotations

import numpy as np
import torch

from ncut_pytorch._elsewhere import refuse
from relspace import Bandwidth
from relspace import cosine_affinity as _cosine_affinity
from relspace import rbf_affinity as _rbf_affinity
from relspace._core.matrices import Array
from relspace.errors import InvalidInputError

__all__ = ["cosine_affinity", "keep_topk_per_row", "quantile_normalize", "rbf_affinity"]

__getattr__ = refuse(
    __name__,
    {
        "gram_schmidt": "torch.linalg.qr",
        "pca_lowrank": "torch.pca_lowrank",
        "svd_lowrank": "torch.svd_lowrank",
        "grad_safe_eig_solve": "torch.linalg.eigh",
        "normalize_affinity": "ncut_pytorch.ncut_fn, which normalises the graph itself",
        "quantile_min_max": "torch.quantile",
        "random_orthogonal_projection": "torch.nn.init.orthogonal_",
        "chunked_matmul": "torch.matmul",
        "correct_rotation": "ncut_pytorch.ncut_fn, whose eigenvectors have fixed signs",
    },
)


def rbf_affinity(
    X1: object,
    X2: object | None = None,
    sigma: float | torch.Tensor | Bandwidth | None = None,
    zero_diag: bool = False,
) -> Array:
    """Gaussian affinity, auto-scaled without a bandwidth; see :func:`relspace.rbf_affinity`.

    Parameters
    ----------
    X1 : array-like of shape (n, d)
        Features.
    X2 : array-like of shape (m, d), optional
        Features of other items; ``X1`` by default.
    sigma : float, 0-d tensor or Bandwidth, optional
        A given bandwidth. By default the one at which the mean affinity is relspace's default
        density.
    zero_diag : bool
        Whether an item's affinity with itself is 0 instead of 1.

    Returns
    -------
    tensor or array of shape (n, n) or (n, m)
        Affinities in [0, 1].

    Raises
    ------
    RelspaceError
        As :func:`relspace.rbf_affinity` does.

    Examples
    --------
    >>> import torch
    >>> from ncut_pytorch.utils.math import rbf_affinity
    >>> features = torch.randn(100, 768, generator=torch.Generator().manual_seed(0))
    >>> rbf_affinity(features).shape
    torch.Size([100, 100])
    """
    return _rbf_affinity(X1, None if X2 is X1 else X2, sigma=sigma, zero_diagonal=zero_diag)


def cosine_affinity(
    X1: object,
    X2: object | None = None,
    sigma: float | torch.Tensor | Bandwidth | None = None,
    repulse: bool = False,
    zero_diag: bool = False,
) -> Array:
    """Gaussian affinity of the cosine distance; see :func:`relspace.cosine_affinity`.

    Parameters
    ----------
    X1 : array-like of shape (n, d)
        Features without rows of zeros.
    X2 : array-like of shape (m, d), optional
        Features of other items; ``X1`` by default.
    sigma : float, 0-d tensor or Bandwidth, optional
        A given bandwidth, in units of cosine distance. Solved by default.
    repulse : bool
        Must be False: affinity to the opposite direction is had by negating ``X2``.
    zero_diag : bool
        Whether an item's affinity with itself is 0 instead of 1.

    Returns
    -------
    tensor or array of shape (n, n) or (n, m)
        Affinities in [0, 1].

    Raises
    ------
    InvalidInputError
        If ``repulse`` is asked for.
    RelspaceError
        As :func:`relspace.cosine_affinity` does.

    Examples
    --------
    >>> import torch
    >>> from ncut_pytorch.utils.math import cosine_affinity
    >>> cosine_affinity(torch.eye(2), sigma=1.0)
    tensor([[1.0000, 0.6065],
            [0.6065, 1.0000]])
    """
    if repulse:
        raise InvalidInputError(
            "repulse is True; only False is offered: pass the negated features as X2 instead."
        )
    return _cosine_affinity(X1, None if X2 is X1 else X2, sigma=sigma, zero_diagonal=zero_diag)


def keep_topk_per_row(A: torch.Tensor, k: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest values of each row, falling, and their column numbers."""
    values, columns = A.topk(k, dim=-1)
    return values, columns


def quantile_normalize(x: torch.Tensor | np.ndarray, q: float = 0.95) -> torch.Tensor:
    """Bring the quantiles 1 - q and q over all values to 0 and 1, and clip what lies beyond.

    Examples
    --------
    >>> import torch
    >>> from ncut_pytorch.utils.math import quantile_normalize
    >>> quantile_normalize(torch.arange(5.0), q=0.75)
    tensor([0.0000, 0.0000, 0.5000, 1.0000, 1.0000])
    """
    values = torch.as_tensor(x)
    # torch.quantile takes at most 2^24 values.
    low, high = (float(at) for at in np.quantile(values.cpu().numpy(), [1 - q, q]))
    return ((values - low) / (high - low)).clamp(0, 1)
