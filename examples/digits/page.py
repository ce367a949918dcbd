"""What the page of the digits case study holds: numbers, tables, the figure, words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from examples.digits.matching import RATE_TITLES
from relspace.reports.page import KeyNumber, Picture, ReportData, Section, Table


def percent(rate: float) -> str:
    """A rate as percent, with a decimal where it is small."""
    return f"{100 * rate:.1f} %" if rate < 0.0995 else f"{100 * rate:.0f} %"


def report_data(summary: Mapping[str, Any], light: bytes, dark: bytes) -> ReportData:
    """Lay the case study out as a page; the figure is a PNG for light and one for dark pages."""
    found = summary["penultimate"]
    return ReportData(
        title="The same digits in two networks",
        lead=(
            "A convolutional network and a vision transformer learned the same handwritten digits, "
            "each for itself. Described by the same landmarks, their features meet in one space, "
            "where an image of one network can be looked for in the other."
        ),
        key_numbers=[
            KeyNumber(
                percent(found["after"][rate]),
                title,
                f"before {percent(found['before'][rate])}, landmarks shuffled "
                f"{percent(found['shuffled'][rate])}, chance {percent(found['chance'][rate])}",
            )
            for rate, title in RATE_TITLES.items()
        ],
        sections=study_sections(summary, light, dark),
    )


def study_sections(summary: Mapping[str, Any], light: bytes, dark: bytes) -> list[Section]:
    """Lay the case study out as sections, which may stand below those of another study."""
    found, alignment, data = summary["penultimate"], summary["alignment"], summary["data"]
    first, second = (
        f"{summary['networks'][side['network']]['title'].lower()} ({side['layer']}, "
        f"{side['width']} features)"
        for side in (found["from"], found["to"])
    )
    return [
        Section(
            "Digits: the picture",
            [
                "A convolutional network and a vision transformer learned the same handwritten "
                "digits, each for itself. Their features have different widths and axes that mean "
                "nothing to each other. Aligned, nearly every image of one network lands among "
                "images of the same digit in the other, and far more often than by chance next to "
                "itself.",
                f"From the {first} to the {second}: the penultimate layers, chosen before "
                "anything was measured.",
            ],
            pictures=[
                Picture(
                    "Top: the queried digits in the space that both networks share, before and "
                    "after. Middle: the nearest image across networks. Bottom: how often it is "
                    "the right one, for the penultimate layers and for every pair of layers.",
                    "Scatter plots, nearest images, bars and layer tables of the matching of "
                    "two networks; all numbers are in the tables below.",
                    light,
                    dark,
                )
            ],
        ),
        _penultimate_section(summary),
        _layers_section(summary["layers"]),
        Section(
            "Digits: how it was measured",
            [
                f"The networks were trained on {data['n_train']:,} digits. The other "
                f"{data['n_held_out']} are cut at random into {alignment['n_landmarks']} "
                f"landmarks and {alignment['n_queried']} queried images: no queried image was "
                "trained on, and none is a landmark.",
                "Relative features: each network describes an image by its affinities to the "
                "landmarks, with its own features and a bandwidth at which the mean affinity "
                f"is {alignment['density']}; affinities are standardised per landmark. Rows "
                "of the two networks then have the same columns and are compared by "
                "correlation.",
                "Before: the narrower features are filled up with zeros and compared by "
                "Euclidean distance, as they are or centred and at unit norm.",
                "Control: the same alignment with the landmarks of one network shuffled. It "
                "has everything but the correspondence, and must fall to chance. Whole "
                "classes move together there, so its class agreement varies much from draw "
                "to draw; its mean is what counts.",
            ],
            tables=[_networks_table(summary)],
        ),
    ]


def _penultimate_section(summary: Mapping[str, Any]) -> Section:
    found, draws, distance = (
        summary["penultimate"],
        summary["draws"],
        summary["penultimate"]["distance"],
    )
    order = ["before", "before_scaled", "after", "shuffled", "chance"]
    titles = ["before", "unit norm, before", "after", "shuffled landmarks", "chance"]

    def spread(when: str, rate: str) -> str:
        one = draws[when][rate]
        return f"{100 * one['mean']:.1f} ± {100 * one['standard_deviation']:.1f}"

    return Section(
        "Digits: penultimate layers",
        [
            f"In the common space the distance (1 - correlation) between the two networks' rows "
            f"of one image is {distance['same_item']:.2f} on average, between rows of different "
            f"images {distance['other_items']:.2f}; unrelated rows have {distance['chance']:.0f}."
        ],
        tables=[
            Table(
                "Share of queried images, in percent.",
                ["", *titles],
                [
                    [title, *(percent(found[when][rate]) for when in order)]
                    for rate, title in RATE_TITLES.items()
                ],
                emphasis=3,
            ),
            Table(
                f"The same over {draws['n_draws']} random choices of landmarks: mean ± standard "
                "deviation, in percent.",
                ["", *titles],
                [
                    [title, *(spread(when, rate) for when in order)]
                    for rate, title in RATE_TITLES.items()
                ],
                emphasis=3,
            ),
        ],
    )


def _layers_section(table: Mapping[str, Any]) -> Section:
    rows, columns = table["rows"]["layers"], table["columns"]["layers"]

    def of_rate(when: str, rate: str, caption: str) -> Table:
        return Table(
            f"{caption}, in percent (chance {percent(table['chance'][rate])}).",
            ["", *columns],
            [
                [layer, *(f"{100 * value:.1f}" for value in line)]
                for layer, line in zip(rows, table[when][rate], strict=True)
            ],
        )

    return Section(
        "Digits: every pair of layers",
        [
            "Early layers still know which image it was, and agree on it across architectures; "
            "late layers know which digit it is, and agree on that."
        ],
        tables=[
            of_rate("after", "top1", "After: the same image is nearest"),
            of_rate("after", "label", "After: the nearest other image shows the same digit"),
            of_rate("before", "top1", "Before: the same image is nearest"),
            of_rate("before", "label", "Before: the nearest other image shows the same digit"),
        ],
    )


def _networks_table(summary: Mapping[str, Any]) -> Table:
    return Table(
        "The networks.",
        ["", "parameters", "held-out digits right", "seed", "layers (features)"],
        [
            [
                record["title"],
                f"{record['n_parameters']:,}",
                percent(record["accuracy_held_out"]),
                str(record["seed"]),
                ", ".join(f"{layer} ({width})" for layer, width in record["layers"].items()),
            ]
            for record in summary["networks"].values()
        ],
    )
