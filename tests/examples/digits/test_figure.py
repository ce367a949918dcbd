"""Drawings of the demo: bars as high as the rates, every point and image drawn."""

import numpy as np

from examples.digits.figure import draw_digits, draw_image_rows, draw_rates
from relspace.pictures.theme import LIGHT, figure_bytes, new_figure, themed

BARS = ("before", "before_scaled", "after", "shuffled", "chance")


def test_bars_are_as_high_as_the_rates() -> None:
    first = dict(zip(BARS, (0.1, 0.2, 0.9, 0.004, 0.0), strict=True))
    with themed(LIGHT):
        axes = new_figure(3, 2).add_subplot()
        draw_rates(axes, {"one": first, "two": dict.fromkeys(BARS, 1.0)}, LIGHT)
    heights = sorted(bar.get_height() for bar in axes.patches)
    np.testing.assert_allclose(heights, [0, 0.4, 10, 20, 90, *[100] * 5])
    assert {text.get_text() for text in axes.texts} == {"10", "20", "90", "0.4", "0.0", "100"}


def test_scatters_keep_to_the_limits_and_draw_every_point() -> None:
    with themed(LIGHT):
        axes = new_figure(2, 2).add_subplot()
        points = np.arange(40.0).reshape(20, 2)
        limits = np.array([[-1, -2], [41, 42]])
        draw_digits(axes, points, [i % 10 for i in range(20)], limits, LIGHT)
    assert (axes.get_xlim(), axes.get_ylim()) == ((-1, 41), (-2, 42))
    drawn = np.concatenate([marks.get_offsets() for marks in axes.collections])
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, points))


def test_image_rows_are_drawn_with_their_marks() -> None:
    with themed(LIGHT):
        figure = new_figure(4, 2)
        axes = figure.add_subplot()
        images = np.zeros((2, 3, 8, 8))
        draw_image_rows(axes, images, ["top", "bottom"], [["a", "b", "c"], ["d", "e", "f"]], LIGHT)
        png = figure_bytes(figure)
    assert len(axes.images) == 6
    assert {text.get_text() for text in axes.texts} == {"top", "bottom", *"abcdef"}
    assert png.startswith(b"\x89PNG")
