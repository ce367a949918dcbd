"""What the page of the portraits study holds: patches to explore, tables, figures, words."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from examples.portraits.drawing import SIDE
from examples.portraits.networks import NETWORKS
from examples.portraits.study import PortraitStudy
from relspace.demo.methods import aligned
from relspace.reports.page import (
    KeyNumber,
    LayerTable,
    Picture,
    ReportData,
    ReportImage,
    Section,
    Table,
)
from relspace.reports.patches import ModelPatches, report_models

#: How many of the queried portraits can be explored, the first ones.
N_EXPLORED = 6


def report_data(study: PortraitStudy, figures: Mapping[str, tuple[bytes, bytes]]) -> ReportData:
    """Lay the study out.

    Parameters
    ----------
    study : PortraitStudy
        From :func:`examples.portraits.study.run_study`.
    figures : mapping of str to tuple of two bytes
        ``panel`` and ``numbers`` as PNG, for light and for dark pages.

    Returns
    -------
    ReportData
        For :func:`relspace.reports.page.render_report`.
    """
    summary, held_out = study.summary, study.held_out
    retrieval, controls, colors = (summary[key] for key in ("retrieval", "controls", "colors"))
    before = max(one["mean"] for one in retrieval.values() if one["kind"] == "before")
    after = retrieval["aligned"]["mean"]
    models, quantization = report_models(
        {NETWORKS[name].title: _patches(study, name) for name in held_out.features}
    )
    first = held_out.queried_images.start
    pixels = held_out.portraits.images[first : first + N_EXPLORED].permute(0, 2, 3, 1)
    layers = summary["layers"]
    return ReportData(
        title="Same part, same colour, in two networks",
        lead=(
            "One network learned where regions of a portrait end, another what its parts are "
            "called. They differ in architecture, stride and width, and neither saw the other. "
            "Described by the same landmarks, their patches meet in one space: a patch of one "
            "network finds the same part in the other, and one joint normalized cut gives each "
            "part one colour in both."
        ),
        key_numbers=[
            KeyNumber(
                _percent(after),
                "of the five nearest patches of the other network, in other portraits, show the "
                "same part",
                f"before {_percent(before)}, positions alone "
                f"{_percent(controls['position']['mean'])}, chance "
                f"{_percent(controls['chance']['mean'])}",
            ),
            KeyNumber(
                f"{colors['after']['consistency']:.2f}",
                "colour difference of a part between the networks, over that of different parts",
                f"before {colors['before']['consistency']:.2f}",
            ),
            KeyNumber(
                _percent(colors["after"]["retrieval"]["mean"]),
                "same part among the five nearest by colour alone",
                f"before {_percent(colors['before']['retrieval']['mean'])}, positions alone "
                f"{_percent(colors['position']['retrieval']['mean'])}",
            ),
        ],
        images=[
            ReportImage(f"Portrait {number + 1}", (255 * one).round().to(torch.uint8).numpy())
            for number, one in enumerate(pixels)
        ],
        models=models,
        quantization=quantization,
        layer_tables=[
            LayerTable(
                title=f"Part retrieval {when} alignment",
                row_model=NETWORKS[layers["rows"]["network"]].title,
                column_model=NETWORKS[layers["columns"]["network"]].title,
                row_layers=layers["rows"]["layers"],
                column_layers=layers["columns"]["layers"],
                values=np.array(layers[when]),
                chance=controls["chance"]["mean"],
                scale="Part retrieval",
            )
            for when in ("before", "after")
        ],
        tables=[_methods_table(summary), _colors_table(summary)],
        matched_by=(
            f"{summary['data']['n_landmarks']} places of "
            f"{summary['data']['n_landmark_images']} other portraits, read off each network's own "
            "grid"
        ),
        parameters=summary["alignment"],
        sections=[
            Section(
                "The panel",
                [
                    "Portraits that neither network has seen, and layers of both, coloured "
                    "jointly. Nothing in the alignment or the colours knows the parts."
                ],
                pictures=[
                    Picture(
                        "Portraits across, layers down; left before, right after alignment.",
                        "Panels of patches in joint colours; the numbers are in the tables.",
                        *figures["panel"],
                    ),
                    Picture(
                        "Part retrieval by method, and for every pair of layers.",
                        "Bars and layer tables; the numbers are in the tables.",
                        *figures["numbers"],
                    ),
                ],
            ),
            _how_section(summary),
        ],
    )


def _patches(study: PortraitStudy, network: str) -> ModelPatches:
    """Every layer's relative features in the portraits that can be explored."""
    held_out = study.held_out
    images = list(itertools.islice(held_out.queried_images, N_EXPLORED))
    features = held_out.features[network]
    tokens = {layer: features.tokens(layer=layer, images=images) for layer in features.layers}
    bring = aligned()
    relative = {
        layer: bring(features.read_positions(study.positions, layer=layer), own)
        for layer, own in tokens.items()
    }
    grid = held_out.grid(network, images)
    description = f"stride {SIDE // grid.rows}, {grid.rows} x {grid.columns} patches"
    return ModelPatches(relative, (grid.rows, grid.columns), tokens, description=description)


def _methods_table(summary: Mapping[str, Any]) -> Table:
    parts = summary["data"]["parts"]
    lines = {one["title"]: one for one in summary["retrieval"].values()}
    lines |= {
        "control: positions alone": summary["controls"]["position"],
        "control: untrained networks, aligned": summary["controls"]["untrained"],
        "chance": summary["controls"]["chance"],
    }
    for name, one in summary["within"].items():
        lines[f"within the {NETWORKS[name].title.lower()}, aligned"] = one
    return Table(
        "Part retrieval across the last layers: share of the five nearest patches of the other "
        "network, in other portraits, that show the part asked for.",
        ["", "mean", *parts],
        [
            [title, one["mean"], *(one["per_part"][part] for part in parts)]
            for title, one in lines.items()
        ],
        emphasis=1,
    )


def _colors_table(summary: Mapping[str, Any]) -> Table:
    colors = summary["colors"]
    return Table(
        "Colours of the last layers. Consistency: colour difference of a part between the "
        "networks over that of different parts. Colours can agree without meaning anything, as "
        "those of positions do, so it is read beside part retrieval by colour.",
        ["", "consistency", "part retrieval by colour", "rank correlation with the embedding"],
        [
            [
                title,
                colors[key]["consistency"],
                colors[key]["retrieval"]["mean"],
                colors[key]["rank_correlation"],
            ]
            for key, title in {
                "before": "before",
                "after": "after",
                "position": "control: positions alone",
            }.items()
        ],
        emphasis=2,
    )


def _how_section(summary: Mapping[str, Any]) -> Section:
    data, networks = summary["data"], summary["networks"]
    return Section(
        "How it was measured",
        [
            "The portraits are drawn by a program that varies pose, skin, hair, hats, glasses, "
            "beards, clothes, background, light and noise, and knows which part each pixel shows. "
            "The boundary network learned boundaries and, for a place that is pointed at, the "
            "region around it; the part network learned the names of the parts.",
            f"{data['n_queried_images']} portraits are asked for; {data['n_landmarks']} landmarks "
            f"are places of {data['n_landmark_images']} others, read off each network's own grid. "
            "A patch's part is the one that covers most of it. Retrieval is averaged over the "
            "seven parts and both directions, so chance is one in seven.",
            "Peers see the same landmarks as the alignment does. CCA is fitted on them as pairs. "
            "Positions alone: the places of the patches instead of features.",
        ],
        tables=[
            Table(
                "The networks.",
                ["", "stride", "parameters", "learned from", "layers (features)"],
                [
                    [
                        one["title"],
                        str(one["stride"]),
                        f"{one['n_parameters']:,}",
                        f"{one['n_train']:,} portraits",
                        ", ".join(f"{layer} ({width})" for layer, width in one["layers"].items()),
                    ]
                    for one in networks.values()
                ],
            )
        ],
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f} %"
