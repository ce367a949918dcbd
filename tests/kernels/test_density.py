"""Densities that can be asked for: those a bandwidth can be solved for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import relspace as rs
from relspace.errors import InvalidInputError
from relspace.measures import get

X = np.random.default_rng(0).normal(size=(60, 5))


@pytest.mark.parametrize(
    "ask",
    [
        lambda density: rs.solve_bandwidth(X, density=density),
        lambda density: rs.rbf_affinity(X, density=density),
        lambda density: rs.cosine_affinity(X, density=density),
        lambda density: rs.align({"a": X, "b": X[:, :4]}, density=density),
        lambda density: get("affinity", density=density),
    ],
    ids=["solve_bandwidth", "rbf_affinity", "cosine_affinity", "align", "affinity"],
)
def test_a_density_too_small_is_refused_by_name(ask: Callable[[float], object]) -> None:
    for density in (5e-324, 1e-300, 1e-31):
        with pytest.raises(InvalidInputError, match=r"density is .* from 1e-30 on"):
            ask(density)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_smallest_density_is_solved(dtype: str) -> None:
    wide = np.random.default_rng(0).normal(size=(300, 300)).astype(dtype)
    for features in (X.astype(dtype), wide):
        assert rs.solve_bandwidth(features, density=1e-30).density == pytest.approx(1e-30, rel=1e-5)
