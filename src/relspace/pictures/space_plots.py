"""Sets of one common space: items as points of a plane, tokens as coloured panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace.pictures.color_maps import even_hues, matplotlib_map
from relspace.pictures.theme import MARKERS, Look, drawn_name, shown_figure, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_CLASSES = 20


def draw_items(
    points: Mapping[str, NDArray[Any]],
    colors: Mapping[str, NDArray[Any]] | NDArray[Any],
    *,
    classes: Sequence[str] = (),
    look: Look | None = None,
) -> Axes:
    """Draw items of all sets (n, 2) in one plane, a marker for each set.

    ``colors`` are joint colours (n, 3) by set, or of the items whatever the set: numbers of
    ``classes`` (n,), other numbers (n,), or colours (n, 3). Thin lines join the points of an item.
    """
    look = look or Look()
    theme = look.theme
    with themed(theme):
        axes = look.axes
        if axes is None:
            axes = shown_figure(6.2, 4.6).add_subplot()
        x, y = np.stack(list(points.values()), axis=1).T
        axes.plot(x, y, color=theme.faint, linewidth=0.5, zorder=0)
        own_colors, said = colors, "joint colours"
        options: dict[str, Any] = {}
        if not isinstance(colors, Mapping):
            said = "colours of the items"
            if classes:
                said = "colours of classes"
                hues = even_hues(len(classes), theme.lightness)
                for name, hue in zip(classes[:_MOST_CLASSES], hues, strict=False):
                    axes.scatter([], [], color=[hue], s=14, label=drawn_name(name))
                own_colors = hues[colors]
            elif colors.ndim == 1:
                options = {"cmap": look.cmap or matplotlib_map()}
                options |= {"vmin": np.nanmin(colors), "vmax": np.nanmax(colors)}
        for number, (name, own) in enumerate(points.items()):
            style: dict[str, Any] = {"s": 14, "marker": MARKERS[number % len(MARKERS)]}
            c = own_colors[name] if isinstance(own_colors, Mapping) else own_colors
            drawn = axes.scatter(own[:, 0], own[:, 1], c=c, linewidths=0, **style, **options)
            axes.scatter([], [], color=theme.ink, label=drawn_name(name), **style)
        if options:
            axes.figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.03).outline.set_visible(False)
        axes.legend(loc="best", fontsize=7.5, ncols=1 + len(classes) // 8)
        both = " and ".join(map(drawn_name, points))
        axes.set(xticks=[], yticks=[])
        axes.set_title(look.titled(f"{both}: principal plane, {said}"))
    return axes


def draw_panels(colors: Mapping[str, NDArray[np.float32]], *, look: Look | None = None) -> Axes:
    """Draw images across and sets down, every token in its colour.

    ``colors`` holds arrays of shape (n_images, rows, columns, 3), sRGB in [0, 1], by set.
    """
    look = look or Look()
    n_images, n_sets = len(next(iter(colors.values()))), len(colors)
    with themed(look.theme):
        axes = look.axes
        if axes is None:
            axes = shown_figure(1.1 * n_images, 1.32 * n_sets + 0.3).add_axes((0.01, 0, 0.98, 0.9))
        axes.axis("off")
        axes.set_title(look.titled(f"{' and '.join(map(drawn_name, colors))}: joint colours"))
        width, height = 1 / n_images, 1 / n_sets
        for row, (name, maps) in enumerate(colors.items()):
            bottom = 1 - (row + 1) * height
            for column, picture in enumerate(maps):
                box = (column * width, bottom, 0.95 * width, 0.83 * height)
                panel = axes.inset_axes(box)
                panel.imshow(picture, interpolation="nearest")
                panel.axis("off")
                if not column:
                    panel.set_title(drawn_name(name), fontsize=8.5)
    return axes
