"""Colours of tokens, and two conversions, with the argument names of the implemented interface."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ncut_pytorch._elsewhere import refuse
from relspace import NormalizedCut, colors
from relspace.errors import InvalidInputError

__all__ = ["convert_to_lab_color", "rotate_rgb_cube", "tsne_color", "umap_color"]

_COMPONENTS = 16

__getattr__ = refuse(
    __name__,
    {
        "mspace_color": "relspace.colors(relspace.NormalizedCut().fit(X))",
        "umap_sphere_color": 'umap_color, or relspace.colors(cut, method="umap")',
    },
)


def tsne_color(X: object, *, seed: int | None = None) -> torch.Tensor:
    """Colours (n, 3) by t-SNE of the normalized cut of X; see :func:`relspace.colors`."""
    return _color(X, "tsne", seed)


def umap_color(X: object, *, seed: int | None = None) -> torch.Tensor:
    """Colours (n, 3) by UMAP of the normalized cut of X; see :func:`relspace.colors`."""
    return _color(X, "umap", seed)


def _color(X: object, method: str, seed: int | None) -> torch.Tensor:
    rows = torch.as_tensor(X)
    cut = NormalizedCut(n_components=min(_COMPONENTS, len(rows) - 2)).fit(rows)
    found = colors(cut, method=method, random_state=seed or 0)["features"]
    return torch.as_tensor(found)


def rotate_rgb_cube(rgb: torch.Tensor, position: int = 1) -> torch.Tensor:
    """Exchange the channels of colours (..., 3) in [0, 1]; from position 4 on, invert them too.

    Examples
    --------
    >>> import torch
    >>> from ncut_pytorch.color import rotate_rgb_cube
    >>> rotate_rgb_cube(torch.tensor([[1.0, 0.5, 0.0]]))
    tensor([[0.0000, 1.0000, 0.5000]])
    """
    if position not in range(7):
        raise InvalidInputError(f"position is {position!r}; it must be an integer from 0 to 6.")
    rotated = torch.roll(rgb, position % 3, dims=-1)
    return 1 - rotated if position > 3 else rotated


def convert_to_lab_color(rgb: Any, full_range: bool = True) -> np.ndarray:
    """Take channels in [0, 1] as CIELAB and return sRGB; needs scikit-image."""
    from skimage.color import lab2rgb

    lab = torch.as_tensor(rgb).cpu().numpy().copy()
    lab[..., 0] *= 100
    lab[..., 1:] = lab[..., 1:] * 255 - 128 if full_range else lab[..., 1:] * 100 - 50
    converted: np.ndarray = lab2rgb(lab)
    return converted
