"""Features of different widths brought to one, for pictures of how it was before alignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch

from relspace.kernels.normalization import fit_normalization

Key = TypeVar("Key")
#: Principal components kept where every set has as many.
COMMON_WIDTH = 32


def to_common_width(
    features: Mapping[Key, torch.Tensor], width: int = COMMON_WIDTH
) -> dict[Key, torch.Tensor]:
    """Cut every set to the same number of its own principal components.

    Tokens are centred and brought to unit norm first. The axes of different sets have nothing to
    do with each other; what is compared after this is what there was before alignment.

    Parameters
    ----------
    features : mapping to tensor of shape (n_s, d_s)
        Tokens by set.
    width : int
        At most so many components.

    Returns
    -------
    dict to tensor of shape (n_s, width)
        Components by set; each axis has the sign that makes its largest weight positive.

    Examples
    --------
    >>> import torch
    >>> rows = to_common_width({"a": torch.rand(9, 5), "b": torch.rand(7, 3)})
    >>> [tuple(one.shape) for one in rows.values()]
    [(9, 3), (7, 3)]
    """
    rows = {key: fit_normalization(one, "center+unit").apply(one) for key, one in features.items()}
    width = min(width, *(one.shape[1] for one in rows.values()))
    return {key: _principal_components(one, width) for key, one in rows.items()}


def _principal_components(rows: torch.Tensor, width: int) -> torch.Tensor:
    axes = torch.linalg.eigh((rows.T @ rows).double()).eigenvectors.flip(1)[:, :width]
    sign = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    components: torch.Tensor = rows @ (axes * sign).to(rows)
    return components
