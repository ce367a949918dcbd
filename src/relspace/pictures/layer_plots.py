"""Drawings of layer by layer comparisons: maps with their best matches, depth curves, models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from relspace.pictures.plots import (
    LIGHT,
    SEQUENTIAL_MAP,
    Theme,
    drawn_name,
    even_hues,
    new_figure,
    themed,
)

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
        The table and its chance levels; NaN where there is none.
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
    models = drawn_name(models[0]), drawn_name(models[1])
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
        likeness = np.where(np.isnan(values), -np.inf, -values if is_distance else values)
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
        low, high = _span(np.concatenate([values.ravel(), chance.ravel(), *drift]))
        for one in (best, step):
            one.set(xlim=(-0.03, 1.03), ylim=(low, high))
            one.set_ylabel(title, fontsize=7.5)
            one.grid(axis="y", color=theme.faint, lw=0.6)
            one.set_axisbelow(True)
        return figure


def _span(values: Table) -> tuple[float, float]:
    """The range of an axis that holds all values there are."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.06 * (high - low) or 0.1
    return low - margin, high + margin


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
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    _mark_missing(axes, values, theme)
    if max(values.shape) <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if np.isnan(value):
                continue
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
        shown = [drawn_name(name) for name in names[::step]]
        set_ticks(range(0, len(names), step), shown, fontsize=7)
    axes.tick_params(length=0)
    for tick in axes.get_xticklabels():
        tick.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.set_ylabel(models[0])
    axes.set_xlabel(models[1])
    axes.spines[:].set_visible(False)
    axes.set_title("Layers")
    return image


def _mark_missing(axes: Axes, values: Table, theme: Theme) -> None:
    """Cross out the cells that have no value."""
    rows, columns = np.nonzero(np.isnan(values))
    if len(rows):
        axes.plot(columns, rows, ls="", marker="x", ms=5, color=theme.muted, label="_no value")


def _mark_matches(
    axes: Axes, likeness: Table, path: Sequence[tuple[int, int]], theme: Theme
) -> None:
    """Mark each layer's best match both ways, and the monotone path; dark on light and back."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2.6, foreground="#111111")]
    rows, columns = zip(*path, strict=True)
    axes.plot(columns, rows, color="#ffffff", lw=1.1, path_effects=outline, label="aligned depth")
    has_value = ~np.isnan(likeness)
    likeness = np.where(has_value, likeness, -np.inf)
    matched_rows, matched_columns = (np.flatnonzero(has_value.any(axis=axis)) for axis in (1, 0))
    of_rows = likeness.argmax(axis=1)[matched_rows]
    of_columns = likeness.argmax(axis=0)[matched_columns]
    axes.plot(
        of_rows,
        matched_rows,
        ls="",
        marker="o",
        ms=5,
        mfc="#ffffff",
        mec="#111111",
        label="best of row",
    )
    axes.plot(
        matched_columns,
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
    count = len(models)
    colors = even_hues(count, theme.lightness)
    columns = min(4, count)
    rows = -(-count // columns)
    with themed(theme):
        figure = new_figure(9.6, 3.6 + 1.75 * rows)
        top, below = cast(
            "tuple[SubFigure, SubFigure]",
            figure.subfigures(2, 1, height_ratios=(3.6, 1.75 * rows)),
        )
        ratios = (1.1, 0.8, 1.4)
        sides = {"left": 0.1, "right": 0.985, "top": 0.9, "bottom": 0.2, "wspace": 0.45}
        table, tree, plane = top.subplots(1, 3, gridspec_kw={"width_ratios": ratios, **sides})
        _draw_model_table(table, models, summary, is_distance=is_distance)
        _draw_tree(tree, models, merges, theme)
        _draw_plane(plane, points, colors, theme)
        plane.set_title(f"All layers, {title}")
        plane.set_xlabel(f"{explained:.0%} of variance; larger marks are deeper", fontsize=7.5)
        sides = {"left": 0.1, "right": 0.985, "top": 0.86, "bottom": 0.26 / rows}
        panels = below.subplots(
            rows, columns, squeeze=False, sharex=True, sharey=True, gridspec_kw=sides
        ).ravel()
        for panel in panels[count:]:
            panel.set_visible(False)
        _draw_depths(list(panels[:count]), best, chance, colors, theme)
        for panel in panels[max(0, count - columns) : count]:
            panel.set_xlabel("relative depth; dotted: chance", fontsize=7.5)
            panel.tick_params(labelbottom=True)
        panels[0].set_ylabel(title, fontsize=7.5)
        return figure


def _draw_model_table(
    axes: Axes, models: Sequence[str], summary: Table, *, is_distance: bool
) -> None:
    """Draw the values of pairs of models; those of a model with itself say nothing."""
    own = np.eye(len(models), dtype=bool)
    low, high = float(summary[~own].min()), float(summary[~own].max())
    color_map = SEQUENTIAL_MAP + "_r" if is_distance else SEQUENTIAL_MAP
    axes.imshow(np.where(own, np.nan, summary), cmap=color_map)
    for (row, column), value in np.ndenumerate(summary):
        if row == column:
            continue
        light = (value - low) / ((high - low) or 1.0)
        dark_ink = (1 - light if is_distance else light) > 0.55
        ink = "#111111" if dark_ink else "#ffffff"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=ink)
    names = [drawn_name(name) for name in models]
    axes.set_xticks(range(len(models)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(models)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Mean best match")


def _draw_tree(axes: Axes, models: Sequence[str], merges: Table, theme: Theme) -> None:
    from scipy.cluster.hierarchy import dendrogram

    dendrogram(
        merges,
        labels=[drawn_name(name) for name in models],
        ax=axes,
        orientation="left",
        link_color_func=lambda _: theme.ink,
    )
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.set_xlabel("dissimilarity")
    axes.set_title("Hierarchy")


def _draw_plane(
    axes: Axes, points: Mapping[str, Table], colors: NDArray[np.float64], theme: Theme
) -> None:
    """Draw each model's layers as a line of marks that grow from input to output."""
    for number, (name, places) in enumerate(points.items()):
        axes.plot(*places.T, color=colors[number], lw=1.0, alpha=0.7)
        axes.scatter(
            places[:, 0],
            places[:, 1],
            s=np.linspace(10, 46, len(places)),
            color=[colors[number]],
            marker=_MARKERS[number % len(_MARKERS)],
            edgecolors=theme.ink,
            linewidths=0.4,
            label=drawn_name(name),
            zorder=2,
        )
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xticks=[], yticks=[])
    axes.legend(frameon=False, fontsize=7, loc="best")


def _draw_depths(
    panels: Sequence[Axes],
    best: Mapping[str, Mapping[str, Table]],
    chance: float,
    colors: NDArray[np.float64],
    theme: Theme,
) -> None:
    """Draw, for each model, its layers' values in the others; all on one scale."""
    across = [
        values for name, one in best.items() for other, values in one.items() if other != name
    ]
    low, high = _span(np.append(np.concatenate(across), chance))
    for panel, (name, of_one) in zip(panels, best.items(), strict=True):
        for number, (other, values) in enumerate(of_one.items()):
            if other != name:
                panel.plot(
                    _depths(len(values)),
                    values,
                    color=colors[number],
                    lw=1.2,
                    ms=3.5,
                    marker=_MARKERS[number % len(_MARKERS)],
                )
        panel.axhline(chance, color=theme.muted, ls=":", lw=1.2)
        panel.set_title(f"Layers of {drawn_name(name)} in the others", fontsize=8)
        panel.set_ylim(low, high)
        panel.grid(axis="y", color=theme.faint, lw=0.6)
