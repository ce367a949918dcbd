"""Values of rival models with intervals beside a ceiling, and which of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace.pictures.theme import Look, Theme, drawn_name, new_figure, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW = 0.36
_INCHES_PER_LETTER = 0.075


def draw_ranking(
    title: str,
    axis: str,
    names: Sequence[str],
    *,
    values: NDArray[Any],
    intervals: NDArray[Any],
    chance: NDArray[Any],
    by_reference: NDArray[Any],
    above_chance: NDArray[np.bool_],
    differs: NDArray[np.bool_],
    ceiling: tuple[float, float | None] | None,
    said_of_tests: str,
    look: Look,
) -> Axes:
    """Draw models in the order given, from above, as points with intervals; differences beside.

    ``by_reference`` (n_references, n) are small points, ``above_chance`` (n,) fills those of
    models, and ``differs`` (n, n) the cells of the table to the right, which axes that are given
    have no room for.
    """
    theme, title = look.theme, look.titled(title)
    n = len(names)
    shown = [drawn_name(name, 28) for name in names]
    margin = 0.25 + _INCHES_PER_LETTER * max(map(len, shown))
    rows, side = _ROW * max(n, 2), _ROW * n if n > 1 else 0.0
    plot, below, above = 4.0, 0.95, 0.45
    width, height = margin + plot + side + 0.55, rows + below + above
    with themed(theme):
        box = (margin / width, below / height, plot / width, rows / height)
        axes = look.axes or new_figure(width, height).add_axes(box)
        rank = np.arange(n)
        if ceiling is not None:
            _draw_ceiling(axes, ceiling, theme)
        ticks: dict[str, Any] = {"marker": "|", "ms": 11, "mew": 1.4, "ls": ""}
        axes.plot(chance, rank, color=theme.muted, label="chance", **ticks)
        if len(by_reference) > 1:
            for number, of_one in enumerate(by_reference):
                label = "single references" if number == 0 else None
                style: dict[str, Any] = {"marker": ".", "ms": 3.5, "ls": ""}
                axes.plot(of_one, rank + 0.2, color=theme.muted, label=label, **style)
        axes.hlines(rank, intervals[:, 0], intervals[:, 1], color=theme.accent, lw=1.8)
        points: dict[str, Any] = {"marker": "o", "ms": 6.5, "ls": "", "mec": theme.accent}
        for of, fill, label in (
            (above_chance, theme.accent, "above chance"),
            (~above_chance, theme.ground, "not shown above chance"),
        ):
            if of.any():
                axes.plot(values[of], rank[of], mfc=fill, label=label, zorder=3, **points)
        axes.set_yticks(rank, shown)
        axes.set_ylim(max(n, 2) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=theme.faint, lw=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(axis)
        if look.axes is not None:
            axes.set_title(title)
            axes.legend(fontsize=6.5)
            return axes
        figure = axes.figure
        figure.text(
            0.1 / width, 1 - 0.2 / height, title, fontweight="bold", fontsize=9.5, va="center"
        )
        anchor = (margin / width, 0.04 / height)
        figure.legend(
            loc="lower left",
            bbox_to_anchor=anchor,
            columnspacing=1.2,
            ncols=5,
            fontsize=6.5,
            borderpad=0,
        )
        if n > 1:
            left = (margin + plot + 0.3) / width
            square = figure.add_axes((left, below / height, side / width, _ROW * n / height))
            _draw_differences(square, differs, said_of_tests, theme)
        return axes


def _draw_ceiling(axes: Axes, ceiling: tuple[float, float | None], theme: Theme) -> None:
    lower, upper = ceiling
    if upper is None:
        style: dict[str, Any] = {"lw": 1.2, "ls": (0, (4, 3))}
        axes.axvline(lower, color=theme.quiet, label="references with each other", **style)
    else:
        axes.axvspan(lower, upper, color=theme.faint, lw=0, label="noise ceiling", zorder=0)


def _draw_differences(axes: Axes, differs: NDArray[np.bool_], said: str, theme: Theme) -> None:
    """A cell for every two models, in the lines of the models: filled where they differ."""
    n = len(differs)
    for i in range(n):
        for j in range(n):
            if i != j:
                mark: dict[str, Any] = {"marker": "s", "ms": 9, "mec": theme.muted, "mew": 0.7}
                axes.plot(j, i, mfc=theme.accent if differs[i, j] else theme.ground, **mark)
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xticks=range(n), yticks=[])
    axes.set_xticklabels([str(number) for number in range(1, n + 1)], fontsize=7)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(said, fontsize=7)
