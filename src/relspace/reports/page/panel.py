"""The panel of a report: images in columns, layers of all models in rows, in joint colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relspace._core.arguments import check_count
from relspace.errors import InvalidInputError
from relspace.pictures.panels import AFTER, BEFORE, PanelRow, panel_png
from relspace.pictures.theme import Theme, drawn_name
from relspace.reports.page.data import ReportData, ReportLayer

#: What stands over the panel of each colouring, from left to right.
_HALVES = {"before": BEFORE, "joint": AFTER}


def report_panel(data: ReportData, theme: Theme, *, n_images: int = 5, n_layers: int = 4) -> bytes:
    """Draw what a report's models make of its images, before and after alignment, as one PNG.

    Parameters
    ----------
    data : ReportData
        A report with models.
    theme : Theme
        Colours of ground and ink.
    n_images : int
        At most this many images, the first ones.
    n_layers : int
        At most this many layers of each model, evenly spaced from the first to the last.

    Returns
    -------
    bytes
        The PNG.

    Raises
    ------
    InvalidInputError
        If the report holds no models' patches.
    """
    check_count(n_images, "n_images")
    check_count(n_layers, "n_layers")
    if not data.models:
        raise InvalidInputError("the report holds no patches of models, so it has no panel.")
    shown = min(n_images, len(data.images))
    layers = [
        (f"{drawn_name(model.name)}\n{drawn_name(layer.name)}", layer)
        for model in data.models
        for layer in _evenly(model.layers, n_layers)
    ]
    halves = {
        title: [
            PanelRow(
                name,
                list(layer.colors[coloring][:shown]),
                None if layer.boxes is None else layer.boxes[:shown],
            )
            for name, layer in layers
        ]
        for coloring, title in _HALVES.items()
        if all(coloring in layer.colors for _, layer in layers)
    }
    names = [drawn_name(model.name) for model in data.models]
    heading = f"One joint normalized cut colours {', '.join(names[:-1])} and {names[-1]}"
    return panel_png([one.pixels for one in data.images[:shown]], halves, theme, title=heading)


def _evenly(layers: Sequence[ReportLayer], n_layers: int) -> list[ReportLayer]:
    numbers = np.linspace(len(layers) - 1, 0, min(n_layers, len(layers))).round().astype(int)
    return [layers[number] for number in numbers[::-1]]
