"""Curves of similarity: what is drawn, and on which axes."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

import relspace as rs


def curve() -> rs.SimilarityCurve:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5))
    Y = X + 0.5 * rng.normal(size=X.shape)
    return rs.similarity_curve(X, Y, sizes=[50, 100, 200], n_draws=3, n_permutations=19)


def test_means_chance_and_calibrated_values_are_on_a_logarithmic_axis() -> None:
    found = curve()
    axes = found.plot()
    assert axes.get_xscale() == "log"
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_allclose(drawn["value"], found.value)
    np.testing.assert_allclose(drawn["chance"], found.chance)
    np.testing.assert_allclose(drawn["calibrated"], found.calibrated)
    np.testing.assert_allclose(
        np.polyfit(np.log(found.sizes), np.log(drawn["power law"]), 1)[0], found.exponent
    )
    assert f"exponent {found.exponent:.2f}" in axes.get_title()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["50", "100", "200"]


def test_axes_can_be_given() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    assert curve().plot(ax=axes) is axes
    assert axes.lines
