"""Drawings of layer by layer comparisons: maps with their best matches, depth curves, models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from relspace.report.plots import LIGHT, SEQUENTIAL_MAP, Theme, even_hues, new_figure, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Table = NDArray[np.float64]

_MOST_NAMES = 16
_MOST_NUMBERS = 12
# Told apart without colour, in the order of the models.
_MARKERS = "os^Dv<>pPX*h"


def draw_layer_comparison(
    title: str,
    models: tuple[str, str],
    layers: tuple[Sequence[str], Sequence[str]],
    values: Table,
    chance: Table,
    drift: tuple[Table, Table],
    path: Sequence[tuple[int, int]],
    *,
    is_distance: bool,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw a layer x layer table with its best matches, and values against relative depth.

    Parameters
    ----------
    title : str
        What was measured.
    models : (str, str)
        Names, rows first.
    layers : (sequence of str, sequence of str)
        Layers from input to output.
    values, chance : array of shape (L, M)
        The table and its chance levels.
    drift : (array of shape (L - 1,), array of shape (M - 1,))
        Values between consecutive layers.
    path : sequence of (int, int)
        Monotone alignment.
    is_distance : bool
        Whether small values mean alike.
    theme : Theme
        Colours.

    Returns
    -------
    Figure
        Three panels; the curves share one scale.
    """
    with themed(theme):
        figure = new_figure(9.6, 4.1)
        grid = figure.add_gridspec(
            2,
            2,
            width_ratios=(1.15, 1),
            hspace=0.55,
            wspace=0.28,
            left=0.1,
            right=0.985,
            top=0.91,
            bottom=0.15,
        )
        axes = figure.add_subplot(grid[:, 0])
        image = _draw_map(axes, values, models, layers, is_distance=is_distance, theme=theme)
        _mark_matches(axes, -values if is_distance else values, path, theme)
        bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.03)
        bar.outline.set_visible(False)
        bar.set_label(title)
        best, step = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
        likeness = -values if is_distance else values
        for axis, (name, style) in enumerate(zip(models, ("-", (0, (4, 2))), strict=True)):
            color = theme.accent if axis == 0 else theme.ink
            marker = _MARKERS[axis]
            match = likeness.argmax(axis=1 - axis)
            reached = np.take_along_axis(values, np.expand_dims(match, 1 - axis), 1 - axis)
            by_chance = np.take_along_axis(chance, np.expand_dims(match, 1 - axis), 1 - axis)
            depth = _depths(len(match))
            best.plot(
                depth, reached.ravel(), ls=style, marker=marker, ms=3.5, color=color, label=name
            )
            best.plot(depth, by_chance.ravel(), ls=":", lw=1.2, color=theme.muted)
            if len(drift[axis]):
                between = (_depths(len(match))[1:] + _depths(len(match))[:-1]) / 2
                step.plot(between, drift[axis], ls=style, marker=marker, ms=3.5, color=color)
        best.plot([], [], ls=":", lw=1.2, color=theme.muted, label="chance")
        best.legend(frameon=False, fontsize=7.5, loc="best")
        best.set_title("Best match in the other model")
        step.set_title("From layer to layer within a model")
        step.set_xlabel("relative depth (0 first layer, 1 last)")
        every = np.concatenate([values.ravel(), chance.ravel(), *drift])
        margin = 0.06 * float(np.ptp(every)) or 0.1
        for one in (best, step):
            one.set(xlim=(-0.03, 1.03), ylim=(every.min() - margin, every.max() + margin))
            one.set_ylabel(title, fontsize=7.5)
            one.grid(axis="y", color=theme.faint, lw=0.6)
            one.set_axisbelow(True)
        return figure


def _depths(n_layers: int) -> Table:
    return np.linspace(0, 1, n_layers) if n_layers > 1 else np.array([0.5])


def _draw_map(
    axes: Axes,
    values: Table,
    models: Sequence[str],
    layers: tuple[Sequence[str], Sequence[str]],
    *,
    is_distance: bool,
    theme: Theme,
) -> Any:
    """Draw a table in colour, light being alike, with its numbers where there is room."""
    color_map = SEQUENTIAL_MAP + "_r" if is_distance else SEQUENTIAL_MAP
    image = axes.imshow(values, cmap=color_map, aspect="auto")
    low, high = float(values.min()), float(values.max())
    if max(values.shape) <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            light = (value - low) / ((high - low) or 1.0)
            dark_ink = (1 - light if is_distance else light) > 0.55
            axes.text(
                column,
                row + 0.3,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=5.5,
                color="#111111" if dark_ink else "#ffffff",
            )
    for names, set_ticks in ((layers[1], axes.set_xticks), (layers[0], axes.set_yticks)):
        step = -(-len(names) // _MOST_NAMES)
        set_ticks(range(0, len(names), step), list(names)[::step], fontsize=7)
    axes.tick_params(length=0)
    for tick in axes.get_xticklabels():
        tick.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.set_ylabel(models[0])
    axes.set_xlabel(models[1])
    axes.spines[:].set_visible(False)
    axes.set_title("Layers")
    return image


def _mark_matches(
    axes: Axes, likeness: Table, path: Sequence[tuple[int, int]], theme: Theme
) -> None:
    """Mark each layer's best match both ways, and the monotone path; dark on light and back."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2.6, foreground="#111111")]
    rows, columns = zip(*path, strict=True)
    axes.plot(columns, rows, color="#ffffff", lw=1.1, path_effects=outline, label="aligned depth")
    of_rows, of_columns = likeness.argmax(axis=1), likeness.argmax(axis=0)
    axes.plot(
        of_rows,
        np.arange(len(of_rows)),
        ls="",
        marker="o",
        ms=5,
        mfc="#ffffff",
        mec="#111111",
        label="best of row",
    )
    axes.plot(
        np.arange(len(of_columns)),
        of_columns,
        ls="",
        marker="s",
        ms=8.5,
        mfc="none",
        mec="#ffffff",
        mew=1.2,
        path_effects=outline,
        label="best of column",
    )
    legend = axes.legend(
        frameon=True,
        facecolor=theme.muted,
        edgecolor="none",
        fontsize=6.5,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.005),
        ncols=3,
        borderpad=0.25,
        handletextpad=0.4,
        columnspacing=0.8,
        borderaxespad=0.3,
    )
    for text in legend.get_texts():
        text.set_color("#111111")


def draw_model_comparison(
    title: str,
    models: Sequence[str],
    summary: Table,
    merges: Table,
    points: Mapping[str, Table],
    explained: float,
    best: Mapping[str, Mapping[str, Table]],
    chance: float,
    *,
    is_distance: bool,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw models by their mean best match, their hierarchy, all layers in a plane, and by depth.

    Parameters
    ----------
    title : str
        What was measured.
    models : sequence of str
        Names.
    summary : array of shape (n_models, n_models)
        Mean best matches.
    merges : array of shape (n_models - 1, 4)
        The hierarchy, as SciPy's linkages.
    points : mapping of str to array of shape (L, 2)
        Places of each model's layers, from input to output.
    explained : float
        Share of the variance that the plane holds.
    best : mapping of str to mapping of str to array of shape (L,)
        Model x model x layer.
    chance : float
        What unrelated features give.
    is_distance : bool
        Whether small values mean alike.
    theme : Theme
        Colours.

    Returns
    -------
    Figure
        A table, a tree, a plane, and for each model the values of its layers in the others on one
        scale.
    """
    from scipy.cluster.hierarchy import dendrogram

    count = len(models)
    colors = even_hues(count, theme.lightness)
    with themed(theme):
        columns = min(4, count)
        rows = -(-count // columns)
        figure = new_figure(9.6, 3.6 + 1.75 * rows)
        top, below = cast(
            "tuple[SubFigure, SubFigure]",
            figure.subfigures(2, 1, height_ratios=(3.6, 1.75 * rows)),
        )
        table, tree, plane = top.subplots(
            1,
            3,
            gridspec_kw={
                "width_ratios": (1.1, 0.8, 1.4),
                "left": 0.1,
                "right": 0.985,
                "top": 0.9,
                "bottom": 0.2,
                "wspace": 0.45,
            },
        )
        off = summary[~np.eye(count, dtype=bool)]
        shown = np.where(np.eye(count, dtype=bool), np.nan, summary)
        color_map = SEQUENTIAL_MAP + "_r" if is_distance else SEQUENTIAL_MAP
        table.imshow(shown, cmap=color_map)
        for (row, column), value in np.ndenumerate(shown):
            if row == column:
                continue
            light = (value - off.min()) / ((off.max() - off.min()) or 1.0)
            dark_ink = (1 - light if is_distance else light) > 0.55
            table.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="#111111" if dark_ink else "#ffffff",
            )
        table.set_xticks(range(count), models, rotation=40, ha="right", rotation_mode="anchor")
        table.set_yticks(range(count), models)
        table.tick_params(length=0)
        table.spines[:].set_visible(False)
        table.set_title("Mean best match")
        dendrogram(
            merges,
            labels=list(models),
            ax=tree,
            orientation="left",
            link_color_func=lambda _: theme.ink,
        )
        tree.tick_params(axis="y", length=0, labelsize=8)
        tree.set_xlabel("dissimilarity")
        tree.set_title("Hierarchy")
        for number, name in enumerate(models):
            places, color = points[name], colors[number]
            plane.plot(*places.T, color=color, lw=1.0, alpha=0.7)
            sizes = np.linspace(10, 46, len(places))
            plane.scatter(
                *places.T,
                s=sizes,
                color=[color],
                marker=_MARKERS[number % len(_MARKERS)],
                edgecolors=theme.ink,
                linewidths=0.4,
                label=name,
                zorder=2,
            )
        plane.set_aspect("equal", adjustable="datalim")
        plane.set(xticks=[], yticks=[])
        plane.set_xlabel(
            f"larger marks: deeper layers; plane holds {explained:.0%} of the variance"
        )
        plane.set_title(f"All layers, {title}")
        plane.legend(frameon=False, fontsize=7, loc="best")
        every = np.concatenate(
            [values for name, one in best.items() for other, values in one.items() if other != name]
        )
        every = np.append(every, chance)
        margin = 0.06 * float(np.ptp(every)) or 0.1
        panels = below.subplots(
            rows,
            columns,
            squeeze=False,
            sharex=True,
            sharey=True,
            gridspec_kw={"left": 0.1, "right": 0.985, "top": 0.86, "bottom": 0.26 / rows},
        ).ravel()
        for panel in panels[count:]:
            panel.set_visible(False)
        for panel, (name, of_one) in zip(panels, best.items(), strict=False):
            for number, (other, values) in enumerate(of_one.items()):
                if other == name:
                    continue
                panel.plot(
                    _depths(len(values)),
                    values,
                    color=colors[number],
                    lw=1.2,
                    ms=3.5,
                    marker=_MARKERS[number % len(_MARKERS)],
                )
            panel.axhline(chance, color=theme.muted, ls=":", lw=1.2)
            panel.set_title(f"Layers of {name} in the others", fontsize=8)
            panel.set_ylim(every.min() - margin, every.max() + margin)
            panel.grid(axis="y", color=theme.faint, lw=0.6)
        for panel in panels[max(0, count - columns) : count]:
            panel.set_xlabel("relative depth")
            panel.tick_params(labelbottom=True)
        panels[0].set_ylabel(title, fontsize=7.5)
        return figure
