"""Values against the number of items, on a logarithmic axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace.pictures.theme import LIGHT, Theme, shown_figure, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_curve(
    measure: str,
    axis: str,
    sizes: NDArray[np.int64],
    *,
    values: NDArray[Any],
    chance: NDArray[Any],
    thresholds: NDArray[Any],
    calibrated: NDArray[Any] | None,
    slope: tuple[float, tuple[float, float] | None] | None,
    title: str | None = None,
    axes: Axes | None = None,
    theme: Theme = LIGHT,
) -> Axes:
    """Draw values (n_sizes, n_draws), their means, chance up to the threshold, calibrated values.

    ``slope`` is the exponent of a power law, with its interval; the law is drawn through the means.
    """
    with themed(theme):
        if axes is None:
            axes = shown_figure(5.6, 3.6).add_axes((0.11, 0.19, 0.86, 0.7))
        mean = values.mean(axis=1)
        for draw in values.T:
            axes.plot(sizes, draw, color=theme.accent, lw=0.5, alpha=0.35)
        axes.plot(sizes, mean, "o-", color=theme.accent, lw=1.8, ms=4.5, label="value", zorder=3)
        said = ""
        if slope is not None:
            exponent, interval = slope
            logs = np.log(sizes)
            law = np.exp(np.log(mean).mean() + exponent * (logs - logs.mean()))
            axes.plot(sizes, law, ls=(0, (4, 3)), color=theme.ink, lw=1.0, label="power law")
            said = f": exponent {exponent:.2f}"
            if interval is not None:
                said += f" ({interval[0]:.2f} to {interval[1]:.2f})"
        if calibrated is not None:
            axes.plot(sizes, calibrated, "s-", color=theme.ink, lw=1.1, ms=3.5, label="calibrated")
        axes.plot(sizes, chance, "^:", color=theme.quiet, lw=1.2, ms=3.5, label="chance")
        axes.fill_between(sizes, chance, thresholds, color=theme.muted, alpha=0.35, lw=0)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        axes.minorticks_off()
        for tick in axes.get_xticklabels():
            tick.set(rotation=35 if len(sizes) > 9 else 0, ha="center", fontsize=7.5)
        axes.grid(axis="y", color=theme.faint, lw=0.6)
        axes.set_xlabel(axis)
        axes.set_title(f"{measure}{said}" if title is None else title)
        axes.legend(fontsize=7.5, ncols=2)
        return axes
