"""Pictures of spaces for notebooks: every item and token is drawn, in joint colours."""

from __future__ import annotations

import matplotlib
import numpy as np
import torch

import relspace
from relspace.embedding.joint_colors import joint_colors
from relspace.features import FeatureSet
from relspace.kernels.axes import principal_plane
from relspace.pictures.space_plots import draw_items
from relspace.pictures.theme import DARK


def features(n: int = 50, width: int = 6) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(0))


def test_items_are_points_that_agree_where_geometry_does() -> None:
    X = features()
    figure = relspace.align({"a": X, "b": 2 * X.flip(1)}).plot(n_items=30)
    (axes,) = figure.axes
    first, _, second, _ = (marks.get_offsets() for marks in axes.collections)
    assert len(first) == 30
    np.testing.assert_allclose(first, second, atol=1e-3)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_tokens_are_panels_of_images_by_sets() -> None:
    maps = torch.randn(5, 6, 4, 3, generator=torch.Generator().manual_seed(0))
    fs = FeatureSet.from_arrays({"late": maps}, layout="bhwc")
    figure = relspace.align({"a": fs, "b": fs.pool((3, 2))}, landmarks=60).plot(n_images=4)
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    assert [picture.shape for picture in pictures] == [(6, 4, 3)] * 4 + [(3, 2, 3)] * 4
    assert figure.axes[0].get_title(loc="left") == "a"


def test_a_theme_is_followed_and_settings_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    rows = {"a": features(), "b": features()}
    figure = draw_items(principal_plane(rows), joint_colors(rows), theme=DARK)
    assert matplotlib.colors.to_hex(figure.get_facecolor()) == DARK.ground
    assert dict(matplotlib.rcParams) == before
