"""The figures of the portraits study: the panel of joint colours, and the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from examples.portraits.networks import NETWORKS
from relspace.pictures.layer_plots import draw_layer_maps
from relspace.pictures.panels import AFTER, BEFORE, PanelRow, panel_png, panel_rows
from relspace.pictures.theme import Theme, figure_bytes, new_figure, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from examples.portraits.study import PortraitStudy

#: How many of the queried portraits the panel shows, the first ones.
N_SHOWN = 5
_BARS = (
    ("aligned", "accent"),
    ("cca", "muted"),
    ("median_bandwidth", "muted"),
    ("fixed_bandwidth", "muted"),
    ("relative_centered", "muted"),
    ("relative", "muted"),
    ("principal_components", "faint"),
    ("padded", "faint"),
)
_CONTROLS = {
    "position": "control: positions alone",
    "untrained": "control: untrained networks, aligned",
    "chance": "chance",
}


def draw_panel_figure(study: PortraitStudy, theme: Theme) -> bytes:
    """Draw portraits across, layers of both networks down, in joint colours, before and after.

    Parameters
    ----------
    study : PortraitStudy
        From :func:`examples.portraits.study.run_study`.
    theme : Theme
        Colours of ground and ink.

    Returns
    -------
    bytes
        The PNG.
    """
    images, halves = panel_parts(study)
    return panel_png(
        images,
        {BEFORE: halves["before"], AFTER: halves["after"]},
        theme,
        title="Two networks look at the same portraits; one joint normalized cut colours both",
    )


def panel_parts(
    study: PortraitStudy,
) -> tuple[list[NDArray[Any]], dict[str, list[PanelRow]]]:
    """The portraits that are shown, and what stands under them before and after."""
    first = study.held_out.queried_images.start
    shown = study.held_out.portraits.images[first : first + N_SHOWN]
    images = list(shown.permute(0, 2, 3, 1).numpy())
    titles = {}
    for name in study.panels["after"].colors:
        network, layer = name.split(", ")
        titles[name] = f"{NETWORKS[network].title}\n{layer}"
    halves = {
        when: panel_rows(joint.colors, range(N_SHOWN), titles=titles)
        for when, joint in study.panels.items()
    }
    return images, halves


def draw_numbers_figure(summary: dict[str, Any], theme: Theme) -> bytes:
    """Draw part retrieval by method, and for every pair of layers, as one PNG.

    Parameters
    ----------
    summary : dict
        The study's numbers.
    theme : Theme
        Colours of ground and ink.
    """
    with themed(theme):
        figure = new_figure(11.0, 3.9)
        data = summary["data"]
        figure.text(
            0.012,
            0.945,
            "For a patch of one network, the five nearest patches of the other, in other "
            "portraits: the same part?",
            fontsize=11,
            fontweight="bold",
        )
        _draw_ranking(figure.add_axes((0.22, 0.13, 0.225, 0.71)), summary, theme)
        layers = summary["layers"]
        draw_layer_maps(
            figure,
            {
                "Every pair of layers, before": 100 * np.array(layers["before"]),
                "and after alignment": 100 * np.array(layers["after"]),
            },
            (NETWORKS[layers["rows"]["network"]].title, layers["rows"]["layers"]),
            (NETWORKS[layers["columns"]["network"]].title, layers["columns"]["layers"]),
            boxes=[(0.545, 0.22, 0.2, 0.62), (0.765, 0.22, 0.2, 0.62)],
            bar=(0.972, 0.22, 0.008, 0.62),
        )
        figure.text(
            0.012,
            0.015,
            f"Part retrieval in percent, mean over {len(data['parts'])} parts; "
            f"{data['n_queried_images']} held-out portraits, {data['n_landmarks']} landmarks in "
            f"{data['n_landmark_images']} others. Left: the last layers.",
            fontsize=7.5,
        )
        return figure_bytes(figure)


def _draw_ranking(axes: Axes, summary: dict[str, Any], theme: Theme) -> None:
    retrieval, controls = summary["retrieval"], summary["controls"]
    lines = [(retrieval[key]["title"], retrieval[key]["mean"], color) for key, color in _BARS]
    lines += [(title, controls[key]["mean"], "ground") for key, title in _CONTROLS.items()]
    for place, (_, value, color) in enumerate(lines):
        axes.barh(
            place,
            100 * value,
            0.72,
            color=vars(theme)[color],
            edgecolor=theme.ink,
            linewidth=0.4,
        )
        axes.annotate(
            f"{100 * value:.0f}",
            (100 * value, place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            fontweight="bold" if color == "accent" else "normal",
        )
    axes.set(ylim=(len(lines) - 0.4, -0.6), xlim=(0, 100))
    axes.set_yticks(range(len(lines)), [title for title, *_ in lines])
    axes.tick_params(length=0)
    axes.set_title("Last layers, by method")
