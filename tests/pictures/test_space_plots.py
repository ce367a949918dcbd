"""Pictures of spaces for notebooks: every item and token is drawn, in joint colours."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import relspace
from relspace.embedding.joint_colors import joint_colors
from relspace.errors import InvalidInputError
from relspace.features import FeatureSet
from relspace.kernels.axes import principal_plane
from relspace.pictures.space_plots import draw_items
from relspace.pictures.theme import DARK, Look


def features(n: int = 50, width: int = 6) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(0))


def test_items_are_points_that_agree_where_geometry_does() -> None:
    X = features()
    figure = relspace.align({"a": X, "b": 2 * X.flip(1)}).plot(n_items=30).figure
    (axes,) = figure.axes
    first, _, second, _ = (marks.get_offsets() for marks in axes.collections)
    assert len(first) == 30
    np.testing.assert_allclose(first, second, atol=1e-3)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_tokens_are_panels_of_images_by_sets() -> None:
    maps = torch.randn(5, 6, 4, 3, generator=torch.Generator().manual_seed(0))
    fs = FeatureSet.from_arrays({"late": maps}, layout="bhwc")
    figure = relspace.align({"a": fs, "b": fs.pool((3, 2))}, landmarks=60).plot(n_images=4).figure
    (whole,) = figure.axes
    panels = whole.child_axes
    pictures = [axes.images[0].get_array() for axes in panels]
    assert [picture.shape for picture in pictures] == [(6, 4, 3)] * 4 + [(3, 2, 3)] * 4
    assert panels[0].get_title() == "a"
    assert whole.get_title() == "a and b: joint colours"


def test_a_theme_is_followed_and_settings_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    rows = {"a": features(), "b": features()}
    figure = draw_items(principal_plane(rows), joint_colors(rows), look=Look(theme=DARK)).figure
    assert matplotlib.colors.to_hex(figure.get_facecolor()) == DARK.ground
    assert dict(matplotlib.rcParams) == before


def test_items_are_coloured_by_their_classes() -> None:
    space = relspace.align({"a": features(), "b": 2 * features()})
    labels = ["cat", "dog"] * 25
    axes = space.plot(labels=labels)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["cat", "dog", "a", "b"]
    drawn = axes.collections[2].get_facecolors()
    assert len(np.unique(drawn[0::2], axis=0)) == len(np.unique(drawn[1::2], axis=0)) == 1
    assert not np.allclose(drawn[0], drawn[1])


def test_items_are_coloured_by_numbers_in_axes_and_a_map_that_are_given() -> None:
    figure = Figure()
    given = figure.add_subplot()
    space = relspace.align({"a": features(), "b": 2 * features()})
    axes = space.plot(color=np.arange(50.0), ax=given, cmap="gray", title="mine")
    assert axes is given
    assert axes.get_title() == "mine"
    shown = axes.collections[0].to_rgba(np.array([0.0, 49.0]))
    np.testing.assert_allclose(shown[:, :3], [[0, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize("given", [{"labels": ["a"] * 49}, {"color": np.zeros(51)}])
def test_there_is_one_label_or_colour_for_each_item(given: Any) -> None:
    space = relspace.align({"a": features(), "b": 2 * features()})
    with pytest.raises(InvalidInputError, match="entries and the space 50 items"):
        space.plot(**given)
    with pytest.raises(InvalidInputError, match="give one"):
        space.plot(labels=range(50), color=range(50))
