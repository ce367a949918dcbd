"""Drawings: even colours, settings left alone, maps and bars that show the values given."""

import matplotlib
import numpy as np
import pytest

from relspace.pictures.plots import (
    DARK,
    LIGHT,
    Series,
    Theme,
    draw_image_rows,
    draw_layer_maps,
    draw_rates,
    draw_scatter,
    even_hues,
    new_figure,
    png_of,
    themed,
)


def _luminance(colors: np.ndarray) -> np.ndarray:
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_hues_are_distinct_and_equally_light() -> None:
    colors = even_hues(10)
    assert colors.min() >= 0
    assert colors.max() <= 1
    apart = np.linalg.norm(colors[:, None] - colors[None], axis=2) + np.eye(10)
    assert apart.min() > 0.1
    assert np.ptp(_luminance(colors) ** (1 / 3)) < 0.08


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_theme_colours_the_figure_and_leaves_settings_as_they_were(theme: Theme) -> None:
    before = dict(matplotlib.rcParams)
    with themed(theme):
        figure = new_figure(1, 1)
        assert matplotlib.colors.to_hex(figure.get_facecolor()) == theme.ground
    assert dict(matplotlib.rcParams) == before


def test_bars_are_as_high_as_the_rates() -> None:
    with themed(LIGHT):
        axes = new_figure(3, 2).add_subplot()
        series = [Series("a", "A", "muted"), Series("b", "B", "accent")]
        draw_rates(
            axes, {"one": {"a": 0.1, "b": 0.9}, "two": {"a": 0.004, "b": 1.0}}, series, LIGHT
        )
    heights = sorted(bar.get_height() for bar in axes.patches)
    np.testing.assert_allclose(heights, [0.4, 10, 90, 100])
    assert {text.get_text() for text in axes.texts} == {"10", "90", "0.4", "100"}


def test_layer_maps_say_their_values_on_one_scale() -> None:
    with themed(LIGHT):
        figure = new_figure(3, 2)
        draw_layer_maps(
            figure,
            {"before": np.array([[1.0, 20.0]]), "after": np.array([[3.0, 50.0]])},
            ("mine", ["in"]),
            ("yours", ["first", "second"]),
            boxes=[(0.1, 0.2, 0.3, 0.6), (0.5, 0.2, 0.3, 0.6)],
            bar=(0.9, 0.2, 0.02, 0.6),
        )
    maps = figure.axes[:2]
    assert [axes.get_title("left") for axes in maps] == ["before", "after"]
    assert [axes.images[0].get_clim() for axes in maps] == [(0, 50)] * 2
    assert [[text.get_text() for text in axes.texts] for axes in maps] == [["1", "20"], ["3", "50"]]


def test_scatters_keep_to_the_limits_and_draw_every_point() -> None:
    with themed(LIGHT):
        axes = new_figure(2, 2).add_subplot()
        points = np.arange(40.0).reshape(20, 2)
        draw_scatter(axes, points, [i % 10 for i in range(20)], (-1, 41, -2, 42), LIGHT)
    assert (axes.get_xlim(), axes.get_ylim()) == ((-1, 41), (-2, 42))
    drawn = np.concatenate([marks.get_offsets() for marks in axes.collections])
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, points))


def test_image_rows_are_drawn_with_their_marks() -> None:
    with themed(LIGHT):
        figure = new_figure(4, 2)
        axes = figure.add_subplot()
        draw_image_rows(
            axes,
            np.zeros((2, 3, 8, 8)),
            ["top", "bottom"],
            [["a", "b", "c"], ["d", "e", "f"]],
            LIGHT,
        )
        png = png_of(figure)
    assert len(axes.images) == 6
    assert {text.get_text() for text in axes.texts} == {"top", "bottom", *"abcdef"}
    assert png.startswith(b"\x89PNG")
