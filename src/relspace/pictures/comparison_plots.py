"""A value on its null distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace.pictures.theme import LIGHT, Theme, drawn_name, shown_figure, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_comparison(
    measure: str,
    names: tuple[str, str],
    *,
    value: float,
    chance: float,
    null: NDArray[Any],
    interval: tuple[float, float] | None,
    ceiling: float | None,
    p_value: float | None,
    threshold: float | None = None,
    calibrated: float | None = None,
    title: str | None = None,
    axes: Axes | None = None,
    theme: Theme = LIGHT,
) -> Axes:
    """Draw a value on the axis of its measure, beside what permutations of the items give.

    ``chance`` is the mean of the ``null``, values under permutation, which may be empty;
    ``interval`` is that of the value, ``ceiling`` what split halves reach, and ``threshold`` what
    the value has to pass to be shown.
    """
    with themed(theme):
        if axes is None:
            axes = shown_figure(5.4, 2.6).add_axes((0.1, 0.2, 0.86, 0.66))
        top = 1.0
        if len(null) > 1:
            label = f"{len(null)} permutations of items"
            counts, _, _ = axes.hist(null, bins="auto", color=theme.muted, label=label)
            top = float(np.max(counts))
            axes.set_ylabel("permutations")
        else:
            axes.axvline(chance, color=theme.muted, lw=3, label="chance")
            axes.set_yticks([])
        height = 0.55 * top
        axes.plot([value, value], [0, 1.18 * height], color=theme.accent, lw=2.2)
        if interval is not None:
            style: dict[str, Any] = {"color": theme.accent, "lw": 1.2, "marker": "|", "ms": 7}
            axes.plot(interval, [height, height], **style, label="95 % interval")
        axes.plot([value], [height], "o", color=theme.accent, ms=6, label="value", zorder=3)
        if ceiling is not None:
            axes.axvline(ceiling, color=theme.ink, lw=1.2, ls=(0, (4, 3)), label="ceiling")
        if threshold is not None:
            style = {"color": theme.ink, "lw": 1.2, "ls": ":"}
            axes.axvline(threshold, **style, label="threshold")
        axes.set_ylim(0, 1.15 * top)
        axes.margins(x=0.08)
        axes.set_xlabel(measure)
        said = "" if p_value is None else f", p = {p_value:.3g}"
        said += "" if calibrated is None else f", calibrated {calibrated:.3f}"
        both = " and ".join(map(drawn_name, names))
        found = f"{both}: {value:.3f}, chance {chance:.3f}{said}"
        axes.set_title(found if title is None else title)
        axes.legend(fontsize=7.5, loc="upper center", ncols=2)
        return axes
