"""Colour maps: even steps, lightness in the order of the values, colours that differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relspace.pictures.color_maps import (
    DIVERGING,
    SEQUENTIAL,
    Line,
    color_map,
    even_hues,
    matplotlib_map,
    segment_colors,
)
from relspace.pictures.oklab import srgb_to_oklab


def lab(colors: np.ndarray) -> np.ndarray:
    return srgb_to_oklab(torch.from_numpy(colors / 255.0)).numpy()


def luminance(colors: np.ndarray) -> np.ndarray:
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_hues_are_distinct_and_equally_light() -> None:
    colors = even_hues(10)
    assert colors.min() >= 0
    assert colors.max() <= 1
    apart = np.linalg.norm(colors[:, None] - colors[None], axis=2) + np.eye(10)
    assert apart.min() > 0.1
    assert np.ptp(luminance(colors) ** (1 / 3)) < 0.08


@pytest.mark.parametrize("line", [SEQUENTIAL, DIVERGING])
def test_a_step_looks_as_long_anywhere_on_a_map(line: Line) -> None:
    steps = np.linalg.norm(np.diff(lab(color_map(line)), axis=0), axis=1)
    # Bytes round, and colours that no screen shows lose chroma.
    assert np.quantile(steps, 0.95) < 1.6 * np.median(steps)


def test_the_sequential_map_is_in_order_without_colour() -> None:
    lightness = lab(color_map(SEQUENTIAL))[:, 0]
    assert (np.diff(lightness) > -1e-3).all()
    assert np.ptp(lightness) > 0.75


def test_the_diverging_map_is_dark_in_the_middle_and_blue_below() -> None:
    colors = color_map(DIVERGING)
    assert lab(colors)[:, 0].argmin() == pytest.approx(128, abs=12)
    assert colors[40, 2] > colors[40, 0]
    assert colors[-40, 0] > colors[-40, 2]


@pytest.mark.parametrize("k", [2, 5, 16])
def test_segments_differ(k: int) -> None:
    colors = lab(segment_colors(k))
    apart = np.linalg.norm(colors[:, None] - colors[None], axis=2) + np.eye(k)
    assert apart.min() > 0.045


def test_figures_have_the_map_of_pages() -> None:
    np.testing.assert_allclose(matplotlib_map()(0)[:3], color_map(SEQUENTIAL)[0] / 255)
    assert matplotlib_map(reverse=True)(0) == matplotlib_map()(255)
