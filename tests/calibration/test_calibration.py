"""Calibration: p-values uniform for unrelated features, small for related ones; intervals cover.

Fewer samples of the cases that ``benchmarks/calibration.py`` prints a table of.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import relspace as rs
from calibration import (
    FUNCTIONS,
    Case,
    ask,
    cases,
    coverage,
    draw_models,
    every_measure,
    power,
    refused_cases,
    shares_of,
    small,
    under_the_null,
)
from relspace.errors import InvalidInputError, MemoryBudgetError

pytestmark = [
    pytest.mark.slow,
    # A few of the samples with ties have layers on which a measure has no value.
    pytest.mark.filterwarnings("ignore::relspace.errors.RelspaceWarning"),
]


def always(case: Case) -> bool:
    """Whether every change is tested with it: all measures once, all ways of asking by two."""
    simple = case.function == "compare" and not case.summed and not case.grouped
    ways = case.measure.name in ("cka", "procrustes")
    return ways or (simple and case.data in ("continuous", "integers"))


def released(names: Sequence[str], often: Sequence[str]) -> list[Any]:
    """Values of a parameter, of which only a few are tested with every change."""
    return [
        pytest.param(name, marks=[] if name in often else pytest.mark.release) for name in names
    ]


ALL = [
    pytest.param(case, id=case.name, marks=[] if always(case) else pytest.mark.release)
    for case in cases()
]
CONTINUOUS = [one for one in ALL if one.values[0].data == "continuous"]
REFUSED = [pytest.param(case, id=case.name) for case in refused_cases()]
MEASURES = ("affinity", "cka", "rsa", "procrustes", "linear_predictivity")


@pytest.mark.parametrize("case", ALL)
def test_p_values_of_unrelated_features_are_uniform(case: Case) -> None:
    n_samples = 100 if case.function == "compare" else 36
    shares = under_the_null(case, n_samples // 3 if case.takes_long else n_samples)
    assert all(share.fits for share in shares), "; ".join(map(str, shares))


@pytest.mark.parametrize("case", CONTINUOUS)
def test_p_values_of_related_features_are_small(case: Case) -> None:
    assert power(case, 5 if case.takes_long else 8) >= case.least_power


@pytest.mark.parametrize("case", REFUSED)
def test_what_sums_can_not_test_is_refused(case: Case) -> None:
    refused = r"group|can't be summed|all pairs of \d+ items"
    with pytest.raises((InvalidInputError, MemoryBudgetError), match=refused):
        ask(case, draw_models(case, 0, related=False), 0)


@pytest.mark.parametrize("how", ["held", "groups", "summed"])
@pytest.mark.parametrize("name", released(MEASURES, ("cka", "procrustes")))
def test_intervals_cover_the_mean_value(name: str, how: str) -> None:
    measure = small(name)
    if how == "summed" and not measure.streams:
        pytest.skip("only measures that stream are summed")
    n_samples = 8 if name == "linear_predictivity" else 25
    found = coverage(measure, n_samples, summed=how == "summed", grouped=how == "groups")
    assert found.fits, str(found)


def test_every_combination_is_tested_or_refused() -> None:
    names = {measure.name for measure in every_measure()}
    assert names == set(rs.measures.names())
    asked = [one.values[0] for one in (*ALL, *REFUSED)]
    found = {(one.function, one.measure.name, one.summed, one.grouped) for one in asked}
    for case in itertools.product(FUNCTIONS, names, [False, True], [False, True]):
        _, name, summed, _ = case
        if summed and not rs.measures.get(name).streams:
            # Refused for its measure, whatever else is asked; layers may be held instead.
            case = ("compare", name, True, False)
        assert case in found


def test_p_values_that_are_wrong_are_found() -> None:
    """Bounds that hold whatever is found would say nothing."""
    case = Case("compare", small("cka"))
    rng = np.random.default_rng(0)
    exact = np.ceil(20 * rng.uniform(size=400)) / 20
    assert all(share.fits for share in shares_of(case, exact.tolist()))
    # As far off as ties of neighbours once were, and as the models of two widths.
    for share in (0.55, 0.11):
        too_small = np.where(rng.uniform(size=400) < share, 0.05, exact)
        assert not shares_of(case, too_small.tolist())[0].fits
    assert not all(one.fits for one in shares_of(case, (exact**0.5).tolist()))
