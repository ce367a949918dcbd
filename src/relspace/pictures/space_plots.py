"""Sets of one common space: items as points of a plane, tokens as coloured panels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace.pictures.theme import LIGHT, MARKERS, Theme, drawn_name, new_figure, themed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_items(
    points: Mapping[str, NDArray[Any]],
    colors: Mapping[str, NDArray[np.float32]],
    *,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw items of all sets (n, 2) in one plane, in joint colours (n, 3), a marker for each set.

    Thin lines join the points of one item.
    """
    with themed(theme):
        figure = new_figure(6.2, 4.6)
        axes = figure.add_subplot()
        x, y = np.stack(list(points.values()), axis=1).T
        axes.plot(x, y, color=theme.faint, linewidth=0.5, zorder=0)
        for number, (name, own) in enumerate(points.items()):
            style: dict[str, Any] = {"s": 14, "marker": MARKERS[number % len(MARKERS)]}
            axes.scatter(own[:, 0], own[:, 1], c=colors[name], linewidths=0, **style)
            axes.scatter([], [], color=theme.ink, label=drawn_name(name), **style)
        axes.legend(loc="best")
        axes.set(xticks=[], yticks=[], title="First two principal components, joint colours")
    return figure


def draw_panels(colors: Mapping[str, NDArray[np.float32]], *, theme: Theme = LIGHT) -> Figure:
    """Draw images across and sets down, every token in its colour.

    ``colors`` holds arrays of shape (n_images, rows, columns, 3), sRGB in [0, 1], by set.
    """
    n_images = len(next(iter(colors.values())))
    with themed(theme):
        figure = new_figure(1.1 * n_images, 1.32 * len(colors))
        panels = figure.subplots(len(colors), n_images, squeeze=False)
        for line, (name, maps) in zip(panels, colors.items(), strict=True):
            for axes, picture in zip(line, maps, strict=True):
                axes.imshow(picture, interpolation="nearest")
                axes.axis("off")
            line[0].set_title(drawn_name(name), fontsize=8.5)
        figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.2 / len(colors), 0.05, 0.25)
    return figure
