"""Halves of random parts of the items: whole again together, as wide as halves of items."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from relspace import measures
from relspace.errors import MemoryBudgetError
from relspace.measures.sums.halves import FEWEST_PARTS, MOST_PARTS, n_parts_within, sum_parts
from relspace.measures.sums.item_parts import PartsOfGroups, RandomParts
from relspace.measures.sums.stacked_products import sum_stacked_products
from relspace.resampling import bootstrap, interval_around
from relspace.rows.formats.memory import ArrayRows


def sets(n: int, seed: int, d: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    concepts, X, Y = torch.randn(3, n, d, generator=generator, dtype=torch.float64)
    return concepts + X + 5, concepts.tanh() + 0.7 * Y


@pytest.mark.parametrize("n", [7, 100, 4096, 10_000])
@pytest.mark.parametrize("n_parts", [2, 5, 7])
def test_random_parts_are_equal_and_the_same_in_any_blocks(n: int, n_parts: int) -> None:
    parts = RandomParts(n, n_parts, 3)
    whole = parts(0, n)
    counts = whole.bincount(minlength=n_parts)
    # Of every 4,096 items one part may have one more than another.
    assert counts.max() - counts.min() <= 1 + n // 4096
    cuts = [0, n // 3, n // 3 + 1, n]
    blocks = [parts(a, b) for a, b in pairwise(cuts) if b > a]
    assert torch.equal(torch.cat(blocks), whole)
    assert n == 7 or not torch.equal(RandomParts(n, n_parts, 4)(0, n), whole)
    assert torch.equal(parts.finer(3 * n_parts)(0, n) % n_parts, whole)


def test_groups_lie_in_one_part_as_a_whole() -> None:
    group_of = torch.arange(60) // 4
    parts = PartsOfGroups(group_of, 5, 0)
    by_group = parts(0, 60).view(15, 4)
    assert (by_group == by_group[:, :1]).all()
    assert by_group[:, 0].bincount().tolist() == [3] * 5


@pytest.mark.parametrize("name", ["cka", "linear_predictivity"])
def test_parts_together_are_the_whole(name: str) -> None:
    measure = measures.get(name)
    X, Y = sets(700, 0)
    folds = measure.folds(700)
    n_folds = 1 if folds is None else folds.n_parts
    parts = (folds or RandomParts(700, 1, 0)).finer(30)
    sums = sum_parts(ArrayRows(X), ArrayRows(Y), parts, n_folds, memory_budget=400_000)
    whole = measure.from_cross_products(sums.whole().pair(0, 1))
    assert whole == pytest.approx(measure(X, Y), abs=1e-10)
    direct = sum_stacked_products([ArrayRows(X), ArrayRows(Y)], ["X", "Y"], folds=folds)
    assert whole == pytest.approx(measure.from_cross_products(direct.pair(0, 1)), abs=1e-10)


def test_a_half_is_the_comparison_of_its_items() -> None:
    X, Y = sets(300, 1)
    parts = RandomParts(300, 12, 0)
    sums = sum_parts(ArrayRows(X), ArrayRows(Y), parts, 1)
    drawn = list(sums.halves(11, torch.Generator().manual_seed(5)))
    again = torch.Generator().manual_seed(5)
    assert len(drawn) == 11
    for half in drawn:
        chosen = torch.randperm(12, generator=again)[:6]
        rows = torch.isin(parts(0, 300), chosen)
        assert half.pair(0, 1).n_items == int(rows.sum())
        for name in ("cka", "procrustes"):
            measure = measures.get(name)
            found = measure.from_cross_products(half.pair(0, 1))
            assert found == pytest.approx(measure(X[rows], Y[rows]), abs=1e-9)


@pytest.mark.parametrize("name", ["cka", "svcca", "procrustes", "linear_predictivity"])
def test_intervals_are_as_wide_as_those_of_items(name: str) -> None:
    measure = measures.get(name)
    X, Y = sets(600, 2)
    folds = measure.folds(600)
    parts = (folds or RandomParts(600, 1, 0)).finer(120)
    sums = sum_parts(ArrayRows(X), ArrayRows(Y), parts, 1 if folds is None else 5)
    halves = sums.halves(300, torch.Generator().manual_seed(0))
    by_parts = np.array([measure.from_cross_products(one.pair(0, 1)) for one in halves])
    by_items = bootstrap(lambda rows: measure(X[rows], Y[rows]), 600, 300)
    # 119 differences of parts tell a width to 6.5 % (standard deviation), 300 halves to 4 %.
    assert 0.75 < by_parts.std() / by_items.std() < 1.33
    assert abs(by_parts.mean() - by_items.mean()) < 0.5 * by_items.std()


@pytest.mark.release
def test_intervals_hold_the_value_of_the_population() -> None:
    measure = measures.get("cka")
    truth = measure(*sets(40_000, 10_000))
    held = []
    for seed in range(150):
        X, Y = sets(800, seed)
        sums = sum_parts(ArrayRows(X), ArrayRows(Y), RandomParts(800, 40, seed), 1)
        value = measure.from_cross_products(sums.whole().pair(0, 1))
        halves = sums.halves(200, torch.Generator().manual_seed(seed))
        draws = np.array([measure.from_cross_products(one.pair(0, 1)) for one in halves])
        low, high = interval_around(value, draws)
        held.append(low <= truth <= high)
    # 150 intervals of 95 % hold it in 142.5 cases, with a standard deviation of 2.7.
    assert 0.88 < np.mean(held) <= 1.0


def test_groups_widen_the_interval() -> None:
    measure = measures.get("cka")
    X, Y = (one.repeat_interleave(8, dim=0) for one in sets(150, 3))
    noise = torch.randn(2, 1200, 4, generator=torch.Generator().manual_seed(9)) * 0.1
    X, Y = X + noise[0], Y + noise[1]
    widths = []
    for parts in (RandomParts(1200, 75, 0), PartsOfGroups(torch.arange(1200) // 8, 75, 0)):
        sums = sum_parts(ArrayRows(X), ArrayRows(Y), parts, 1)
        halves = sums.halves(200, torch.Generator().manual_seed(0))
        widths.append(np.std([measure.from_cross_products(one.pair(0, 1)) for one in halves]))
    # Eight items that are nearly one make it wider by the root of 8.
    assert 2.0 < widths[1] / widths[0] < 4.0


def test_as_many_parts_as_the_budget_holds() -> None:
    widths, large = (100, 200), 2**34
    assert n_parts_within(widths, 10**6, 1, 1, large) == MOST_PARTS
    assert n_parts_within(widths, 10**6, 5, 1, large) == MOST_PARTS - MOST_PARTS % 5
    assert n_parts_within(widths, 10, 1, 1, large) == 10
    one = 8 * 303**2
    fewer = n_parts_within(widths, 10**6, 1, 1, 80 * one)
    assert FEWEST_PARTS <= fewer < MOST_PARTS
    with pytest.raises(MemoryBudgetError, match="at least 32 parts of the items"):
        n_parts_within(widths, 10**6, 1, 1, 20 * one)
    with pytest.raises(MemoryBudgetError, match="leave n_bootstraps out"):
        n_parts_within(widths, 10**6, 1, 1, 60 * one, on_cluster=True)
