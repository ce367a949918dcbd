"""Calibrated scores: equal to their definition, 0 exactly where p is above alpha."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import relspace as rs
from relspace.errors import InvalidInputError
from relspace.resampling import calibrated_score, critical_value, p_value, shift_families
from relspace.rows.formats.memory import ArrayRows

Vector = NDArray[np.float64]


def by_algorithm(
    observed: float, null: Vector, best: float, alpha: float
) -> tuple[float, float, float]:
    """Algorithm 1 of arXiv 2602.14486, as `calibrated-similarity` 0.1.1 writes it."""
    combined = sorted([observed, *null])
    threshold = combined[math.ceil((1 - alpha) * len(combined)) - 1]
    p = (1 + sum(one >= observed for one in null)) / len(combined)
    score = min(1.0, max(0.0, (observed - threshold) / max(best - threshold, 1e-12)))
    return score, p, threshold


def related(noise: float, n: int = 60, seed: int = 0) -> tuple[Vector, Vector]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    return X, X @ rng.normal(size=(6, 9)) + noise * rng.normal(size=(n, 9))


@pytest.mark.parametrize("name", ["affinity", "cka_biased", "rsa", "mutual_neighbors"])
@pytest.mark.parametrize("noise", [0.1, 3.0, 30.0])
def test_equals_the_algorithm_on_the_same_permutations(name: str, noise: float) -> None:
    X, Y = related(noise)
    measure = rs.measures.get(name)
    x, y = measure.prepare(X), measure.prepare(Y)
    values = [
        measure.from_factors(x, y, permutation)
        for family in shift_families(len(X), 99, random_state=3)
        for permutation in family.permutations()
    ]
    found = rs.compare(X, Y, measure=name, random_state=3)
    score, p, threshold = by_algorithm(measure(X, Y), np.array(values), 1.0, 0.05)
    assert found.calibrated == pytest.approx(score, abs=1e-6)
    assert found.threshold == pytest.approx(threshold, abs=1e-6)
    assert found.p_value == p


@pytest.mark.parametrize("n_permutations", [99, 200])
def test_layers_equal_the_algorithm_of_the_maximum(n_permutations: int) -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(50, 6))
    a = {"in": X, "out": np.tanh(X @ rng.normal(size=(6, 5)))}
    b = {"in": rng.normal(size=(50, 4)), "middle": X**2, "out": X @ rng.normal(size=(6, 8))}
    cka = rs.measures.get("cka_biased")
    null = [
        max(
            cka.from_factors(cka.prepare(one), cka.prepare(other), permutation)
            for one in a.values()
            for other in b.values()
        )
        for family in shift_families(50, n_permutations)
        for permutation in family.permutations()
    ]
    best = max(cka(one, other) for one in a.values() for other in b.values())
    score, p, threshold = by_algorithm(best, np.array(null), 1.0, 0.05)
    found = rs.compare_layers(a, b, measure="cka_biased", n_permutations=n_permutations)
    assert score > 0
    assert found.maximum.calibrated == pytest.approx(score, abs=1e-6)
    assert found.threshold == pytest.approx(threshold, abs=1e-6)
    assert found.maximum.p_value == p
    assert found.calibrated is not None
    assert found.p_values is not None
    np.testing.assert_array_equal(found.calibrated > 0, found.p_values <= 0.05)
    assert found.calibrated.max() == found.maximum.calibrated
    assert found.transposed.calibrated is not None
    np.testing.assert_array_equal(found.transposed.calibrated, found.calibrated.T)


@settings(deadline=None, max_examples=300)
@given(
    null=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    observed=st.integers(0, 12),
    alpha=st.one_of(st.sampled_from([0.01, 0.05, 0.1, 0.3, 0.7]), st.floats(0.001, 0.999)),
    larger=st.booleans(),
    shift=st.sampled_from([0.0, 1e-9]),
)
def test_score_is_above_0_exactly_where_p_is_at_most_alpha(
    null: list[int], observed: int, alpha: float, larger: bool, shift: float
) -> None:
    drawn = np.array(null, dtype=np.float64) + shift
    value, best = float(observed), 13.0 if larger else -1.0
    p = p_value(value, drawn, larger=larger)
    threshold = critical_value(value, drawn, alpha=alpha, larger=larger)
    score = calibrated_score(value, drawn, best, alpha=alpha, larger=larger)
    shown = p <= alpha
    assert (score > 0) == shown
    assert (value > threshold if larger else value < threshold) == shown
    assert 0 <= score <= 1


@pytest.mark.parametrize("count", [19, 99, 200, 999])
@pytest.mark.parametrize("numerator", range(1, 20))
def test_share_of_permutations_that_equals_alpha_is_shown(count: int, numerator: int) -> None:
    alpha = numerator / (count + 1)
    null = np.arange(count, dtype=np.float64)
    value = count - numerator + 0.5
    assert p_value(value, null) == alpha
    assert calibrated_score(value, null, best=count, alpha=alpha) > 0
    assert calibrated_score(value - 1, null, best=count, alpha=alpha) == 0


@pytest.mark.parametrize("name", rs.measures.names())
def test_identical_sets_score_more_than_noise_and_unrelated_ones_0(name: str) -> None:
    rng = np.random.default_rng(0)
    X, Y = related(0.3, n=40)
    near = rs.compare(X, Y, measure=name, n_permutations=39)
    none = rs.compare(X, rng.normal(size=(40, 5)), measure=name, n_permutations=39)
    if not near.is_calibrated:
        with pytest.raises(InvalidInputError, match="no value for identical sets"):
            near.calibrated  # noqa: B018
        return
    assert none.p_value is not None
    assert none.calibrated is not None
    assert near.calibrated is not None
    assert 0 < near.calibrated <= 1
    assert (none.calibrated > 0) == (none.p_value <= 0.05)


def test_distance_is_calibrated_by_the_distance_of_identical_sets() -> None:
    X, Y = related(0.5)
    found = rs.compare(X, Y, measure="procrustes")
    score, _, threshold = by_algorithm(-found.value, -found.null, 0.0, 0.05)
    assert found.threshold == pytest.approx(-threshold)
    assert found.calibrated == pytest.approx(score)


def test_models_and_plain_values_hold_the_scores() -> None:
    X, Y = related(0.2)
    noise = np.random.default_rng(5).normal(size=(60, 4))
    models = {"a": {"in": X}, "b": {"in": Y, "out": Y**2}, "c": {"in": noise}}
    found = rs.compare_models(models, measure="cka")
    assert found.calibrated is not None
    assert found.calibrated[0, 1] == found.pair("b", "a").maximum.calibrated > 0.5
    assert found.calibrated[0, 2] == 0
    assert np.isnan(found.calibrated.diagonal()).all()
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["calibrated"][1][0] == found.calibrated[1, 0]
    assert plain["alpha"] == 0.05
    layers = found.pair("a", "b").to_dict()
    assert layers["calibrated"][0][0] == layers["maximum"]["calibrated"]
    single = rs.compare(X, Y, measure="cka", alpha=0.2)
    assert single.to_dict()["calibrated"] == single.calibrated
    assert single.to_dict()["alpha"] == 0.2
    assert f"calibrated  {single.calibrated:.4f} (beyond {single.threshold:.4f}" in repr(single)


def test_without_permutations_there_is_no_score() -> None:
    X, Y = related(0.2)
    found = rs.compare(X, Y, n_permutations=0)
    assert found.calibrated is None
    assert found.threshold is None
    assert rs.compare_layers({"in": X}, {"in": Y}, n_permutations=0).calibrated is None


def test_measure_without_value_of_identical_sets_is_refused() -> None:
    X, Y = related(0.2)
    measure = replace(rs.measures.get("cka"), identical=math.nan)
    found = rs.compare(X, Y, measure=measure)
    with pytest.raises(InvalidInputError, match="cka has no value for identical sets"):
        _ = found.calibrated
    assert found.to_dict()["calibrated"] is None
    assert "calibrated" not in repr(found)
    layers = rs.compare_layers({"in": X}, {"in": Y}, measure=measure)
    with pytest.raises(InvalidInputError, match="read its p-value"):
        _ = layers.calibrated
    assert layers.maximum.calibrated is None


@pytest.mark.parametrize(("alpha", "fewest"), [(0.05, 19), (0.001, 999), (0.15, 6)])
def test_too_few_permutations_for_alpha_are_refused(alpha: float, fewest: int) -> None:
    X, Y = related(0.2)
    models = {"a": {"in": X}, "b": {"in": Y}}
    few: dict[str, Any] = {"measure": "cka", "alpha": alpha, "n_permutations": fewest - 1}
    found = rs.compare(X, X, **few)
    layers = rs.compare_layers(models["a"], models["b"], **few)
    several = rs.compare_models(models, **few)
    for result in (found, layers, several):
        with pytest.raises(InvalidInputError, match=f"ask for n_permutations={fewest} or more"):
            _ = result.calibrated
        assert result.to_dict()["calibrated"] is None
        assert not result.is_calibrated
    assert layers.maximum.calibrated is None
    assert f"none (alpha {alpha:g} takes {fewest} permutations)" in repr(found)
    found = rs.compare(X, X, **few | {"n_permutations": fewest})
    assert found.calibrated == 1.0
    assert "takes" not in repr(found)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, float("nan")])
def test_alpha_outside_0_to_1_is_refused(alpha: float) -> None:
    X, Y = related(0.2)
    for compare in (
        lambda: rs.compare(X, Y, alpha=alpha),
        lambda: rs.compare_layers({"in": X}, {"in": Y}, alpha=alpha),
        lambda: rs.compare_models({"a": {"in": X}, "b": {"in": Y}}, alpha=alpha),
    ):
        with pytest.raises(InvalidInputError, match="alpha is"):
            compare()


def test_features_summed_in_blocks_are_calibrated_too() -> None:
    X, Y = related(0.2, n=3000)
    whole = rs.compare(X, Y, measure="cka")
    blocks = rs.compare(ArrayRows(X), ArrayRows(Y), measure="cka", memory_budget=400_000)
    assert blocks.null_by == "limit"
    assert blocks.calibrated == pytest.approx(whole.calibrated, abs=0.01)
