"""Layer by layer comparisons: tables with their best matches, depth curves, models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from relspace.pictures.color_maps import even_hues, matplotlib_map
from relspace.pictures.theme import MARKERS, Look, Theme, drawn_name, shown_figure, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Table = NDArray[np.float64]

_MOST_NAMES = 16
_MOST_NUMBERS = 12
#: What is written on light and on dark cells of the colour map.
_DARK, _WHITE = "#111111", "#ffffff"


def draw_layer_comparison(
    title: str,
    models: tuple[str, str],
    layers: tuple[Sequence[str], Sequence[str]],
    values: Table,
    chance: Table,
    drift: tuple[Table, Table],
    path: Sequence[tuple[int, int]],
    threshold: float | None,
    *,
    is_distance: bool,
    look: Look,
) -> Axes:
    """Draw a layer x layer table (L, M) with its best matches, and values against relative depth.

    ``drift`` holds values between consecutive layers, (L - 1,) and (M - 1,), and ``path`` the
    monotone alignment; ``threshold`` is what values have to pass to be shown. The curves share one
    scale. Into axes that are given goes the table alone.
    """
    theme = look.theme
    models = drawn_name(models[0]), drawn_name(models[1])
    likeness = np.where(np.isnan(values), -np.inf, -values if is_distance else values)
    with themed(theme):
        if look.axes is None:
            figure = shown_figure(9.6, 4.1)
            sides = {"left": 0.1, "right": 0.985, "top": 0.88, "bottom": 0.15}
            ratios = (1.15, 1)
            grid = figure.add_gridspec(2, 2, width_ratios=ratios, hspace=0.55, wspace=0.28, **sides)
            axes = figure.add_subplot(grid[:, 0])
        else:
            axes = look.axes
        image = _draw_table(
            axes, values, *layers, is_distance=is_distance, size=5.5, above=0.34, cmap=look.cmap
        )
        missing_rows, missing_columns = np.nonzero(np.isnan(values))
        if len(missing_rows):
            axes.plot(missing_columns, missing_rows, ls="", marker="x", ms=5, color=theme.muted)
        axes.set(ylabel=models[0], xlabel=models[1])
        # Above the legend.
        axes.set_title(look.titled(f"Layers of {models[0]} and {models[1]}"), pad=16)
        _mark_matches(axes, likeness, path, theme)
        bar = axes.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.03, label=title)
        bar.outline.set_visible(False)
        if look.axes is not None:
            return axes
        best, step = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
        for axis, (name, style) in enumerate(zip(models, ("-", (0, (4, 2))), strict=True)):
            line: dict[str, Any] = {"ls": style, "marker": MARKERS[axis], "ms": 3.5}
            line["color"] = theme.ink if axis else theme.accent
            match = np.expand_dims(likeness.argmax(axis=1 - axis), 1 - axis)
            reached, by_chance = (
                np.take_along_axis(one, match, 1 - axis).ravel() for one in (values, chance)
            )
            depth = _depths(len(reached))
            best.plot(depth, reached, label=name, **line)
            best.plot(depth, by_chance, ls=":", lw=1.2, color=theme.muted)
            if len(drift[axis]):
                step.plot((depth[1:] + depth[:-1]) / 2, drift[axis], **line)
        best.plot([], [], ls=":", lw=1.2, color=theme.muted, label="chance")
        if threshold is not None:
            best.axhline(threshold, ls=(0, (1, 3)), lw=1.2, color=theme.ink, label="threshold")
        best.legend(fontsize=7.5, loc="best")
        best.set_title("Best match in the other model")
        step.set_title("From layer to layer within a model")
        step.set_xlabel("relative depth (0 first layer, 1 last)")
        limit = np.array([] if threshold is None else [threshold])
        span = _span(np.concatenate([values.ravel(), chance.ravel(), *drift, limit]))
        for one in (best, step):
            one.set(xlim=(-0.03, 1.03), ylim=span)
            one.set_ylabel(title, fontsize=7.5)
            one.grid(axis="y", color=theme.faint, lw=0.6)
            one.set_axisbelow(True)
        return axes


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
    look: Look,
) -> Axes:
    """Draw models by their mean best match, their hierarchy, all layers in a plane, and by depth.

    ``merges`` are SciPy's linkages, ``points`` (L, 2) the layers of each model in the plane, which
    holds the share ``explained`` of the variance, and ``best`` (L,) the values of a model's layers
    in another. Into axes that are given goes the table alone.
    """
    theme = look.theme
    count = len(models)
    colors = even_hues(count, theme.lightness)
    columns = min(4, count)
    rows = -(-count // columns)
    # The values of a model with itself say nothing.
    others = np.where(np.eye(count, dtype=bool), np.nan, summary)
    square: Any = {"is_distance": is_distance, "aspect": "equal", "cmap": look.cmap}
    with themed(theme):
        if look.axes is not None:
            _draw_table(look.axes, others, models, models, **square)
            look.axes.set_title(look.titled("Mean best match"))
            return look.axes
        figure = shown_figure(9.6, 3.6 + 1.75 * rows)
        share = 3.6 / (3.6 + 1.75 * rows)
        across = {"left": 0.1, "right": 0.985}
        top = figure.add_gridspec(
            1,
            3,
            width_ratios=(1.1, 0.8, 1.4),
            top=1 - 0.1 * share,
            bottom=1 - 0.8 * share,
            wspace=0.45,
            **across,
        )
        panels: Any = top.subplots()
        table, tree, plane = panels
        _draw_table(table, others, models, models, **square)
        table.set_title(look.titled("Mean best match"))
        _draw_tree(tree, models, merges, theme)
        _draw_plane(plane, points, colors, theme)
        plane.set_title(f"All layers, {title}")
        plane.set_xlabel(f"{explained:.0%} of variance; larger marks are deeper", fontsize=7.5)
        below = figure.add_gridspec(
            rows,
            columns,
            top=0.86 * (1 - share),
            bottom=0.26 * (1 - share) / rows,
            **across,
        )
        panels = below.subplots(squeeze=False, sharex=True, sharey=True).ravel()
        for panel in panels[count:]:
            panel.set_visible(False)
        _draw_depths(list(panels[:count]), best, chance, colors, theme)
        for panel in panels[max(0, count - columns) : count]:
            panel.set_xlabel("relative depth; dotted: chance", fontsize=7.5)
            panel.tick_params(labelbottom=True)
        panels[0].set_ylabel(title, fontsize=7.5)
        shown: Axes = table
        return shown


def draw_fused_models(
    title: str, models: Sequence[str], values: Table, merges: Table, *, look: Look
) -> Axes:
    """Draw fused similarities (n, n) of models, NaN along the diagonal, and their hierarchy.

    Into axes that are given goes the table alone.
    """
    theme = look.theme
    with themed(theme):
        if look.axes is not None:
            _draw_table(look.axes, values, models, models, aspect="equal", cmap=look.cmap)
            look.axes.set_title(look.titled("Fused similarity"))
            return look.axes
        figure = shown_figure(7.2, 3.6)
        sides = {"left": 0.14, "right": 0.97, "top": 0.82, "bottom": 0.2, "wspace": 0.5}
        table: Axes
        table, tree = figure.subplots(1, 2, gridspec_kw={"width_ratios": (1.1, 1), **sides})
        _draw_table(table, values, models, models, aspect="equal", cmap=look.cmap)
        table.set_title(look.titled("Fused similarity"))
        _draw_tree(tree, models, merges, theme)
        figure.text(0.03, 0.94, title, color=theme.quiet, fontsize=8)
        return table


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

    ``rows`` and ``columns`` are a title with the names of the layers. ``boxes`` and ``bar`` are
    (left, bottom, width, height) of the tables and of the colour bar, whose axes are returned.
    """
    span = (0.0, float(max(values.max() for values in tables.values())))
    for number, ((title, values), box) in enumerate(zip(tables.items(), boxes, strict=True)):
        axes = part.add_axes(box)
        image = _draw_table(axes, values, rows[1], columns[1], span=span, form=".0f")
        axes.set_title(title)
        axes.set_xlabel(columns[0], fontsize=7.5)
        if number:
            axes.set_yticks([])
        else:
            axes.set_ylabel(rows[0], fontsize=7.5)
    bar_axes = part.add_axes(bar)
    part.colorbar(image, cax=bar_axes)
    bar_axes.tick_params(labelsize=7, length=2)
    bar_axes.spines[:].set_visible(False)
    return bar_axes


def _draw_table(
    axes: Axes,
    values: NDArray[Any],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    span: tuple[float, float] | None = None,
    is_distance: bool = False,
    form: str = ".2f",
    size: float = 7.5,
    above: float = 0.0,
    aspect: Literal["auto", "equal"] = "auto",
    cmap: Any = None,
) -> Any:
    """Draw a table in colour, light being alike, with its numbers where there is room."""
    low, high = span or (float(np.nanmin(values)), float(np.nanmax(values)))
    color_map = matplotlib_map(reverse=is_distance) if cmap is None else cmap
    image = axes.imshow(values, cmap=color_map, vmin=low, vmax=high, aspect=aspect)
    if max(values.shape) <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            red, green, blue, _ = image.cmap(image.norm(value))
            ink = _DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else _WHITE
            text = "" if np.isnan(value) else format(value, form)
            # Beside the path of depth, where there is one.
            at = (column + 0.45, row + above) if above else (column, row)
            side = "right" if above else "center"
            axes.text(*at, text, ha=side, va="center", fontsize=size, color=ink)
    for names, set_ticks in ((columns, axes.set_xticks), (rows, axes.set_yticks)):
        step = -(-len(names) // _MOST_NAMES)
        shown = [drawn_name(name) for name in names[::step]]
        set_ticks(range(0, len(names), step), shown, fontsize=7.5)
    for tick in axes.get_xticklabels():
        tick.set(rotation=35, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _mark_matches(
    axes: Axes, likeness: Table, path: Sequence[tuple[int, int]], theme: Theme
) -> None:
    """Mark each layer's best match both ways, and the monotone path; dark on light and back."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2.6, foreground=_DARK)]
    rows, columns = zip(*path, strict=True)
    axes.plot(columns, rows, color=_WHITE, lw=1.1, path_effects=outline, label="aligned depth")
    of_row, of_column = (np.flatnonzero(np.isfinite(likeness).any(axis=axis)) for axis in (1, 0))
    circle: dict[str, Any] = {"marker": "o", "ms": 5, "mfc": _WHITE, "mec": _DARK}
    square: dict[str, Any] = {"marker": "s", "ms": 8.5, "mfc": "none", "mec": _WHITE, "mew": 1.2}
    axes.plot(likeness.argmax(axis=1)[of_row], of_row, ls="", label="best of row", **circle)
    axes.plot(
        of_column,
        likeness.argmax(axis=0)[of_column],
        ls="",
        label="best of column",
        path_effects=outline,
        **square,
    )
    narrow = {"borderpad": 0.25, "handletextpad": 0.4, "columnspacing": 0.8, "borderaxespad": 0.3}
    axes.legend(
        frameon=True,
        facecolor=theme.muted,
        edgecolor="none",
        labelcolor=_DARK,
        fontsize=6.5,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.005),
        ncols=3,
        **narrow,
    )


def _draw_tree(axes: Axes, models: Sequence[str], merges: Table, theme: Theme) -> None:
    from scipy.cluster.hierarchy import dendrogram

    names = [drawn_name(name) for name in models]
    ink = theme.ink
    dendrogram(merges, labels=names, ax=axes, orientation="left", link_color_func=lambda _: ink)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.set_xlabel("dissimilarity")
    axes.set_title("Hierarchy")


def _draw_plane(
    axes: Axes, points: Mapping[str, Table], colors: NDArray[np.float64], theme: Theme
) -> None:
    """Draw each model's layers as a line of marks that grow from input to output."""
    for number, (name, own) in enumerate(points.items()):
        axes.plot(*own.T, color=colors[number], lw=1.0, alpha=0.7)
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=np.linspace(10, 46, len(own)),
            color=[colors[number]],
            marker=MARKERS[number % len(MARKERS)],
            edgecolors=theme.ink,
            linewidths=0.4,
            label=drawn_name(name),
            zorder=2,
        )
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xticks=[], yticks=[])
    axes.legend(fontsize=7, loc="best")


def _draw_depths(
    panels: Sequence[Axes],
    best: Mapping[str, Mapping[str, Table]],
    chance: float,
    colors: NDArray[np.float64],
    theme: Theme,
) -> None:
    """Draw, for each model, its layers' values in the others; all on one scale."""
    across = [one for name, own in best.items() for other, one in own.items() if other != name]
    span = _span(np.append(np.concatenate(across), chance))
    for panel, (name, of_one) in zip(panels, best.items(), strict=True):
        for number, (other, values) in enumerate(of_one.items()):
            if other != name:
                style: dict[str, Any] = {"color": colors[number], "lw": 1.2, "ms": 3.5}
                marker = MARKERS[number % len(MARKERS)]
                panel.plot(_depths(len(values)), values, marker=marker, **style)
        panel.axhline(chance, color=theme.muted, ls=":", lw=1.2)
        panel.set_title(f"Layers of {drawn_name(name)} in the others", fontsize=8)
        panel.set_ylim(span)
        panel.grid(axis="y", color=theme.faint, lw=0.6)


def _span(values: Table) -> tuple[float, float]:
    """The range of an axis that holds all values there are."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.06 * (high - low) or 0.1
    return low - margin, high + margin


def _depths(n_layers: int) -> Table:
    return np.linspace(0, 1, n_layers) if n_layers > 1 else np.array([0.5])
