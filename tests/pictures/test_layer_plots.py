"""Layer maps show the values given, in colours of one range."""

import numpy as np

from relspace.pictures.layer_plots import draw_layer_maps
from relspace.pictures.theme import LIGHT, new_figure, themed


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
    assert [axes.get_title() for axes in maps] == ["before", "after"]
    assert [axes.images[0].get_clim() for axes in maps] == [(0, 50)] * 2
    assert [[text.get_text() for text in axes.texts] for axes in maps] == [["1", "20"], ["3", "50"]]
