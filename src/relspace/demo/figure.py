"""The figure of the digits case study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from relspace.demo.networks import NETWORKS
from relspace.pictures.plots import (
    Series,
    Theme,
    draw_image_rows,
    draw_layer_maps,
    draw_rates,
    draw_scatter,
    new_figure,
    png_of,
    themed,
)

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

    from relspace.demo.study import Study

_BAR_TITLES = {
    "top1": "same image\nis nearest",
    "top5": "same image\namong 5 nearest",
    "label": "nearest other image\nshows same digit",
}
_SERIES = [
    Series("before", "before: padded", "muted"),
    Series("before_scaled", "before: unit norm, padded", "muted", "...."),
    Series("after", "after alignment", "accent"),
    Series("shuffled", "control: landmarks shuffled", "faint"),
    Series("chance", "chance", "ground", "////"),
]


def draw_study(study: Study, theme: Theme) -> bytes:
    """Draw the whole case study as one PNG, 1,650 pixels wide.

    Parameters
    ----------
    study : Study
        From :func:`relspace.demo.study.run_study`.
    theme : Theme
        Colours of ground and ink.

    Returns
    -------
    bytes
        The PNG.
    """
    with themed(theme):
        figure = new_figure(11.0, 10.3)
        grid = figure.add_gridspec(3, 1, height_ratios=[3.25, 3.65, 3.45])
        top, middle, bottom = (figure.add_subfigure(grid[row]) for row in range(3))
        _draw_places(top, study, theme)
        _draw_nearest(middle, study, theme)
        _draw_numbers(bottom, study.summary, theme)
        return png_of(figure)


def _short_names(summary: dict[str, Any]) -> tuple[str, str]:
    sides = (summary["penultimate"]["from"], summary["penultimate"]["to"])
    first, second = (NETWORKS[side["network"]].title for side in sides)
    return first, second


def _draw_places(part: SubFigure, study: Study, theme: Theme) -> None:
    names = _short_names(study.summary)
    part.suptitle(
        "Two networks that learned the same digits apart: penultimate layers, "
        f"{len(study.digits.labels)} held-out digits, each drawn as what it is",
        x=0.03,
        ha="left",
        y=0.955,
        fontsize=11,
        fontweight="bold",
    )
    halves = {
        "before": "Before: unit norm, padded with zeros to one width",
        "after": "After: relative features in one common space",
    }
    for number, (when, title) in enumerate(halves.items()):
        places = [np.asarray(one) for one in study.places[when]]
        together = np.concatenate(places)
        low, high = together.min(0), together.max(0)
        margin = 0.06 * (high - low)
        limits = (low[0] - margin[0], high[0] + margin[0], low[1] - margin[1], high[1] + margin[1])
        left = 0.03 + 0.495 * number
        part.text(
            left,
            0.835,
            title,
            fontsize=9.5,
            color=theme.accent if number else theme.ink,
            fontweight="bold",
            va="center",
        )
        for column, (points, name) in enumerate(zip(places, names, strict=True)):
            axes = part.add_axes((left + 0.24 * column, 0.075, 0.225, 0.675))
            draw_scatter(axes, points, study.digits.labels.tolist(), limits, theme)
            axes.set_title(name, fontweight="normal", fontsize=8.5)
            axes.set_xlabel("principal component 1, shared", fontsize=7.5)
            if column == 0:
                axes.set_ylabel("principal component 2, shared", fontsize=7.5)


def _draw_nearest(part: SubFigure, study: Study, theme: Theme) -> None:
    images, labels = study.digits.images.numpy(), study.digits.labels.tolist()
    # The first queried image of every digit: chosen before anything was matched.
    shown = [labels.index(digit) for digit in range(10)]

    def mark(item: int, found: int) -> str:
        if item == found:
            return "same image"
        return "same digit" if labels[item] == labels[found] else f"no: a {labels[found]}"

    found = {when: nearest[shown].tolist() for when, nearest in study.nearest.items()}
    rows = np.stack([images[shown], *(images[items] for items in found.values())])
    marks = [[""] * 10] + [
        [mark(item, other) for item, other in zip(shown, items, strict=True)]
        for items in found.values()
    ]
    titles = [
        "asked for: the first\nqueried image of each digit",
        "nearest before,\npenultimate layers",
        "nearest after alignment,\npenultimate layers",
        "nearest after alignment,\nfirst layers",
    ]
    first, second = _short_names(study.summary)
    part.suptitle(
        f"An image goes into the {first.lower()}; which one lies nearest in the {second.lower()}?",
        x=0.03,
        ha="left",
        y=0.97,
        fontsize=11,
        fontweight="bold",
    )
    axes = part.add_axes((0.19, 0.02, 0.79, 0.86))
    draw_image_rows(axes, rows, titles, marks, theme)


def _draw_numbers(part: SubFigure, summary: dict[str, Any], theme: Theme) -> None:
    found, table = summary["penultimate"], summary["layers"]
    counts = summary["alignment"]
    part.suptitle(
        f"How often is it the right one? {counts['n_queried']} images matched, "
        f"{counts['n_landmarks']} others are the landmarks",
        x=0.03,
        ha="left",
        y=0.98,
        fontsize=11,
        fontweight="bold",
    )
    axes = part.add_axes((0.065, 0.20, 0.42, 0.64))
    axes.set_title("Penultimate layers")
    draw_rates(
        axes,
        {
            title: {bar.key: found[bar.key][rate] for bar in _SERIES}
            for rate, title in _BAR_TITLES.items()
        },
        _SERIES,
        theme,
    )
    axes.legend(frameon=False, fontsize=7.5, loc="upper left", borderaxespad=0.2)
    first, second = _short_names(summary)
    bar = draw_layer_maps(
        part,
        {
            "All layers, before: padded": 100 * np.array(table["before"]["top1"]),
            "All layers, after alignment": 100 * np.array(table["after"]["top1"]),
        },
        (f"layer of the {first.lower()}", table["rows"]["layers"]),
        (f"layer of the {second.lower()}", table["columns"]["layers"]),
        boxes=[(0.56, 0.20, 0.18, 0.64), (0.755, 0.20, 0.18, 0.64)],
        bar=(0.945, 0.20, 0.009, 0.64),
    )
    bar.set_ylabel("same image is nearest, %", fontsize=7.5)
