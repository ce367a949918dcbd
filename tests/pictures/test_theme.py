"""Themes colour figures and leave matplotlib's settings alone."""

import matplotlib
import pytest

from relspace.pictures.theme import DARK, LIGHT, Theme, new_figure, themed


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_theme_colours_the_figure_and_leaves_settings_as_they_were(theme: Theme) -> None:
    before = dict(matplotlib.rcParams)
    with themed(theme):
        figure = new_figure(1, 1)
        assert matplotlib.colors.to_hex(figure.get_facecolor()) == theme.ground
    assert dict(matplotlib.rcParams) == before
