"""Sets of one common space as pictures: items as points of a plane, tokens as coloured panels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from relspace.pictures.figure import LIGHT, Theme, drawn_name, new_figure, themed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart without colour, in the order of the sets.
_MARKERS = "os^Dv<>pPX*h"


def principal_plane(rows: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float64]]:
    """Bring all sets to the first two principal components of all of them together.

    Parameters
    ----------
    rows : mapping of str to tensor of shape (n_s, m)
        Rows of one space.

    Returns
    -------
    dict of str to array of shape (n_s, 2)
        Places; the sign of an axis is the one that makes its largest weight positive.

    Examples
    --------
    >>> import torch
    >>> from relspace.pictures.space_plots import principal_plane
    >>> principal_plane({"a": torch.tensor([[3.0, 0, 0], [-3, 0, 0], [0, 1, 0], [0, -1, 0]])})["a"]
    array([[ 3.,  0.],
           [-3.,  0.],
           [ 0.,  1.],
           [ 0., -1.]])
    """
    together = torch.cat(list(rows.values())).double()
    center = together.mean(dim=0)
    axes = torch.linalg.svd(together - center, full_matrices=False).Vh[:2]
    axes = axes * axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    return {name: ((one.double() - center) @ axes.T).numpy() for name, one in rows.items()}


def draw_items(
    rows: Mapping[str, torch.Tensor],
    colors: Mapping[str, NDArray[np.float32]],
    *,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw the items of all sets in their principal plane, in joint colours, a marker per set.

    Parameters
    ----------
    rows : mapping of str to tensor of shape (n, m)
        Rows of one space; row i is the same item in every set. Thin lines join its places.
    colors : mapping of str to array of shape (n, 3)
        sRGB in [0, 1].
    theme : Theme
        Colours of ground and ink.
    """
    points = principal_plane(rows)
    with themed(theme):
        figure = new_figure(6.2, 4.6)
        axes = figure.add_subplot()
        places = np.stack(list(points.values()), axis=1)
        axes.plot(places[..., 0].T, places[..., 1].T, color=theme.faint, linewidth=0.5, zorder=0)
        for number, name in enumerate(rows):
            marker = _MARKERS[number % len(_MARKERS)]
            x, y = points[name].T
            axes.scatter(x, y, s=14, c=colors[name], marker=marker, linewidths=0)
            axes.scatter([], [], s=14, color=theme.ink, marker=marker, label=drawn_name(name))
        axes.legend(frameon=False, loc="best")
        axes.set(xticks=[], yticks=[], title="First two principal components, joint colours")
    return figure


def draw_panels(colors: Mapping[str, NDArray[np.float32]], *, theme: Theme = LIGHT) -> Figure:
    """Draw images across and sets down, every token in its colour.

    Parameters
    ----------
    colors : mapping of str to array of shape (n_images, rows, columns, 3)
        sRGB in [0, 1]; the number of images is the same.
    theme : Theme
        Colours of ground and ink.
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
