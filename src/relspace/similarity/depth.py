"""Depth: relative depths of layers, and the monotone alignment of two models' layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def relative_depth(n_layers: int) -> NDArray[np.float64]:
    """Depth of each layer from 0 (first) to 1 (last); of a single layer 1.

    Examples
    --------
    >>> relative_depth(3)
    array([0. , 0.5, 1. ])
    """
    return np.linspace(0.0, 1.0, n_layers) if n_layers > 1 else np.ones(n_layers)


def monotone_path(likeness: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Align two models' layers in depth: the monotone path along which they are most alike.

    The path goes from the first layers of both to the last ones and never back. It maximises the
    sum of the likeness, where a step in both models counts twice: every path then has the same
    length (the symmetric step pattern of Sakoe and Chiba 1978).

    Examples
    --------
    >>> import numpy as np
    >>> monotone_path(np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.8]]))
    [(0, 0), (0, 1), (1, 2)]
    """
    rows, columns = likeness.shape
    best = np.full((rows, columns), -np.inf)
    came_by = np.zeros((rows, columns), dtype=int)
    steps = ((1, 1, 2.0), (1, 0, 1.0), (0, 1, 1.0))
    best[0, 0] = 2 * likeness[0, 0]
    for i in range(rows):
        for j in range(columns):
            for number, (down, right, weight) in enumerate(steps):
                if i < down or j < right:
                    continue
                reached = best[i - down, j - right] + weight * likeness[i, j]
                if reached > best[i, j]:
                    best[i, j], came_by[i, j] = reached, number
    path = [(rows - 1, columns - 1)]
    while path[-1] != (0, 0):
        down, right, _ = steps[came_by[path[-1]]]
        path.append((path[-1][0] - down, path[-1][1] - right))
    return path[::-1]


def depth_correlation(matches: NDArray[np.int64]) -> float:
    """Rank correlation of layers' depths with those of their best matches; NaN if all are one.

    Layers without a match, -1, don't count.

    Examples
    --------
    >>> import numpy as np
    >>> depth_correlation(np.array([0, 2, 1, 3]))
    0.8
    """
    from scipy.stats import spearmanr

    depths = np.flatnonzero(matches >= 0)
    matches = matches[depths]
    if len(set(matches.tolist())) < 2:
        return float("nan")
    return round(float(spearmanr(depths, matches).statistic), 12)
