"""Parameters of the affinity measure that floats can't hold."""

from __future__ import annotations

import numpy as np
import pytest

from relspace.errors import InvalidInputError
from relspace.measures import get


@pytest.mark.parametrize("spread", [10**24, 10**400, 101, float("nan"), float("inf")])
def test_a_spread_too_large_is_refused_by_name(spread: float) -> None:
    with pytest.raises(InvalidInputError, match="spread is"):
        get("affinity", spread=spread)


def test_the_largest_spread_leaves_nothing_of_sets_that_spread_differently() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 40))
    clusters = np.repeat(np.eye(30), 2, axis=0) + 1e-4 * rng.normal(size=(60, 30))
    measure = get("affinity", spread=100, density=0.01, normalize="none")
    assert measure(X, clusters) == pytest.approx(0.0, abs=1e-12)
    assert measure(X, X) == pytest.approx(1.0, abs=1e-3)
