"""Colour maps and series of colours with even steps in OKLab, for figures and pages."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from relspace.pictures.oklab import oklab_to_srgb

if TYPE_CHECKING:
    from matplotlib.colors import ListedColormap

Line = tuple[tuple[float, float, float], ...]
#: Lightness, chroma and hue in degrees. Dark for nothing in common, light for the same; the order
#: of lightness is that of the values, for readers and printers that see no colour.
SEQUENTIAL: Line = (
    (0.19, 0.05, 285),
    (0.34, 0.13, 295),
    (0.50, 0.17, 345),
    (0.67, 0.17, 35),
    (0.83, 0.14, 75),
    (0.97, 0.09, 105),
)
#: Blue below, dark in the middle, orange above.
DIVERGING: Line = (
    (0.85, 0.10, 220),
    (0.62, 0.14, 245),
    (0.25, 0.02, 270),
    (0.65, 0.16, 45),
    (0.87, 0.11, 70),
)


@cache
def color_map(line: Line, n_colors: int = 256) -> NDArray[np.uint8]:
    """Walk along a line through OKLab in steps of one length; (n_colors, 3) bytes of sRGB.

    Examples
    --------
    >>> color_map(SEQUENTIAL)[[0, -1]]
    array([[ 18,  16,  41],
           [254, 249, 178]], dtype=uint8)
    """
    anchors = _lab(np.array(line))
    at = np.linspace(0, len(anchors) - 1, 128 * (len(anchors) - 1) + 1)
    fine = np.stack([np.interp(at, range(len(anchors)), axis) for axis in anchors.T], axis=1)
    along = np.append(0, np.linalg.norm(np.diff(fine, axis=0), axis=1).cumsum())
    steps = np.linspace(0, along[-1], n_colors)
    return _bytes(np.stack([np.interp(steps, along, axis) for axis in fine.T], axis=1))


def segment_colors(n_segments: int) -> NDArray[np.uint8]:
    """Evenly spaced hues of alternating lightness, so that neighbours differ in both."""
    number = np.arange(n_segments)
    lightness = np.where(number % 2, 0.8, 0.64)
    hue = 25 + 360 * number / n_segments
    return _bytes(_lab(np.stack([lightness, np.full(n_segments, 0.13), hue], axis=1)))


def even_hues(n_colors: int, lightness: float = 0.6) -> NDArray[np.float64]:
    """Colours of one lightness and chroma, evenly spaced in hue: sRGB in [0, 1], (n_colors, 3)."""
    hue = 360 * np.arange(n_colors) / n_colors + math.degrees(0.5)
    lch = np.stack([np.full(n_colors, lightness), np.full(n_colors, 0.13), hue], axis=1)
    return oklab_to_srgb(torch.from_numpy(_lab(lch))).numpy()


def matplotlib_map(*, reverse: bool = False) -> ListedColormap:
    """The sequential map for matplotlib."""
    from matplotlib.colors import ListedColormap

    colors = color_map(SEQUENTIAL) / 255
    return ListedColormap(colors[::-1] if reverse else colors, name="relspace")


def _lab(lch: NDArray[np.float64]) -> NDArray[np.float64]:
    hue = np.radians(lch[:, 2])
    return np.stack([lch[:, 0], lch[:, 1] * np.cos(hue), lch[:, 1] * np.sin(hue)], axis=1)


def _bytes(lab: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.round(255 * oklab_to_srgb(torch.from_numpy(lab)).numpy()).astype(np.uint8)
