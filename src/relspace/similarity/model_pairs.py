"""What is to be said of every two models that were compared: their most alike and last layers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from relspace.similarity.layers import BestMatch, LayerComparison
from relspace.similarity.models import ModelComparison


@dataclass(frozen=True)
class ModelPair:
    """Two models: how alike their most alike layers are, and their last ones.

    Attributes
    ----------
    models : (str, str)
        The models.
    most_alike, last : BestMatch
        A layer of the first and one of the second; p-values are corrected for all the pairs of
        layers of two models, and None where none was computed. Values are NaN where the measure
        has none.
    """

    models: tuple[str, str]
    most_alike: BestMatch
    last: BestMatch

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "models": list(self.models),
            "most_alike": self.most_alike.to_dict(),
            "last": self.last.to_dict(),
        }


def pairs_of_models(compared: LayerComparison | ModelComparison) -> list[ModelPair]:
    """Summarise every two models of a comparison.

    Examples
    --------
    >>> import numpy as np, relspace as rs
    >>> X = np.random.default_rng(0).normal(size=(60, 8))
    >>> models = {"a": {"in": X, "out": X**2}, "b": {"in": 2 * X, "out": X**3}}
    >>> (pair,) = pairs_of_models(rs.compare_models(models, measure="cka", n_permutations=0))
    >>> pair.most_alike.layer, pair.most_alike.match, pair.last.layer, pair.last.match
    ('in', 'in', 'out', 'out')
    """
    if isinstance(compared, LayerComparison):
        last = BestMatch(
            compared.layers[0][-1],
            compared.layers[1][-1],
            float(compared.values[-1, -1]),
            float(compared.chance[-1, -1]),
            None if compared.p_values is None else float(compared.p_values[-1, -1]),
        )
        return [ModelPair(compared.models, compared.maximum, last)]
    return [_pair(compared, first, second) for first, second in combinations(compared.models, 2)]


def _pair(compared: ModelComparison, first: str, second: str) -> ModelPair:
    values, chance = compared.block(first, second), compared.chance_block(first, second)

    def match(row: int, column: int, p_value: float | None) -> BestMatch:
        return BestMatch(
            compared.layers[first][row],
            compared.layers[second][column],
            float(values[row, column]),
            float(chance[row, column]),
            p_value,
        )

    is_distance = compared.measure.direction == "distance"
    nearest = np.nanargmin(values) if is_distance else np.nanargmax(values)
    row, column = (int(one) for one in np.unravel_index(int(nearest), values.shape))
    p = None
    if compared.p_values is not None:
        p = float(compared.p_values[compared.models.index(first), compared.models.index(second)])
    ends = values.shape[0] - 1, values.shape[1] - 1
    # Only the most alike pair of layers of two models has been tested.
    last = match(*ends, p if (row, column) == ends else None)
    return ModelPair((first, second), match(row, column, p), last)
