"""Panels: images across, layers of several models down, tokens in their joint colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace._core.validation import check_count
from relspace.errors import ItemMismatchError
from relspace.pictures.plots import Theme, drawn_name, new_figure, png_of, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What stands over the panels, from left to right.
BEFORE = "Before: principal components of one width"
AFTER = "After: relative features in one common space"

_GAP = 0.06
# Of titles beside lines.
_INCHES_PER_LETTER = 0.068


@dataclass(frozen=True)
class PanelRow:
    """One line of a panel: the same images as one layer of one model sees them.

    Attributes
    ----------
    title : str
        What stands to the left of it.
    pictures : sequence of n arrays of shape (h, w, 3)
        sRGB in [0, 1].
    boxes : array of shape (n, 4), optional
        Top, left, bottom and right of the part of the image that each picture covers, as fractions
        of its height and width; all of it by default.
    """

    title: str
    pictures: Sequence[NDArray[Any]]
    boxes: NDArray[Any] | None = None


def panel_rows(
    colors: Mapping[str, NDArray[np.float32]],
    images: Sequence[int],
    *,
    titles: Mapping[str, str] | None = None,
) -> list[PanelRow]:
    """Take some images of every set as lines of a panel.

    Parameters
    ----------
    colors : mapping of str to array of shape (n_images, rows, columns, 3)
        sRGB in [0, 1], in place.
    images : sequence of int
        Which images, by position.
    titles : mapping of str to str, optional
        What the sets are called; their names by default.
    """
    return [
        PanelRow((titles or {}).get(name, drawn_name(name)), [pictures[image] for image in images])
        for name, pictures in colors.items()
    ]


def draw_panel(
    axes: Axes,
    images: Sequence[NDArray[Any]],
    rows: Sequence[PanelRow],
    theme: Theme,
    *,
    with_titles: bool = True,
) -> None:
    """Draw images across and under each of them what every layer makes of it.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    images : sequence of n arrays of shape (h, w, 3)
        Photographs, sRGB in [0, 1] or as bytes; of any shape each.
    rows : sequence of PanelRow
        The lines, each with n pictures.
    theme : Theme
        Colours.
    with_titles : bool
        Whether the lines' titles are written.
    """
    n = check_count(len(images), "the number of images")
    lines = [PanelRow("", images), *rows]
    for number, line in enumerate(lines):
        if len(line.pictures) != n:
            raise ItemMismatchError(
                f"the line {line.title!r} has {len(line.pictures)} pictures for {n} images."
            )
        top = number * (1 + _GAP)
        for place, (picture, image) in enumerate(zip(line.pictures, images, strict=True)):
            height, width = image.shape[:2]
            across, down = min(1.0, width / height), min(1.0, height / width)
            left, above = place * (1 + _GAP) + (1 - across) / 2, top + (1 - down) / 2
            box = np.array([0.0, 0.0, 1.0, 1.0]) if line.boxes is None else line.boxes[place]
            first, start, last, end = box * [down, across, down, across]
            axes.imshow(
                picture,
                extent=(left + start, left + end, above + last, above + first),
                interpolation="antialiased" if number == 0 else "nearest",
            )
        if with_titles:
            axes.text(
                -0.12, top + 0.5, line.title, ha="right", va="center", linespacing=1.3, fontsize=8
            )
    axes.set(
        xlim=(0, n * (1 + _GAP) - _GAP),
        ylim=(len(lines) * (1 + _GAP) - _GAP, 0),
        aspect="equal",
        anchor="W",
    )
    axes.set_facecolor(theme.ground)
    axes.axis("off")


def panel_png(
    images: Sequence[NDArray[Any]],
    halves: Mapping[str, Sequence[PanelRow]],
    theme: Theme,
    *,
    title: str,
    cell: float = 0.85,
) -> bytes:
    """Draw panels beside each other, before and after alignment for example, as one PNG.

    Parameters
    ----------
    images : sequence of arrays of shape (h, w, 3)
        Photographs.
    halves : mapping of str to sequence of PanelRow
        Panels by title, with the same lines.
    theme : Theme
        Colours; the last panel's title is in the accent.
    title : str
        What stands above all.
    cell : float
        Size of a picture in inches.

    Returns
    -------
    bytes
        The PNG.
    """
    n, lines = len(images), 1 + max(len(rows) for rows in halves.values())
    longest = max(
        len(part) for rows in halves.values() for row in rows for part in row.title.split("\n")
    )
    margin, head = max(1.35, 0.25 + _INCHES_PER_LETTER * longest), 0.72
    panel, between = n * (1 + _GAP) * cell, 0.25
    width = margin + len(halves) * (panel + between)
    height = head + lines * (1 + _GAP) * cell + 0.1
    with themed(theme):
        figure = new_figure(width, height)
        figure.text(
            0.12 / width,
            1 - 0.22 / height,
            title,
            ha="left",
            va="center",
            fontsize=11,
            fontweight="bold",
        )
        for number, (name, rows) in enumerate(halves.items()):
            left = margin + number * (panel + between)
            axes = figure.add_axes(
                (left / width, 0.1 / height, panel / width, (height - head - 0.1) / height)
            )
            draw_panel(axes, images, rows, theme, with_titles=number == 0)
            figure.text(
                left / width,
                1 - 0.53 / height,
                name,
                fontsize=9.5,
                fontweight="bold",
                va="center",
                color=theme.accent if number == len(halves) - 1 else theme.ink,
            )
        return png_of(figure)
