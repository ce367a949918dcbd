"""The settings of this library's own measure and matching, side by side on the same tasks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quality.layers import identify_layers
from quality.matchers import Matcher, affinities_by_parts
from quality.matching import match_networks, match_transformed
from quality.pretrained import Half
from quality.results import Scores, markdown
from quality.transfer import identify_pretrained_layers, match_pretrained
from relspace import measures
from relspace.measures import Measure
from relspace.space.defaults import ITEMS, TOKENS

NORMALIZATIONS = ("none", "center+unit", "zscore", "quarter-whiten+unit", "half-whiten+unit")
DENSITIES = (0.05, 0.1, 0.2, 0.4)
SPREADS = (0.0, 1.0, 2.0, 4.0)
STANDARDIZATIONS = ("none", "columns", "half-whiten", "whiten")
#: What the default measure must not be below.
REFERENCE = "cka"
#: How far below the best setting of a task a default may be.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Grid:
    """What settings reach on tasks: a row of means for each, and their standard errors.

    Attributes
    ----------
    settings : tuple of str
        Names of the settings.
    tasks : tuple of str
        Names of the tasks.
    rows : list of (settings, means, standard errors)
        One for each combination, and for each peer by its name.
    """

    settings: tuple[str, ...]
    tasks: tuple[str, ...]
    rows: list[tuple[tuple[str, ...], list[float], list[float]]]

    def markdown(self) -> str:
        """The table, the best mean first."""
        header = [*self.settings, *self.tasks, "mean"]
        ordered = sorted(self.rows, key=lambda row: -_mean(row[1]))
        text = []
        for settings, means, _ in ordered:
            cells = [*settings, *[""] * (len(self.settings) - len(settings))]
            text.append([*cells, *(f"{one:.3f}" for one in (*means, _mean(means)))])
        return markdown(header, text)

    def row(self, *settings: str) -> tuple[list[float], list[float]]:
        """Means and standard errors of one combination."""
        return next((means, errors) for key, means, errors in self.rows if key == settings)

    def bars(self, default: tuple[str, ...], what: str) -> dict[str, bool]:
        """What is asked of a default, and whether it holds."""
        own = [row for row in self.rows if len(row[0]) == len(self.settings)]
        means, _ = self.row(*default)
        best = [max(column) for column in zip(*(row[1] for row in own), strict=True)]
        below = {
            task: top - value for task, top, value in zip(self.tasks, best, means, strict=True)
        }
        lost = ", ".join(f"{task} {one:.3f}" for task, one in below.items())
        first = max(_mean(row[1]) for row in own)
        found = {
            f"{what} is within {TOLERANCE} of the best of each task (below it by: {lost})": (
                max(below.values()) <= TOLERANCE
            ),
            f"{what} is first on the mean of tasks (below it by {first - _mean(means):.3f})": (
                first == _mean(means)
            ),
        }
        peers = [row for row in self.rows if len(row[0]) < len(self.settings)]
        for (name,), theirs, errors in peers:
            lacks = [
                f"{task} by {other - value:.3f} (standard error {error:.3f})"
                for task, value, other, error in zip(self.tasks, means, theirs, errors, strict=True)
                if other - value > error
            ]
            found[
                f"{what} is never below {name} by more than a standard error"
                + (f" (is on {', '.join(lacks)})" if lacks else "")
            ] = not lacks
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "settings": list(self.settings),
            "tasks": list(self.tasks),
            "rows": [
                {"settings": list(settings), "means": means, "standard_errors": errors}
                for settings, means, errors in self.rows
            ],
        }


def grid_of_measures(half: Half, progress: Callable[[str], None]) -> Grid:
    """Normalisation, density and spread of the measure, crossed, on one half of tasks 1 and 5."""
    default = measures.get("affinity").parameters
    named: dict[tuple[str, ...], Measure] = {
        (normalize, str(density), f"{spread:g}"): measures.get(
            "affinity",
            **default | {"normalize": normalize, "density": density, "spread": spread},
        )
        for normalize, density, spread in itertools.product(NORMALIZATIONS, DENSITIES, SPREADS)
    }
    named[REFERENCE,] = measures.get(REFERENCE)
    return gather_measures(("normalize", "density", "spread"), named, half, progress)


def gather_measures(
    settings: tuple[str, ...],
    named: Mapping[tuple[str, ...], Measure],
    half: Half,
    progress: Callable[[str], None],
) -> Grid:
    """What measures, by their settings, reach on one half of tasks 1 and 5."""
    by_name = {" ".join(key): one for key, one in named.items()}
    found, _ = identify_pretrained_layers(by_name, half, progress)
    tasks = [identify_layers(by_name, half.seeds, progress), *_columns(found)]
    return _gathered(settings, named, tasks)


def grid_of_matching(half: Half, progress: Callable[[str], None]) -> Grid:
    """Normalisation, density, standardisation of the matching, crossed, on tasks 2, 4 and 6."""
    named: dict[tuple[str, ...], Matcher] = {
        (normalize, str(density), standardize): affinities_by_parts(
            normalize=normalize, density=density, standardize=standardize
        )
        for normalize, density, standardize in itertools.product(
            NORMALIZATIONS, DENSITIES, STANDARDIZATIONS
        )
    }
    by_name = {" ".join(key): one for key, one in named.items()}
    tasks = [
        match_networks(by_name, half.seeds[:2], progress),
        match_transformed(by_name, half.seeds[0], 1, progress),
        *_columns(match_pretrained(by_name, half, 1, progress)),
    ]
    return _gathered(("normalize", "density", "standardize"), named, tasks)


def check_defaults(grid: Grid) -> dict[str, bool]:
    """What is asked of the defaults of a grid's settings, on its tasks, and whether it holds."""
    if "spread" in grid.settings:
        own = measures.get("affinity").parameters
        default = (own["normalize"], str(own["density"]), f"{own['spread']:g}")
        return grid.bars(default, "the default measure")
    found: dict[str, bool] = {}
    for what, one in {"of items": ITEMS, "of tokens": TOKENS}.items():
        default = (one.normalize, str(one.density), one.standardize)
        found |= grid.bars(default, f"the default matching {what}")
    return found


def _columns(scores: Scores) -> list[Scores]:
    """Each column as a task of its own."""
    return [
        Scores(column, {name: {column: one[column]} for name, one in scores.values.items()})
        for column in scores.columns
    ]


def _gathered(
    settings: tuple[str, ...], named: Mapping[tuple[str, ...], Any], tasks: list[Scores]
) -> Grid:
    rows = []
    for key in named:
        name = " ".join(key)
        means = [task.overall(name) for task in tasks]
        rows.append((key, means, [task.overall_error(name) for task in tasks]))
    return Grid(settings, tuple(task.task for task in tasks), rows)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
