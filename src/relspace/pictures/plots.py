"""Drawings of plain results: scatters, rates against chance, layer maps, nearest images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from relspace.pictures.figure import DARK, LIGHT, Theme, drawn_name, new_figure, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = [
    "DARK",
    "LIGHT",
    "SEQUENTIAL_MAP",
    "Series",
    "Theme",
    "draw_image_rows",
    "draw_layer_maps",
    "draw_rates",
    "draw_scatter",
    "drawn_name",
    "even_hues",
    "figure_bytes",
    "new_figure",
    "png_of",
    "themed",
]

#: Dark to light in both colour and grey, and the same for colour-blind readers.
SEQUENTIAL_MAP = "cividis"


@dataclass(frozen=True)
class Series:
    """One bar of every group: its key, its title, the theme's colour and a hatch."""

    key: str
    title: str
    color: Literal["accent", "muted", "faint", "ground"]
    hatch: str = ""


def png_of(figure: Figure) -> bytes:
    """Draw a figure as PNG, the same bytes for the same figure."""
    return figure_bytes(figure, "png")


def figure_bytes(figure: Figure, kind: Literal["png", "pdf", "svg"]) -> bytes:
    """Draw a figure as a file of some kind, without the time at which it was made."""
    undated = {"png": "Software", "pdf": "CreationDate", "svg": "Date"}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={undated[kind]: None})
    return buffer.getvalue()


def even_hues(n_colors: int, lightness: float = 0.6) -> NDArray[np.float64]:
    """Colours of one lightness and chroma, evenly spaced in hue.

    Parameters
    ----------
    n_colors : int
        How many.
    lightness : float
        OKLab lightness in (0, 1).

    Returns
    -------
    array of shape (n_colors, 3)
        sRGB in [0, 1].

    Notes
    -----
    Hues are taken in OKLab (Ottosson 2020), where equal steps look equal.

    Examples
    --------
    >>> even_hues(4).shape
    (4, 3)
    """
    hue = 2 * np.pi * np.arange(n_colors) / n_colors + 0.5
    chroma = 0.13
    lab = np.stack([np.full(n_colors, lightness), chroma * np.cos(hue), chroma * np.sin(hue)], 1)
    to_cone = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((lab @ to_cone.T) ** 3 @ to_linear.T, 0, 1)
    encoded: NDArray[np.float64] = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    return encoded


def draw_scatter(
    axes: Axes,
    points: NDArray[Any],
    labels: Sequence[int],
    limits: tuple[float, float, float, float],
    theme: Theme,
) -> None:
    """Draw each point as the digit it is, so that classes can be told apart without colour.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    points : array of shape (n, 2)
        Places.
    labels : sequence of int
        One digit per point.
    limits : tuple of float
        Left, right, bottom, top; the same for panels to be compared.
    theme : Theme
        Colours.
    """
    given = np.asarray(labels)
    for digit, color in enumerate(even_hues(10, theme.lightness)):
        chosen = points[given == digit]
        axes.scatter(
            chosen[:, 0], chosen[:, 1], marker=f"${digit}$", s=22, color=[color], linewidths=0.2
        )
    axes.set(xlim=limits[:2], ylim=limits[2:], xticks=[], yticks=[])
    axes.spines[["top", "right"]].set_visible(True)
    axes.spines[:].set_color(theme.faint)


def draw_rates(
    axes: Axes,
    rates: Mapping[str, Mapping[str, float]],
    series: Sequence[Series],
    theme: Theme,
) -> None:
    """Draw rates as groups of bars with their values.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    rates : mapping of str to mapping of str to float
        Groups by title; in each, a rate in [0, 1] for every series.
    series : sequence of Series
        The bars of a group from left to right.
    theme : Theme
        Colours.
    """
    width = 0.82 / len(series)
    for number, one in enumerate(series):
        places = np.arange(len(rates)) + (number - (len(series) - 1) / 2) * width
        heights = [100 * group[one.key] for group in rates.values()]
        axes.bar(
            places,
            heights,
            width * 0.9,
            label=one.title,
            color=getattr(theme, one.color),
            hatch=one.hatch,
            edgecolor=theme.ink,
            linewidth=0.4,
        )
        for place, height in zip(places, heights, strict=True):
            axes.annotate(
                f"{height:.1f}" if height < 9.95 else f"{height:.0f}",
                (place, height),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                fontweight="bold" if one.color == "accent" else "normal",
            )
    axes.set(ylim=(0, 106), ylabel="queried items, %")
    axes.set_xticks(np.arange(len(rates)), list(rates))
    axes.tick_params(axis="x", length=0)


def draw_layer_maps(
    part: Figure | SubFigure,
    tables: Mapping[str, NDArray[Any]],
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    *,
    boxes: Sequence[tuple[float, float, float, float]],
    bar: tuple[float, float, float, float],
) -> Axes:
    """Draw layer x layer tables beside each other, in colours of one range, with their values.

    Parameters
    ----------
    part : Figure or SubFigure
        Where to draw.
    tables : mapping of str to array of shape (n_rows, n_columns)
        Values from 0 on, by title.
    rows, columns : (str, sequence of str)
        What stands beside the layers, and the layers from input to output.
    boxes : sequence of (left, bottom, width, height)
        Where each table goes, as fractions of the part.
    bar : (left, bottom, width, height)
        Where the colour bar goes.

    Returns
    -------
    Axes
        Of the colour bar.
    """
    highest = float(max(values.max() for values in tables.values()))
    for number, ((title, values), box) in enumerate(zip(tables.items(), boxes, strict=True)):
        axes = part.add_axes(box)
        image = axes.imshow(values, cmap=SEQUENTIAL_MAP, vmin=0, vmax=highest, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            color = "#111111" if value > 0.6 * highest else "#ffffff"
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=7.5
            )
        axes.set_title(title)
        axes.set_xticks(
            range(len(columns[1])),
            list(columns[1]),
            rotation=30,
            ha="right",
            rotation_mode="anchor",
        )
        axes.set_xlabel(columns[0], fontsize=7.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if number:
            axes.set_yticks([])
        else:
            axes.set_yticks(range(len(rows[1])), list(rows[1]))
            axes.set_ylabel(rows[0], fontsize=7.5)
    bar_axes = part.add_axes(bar)
    part.colorbar(image, cax=bar_axes)
    bar_axes.tick_params(labelsize=7, length=2)
    bar_axes.spines[:].set_visible(False)
    return bar_axes


def draw_image_rows(
    axes: Axes,
    images: NDArray[Any],
    titles: Sequence[str],
    marks: Sequence[Sequence[str]],
    theme: Theme,
) -> None:
    """Draw rows of small grey images with a mark under each.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    images : array of shape (rows, columns, h, w)
        Grey values in [0, 1].
    titles : sequence of str
        One per row.
    marks : sequence of sequence of str
        What stands beneath each image.
    theme : Theme
        Colours.
    """
    from matplotlib.colors import LinearSegmentedColormap

    grey = LinearSegmentedColormap.from_list("ground to ink", [theme.ground, theme.ink])
    across, down = 1.8, 1.52
    for row, (line, title) in enumerate(zip(images, titles, strict=True)):
        axes.text(-0.45, row * down + 0.5, title, ha="right", va="center", linespacing=1.4)
        for column, image in enumerate(line):
            left, top = column * across, row * down
            axes.imshow(image, cmap=grey, vmin=0, vmax=1, extent=(left, left + 1, top + 1, top))
            axes.text(
                left + 0.5,
                top + 1.08,
                marks[row][column],
                ha="center",
                va="top",
                fontsize=7.5,
                fontweight="bold" if marks[row][column].startswith("same image") else "normal",
                color=theme.ink,
            )
    axes.set(
        xlim=(0, across * images.shape[1] - across + 1),
        ylim=(down * len(images), 0),
        aspect="equal",
        anchor="N",
    )
    axes.axis("off")
