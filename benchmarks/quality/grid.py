"""The settings of this library's own measure and matching, side by side on the same tasks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quality.groups import tell_groups
from quality.layers import identify_layers
from quality.matchers import affinities
from quality.matching import match_networks, match_transformed
from quality.results import markdown
from relspace import measures

NORMALIZATIONS = ("none", "center+unit", "quarter-whiten+unit", "half-whiten+unit")


@dataclass(frozen=True)
class Grid:
    """Means of settings, one row each."""

    header: tuple[str, ...]
    rows: list[list[Any]]

    def markdown(self) -> str:
        """The table, the best last value first."""
        ordered = sorted(self.rows, key=lambda row: -row[-1])
        text = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row] for row in ordered]
        return markdown(self.header, text)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"header": list(self.header), "rows": self.rows}


def grid_of_measures(n_seeds: int, progress: Callable[[str], None]) -> Grid:
    """Density, normalisation, profile and spread of the measure, on tasks 1 and 3.

    Normalisation and density are crossed, and so are profile (what debiases the affinities: their
    mean, or the means of rows too) and the weight of the spread, each at the others' defaults.
    """
    default = measures.get("affinity").parameters
    settings = [
        default | {"normalize": normalize, "density": density}
        for normalize, density in itertools.product(NORMALIZATIONS, (0.05, 0.1, 0.2))
    ]
    settings += [
        default | {"profile": profile, "spread": spread}
        for profile, spread in itertools.product(("mean", "rows"), (0.0, 1.0, 2.0, 4.0, 8.0))
    ]
    unique = [one for i, one in enumerate(settings) if one not in settings[:i]]
    named = {str(i): measures.get("affinity", **one) for i, one in enumerate(unique)}
    layers, groups = (task(named, n_seeds, progress) for task in (identify_layers, tell_groups))
    rows = []
    for name, one in zip(named, unique, strict=True):
        two = [layers.overall(name), groups.overall(name)]
        settings_of = [one[key] for key in ("normalize", "density", "profile", "spread")]
        rows.append([*map(str, settings_of), *two, sum(two) / 2])
    return Grid(("normalize", "density", "profile", "spread", "task 1", "task 3", "mean"), rows)


def grid_of_matching(n_seeds: int, progress: Callable[[str], None]) -> Grid:
    """Density, normalisation and standardisation of the matching, on tasks 2 and 4."""
    settings = list(itertools.product(NORMALIZATIONS, ("columns", "whiten"), (0.05, 0.2)))
    matchers = {
        str(one): affinities(normalize=one[0], standardize=one[1], density=one[2])
        for one in settings
    }
    networks = match_networks(matchers, n_seeds, progress)
    transformed = match_transformed(matchers, 1, progress)
    rows = []
    for name, one in zip(matchers, settings, strict=True):
        two = [networks.overall(name), transformed.overall(name)]
        rows.append([*map(str, one), *two, sum(two) / 2])
    return Grid(("normalize", "standardize", "density", "task 2", "task 4", "mean"), rows)
