"""Prints the table of measures that docs/measures.md holds: `python docs/measures_table.py`."""

from __future__ import annotations

import math

from relspace import measures

HEADER = ("Name", "Measure", "Range", "Identical", "Unrelated", "Invariant to", "Source")


def rows() -> list[tuple[str, ...]]:
    """Return one row for each measure, from its record."""
    return [
        (
            f"`{measure.name}`",
            measure.title + ("" if measure.symmetric else " (not symmetric)"),
            " to ".join(_number(bound) for bound in measure.range),
            _number(measure.identical),
            measure.chance,
            ", ".join(measure.invariances),
            measure.source,
        )
        for measure in map(measures.get, measures.names())
    ]


def table() -> str:
    """Return the table in Markdown."""
    lines = [HEADER, tuple("---" for _ in HEADER), *rows()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _number(value: float) -> str:
    return "varies" if math.isnan(value) else f"{value:.3g}".replace("inf", "∞")


if __name__ == "__main__":
    print(table())
