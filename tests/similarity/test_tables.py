"""Values, null and chance of one statistic: whichever model comes first, with gaps, on grids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import relspace as rs
from relspace.cli import commands
from relspace.errors import InvalidInputError, ItemMismatchError, RelspaceWarning
from relspace.measures.sums.stacked_products import sum_stacked_products
from relspace.measures.symmetrized import symmetrized
from relspace.reports.page import render_report
from relspace.reports.page.comparison import comparison_page
from relspace.rows.formats.memory import ArrayRows
from relspace.similarity import compare_feature_sets, pairs_of_models

Layers = dict[str, NDArray[Any]]
ASYMMETRIC = [
    rs.measures.get("linear_predictivity", predicted="second"),
    rs.measures.get("pwcca"),
    rs.measures.get("cknna", k=4),
]
BY_NAME = [pytest.param(one, id=one.name) for one in ASYMMETRIC]


def unrelated(n: int = 50, wide: int = 20) -> dict[str, Layers]:
    rng = np.random.default_rng(0)
    return {
        "b": {"x": rng.normal(size=(n, wide)), "y": rng.normal(size=(n, 3))},
        "a": {"x": rng.normal(size=(n, 2)), "y": rng.normal(size=(n, 4)), "z": rng.random((n, 3))},
        "c": {"x": rng.normal(size=(n, 5))},
    }


@pytest.mark.parametrize("measure", BY_NAME)
def test_exchanging_models_changes_nothing(measure: rs.measures.Measure) -> None:
    models = unrelated()
    options: dict[str, Any] = {"measure": measure, "n_permutations": 9}
    there = rs.compare_models(models, **options)
    back = rs.compare_models(dict(reversed(models.items())), **options)
    for first in models:
        for second in models:
            np.testing.assert_allclose(
                there.block(first, second), back.block(first, second), atol=1e-12
            )
            np.testing.assert_allclose(
                there.chance_block(first, second), back.chance_block(first, second), atol=1e-12
            )
    assert there.p_values is not None
    assert back.p_values is not None
    np.testing.assert_array_equal(there.p_values, back.p_values[::-1, ::-1])
    np.testing.assert_allclose(there.values, there.values.T, atol=1e-12)
    np.testing.assert_array_equal(there.chance, there.chance.T)


@pytest.mark.parametrize("measure", BY_NAME)
def test_null_and_chance_are_of_the_mean_that_is_shown(measure: rs.measures.Measure) -> None:
    models = unrelated()
    X, Y = models["a"]["y"], models["b"]["x"]
    found = rs.compare_models(
        {"b": {"l": Y}, "a": {"l": X}}, measure=measure, n_permutations=12, random_state=3
    )

    x, y = measure.prepare(X), measure.prepare(Y)

    def both(order: Any) -> float:
        there = measure.from_factors(x, y, order)
        return (there + measure.from_factors(y, x, order.argsort())) / 2

    (family,) = measure.permutations(len(X), 12, random_state=3)
    null = np.array([both(batch[0]) for batch in family.batches(1)])
    assert found.values[0, 1] == pytest.approx((measure(X, Y) + measure(Y, X)) / 2, abs=1e-9)
    assert found.chance[0, 1] == pytest.approx(null.mean(), abs=1e-9)
    assert found.p_values is not None
    expected = (1 + np.sum(null >= found.values[0, 1] - 1e-9)) / 13
    assert found.p_values[0, 1] == pytest.approx(expected)
    assert np.isnan(found.chance.diagonal()).all()
    assert found.mean_chance == pytest.approx(null.mean(), abs=1e-9)


def test_sums_are_symmetrised_as_held_features_are() -> None:
    measure = symmetrized(ASYMMETRIC[0])
    X, Y = unrelated()["a"]["y"], unrelated()["b"]["x"]
    products = sum_stacked_products(
        [ArrayRows(X), ArrayRows(Y)],
        ["X", "Y"],
        folds=measure.folds(len(X)),
    )
    for pair in ((0, 1), (1, 0)):
        assert measure.from_cross_products(products.pair(*pair)) == pytest.approx(
            measure(X, Y), abs=1e-9
        )
    symmetric = rs.measures.get("cka")
    assert symmetrized(symmetric) is symmetric


@pytest.mark.parametrize("measure", BY_NAME)
def test_both_orders_have_the_record_of_the_measure(measure: rs.measures.Measure) -> None:
    both = symmetrized(measure)
    properties = [
        name
        for name in dir(rs.measures.Measure)
        if not name.startswith("_") and isinstance(getattr(rs.measures.Measure, name), property)
    ]
    assert "permutations_for_chance" in properties
    # Linear predictivity has a form of its own for the mean of both orders.
    differs = {"parameters"} if "predicted" in measure.parameters else set()
    for name in set(properties) - {"symmetric"} - differs:
        assert getattr(both, name) == getattr(measure, name), name
    assert both.symmetric
    parts, of_measure = both.folds(50), measure.folds(50)
    assert (parts is None) == (of_measure is None)
    if parts is not None and of_measure is not None:
        assert parts(0, 50).tolist() == of_measure(0, 50).tolist()
    assert both.bytes_per_pair(3) == measure.bytes_per_pair(3)


def test_a_measure_of_two_models_may_have_no_value_within_one() -> None:
    # Of 50 items, 30 + 30 dimensions have no canonical correlations, and 30 + 3 have.
    models = {"a": {"x": unrelated(wide=30)["b"]["x"]}, "b": {"x": unrelated()["a"]["z"]}}
    pair = rs.compare_layers(*models.values(), measure="pwcca", n_permutations=9)
    with pytest.warns(RelspaceWarning, match="1 pairs of layers have no value.*a, x and a, x"):
        found = rs.compare_models(models, measure="pwcca", n_permutations=9)
    assert 0 < found.summary[0, 1] < 1
    assert found.p_values is not None
    assert pair.p_values is not None
    assert np.isnan(found.values[0, 0])
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["values"][0][0] is None


def dead(measured: str = "b") -> dict[str, Layers]:
    """Models of which one has a layer with items of zeros, as dead units give them."""
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(40, 6))
    models: dict[str, Layers] = {
        name: {
            layer: shared @ rng.normal(size=(6, 8)) + 0.5 * rng.normal(size=(40, 8))
            for layer in ("in", "relu", "out")
        }
        for name in "abc"
    }
    models[measured]["relu"] = np.maximum(models[measured]["relu"], 0)
    models[measured]["relu"][[3, 7]] = 0
    return models


REFUSED = ["mutual_neighbors", "rsa", "rsa_spearman", "rsa_cosine", "cknna", "second_order_cosine"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_without_values_leaves_the_others(name: str) -> None:
    models = dead()
    measure = rs.measures.get(name, **({"k": 4} if "neigh" in name or "knn" in name else {}))
    options: dict[str, Any] = {"measure": measure, "n_permutations": 9}
    said = r"1 of 6 layers are left out, 'second, relu': .*2 (rows|items).* 3, 7.*another measure"
    with pytest.warns(RelspaceWarning, match=said):
        found = rs.compare_layers(models["a"], models["b"], **options)
    kept = {layer: one for layer, one in models["b"].items() if layer != "relu"}
    without = rs.compare_layers(models["a"], kept, **options)
    assert np.isnan(found.values[:, 1]).all()
    np.testing.assert_allclose(found.values[:, [0, 2]], without.values, atol=1e-9)
    np.testing.assert_allclose(found.chance[:, [0, 2]], without.chance, atol=1e-9)
    np.testing.assert_allclose(found.extreme_null, without.extreme_null, atol=1e-9)
    assert found.p_values is not None
    assert without.p_values is not None
    np.testing.assert_array_equal(found.p_values[:, [0, 2]], without.p_values)
    assert np.isnan(found.p_values[:, 1]).all()
    for own, other in zip(found.best_matches[0], without.best_matches[0], strict=True):
        assert (own.layer, own.match) == (other.layer, other.match)
        assert own.value == pytest.approx(other.value, abs=1e-9)
    assert found.maximum.match == without.maximum.match
    missing = found.best_matches[1][1]
    assert (missing.layer, missing.match, missing.p_value) == ("relu", None, None)
    assert found.path == [(i, 2 * j) for i, j in without.path]
    assert np.isnan(found.drift[1]).all()
    assert not np.isnan(found.drift[0]).any()
    assert list(found.left_out) == ["second, relu"]
    plain = found.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["values"][0][1] is None
    assert plain["best_matches"]["second"][1] == {
        "layer": "relu",
        **dict.fromkeys(("match", "value", "chance", "p_value", "calibrated")),
    }


def test_several_models_leave_a_layer_out() -> None:
    models = dead()
    options: dict[str, Any] = {"measure": "rsa", "n_permutations": 9}
    with pytest.warns(RelspaceWarning, match="1 of 9 layers are left out, 'b, relu'"):
        found = rs.compare_models(models, **options)
    kept = models | {"b": {layer: models["b"][layer] for layer in ("in", "out")}}
    without = rs.compare_models(kept, **options)
    np.testing.assert_allclose(found.summary, without.summary)
    np.testing.assert_array_equal(found.p_values, without.p_values)
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    np.testing.assert_allclose(found.values[np.ix_(others, others)], without.values)
    assert np.isnan(found.values[4]).all()
    placed, explained = found.scaling
    np.testing.assert_allclose(np.abs(placed[others]), np.abs(without.scaling[0]), atol=1e-9)
    assert np.isnan(placed[4]).all()
    assert explained == pytest.approx(without.scaling[1])
    plain = found.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    for own, other in zip(pairs_of_models(found), pairs_of_models(without), strict=True):
        assert own.most_alike.match == other.most_alike.match
        assert own.most_alike.value == pytest.approx(other.most_alike.value, abs=1e-9)


def test_pictures_and_pages_show_a_gap_as_missing() -> None:
    models = dead()
    with pytest.warns(RelspaceWarning):
        found = rs.compare_layers(models["a"], models["b"], measure="rsa", names=["a", "b"])
    table = found.plot()
    crossed = next(line for line in table.lines if line.get_marker() == "x")
    assert crossed.get_xydata().tolist() == [[1, 0], [1, 1], [1, 2]]
    assert not any(text.get_text() == "nan" for text in table.texts)
    page = render_report(comparison_page(found))
    assert "left out: b, relu" in page
    assert "NaN" not in page.partition('type="application/json"')[2].partition("</script>")[0]
    shown = found._repr_html_()
    assert "nan" not in shown
    with pytest.warns(RelspaceWarning):
        several = rs.compare_models(models, measure="rsa")
    assert "left out: b, relu" in render_report(comparison_page(several))


@pytest.mark.filterwarnings("always::relspace.errors.RelspaceWarning")
def test_commands_show_a_gap_as_none(tmp_path: Path) -> None:
    paths = []
    for name, layers in dead().items():
        paths.append(str(tmp_path / f"{name}.npz"))
        np.savez(paths[-1], **layers)
    given = ["layers", *paths[:2], "--measure", "rsa", "--permutations", "9"]
    done = CliRunner().invoke(commands, given)
    assert done.exit_code == 0, done.stderr
    assert "relspace: warning: 1 of 6 layers are left out, 'b, relu'" in done.stderr
    assert ["relu", "none", "none", "none"] in [line.split() for line in done.stdout.splitlines()]
    read = CliRunner().invoke(commands, [*given, "--json"])
    assert json.loads(read.stdout)["values"][0][1] is None
    three = CliRunner().invoke(commands, ["layers", *paths, "--measure", "rsa"])
    assert three.exit_code == 0, three.stderr


def test_a_model_without_any_value_is_refused() -> None:
    models = dead()
    only = {"relu": models["b"]["relu"]}
    with pytest.raises(InvalidInputError, match="second, relu has 2 items"):
        rs.compare_layers(models["a"], only, measure="rsa")
    with pytest.raises(InvalidInputError, match="b, relu has 2 items"):
        rs.compare_models({"a": models["a"], "b": only}, measure="rsa")


def grids() -> dict[str, rs.FeatureSet]:
    """Two models that see the same smooth images on grids of different sizes."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(12, 4, 4, 5))
    names = [f"image {i}" for i in range(12)]

    def seen(side: int, width: int) -> NDArray[Any]:
        at = (np.arange(side) + 0.5) / side * 4 - 0.5
        low = np.clip(np.floor(at), 0, 2).astype(int)
        part = np.clip(at - low, 0, 1)
        rows = coarse[:, low] * (1 - part)[:, None, None] + coarse[:, low + 1] * part[:, None, None]
        found = rows[:, :, low] * (1 - part)[:, None] + rows[:, :, low + 1] * part[:, None]
        return np.asarray(found @ rng.normal(size=(5, width)))

    order = rng.permutation(12)
    return {
        "fine": rs.FeatureSet.from_arrays({"l": seen(8, 6)}, layout="bhwc", ids=names),
        "rough": rs.FeatureSet.from_arrays(
            {"l": seen(6, 9)[order], "m": seen(5, 4)[order]},
            layout="bhwc",
            ids=[names[i] for i in order],
        ),
    }


@pytest.mark.parametrize("several", [False, True])
def test_tokens_on_different_grids_are_compared_at_the_same_places(several: bool) -> None:
    sets = grids()
    options: dict[str, Any] = {"measure": "cka", "n_permutations": 19}
    if several:
        models = rs.compare_models(sets, **options)
        values, p = models.block("fine", "rough"), models.p_values
        found: Any = models
    else:
        found = rs.compare_layers(*sets.values(), names=list(sets), **options)
        values, p = found.values, found.p_values
    assert values.min() > 0.4
    assert np.nanmin(p) == 0.05
    assert (found.n_units, found.matched_by) == (12, "ids")
    assert found.n_items == 1000 // 12 * 12
    by_command = compare_feature_sets(sets, **options)
    np.testing.assert_allclose(values, by_command.values)
    assert by_command.matched_by == "ids"


def test_groups_and_items_at_the_same_places() -> None:
    sets = grids()
    options: dict[str, Any] = {"measure": "cka", "n_permutations": 5}
    labels = [i // 2 for i in range(12)]
    found = rs.compare_models(sets, groups=labels, max_items=240, **options)
    assert (found.n_items, found.n_units) == (240, 6)
    with pytest.raises(ItemMismatchError, match="12 images and 3 group labels"):
        rs.compare_models(sets, groups=[0, 1, 2], **options)
    with pytest.raises(InvalidInputError, match="give the images' ids to the feature sets"):
        rs.compare_models(sets, ids=range(768), **options)
    pooled = {"fine": sets["fine"], "rough": sets["rough"].pool("mean")}
    with pytest.raises(InvalidInputError, match="one row for each image"):
        rs.compare_models(pooled, **options)


@pytest.mark.parametrize("summed", [False, True])
def test_constant_layers_are_left_out_held_and_summed(summed: bool) -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(2000, 3))
    models: dict[str, dict[str, Any]] = {
        name: {
            layer: shared @ rng.normal(size=(3, 3)) + 0.5 * rng.normal(size=(2000, 3))
            for layer in ("in", "relu", "out")
        }
        for name in "abc"
    }
    models["b"]["relu"] = np.full((2000, 3), 7.0)
    options: dict[str, Any] = {"measure": "cka", "n_permutations": 9}
    if summed:
        options["memory_budget"] = 200_000
        models = {
            name: {layer: ArrayRows(one) for layer, one in layers.items()}
            for name, layers in models.items()
        }
    only = {"relu": models["b"]["relu"]}
    with pytest.warns(RelspaceWarning, match="1 of 9 layers are left out, 'b, relu': .*constant"):
        found = rs.compare_models(models, **options)
    assert found.null_by == ("limit" if summed else "permutations")
    kept = models | {"b": {layer: models["b"][layer] for layer in ("in", "out")}}
    without = rs.compare_models(kept, **options)
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    np.testing.assert_allclose(
        found.values[np.ix_(others, others)], without.values, rtol=1e-9, atol=1e-9
    )
    assert np.isnan(found.values[4]).all()
    assert list(found.left_out) == list(found.pair("b", "c").left_out) == ["b, relu"]
    assert found.pair("a", "c").left_out == {}
    for n_bootstraps in (0, 4):
        with pytest.raises(InvalidInputError, match="Y is constant"):
            rs.compare(models["a"]["in"], only["relu"], n_bootstraps=n_bootstraps, **options)
    with pytest.raises(InvalidInputError, match="second, relu is constant"):
        rs.compare_layers(models["a"], only, **options)


@pytest.mark.parametrize("name", ["cka", "procrustes", "pwcca"])
def test_a_pair_of_several_models_is_the_comparison_of_two(name: str) -> None:
    models = dead()
    options: dict[str, Any] = {"measure": name, "n_permutations": 19, "random_state": 4}
    several = rs.compare_models(models, **options)
    pair = several.pair("a", "b")
    if rs.measures.get(name).symmetric:
        two = rs.compare_layers(models["a"], models["b"], names=["a", "b"], **options)
        one, other = pair.to_dict(), two.to_dict()
        assert one.keys() == other.keys()
        for key in ("values", "chance", "chance_std", "p_values"):
            np.testing.assert_allclose(one[key], other[key], atol=1e-9)
        for own, its in zip(pair.drift, two.drift, strict=True):
            np.testing.assert_allclose(own, its, atol=1e-9)
        assert pair.path == two.path
    assert several.p_values is not None
    assert pair.maximum.p_value == several.p_values[0, 1]
    back = several.pair("b", "a")
    assert (back.models, back.layers) == (("b", "a"), pair.layers[::-1])
    np.testing.assert_array_equal(back.values, pair.values.T)
    np.testing.assert_array_equal(back.p_values, np.transpose(pair.p_values))
    assert back.maximum.value == pair.maximum.value
    with pytest.raises(KeyError, match="no pair of 'a' and 'z'; name two of a, b, c"):
        several.pair("a", "z")


def test_all_comparisons_say_what_they_rest_on() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 30, 4))
    ids = [f"item {i}" for i in range(30)]
    options: dict[str, Any] = {"measure": "cka", "max_items": 20, "ids": ids, "random_state": 2}
    found = [
        rs.compare(X, Y, **options),
        rs.compare_layers({"x": X}, {"y": Y}, **options),
        rs.compare_models({"a": {"x": X}, "b": {"y": Y}}, **options),
    ]
    first = found[0].provenance
    assert first.ids is not None
    assert len(set(first.ids)) == first.n_items == 20
    assert (first.n_available, first.matched_by, first.n_permutations) == (30, "ids", 99)
    for one in found:
        assert one.provenance.ids == first.ids
        assert one.provenance.to_dict() == first.to_dict()
        assert first.to_dict().items() <= one.to_dict().items()
        assert (one.measure, one.random_state) == (first.measure, 2)
