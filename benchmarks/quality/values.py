"""What each measure says of a set and a transformed copy of it, and of unrelated features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from quality.conditions import TRANSFORMS, seeded
from quality.layers import deep_networks
from quality.matching import DEPTHS, layer_at
from quality.results import markdown
from relspace.errors import InvalidInputError
from relspace.measures import Measure

UNRELATED = "other items (chance)"


@dataclass(frozen=True)
class Values:
    """Values of measures, as they are, by what was done to one of two sets."""

    values: dict[str, dict[str, float | None]]
    titles: dict[str, str]

    def table(self) -> str:
        """Measures down, transforms across."""
        columns = list(next(iter(self.values.values())))
        rows = [
            [self.titles[name], *map(_text, map(row.get, columns))]
            for name, row in self.values.items()
        ]
        return markdown(["Value", *columns], rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"task": "values under transforms", "values": self.values}


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def values_under_transforms(
    measures: Mapping[str, Measure], progress: Callable[[str], None]
) -> Values:
    """Compare the middle layer of the first plain CNN with transformed copies of itself.

    Last comes the copy with its items permuted: what chance is. Where a measure refuses to compare
    there is no value.
    """
    layers = deep_networks([0], progress)["plain CNN"][0]
    X = layer_at(layers, DEPTHS["middle"])
    copies = {
        name: change(X, seeded(number, 0))
        for number, (name, change) in enumerate(TRANSFORMS.items())
    }
    copies[UNRELATED] = X[torch.randperm(len(X), generator=seeded(0))]
    values: dict[str, dict[str, float | None]] = {}
    for name, measure in measures.items():
        progress(f"values under transforms: {measure.title}")
        ours = measure.prepare(X)
        values[name] = dict.fromkeys(copies)
        for title, Y in copies.items():
            with suppress(InvalidInputError):
                values[name][title] = measure.from_factors(ours, measure.prepare(Y))
    return Values(values, {name: measure.title for name, measure in measures.items()})
