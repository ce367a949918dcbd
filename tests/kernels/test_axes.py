"""Principal axes: largest variances first, signs that are the same everywhere, distances kept."""

from __future__ import annotations

import numpy as np
import torch

from relspace.kernels.axes import principal_axes, principal_plane


def test_the_plane_is_that_of_the_largest_variances() -> None:
    X = torch.randn(80, 6, generator=torch.Generator().manual_seed(0))
    X = X * torch.tensor([1.0, 9.0, 1.0, 5.0, 1.0, 1.0])
    found = principal_plane({"a": X[:50], "b": X[50:]})
    points = np.concatenate([found["a"], found["b"]])
    variances = np.linalg.eigvalsh(np.cov(X.double().numpy().T))
    np.testing.assert_allclose(points.var(axis=0, ddof=1), variances[:-3:-1])


def test_a_plane_keeps_its_distances() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    found = principal_plane({"a": plane[:10] @ rotation[:2], "b": plane[10:] @ rotation[:2]})
    points = torch.from_numpy(np.concatenate(list(found.values())))
    torch.testing.assert_close(torch.cdist(points, points), torch.cdist(plane, plane))


def test_the_largest_weight_of_an_axis_is_positive() -> None:
    rows = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    axes = principal_axes(rows, 5)
    torch.testing.assert_close(axes.T @ axes, torch.eye(5, dtype=torch.float64))
    assert (axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)) > 0).all()
