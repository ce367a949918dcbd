"""The figure of the digits case study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from examples.digits.networks import NETWORKS
from relspace.pictures.color_maps import even_hues
from relspace.pictures.layer_plots import draw_layer_maps
from relspace.pictures.theme import Theme, figure_bytes, new_figure, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from examples.digits.study import Study

_GROUPS = {
    "top1": "same image\nis nearest",
    "top5": "same image\namong 5 nearest",
    "label": "nearest other image\nshows same digit",
}
#: The bars of every group: the theme's colour, a hatch, and what stands in the legend.
_BARS = {
    "before": ("muted", "", "before: padded"),
    "before_scaled": ("muted", "....", "before: unit norm, padded"),
    "after": ("accent", "", "after alignment"),
    "shuffled": ("faint", "", "control: landmarks shuffled"),
    "chance": ("ground", "////", "chance"),
}


def draw_study(study: Study, theme: Theme) -> bytes:
    """Draw the whole case study as one PNG, 1,650 pixels wide."""
    with themed(theme):
        figure = new_figure(11.0, 10.3)
        grid = figure.add_gridspec(3, 1, height_ratios=[3.25, 3.65, 3.45])
        top, middle, bottom = (figure.add_subfigure(grid[row]) for row in range(3))
        _draw_points(top, study, theme)
        _draw_nearest(middle, study, theme)
        _draw_numbers(bottom, study.summary, theme)
        return figure_bytes(figure)


def _title(part: SubFigure, text: str, y: float) -> None:
    part.suptitle(text, x=0.03, ha="left", y=y, fontsize=11, fontweight="bold")


def _names(summary: Mapping[str, Any]) -> tuple[str, str]:
    """What the two networks are called."""
    first, second = (summary["penultimate"][side]["network"] for side in ("from", "to"))
    return NETWORKS[first].title, NETWORKS[second].title


def _draw_points(part: SubFigure, study: Study, theme: Theme) -> None:
    labels = study.digits.labels.tolist()
    _title(
        part,
        "Two networks that learned the same digits apart: penultimate layers, "
        f"{len(labels)} held-out digits, each drawn as what it is",
        0.955,
    )
    halves = {
        "before": "Before: unit norm, padded with zeros to one width",
        "after": "After: relative features in one common space",
    }
    for number, (when, title) in enumerate(halves.items()):
        together = np.concatenate(study.points[when])
        margin = 0.06 * np.ptp(together, axis=0)
        limits = np.stack([together.min(0) - margin, together.max(0) + margin])
        left = 0.03 + 0.495 * number
        color = theme.accent if number else theme.ink
        part.text(left, 0.835, title, fontsize=9.5, color=color, fontweight="bold", va="center")
        for column, (points, name) in enumerate(
            zip(study.points[when], _names(study.summary), strict=True)
        ):
            axes = part.add_axes((left + 0.24 * column, 0.075, 0.225, 0.675))
            draw_digits(axes, points, labels, limits, theme)
            axes.set_title(name, fontweight="normal", fontsize=8.5)
            axes.set_xlabel("principal component 1, shared", fontsize=7.5)
            if column == 0:
                axes.set_ylabel("principal component 2, shared", fontsize=7.5)


def draw_digits(
    axes: Axes,
    points: NDArray[Any],
    labels: Sequence[int],
    limits: NDArray[Any],
    theme: Theme,
) -> None:
    """Draw each point as its digit, so that classes can be told apart without colour.

    ``limits`` holds the lowest and the highest point, the same for panels to be compared.
    """
    given = np.asarray(labels)
    for digit, color in enumerate(even_hues(10, theme.lightness)):
        x, y = points[given == digit].T
        axes.scatter(x, y, marker=f"${digit}$", s=22, color=[color], linewidths=0.2)
    axes.set(xlim=limits[:, 0], ylim=limits[:, 1], xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(theme.faint)


def _draw_nearest(part: SubFigure, study: Study, theme: Theme) -> None:
    images, labels = study.digits.images.numpy(), study.digits.labels.tolist()
    # The first queried image of every digit: chosen before anything was matched.
    shown = [labels.index(digit) for digit in range(10)]

    def mark(item: int, found: int) -> str:
        if item == found:
            return "same image"
        return "same digit" if labels[item] == labels[found] else f"no: a {labels[found]}"

    rows, marks = [images[shown]], [[""] * 10]
    for nearest in study.nearest.values():
        found = nearest[shown].tolist()
        rows.append(images[found])
        marks.append([mark(item, other) for item, other in zip(shown, found, strict=True)])
    titles = [
        "asked for: the first\nqueried image of each digit",
        "nearest before,\npenultimate layers",
        "nearest after alignment,\npenultimate layers",
        "nearest after alignment,\nfirst layers",
    ]
    first, second = (name.lower() for name in _names(study.summary))
    _title(part, f"An image goes into the {first}; which one lies nearest in the {second}?", 0.97)
    draw_image_rows(part.add_axes((0.19, 0.02, 0.79, 0.86)), np.stack(rows), titles, marks, theme)


def draw_image_rows(
    axes: Axes,
    images: NDArray[Any],
    titles: Sequence[str],
    marks: Sequence[Sequence[str]],
    theme: Theme,
) -> None:
    """Draw rows of small grey images, (rows, columns, h, w), with a mark under each."""
    from matplotlib.colors import LinearSegmentedColormap

    grey = LinearSegmentedColormap.from_list("ground to ink", [theme.ground, theme.ink])
    across, down = 1.8, 1.52
    for row, (line, title) in enumerate(zip(images, titles, strict=True)):
        top = row * down
        axes.text(-0.45, top + 0.5, title, ha="right", va="center", linespacing=1.4)
        for column, image in enumerate(line):
            left, text = column * across, marks[row][column]
            axes.imshow(image, cmap=grey, vmin=0, vmax=1, extent=(left, left + 1, top + 1, top))
            weight = "bold" if text.startswith("same image") else "normal"
            style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 7.5}
            axes.text(left + 0.5, top + 1.08, text, fontweight=weight, color=theme.ink, **style)
    width = across * images.shape[1] - across + 1
    axes.set(xlim=(0, width), ylim=(down * len(images), 0), aspect="equal", anchor="N")
    axes.axis("off")


def _draw_numbers(part: SubFigure, summary: Mapping[str, Any], theme: Theme) -> None:
    found, table, counts = summary["penultimate"], summary["layers"], summary["alignment"]
    _title(
        part,
        f"How often is it the right one? {counts['n_queried']} images matched, "
        f"{counts['n_landmarks']} others are the landmarks",
        0.98,
    )
    axes = part.add_axes((0.065, 0.20, 0.42, 0.64))
    axes.set_title("Penultimate layers")
    rates = {title: {bar: found[bar][rate] for bar in _BARS} for rate, title in _GROUPS.items()}
    draw_rates(axes, rates, theme)
    axes.legend(fontsize=7.5, loc="upper left", borderaxespad=0.2)
    first, second = (name.lower() for name in _names(summary))
    bar = draw_layer_maps(
        part,
        {
            "All layers, before: padded": 100 * np.array(table["before"]["top1"]),
            "All layers, after alignment": 100 * np.array(table["after"]["top1"]),
        },
        (f"layer of the {first}", table["rows"]["layers"]),
        (f"layer of the {second}", table["columns"]["layers"]),
        boxes=[(0.56, 0.20, 0.18, 0.64), (0.755, 0.20, 0.18, 0.64)],
        bar=(0.945, 0.20, 0.009, 0.64),
    )
    bar.set_ylabel("same image is nearest, %", fontsize=7.5)


def draw_rates(axes: Axes, groups: Mapping[str, Mapping[str, float]], theme: Theme) -> None:
    """Draw rates, by group and by bar, as groups of bars with their values in percent."""
    width = 0.82 / len(_BARS)
    for number, (key, (color, hatch, title)) in enumerate(_BARS.items()):
        x = np.arange(len(groups)) + (number - (len(_BARS) - 1) / 2) * width
        heights = [100 * group[key] for group in groups.values()]
        style: dict[str, Any] = {"color": vars(theme)[color], "hatch": hatch, "label": title}
        axes.bar(x, heights, width * 0.9, edgecolor=theme.ink, linewidth=0.4, **style)
        weight = "bold" if color == "accent" else "normal"
        for at, height in zip(x, heights, strict=True):
            text = f"{height:.1f}" if height < 9.95 else f"{height:.0f}"
            above: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}
            axes.annotate(text, (at, height), (0, 2), fontsize=7, fontweight=weight, **above)
    axes.set(ylim=(0, 106), ylabel="queried items, %")
    axes.set_xticks(np.arange(len(groups)), list(groups))
    axes.tick_params(axis="x", length=0)
