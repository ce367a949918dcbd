"""Tables of layers under permutation of the items, and what they say of chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relspace.comparison import null_tables
from relspace.comparison_record import PERMUTATIONS_FOR_CHANCE
from relspace.layerwise.model_layers import Progress
from relspace.measures import Measure
from relspace.resampling import shift_families

Table = NDArray[np.float64]


def drawn_tables(
    measure: Measure,
    x: Sequence[Any],
    y: Sequence[Any],
    n_items: int,
    n_permutations: int,
    groups: object | None,
    seed: int,
    *,
    progress: Progress | None,
) -> Table:
    """The table under permutations: as many as asked for, else a few where chance needs them."""
    if not n_permutations:
        if measure.expected_by_chance(x[0], y[0]) is not None:
            return np.empty((0, len(x), len(y)))
        n_permutations = PERMUTATIONS_FOR_CHANCE
    families = shift_families(n_items, n_permutations, groups=groups, random_state=seed)
    return null_tables(measure, x, y, families, progress=progress)


def chance_tables(
    measure: Measure, x: Sequence[Any], y: Sequence[Any], null: Table
) -> tuple[Table, Table | None]:
    """Means of the table under permutation, and standard deviations where there are some."""
    if len(null) == 0:
        return np.array([[measure.expected_by_chance(a, b) for b in y] for a in x]), None
    return spread(null)


def spread(null: Table) -> tuple[Table, Table | None]:
    """Means of tables, and standard deviations where there are several."""
    return null.mean(axis=0), null.std(axis=0, ddof=1) if len(null) > 1 else None
