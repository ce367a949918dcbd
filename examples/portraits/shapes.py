"""Soft shapes in a plane: coverage of pixels by ellipses, boxes and bands, for a whole batch."""

from __future__ import annotations

import torch
from torch import Tensor


def ellipse(
    x: Tensor, y: Tensor, center: tuple[Tensor, Tensor], radii: tuple[Tensor, Tensor], edge: Tensor
) -> Tensor:
    """Coverage by an axis-parallel ellipse.

    Parameters
    ----------
    x, y : tensor of shape (n, h, w)
        Where each pixel lies.
    center, radii : pair of tensors of shape (n, 1, 1)
        In the units of ``x`` and ``y``.
    edge : tensor of shape (n, 1, 1)
        Size of a pixel in these units: coverage falls from 1 to 0 over so much.
    """
    across, down = (x - center[0]) / radii[0], (y - center[1]) / radii[1]
    radius = (across.square() + down.square()).sqrt()
    # The distance to the border along the ray from the centre, good enough for an edge.
    return inside((1 - radius) * torch.minimum(*radii), edge)


def box(
    x: Tensor, y: Tensor, center: tuple[Tensor, Tensor], half: tuple[Tensor, Tensor], edge: Tensor
) -> Tensor:
    """Coverage by an axis-parallel box; as :func:`ellipse`."""
    return inside(
        torch.minimum(half[0] - (x - center[0]).abs(), half[1] - (y - center[1]).abs()), edge
    )


def ring(
    x: Tensor,
    y: Tensor,
    center: tuple[Tensor, Tensor],
    radii: tuple[Tensor, Tensor],
    width: Tensor,
    edge: Tensor,
) -> Tensor:
    """Coverage by the border of an ellipse, ``width`` to both sides; as :func:`ellipse`."""
    across, down = (x - center[0]) / radii[0], (y - center[1]) / radii[1]
    radius = (across.square() + down.square()).sqrt()
    return inside(width - (1 - radius).abs() * torch.minimum(*radii), edge)


def inside(depth: Tensor, edge: Tensor) -> Tensor:
    """Coverage from the signed distance to a border, positive inside."""
    return (depth / edge + 0.5).clamp(0.0, 1.0)
