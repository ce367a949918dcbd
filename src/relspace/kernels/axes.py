"""Principal axes, with signs that are the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.matrices import to_numpy


def with_fixed_signs(axes: torch.Tensor) -> torch.Tensor:
    """Turn every axis, a column, so that its largest weight is positive."""
    return axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()


def principal_axes(rows: torch.Tensor, n_axes: int) -> torch.Tensor:
    """Find the leading principal axes (d, n_axes) of rows that are centred already, in float64."""
    wide = rows.double()
    return with_fixed_signs(torch.linalg.eigh(wide.T @ wide).eigenvectors.flip(1)[:, :n_axes])


def principal_plane(sets: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float64]]:
    """Project the rows of all sets onto the first two principal components of them together.

    Examples
    --------
    >>> import torch
    >>> principal_plane({"a": torch.tensor([[3.0, 0, 0], [-3, 0, 0], [0, 1, 0], [0, -1, 0]])})["a"]
    array([[ 3.,  0.],
           [-3.,  0.],
           [ 0.,  1.],
           [ 0., -1.]])
    """
    together = torch.cat(list(sets.values())).double()
    center = together.mean(dim=0)
    axes = principal_axes(together - center, 2)
    return {name: to_numpy((rows.double() - center) @ axes) for name, rows in sets.items()}
