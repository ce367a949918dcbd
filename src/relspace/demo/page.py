"""The page and the picture of the demo: photographs to explore, tables, text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from relspace._core.progress import Listener
from relspace.demo.pretrained import CATEGORIES, SALIENCY, TITLES
from relspace.demo.study import PhotographStudy, item_names
from relspace.pictures.panels import AFTER, BEFORE, panel_png, panel_rows
from relspace.pictures.theme import Theme
from relspace.reports.feature_sets import summarize_feature_sets
from relspace.reports.page import KeyNumber, ReportData, Section, Table
from relspace.reports.page.comparison import feature_sets_page

#: The photographs of the picture.
_DRAWN = ("astronaut", "chelsea", "china", "coffee", "flower", "motorcycle")
_DRAWN_SIDE = 320
# More landmarks would take longer without a visible difference.
_N_LANDMARKS = 512


def draw_panel(study: PhotographStudy, theme: Theme) -> bytes:
    """Draw photographs across, layers of both networks down, in joint colours, as one PNG."""
    names = [one.name for one in study.photographs]
    shown = [names.index(name) for name in _DRAWN]
    images = [
        np.asarray(study.photographs[number].image.resize((_DRAWN_SIDE, _DRAWN_SIDE))) / 255
        for number in shown
    ]
    titles = {}
    for key in study.panels["after"].colors:
        network, layer = key.split(", ")
        titles[key] = f"{network}\n{TITLES[layer]}"
    halves = {
        title: panel_rows(study.panels[when].colors, shown, titles=titles)
        for when, title in {"before": BEFORE, "after": AFTER}.items()
    }
    heading = "Two pretrained networks look at the same photographs; one joint cut colours both"
    return panel_png(images, halves, theme, title=heading)


def report_data(
    study: PhotographStudy,
    folder: Path,
    *,
    random_state: int,
    tell: Listener,
) -> ReportData:
    """Return the study's page: its numbers, then both networks' layers of the photographs.

    ``folder`` is that of the photographs.
    """
    others = [one.name for one in study.photographs if one.name not in _DRAWN]
    names = [f"{name}.png" for name in (*_DRAWN, *others)]
    ids = item_names(study.features)
    wholes = [ids.index(name) for name in names]
    found = summarize_feature_sets(
        {name: one.select(images=wholes) for name, one in study.features.items()},
        images=[str(folder / name) for name in names],
        landmarks=_N_LANDMARKS,
        n_images=len(_DRAWN),
        random_state=random_state,
        progress=tell,
    )
    page = feature_sets_page(found, "Two pretrained networks, the same photographs")
    summary = study.summary
    retrieval, colors, controls = (summary[key] for key in ("retrieval", "colors", "controls"))
    matching = summary["matching"]
    before = max(one["mean"] for one in retrieval.values() if one["kind"] == "before")
    return dataclasses.replace(
        page,
        lead=(
            f"{SALIENCY} learned where salient objects end, {CATEGORIES} what they are called. "
            "They differ in architecture, task, width and grid, and neither saw the other. "
            "Described by the same landmarks, their patches meet in one space: an object, its "
            "outline and the background have the same colours in both."
        ),
        key_numbers=[
            KeyNumber(
                _percent(retrieval["aligned"]["mean"]),
                "of the five nearest patches of the other network, in other photographs, show the "
                "same: object, outline or background",
                f"before {_percent(before)}, positions alone "
                f"{_percent(controls['position']['mean'])}, chance "
                f"{_percent(controls['chance']['mean'])}",
            ),
            KeyNumber(
                _percent(matching["aligned"]["top1"]),
                f"of positions find themselves among {summary['data']['n_positions']} in the other "
                "network",
                f"relative representations {_percent(matching['relative_centered']['top1'])}, CCA "
                f"on pairs {_percent(matching['cca']['top1'])}, chance "
                f"{_percent(matching['chance'])}",
            ),
            KeyNumber(
                f"{colors['after']['consistency']:.2f}",
                "colour difference of the same across networks, over that of different things",
                f"before {colors['before']['consistency']:.2f}",
            ),
        ],
        tables=[_methods_table(summary), _colors_table(summary), *page.tables],
        sections=[*page.sections, _how_section(summary)],
    )


def summary_table(summary: Mapping[str, Any]) -> str:
    """Return the study's numbers as tables for a terminal."""
    lines = []
    for one in (_methods_table(summary), _colors_table(summary)):
        lines.append(
            "".join(f"{name:>12}" if at else f"{name:<38}" for at, name in enumerate(one.columns))
        )
        for title, *values in one.rows:
            shown = [
                f"{value:>12.3f}" if isinstance(value, float) else f"{'':>12}" for value in values
            ]
            lines.append(f"{title:<38}" + "".join(shown))
        lines.append("")
    return "\n".join(lines).rstrip()


def _methods_table(summary: Mapping[str, Any]) -> Table:
    concepts, matching = summary["data"]["concepts"], summary["matching"]
    rows: list[list[str | float]] = [
        [
            one["title"],
            one["mean"],
            *(one["per_part"][concept] for concept in concepts),
            matching[key]["top1"],
        ]
        for key, one in summary["retrieval"].items()
    ]
    for title, key in {"control: positions alone": "position", "chance": "chance"}.items():
        one = summary["controls"][key]
        last: str | float = matching["chance"] if key == "chance" else ""
        rows.append([title, one["mean"], *(one["per_part"][name] for name in concepts), last])
    return Table(
        "Of the five nearest patches of the other network, in other photographs, how many show the "
        "same? Last column: how often a position is nearest to itself in the other network.",
        ["", "same", *concepts, "itself"],
        rows,
        emphasis=1,
    )


def _colors_table(summary: Mapping[str, Any]) -> Table:
    titles = {"before": "before", "after": "after", "position": "control: positions alone"}
    return Table(
        "Joint colours. Difference: of the same across networks, over that of different things. "
        "Colours can agree without meaning anything, as those of positions do, so it is read "
        "beside what is found by colour alone.",
        ["", "difference", "found"],
        [
            [
                title,
                summary["colors"][key]["consistency"],
                summary["colors"][key]["retrieval"]["mean"],
            ]
            for key, title in titles.items()
        ],
        emphasis=2,
    )


def _how_section(summary: Mapping[str, Any]) -> Section:
    data = summary["data"]
    pair = " and ".join(f"{name} ({layer})" for name, layer in summary["pair"].items())
    return Section(
        "How it was measured",
        [
            "Nine photographs that scikit-image, scikit-learn and matplotlib ship, and two crops "
            "of each. Objects were outlined by hand; a patch shows the object where it covers at "
            "least 0.9 of it, background up to 0.05, the outline in between; towers, trees and "
            "what else could count as an object are left out. Alignment sees none of that.",
            f"Numbers are of {pair}. In {data['n_folds']} folds, three photographs are asked for "
            f"and {data['n_landmarks']} landmarks are positions in the other six and their crops, "
            "read off each network's own grid. Peers see the same landmarks; CCA is fitted on them "
            "as pairs. Settings are those that the drawn portraits chose; nothing was chosen on "
            "photographs. Colours are joint over nine photographs, with landmarks in all of them.",
        ],
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %" if rate < 0.0995 else f"{100 * rate:.0f} %"
