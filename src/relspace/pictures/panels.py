"""Panels: images in columns, layers of several models in rows, tokens in joint colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace._core.arguments import check_count
from relspace.errors import ItemMismatchError
from relspace.pictures.theme import Theme, drawn_name, figure_bytes, new_figure, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What stands over the panels, from left to right.
BEFORE = "Before: principal components of one width"
AFTER = "After: relative features in one common space"

_STEP = 1.06
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
    """Take some images of every set as lines of a panel."""
    return [
        PanelRow((titles or {}).get(name, drawn_name(name)), [pictures[image] for image in images])
        for name, pictures in colors.items()
    ]


def panel_png(
    images: Sequence[NDArray[Any]],
    halves: Mapping[str, Sequence[PanelRow]],
    theme: Theme,
    *,
    title: str,
    cell: float = 0.85,
) -> bytes:
    """Draw panels beside each other, before and after alignment for example, as one PNG.

    ``images`` are photographs of any shape, sRGB in [0, 1] or bytes, and ``halves`` panels with the
    same lines by title; the last title is in the accent. ``cell`` is the size of a picture in
    inches.
    """
    n, n_lines = len(images), 1 + max(map(len, halves.values()))
    parts = [part for rows in halves.values() for row in rows for part in row.title.split("\n")]
    margin, head = max(1.35, 0.25 + _INCHES_PER_LETTER * max(map(len, parts))), 0.72
    panel, between = n * _STEP * cell, 0.25
    width = margin + len(halves) * (panel + between)
    height = head + n_lines * _STEP * cell + 0.1
    with themed(theme):
        figure = new_figure(width, height)
        bold: dict[str, Any] = {"va": "center", "fontweight": "bold"}
        figure.text(0.12 / width, 1 - 0.22 / height, title, fontsize=11, **bold)
        for number, (name, rows) in enumerate(halves.items()):
            left = (margin + number * (panel + between)) / width
            box = (left, 0.1 / height, panel / width, (height - head - 0.1) / height)
            _draw_panel(figure.add_axes(box), images, rows, with_titles=number == 0)
            color = theme.accent if number == len(halves) - 1 else theme.ink
            figure.text(left, 1 - 0.53 / height, name, fontsize=9.5, color=color, **bold)
        return figure_bytes(figure)


def _draw_panel(
    axes: Axes, images: Sequence[NDArray[Any]], rows: Sequence[PanelRow], *, with_titles: bool
) -> None:
    """Draw images across and under each of them what every layer makes of it."""
    n = check_count(len(images), "the number of images")
    lines = [PanelRow("", images), *rows]
    for number, line in enumerate(lines):
        if len(line.pictures) != n:
            raise ItemMismatchError(
                f"the line {line.title!r} has {len(line.pictures)} pictures for {n} images."
            )
        top = number * _STEP
        for position, (picture, image) in enumerate(zip(line.pictures, images, strict=True)):
            height, width = image.shape[:2]
            across, down = min(1.0, width / height), min(1.0, height / width)
            left, above = position * _STEP + (1 - across) / 2, top + (1 - down) / 2
            box = np.array([0.0, 0.0, 1.0, 1.0]) if line.boxes is None else line.boxes[position]
            first, start, last, end = box * [down, across, down, across]
            axes.imshow(
                picture,
                extent=(left + start, left + end, above + last, above + first),
                interpolation="nearest" if number else "antialiased",
            )
        if with_titles:
            style: dict[str, Any] = {"ha": "right", "va": "center", "linespacing": 1.3}
            axes.text(-0.12, top + 0.5, line.title, fontsize=8, **style)
    gap = _STEP - 1
    axes.set(xlim=(0, n * _STEP - gap), ylim=(len(lines) * _STEP - gap, 0), aspect="equal")
    axes.set_anchor("W")
    axes.axis("off")
