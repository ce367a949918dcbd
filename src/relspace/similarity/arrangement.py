"""Arrangements of layers and models by their dissimilarity: classical scaling and hierarchy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from relspace.kernels.axes import with_fixed_signs

Table = NDArray[np.float64]


def dissimilarity(values: Table, direction: str, identical: float) -> Table:
    """Convert a symmetric table of values to dissimilarities with a diagonal of 0.

    Distances stay as they are; a similarity s becomes sqrt(2 (1 - s)), the distance of two unit
    vectors whose cosine is s, or the same below the largest value where identical sets have none.
    """
    if direction == "distance":
        distances = values.copy()
    else:
        best = identical if np.isfinite(identical) else np.nanmax(values)
        distances = np.sqrt(2 * np.clip(best - values, 0.0, None))
    np.fill_diagonal(distances, 0.0)
    return distances


def classical_scaling(distances: Table, n_dimensions: int = 2) -> tuple[Table, float]:
    """Arrange points so that their distances are as given (Torgerson 1952).

    Returns the points (n, n_dimensions), principal axes first, the largest coordinate of each axis
    positive, and the share of the positive variance that these axes hold.

    Examples
    --------
    >>> import numpy as np
    >>> line = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    >>> points, explained = classical_scaling(line, 1)
    >>> np.abs(points - points[0]).ravel().round(6).tolist(), round(explained, 6)
    ([0.0, 1.0, 3.0], 1.0)
    """
    squared = distances**2
    rows = squared.mean(axis=1, keepdims=True)
    products = -(squared - rows - rows.T + squared.mean()) / 2
    values, vectors = np.linalg.eigh(products)
    values, vectors = values[::-1], vectors[:, ::-1].copy()
    kept = np.clip(values[:n_dimensions], 0.0, None)
    axes = with_fixed_signs(torch.from_numpy(vectors[:, :n_dimensions])).numpy()
    total = float(values[values > 0].sum())
    return axes * np.sqrt(kept), float(kept.sum()) / total if total else 1.0


def hierarchy(distances: Table) -> Table:
    """Merge the most alike clusters first (average linkage); (n - 1, 4), as SciPy's linkages."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    merges: Table = linkage(squareform(distances, checks=False), method="average")
    return merges
