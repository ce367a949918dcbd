"""What every measure promises: symmetry, invariances, its largest value, chance, clear errors."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.generators.strategies import feature_sets, rotations

from relspace import measures
from relspace.errors import InvalidInputError, ItemMismatchError, NonFiniteError
from relspace.measures import TRANSFORMATIONS, Measure
from relspace.measures.sums.stacked_products import sum_stacked_products
from relspace.resampling import ShiftFamily
from relspace.rows.formats.memory import ArrayRows


def small(measure: Measure) -> Measure:
    """The same measure with few enough neighbours for a few items."""
    return measures.get(measure.name, k=3) if "k" in measure.parameters else measure


MEASURES = [
    pytest.param(small(measure), id=measure.name) for measure in map(measures.get, measures.names())
]
EVERY = pytest.mark.parametrize("measure", MEASURES)
#: With more features than items every set can be mapped onto every other.
UNDEFINED_ON_WIDE_FEATURES = {"cca", "svcca", "pwcca"}
UNBIASED = [case for case in MEASURES if case.values[0].unbiased]


def gaussian(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def related(
    n: int = 40, dtype: torch.dtype = torch.float64, *, noise: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets that share a part of what they say about their items, away from the origin."""
    shared = gaussian(n, 4, 0)
    X = torch.tanh(shared @ gaussian(4, 6, 1)) + noise * gaussian(n, 6, 2) + 0.3
    Y = torch.relu(shared @ gaussian(4, 9, 3)) + noise * gaussian(n, 9, 4) + 0.2
    return X.to(dtype), Y.to(dtype)


def transform(X: torch.Tensor, how: str, seed: int) -> torch.Tensor:
    n, d = X.shape
    generator = torch.Generator().manual_seed(seed)
    # Well away from 1 and 0, so that it shows.
    factors = (0.3 + 3 * torch.rand(max(n, d), generator=generator)).to(X.dtype)
    if how == "rotation":
        return X @ rotations(d, seed, dtype=X.dtype)
    if how == "scale":
        return factors[0] * X
    if how == "shift":
        return X + 3 * factors[:d]
    if how == "item scale":
        return X * factors[:n, None]
    if how == "item shift":
        return X + 3 * factors[:n, None]
    if how == "channel scale":
        return X * factors[:d]
    assert how == "linear map"
    left, right = rotations(d, seed, dtype=X.dtype), rotations(d, seed + 1, dtype=X.dtype)
    return X @ left @ torch.diag(factors[:d]) @ right


def family(n: int, count: int, seed: int) -> ShiftFamily:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n, generator=generator)
    relabelled = torch.randperm(n, generator=generator)
    return ShiftFamily(order, relabelled, torch.randperm(n, generator=generator)[:count])


@EVERY
def test_record_is_whole(measure: Measure) -> None:
    assert measure.direction in ("similarity", "distance")
    low, high = measure.range
    best = high if measure.direction == "similarity" else low
    # Of CKNNA no bound is known: its masks differ between numerator and denominator. Where the
    # value of identical sets depends on the set, the record says NaN.
    known = best if math.isfinite(best) else 1.0
    assert math.isnan(measure.identical) or measure.identical == known
    assert math.isfinite(best) or measure.name == "cknna"
    assert set(measure.invariances) <= set(TRANSFORMATIONS)
    assert measure.title
    assert measure.source
    assert measure.chance
    assert measures.get(measure.name, **measure.parameters) == measure
    assert json.loads(json.dumps(measure.to_dict()))["name"] == measure.name
    assert measure.name in repr(measure)


@EVERY
@given(data=st.data())
def test_a_set_with_itself_is_at_the_maximum(measure: Measure, data: st.DataObject) -> None:
    X = data.draw(feature_sets(min_items=30, max_features=12).filter(lambda X: X.shape[1] > 3))
    if math.isnan(measure.identical):
        order = torch.randperm(len(X), generator=torch.Generator().manual_seed(1))
        assert measure(X, X) > measure(X, X[order])
    else:
        assert measure(X, X) == pytest.approx(measure.identical, abs=1e-6)


def test_values_of_identical_sets_that_depend_on_the_set_do() -> None:
    for measure in map(small, map(measures.get, measures.names())):
        if math.isnan(measure.identical):
            values = [measure(Z, Z) for Z in (gaussian(40, 2, 0), gaussian(40, 30, 1))]
            assert abs(values[0] - values[1]) > 1e-3


@EVERY
@given(data=st.data())
def test_values_keep_to_the_range_and_to_symmetry(measure: Measure, data: st.DataObject) -> None:
    X = data.draw(feature_sets(min_items=16, max_features=4).filter(lambda X: X.shape[1] > 2))
    Y = gaussian(len(X), 3, data.draw(st.integers(0, 2**31))) + X[:, :1]
    value = measure(X, Y)
    assert measure.range[0] <= value <= measure.range[1]
    if measure.symmetric:
        assert measure(Y, X) == pytest.approx(value, abs=1e-9)


def test_measures_said_to_be_asymmetric_are() -> None:
    X, Y = related()
    for measure in map(measures.get, measures.names()):
        if not measure.symmetric:
            assert abs(measure(X, Y) - measure(Y, X)) > 1e-6


@pytest.mark.parametrize(
    ("measure", "how"),
    [
        pytest.param(measure, how, id=f"{measure.name}-{how}")
        for measure in (case.values[0] for case in MEASURES)
        for how in measure.invariances
    ],
)
def test_invariances_are_as_declared(measure: Measure, how: str) -> None:
    X, Y = related()
    value = measure(X, Y)
    for seed in range(3):
        assert measure(transform(X, how, seed), Y) == pytest.approx(value, abs=1e-8)
        assert measure(X, transform(Y, how, seed)) == pytest.approx(value, abs=1e-8)


@EVERY
@pytest.mark.parametrize("how", TRANSFORMATIONS)
def test_no_invariance_is_missing_from_the_record(measure: Measure, how: str) -> None:
    X, Y = related()
    changes = [abs(measure(transform(X, how, seed), Y) - measure(X, Y)) for seed in range(4)]
    assert (max(changes) > 1e-4) == (how not in measure.invariances)


@EVERY
def test_items_may_come_in_any_order(measure: Measure) -> None:
    X, Y = related()
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(0))
    # Which items are held out goes by their position.
    if measure.folds(len(X)) is None:
        assert measure(X[order], Y[order]) == pytest.approx(measure(X, Y), abs=1e-9)


@EVERY
def test_related_sets_are_more_alike_than_chance(measure: Measure) -> None:
    X, Y = related(80, noise=0.1)
    x, y = measure.prepare(X), measure.prepare(Y)
    null = measure.null_table([x], [y], family(len(X), 30, 0)).flatten()
    beyond = (measure.from_factors(x, y) - null.mean()) / null.std()
    assert (beyond if measure.direction == "similarity" else -beyond) > 4


@pytest.mark.parametrize("measure", UNBIASED)
@pytest.mark.parametrize(("n", "d"), [(64, 8192), (64, 8), (200, 30)])
def test_unrelated_features_give_zero_on_average(measure: Measure, n: int, d: int) -> None:
    draws = 6
    values = [measure(gaussian(n, d, 2 * i), gaussian(n, d, 2 * i + 1)) for i in range(draws)]
    assert abs(np.mean(values)) < 0.08
    assert abs(np.mean(values)) < 4 * np.std(values, ddof=1) / math.sqrt(draws) + 0.01


@EVERY
def test_unrelated_wide_features_are_refused_or_within_chance(measure: Measure) -> None:
    X, Y = gaussian(64, 2048, 0), gaussian(64, 2048, 1)
    if measure.name in UNDEFINED_ON_WIDE_FEATURES:
        with pytest.raises(InvalidInputError, match="more items"):
            measure(X, Y)
        return
    x, y = measure.prepare(X), measure.prepare(Y)
    null = measure.null_table([x], [y], family(64, 20, 0)).flatten()
    assert abs(measure.from_factors(x, y) - null.mean()) < 5 * null.std() + 1e-6


@EVERY
def test_expected_by_chance_is_the_mean_over_all_permutations(measure: Measure) -> None:
    if measure.expected_by_chance(*map(measure.prepare, related())) is None:
        pytest.skip("no closed form")
    X, Y = related(6)
    x, y = measure.prepare(X[:, :3]), measure.prepare(Y[:, :3])
    expected = measure.expected_by_chance(x, y)
    everything = [torch.tensor(p) for p in itertools.permutations(range(6))]
    values = [measure.from_factors(x, y, one) for one in everything]
    assert expected == pytest.approx(np.mean(values), abs=1e-9)


def every_form() -> list[Any]:
    """Every measure, with the directions that are not the default."""
    forms = [
        measures.get("linear_predictivity", predicted=predicted, random_state=3)
        for predicted in ("first", "second")
    ]
    return [*MEASURES, *(pytest.param(one, id=f"linear_{one.predicted}") for one in forms)]


@pytest.mark.parametrize("measure", every_form())
@pytest.mark.parametrize("n", [24, 31])
def test_the_null_is_the_value_of_permuted_items(measure: Measure, n: int) -> None:
    """Nothing that goes by the order of items, such as folds, may differ between the two."""
    X, Y = related(n)
    x, y = measure.prepare(X), measure.prepare(Y)
    own = [(one, True) for one in measure.permutations(n, 4, random_state=1)]
    for turned, keeps_parts in [*own, (family(n, 4, 1), False)]:
        null = measure.null_table([x], [y], turned)
        assert null.shape == (len(turned), 1, 1)
        for batch, value in zip(turned.batches(1), null.flatten().tolist(), strict=True):
            permutation = batch[0]
            assert sorted(permutation.tolist()) == list(range(n))
            assert measure.from_factors(x, y, permutation) == pytest.approx(value, abs=1e-9)
            assert measure(X, Y[permutation.argsort()]) == pytest.approx(value, abs=1e-9)
            if keeps_parts or measure.folds(n) is None:
                assert measure(X[permutation], Y) == pytest.approx(value, abs=1e-9)


@EVERY
def test_the_null_of_groups_is_the_value_of_permuted_items(measure: Measure) -> None:
    X, Y = related(24)
    x, y = measure.prepare(X), measure.prepare(Y)
    for turned in measure.permutations(24, 3, groups=[i // 2 for i in range(24)]):
        null = measure.null_table([x], [y], turned).flatten().tolist()
        for permutation, value in zip(turned.batches(1), null, strict=True):
            assert measure(X, Y[permutation[0].argsort()]) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("measure", [one for one in every_form() if one.values[0].streams])
def test_the_summed_null_keeps_what_permutations_keep(measure: Measure) -> None:
    """Draws from the limit have what every permutation leaves as it is, by fold where there are."""
    X, Y = related(60)
    folds = measure.folds(60)
    stack = sum_stacked_products([ArrayRows(X), ArrayRows(Y)], ["X", "Y"], folds=folds)
    draw = stack.permutations(range(1), range(1, 2), torch.Generator().manual_seed(0))
    observed, drawn = stack.pair(0, 1), [draw().pair(0, 1) for _ in range(400)]
    assert all(one.x.products is observed.x.products for one in drawn)
    assert all(torch.equal(one.y.products, observed.y.products) for one in drawn)
    x, y = (Z - Z.mean(dim=0) for Z in (X, Y))
    part_of = torch.zeros(60) if folds is None else folds(0, 60)
    for fold in range(len(observed.x.sizes)):
        own, other = x[part_of == fold], y[part_of == fold]
        by_fold = torch.stack([one.by_fold[fold] for one in drawn])
        # The mean over permutations within a fold, and the spread of its entries.
        mean = torch.outer(own.sum(dim=0), other.sum(dim=0)) / len(own)
        spread = torch.outer(own.std(dim=0), other.std(dim=0)) * (len(own) - 1) ** 0.5
        assert float(((by_fold.mean(dim=0) - mean) / spread).abs().max()) < 4.5 / 20
        assert float((by_fold.std(dim=0) / spread - 1).abs().max()) < 0.18
    for one in drawn:
        torch.testing.assert_close(one.by_fold.sum(dim=0), one.both)
        # Both directions hold out the same items.
        torch.testing.assert_close(one.swapped().by_fold, one.by_fold.mT)


@EVERY
def test_a_table_holds_the_values_of_its_pairs(measure: Measure) -> None:
    X, Y = related()
    factors = [measure.prepare(Z) for Z in (X, Y, X[:, :4])]
    table = measure.table(factors[:2], factors)
    assert table.shape == (2, 3)
    for i, j in itertools.product(range(2), range(3)):
        assert float(table[i, j]) == pytest.approx(measure.from_factors(factors[i], factors[j]))


@EVERY
def test_memory_budget_does_not_change_the_value(measure: Measure) -> None:
    X, Y = related(600)
    kept = [measure.prepare(Z) for Z in (X, Y)]
    made_again = [measure.prepare(Z, memory_budget=1) for Z in (X, Y)]
    value = measure.from_factors(*kept)
    assert measure.from_factors(*made_again) == pytest.approx(value, abs=1e-9)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    permuted = measure.from_factors(*kept, order)
    assert measure.from_factors(*made_again, order) == pytest.approx(permuted, abs=1e-9)


@EVERY
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_float32_is_precise(measure: Measure, offset: float) -> None:
    if offset and "shift" not in measure.invariances:
        pytest.skip("changes under a shift")
    X, Y = (Z.to(torch.float32) + offset for Z in related(200))
    assert measure(X, Y) == pytest.approx(measure(X.double(), Y.double()), abs=2e-4)


@EVERY
def test_arrays_and_half_precision_are_taken(measure: Measure) -> None:
    X, Y = related()
    assert measure(X.numpy(), Y.numpy()) == pytest.approx(measure(X, Y), abs=1e-12)
    assert measure(X.to(torch.float16), Y) == pytest.approx(measure(X, Y), abs=0.1)


@EVERY
@pytest.mark.gpu
def test_a_gpu_gives_the_same_values(measure: Measure) -> None:
    X, Y = related(300)
    turned = family(300, 3, 1)
    on_cpu, on_gpu = ([measure.prepare(Z.to(device)) for Z in (X, Y)] for device in ("cpu", "cuda"))
    value = measure.from_factors(*on_cpu)
    assert measure.from_factors(*on_gpu) == pytest.approx(value, abs=1e-6)
    nulls = [measure.null_table(factors[:1], factors[1:], turned) for factors in (on_cpu, on_gpu)]
    np.testing.assert_allclose(nulls[1], nulls[0], atol=1e-6)


@EVERY
class TestErrors:
    def test_items_that_do_not_match(self, measure: Measure) -> None:
        with pytest.raises(ItemMismatchError, match="X has 30 items and Y has 31"):
            measure(gaussian(30, 5, 0), gaussian(31, 5, 1))

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_too_few_items(self, measure: Measure, n: int) -> None:
        with pytest.raises(InvalidInputError, match=f"X has {n} items"):
            measure(gaussian(n, 5, 0), gaussian(n, 5, 1))

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_not_finite(self, measure: Measure, bad: float) -> None:
        Y = gaussian(30, 5, 1)
        Y[3, 2] = bad
        with pytest.raises(NonFiniteError, match="Y holds 1 NaN or infinite"):
            measure(gaussian(30, 5, 0), Y)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_constant(self, measure: Measure, dtype: torch.dtype) -> None:
        constant = torch.full((30, 5), 0.1, dtype=dtype) * torch.arange(1, 6)
        with pytest.raises(InvalidInputError, match="Y is constant"):
            measure(gaussian(30, 5, 0, dtype), constant)
        almost = constant * (1 + torch.finfo(dtype).eps * torch.randint(0, 2, (30, 5)))
        with pytest.raises(InvalidInputError, match="X is constant"):
            measure(almost, gaussian(30, 5, 0, dtype))

    def test_no_matrix(self, measure: Measure) -> None:
        with pytest.raises(InvalidInputError, match="X has shape"):
            measure(torch.zeros(30), gaussian(30, 5, 0))

    def test_as_many_neighbours_as_items(self, measure: Measure) -> None:
        if "k" not in measure.parameters:
            pytest.skip("has no neighbours")
        with pytest.raises(InvalidInputError, match="k is 30 and X has 30 items"):
            measures.get(measure.name, k=30)(gaussian(30, 5, 0), gaussian(30, 5, 1))
        with pytest.raises(InvalidInputError, match="ask for fewer"):
            measures.get(measure.name, k=29)(gaussian(30, 5, 0), gaussian(30, 5, 1))

    def test_unknown_parameter(self, measure: Measure) -> None:
        with pytest.raises(InvalidInputError, match="has no parameter colour"):
            measures.get(measure.name, colour="red")
        for name in measure.parameters:
            with pytest.raises((InvalidInputError, TypeError), match=name):
                measures.get(measure.name, **{name: "nonsense"})


def test_unknown_name_says_what_there_is() -> None:
    with pytest.raises(KeyError, match="there is no measure 'ckka'; did you mean 'cka'"):
        measures.get("ckka")
