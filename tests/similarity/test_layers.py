"""Layer by layer: values, matches, corrected p-values, ids, tokens, pictures, several models."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

import relspace as rs
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError
from relspace.reports.page import render_report
from relspace.reports.page.comparison import comparison_page

Layers = dict[str, NDArray[Any]]
NAMES = ["narrow", "wide"]


def same_depths(n_items: int = 80) -> tuple[Layers, Layers]:
    """Two networks of 4 and 7 layers that see the same two things, one early and one late."""
    rng = np.random.default_rng(0)
    early, late = rng.normal(size=(2, n_items, 6))

    def layers(count: int, width: int) -> Layers:
        made = {}
        for i in range(count):
            depth = i / (count - 1)
            seen = (1 - depth) * early + depth * late
            axes = np.linalg.qr(rng.normal(size=(width, 6)))[0]
            made[f"layer_{i + 1}"] = seen @ axes.T + 0.1 * rng.normal(size=(n_items, width))
        return made

    return layers(4, 10), layers(7, 16)


@pytest.fixture(scope="module")
def compared() -> rs.LayerComparison:
    return rs.compare_layers(*same_depths(), measure="cka", names=NAMES)


@pytest.mark.parametrize("name", ["affinity", "cka", "mutual_neighbors", "procrustes", "pwcca"])
def test_values_and_chance_are_those_of_each_pair(name: str) -> None:
    a, b = same_depths(60)
    measure = rs.measures.get(name)
    found = rs.compare_layers(a, b, measure=name, n_permutations=5, random_state=2)
    for i, X in enumerate(a.values()):
        for j, Y in enumerate(b.values()):
            alone = rs.compare(X, Y, measure=name, n_permutations=5, random_state=2)
            assert found.values[i, j] == pytest.approx(alone.value, abs=1e-9)
            assert found.chance[i, j] == pytest.approx(alone.chance, abs=1e-9)
    layers = list(a.values())
    for i, drift in enumerate(found.drift[0]):
        assert drift == pytest.approx(measure(layers[i], layers[i + 1]), abs=1e-9)
    assert [len(one) for one in found.drift] == [3, 6]


def test_layers_match_those_of_the_same_depth(compared: rs.LayerComparison) -> None:
    matches, back = compared.best_matches
    assert [one.match for one in matches] == ["layer_1", "layer_3", "layer_5", "layer_7"]
    assert back[0].match == "layer_1"
    assert back[-1].match == "layer_4"
    assert compared.path[0] == (0, 0)
    assert compared.path[-1] == (3, 6)
    assert {(0, 0), (1, 2), (2, 4), (3, 6)} <= set(compared.path)
    assert min(compared.depth_correlations) > 0.9
    assert compared.maximum.value == compared.values.max()


def test_p_values_are_corrected_by_the_null_of_the_maximum(compared: rs.LayerComparison) -> None:
    assert compared.p_values is not None
    assert compared.extreme_null.shape == (99,)
    for value, p in zip(compared.values.flat, compared.p_values.flat, strict=True):
        assert p == (1 + np.sum(compared.extreme_null >= value - 1e-6)) / 100
    assert compared.maximum.p_value == 0.01


def test_one_table_in_twenty_of_unrelated_models_has_any_small_p() -> None:
    smallest = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a, b = ({f"l{i}": rng.normal(size=(20, 5)) for i in range(4)} for _ in range(2))
        found = rs.compare_layers(a, b, measure="cka", n_permutations=19, random_state=seed)
        smallest.append(found.maximum.p_value)
    assert 0.0 <= np.mean(np.array(smallest) <= 0.05) <= 0.15


@pytest.mark.parametrize("n_permutations", [0, 9])
def test_distances_are_alike_where_they_are_small(n_permutations: int) -> None:
    found = rs.compare_layers(
        *same_depths(), measure="procrustes", names=NAMES, n_permutations=n_permutations
    )
    assert found.maximum.value == found.values.min()
    assert found.chance.min() > found.values.min()
    assert (found.p_values is None) == (n_permutations == 0)
    assert found.best_matches[0][0].match == "layer_1"


def test_rows_are_matched_by_ids() -> None:
    a, b = same_depths()
    names = [f"image {i}" for i in range(80)]
    order = np.random.default_rng(3).permutation(80)
    shuffled = {layer: one[order] for layer, one in b.items()}
    straight = rs.compare_layers(a, b, measure="cka", n_permutations=0)
    ids = {"narrow": names, "wide": [names[i] for i in order]}
    by_ids = rs.compare_layers(a, shuffled, measure="cka", n_permutations=0, names=NAMES, ids=ids)
    np.testing.assert_allclose(by_ids.values, straight.values, atol=1e-9)
    assert (by_ids.matched_by, straight.matched_by) == ("ids", "position")
    first = rs.FeatureSet.from_arrays(a, ids=names)
    second = rs.FeatureSet.from_arrays(shuffled, ids=ids["wide"])
    of_sets = rs.compare_layers(first, second, measure="cka", n_permutations=0)
    np.testing.assert_allclose(of_sets.values, straight.values, atol=1e-9)
    assert of_sets.matched_by == "ids"


def test_tokens_of_images_are_permuted_image_by_image() -> None:
    rng = np.random.default_rng(0)
    maps = {f"l{i}": rng.normal(size=(6, 2, 3, 5)) for i in range(2)}
    names = [f"image {i}" for i in range(6)]
    first = rs.FeatureSet.from_arrays(maps, layout="bhwc", ids=names)
    turned = {layer: one[::-1].copy() for layer, one in maps.items()}
    second = rs.FeatureSet.from_arrays(turned, layout="bhwc", ids=names[::-1])
    found = rs.compare_layers(first, second, measure="cka", n_permutations=5)
    assert (found.n_items, found.n_units, found.matched_by) == (36, 6, "ids")
    np.testing.assert_allclose(found.values.diagonal(), 1.0)


def test_progress_is_told_and_layers_are_read_once() -> None:
    reads: list[str] = []

    class Layer:
        def __init__(self, name: str, array: NDArray[Any]) -> None:
            self.name, self.array, self.shape = name, array, array.shape

        def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
            reads.append(self.name)
            return self.array

    a, b = same_depths()
    lazy = {name: Layer(name, one) for name, one in a.items()}
    said: list[tuple[int, int, str]] = []
    rs.compare_layers(
        lazy,
        b,
        measure="procrustes",
        n_permutations=3,
        names=NAMES,
        progress=lambda *one: said.append(one),
    )
    assert reads == list(a)
    assert said[0] == (1, 4, "Preparing layers of narrow")
    assert said[-1] == (3, 3, "Permutations")
    assert (0, 0, "Comparing 4 x 7 layers") in said


def test_memory_budget_does_not_change_the_table() -> None:
    a, b = same_depths()
    found = [
        rs.compare_layers(a, b, n_permutations=3, memory_budget=budget).values
        for budget in (2**30, 1)
    ]
    np.testing.assert_allclose(*found, atol=1e-9)


def test_to_dict_is_json_and_repr_says_the_most_alike(compared: rs.LayerComparison) -> None:
    plain = compared.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["best_matches"]["narrow"][1]["match"] == "layer_3"
    assert plain["relative_depth"]["wide"][3] == 0.5
    assert f"{compared.maximum.value:.3f}" in repr(compared)
    assert "p 0.01 (corrected)" in repr(compared)


def test_plot_shows_the_table_and_curves_on_one_scale(compared: rs.LayerComparison) -> None:
    figure = compared.plot().figure
    table, best, step = figure.axes[0], *figure.axes[-2:]
    np.testing.assert_array_equal(table.images[0].get_array(), compared.values)
    assert (table.get_ylabel(), table.get_xlabel()) == tuple(NAMES)
    assert best.get_ylim() == step.get_ylim()
    path = [tuple(map(int, point[::-1])) for point in table.lines[0].get_xydata()]
    assert path == compared.path
    reached = best.lines[0].get_ydata()
    np.testing.assert_allclose(reached, [one.value for one in compared.best_matches[0]])
    np.testing.assert_allclose(step.lines[0].get_ydata(), compared.drift[0])


def test_names_of_many_layers_are_thinned_out() -> None:
    rng = np.random.default_rng(0)
    many = {f"layer_{i}": rng.normal(size=(20, 5)) for i in range(40)}
    figure = rs.compare_layers(many, many, measure="cka", n_permutations=0).plot().figure
    assert len(figure.axes[0].get_xticks()) <= 16
    assert not figure.axes[0].texts


class TestErrors:
    def test_no_layers(self) -> None:
        _, b = same_depths()
        with pytest.raises(InvalidTypeError, match="first is of type ndarray"):
            rs.compare_layers(np.zeros((3, 4)), b)
        with pytest.raises(InvalidTypeError, match="first is empty"):
            rs.compare_layers({}, b)

    def test_items_that_do_not_match(self) -> None:
        a, b = same_depths()
        fewer = {name: one[1:] for name, one in b.items()}
        with pytest.raises(ItemMismatchError, match="first has 80 items and second has 79"):
            rs.compare_layers(a, fewer)
        with pytest.raises(ItemMismatchError, match=r"different numbers of rows.*pool"):
            rs.compare_layers(a, b | {"layer_1": b["layer_1"][1:]})

    def test_a_bad_layer_is_named(self) -> None:
        a, b = same_depths()
        bad = b["layer_3"].copy()
        bad[4, 1] = np.nan
        with pytest.raises(InvalidInputError, match="second, layer_3 holds 1 NaN"):
            rs.compare_layers(a, b | {"layer_3": bad})

    def test_names_and_ids_that_do_not_fit(self) -> None:
        a, b = same_depths()
        with pytest.raises(InvalidInputError, match="each of the two models a name of its own"):
            rs.compare_layers(a, b, names=["one"])
        with pytest.raises(InvalidInputError, match="each of the two models a name of its own"):
            rs.compare_layers(a, b, names=["one", "one"])
        with pytest.raises(InvalidInputError, match="ids names third; what is compared is first"):
            rs.compare_layers(a, b, ids={"third": range(80)})


@pytest.fixture(scope="module")
def models() -> rs.ModelComparison:
    a, b = same_depths()
    rng = np.random.default_rng(9)
    noise = {f"layer_{i}": rng.normal(size=(80, 8)) for i in range(3)}
    return rs.compare_models(
        {"narrow": a, "wide": b, "noise": noise}, measure="cka", n_permutations=19
    )


class TestModels:
    def test_blocks_are_the_tables_of_pairs(self, models: rs.ModelComparison) -> None:
        pair = rs.compare_layers(*same_depths(), measure="cka", n_permutations=0)
        np.testing.assert_allclose(models.block("narrow", "wide"), pair.values, atol=1e-9)
        np.testing.assert_allclose(models.block("wide", "narrow"), pair.values.T, atol=1e-9)
        best = models.best["narrow"]["wide"]
        np.testing.assert_allclose(best, pair.values.max(axis=1), atol=1e-9)
        both = np.concatenate([pair.values.max(axis=1), pair.values.max(axis=0)])
        assert models.summary[0, 1] == pytest.approx(both.mean())

    def test_layers_of_one_model_match_other_layers_of_it(self, models: rs.ModelComparison) -> None:
        own = models.block("wide", "wide")
        np.testing.assert_allclose(own.diagonal(), 1.0)
        expected = (own - 2 * np.eye(7)).max(axis=1)
        np.testing.assert_allclose(models.best["wide"]["wide"], expected)

    def test_unrelated_models_stay_apart(self, models: rs.ModelComparison) -> None:
        assert models.p_values is not None
        assert models.p_values[0, 1] == 0.05
        assert models.p_values[0, 2] > 0.05
        assert models.merges[0, :2].tolist() == [0, 1]
        assert abs(models.mean_chance) < 0.02

    def test_to_dict_repr_and_page(self, models: rs.ModelComparison) -> None:
        plain = models.to_dict()
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain
        assert np.shape(plain["scaling"]["points"]) == (14, 2)
        assert repr(models).splitlines()[1].startswith("narrow  ")
        html = render_report(comparison_page(models))
        assert "Mean best match" in html
        assert html.count("<h1>") == 1

    def test_the_table_alone_goes_into_axes_that_are_given(
        self, models: rs.ModelComparison
    ) -> None:
        for result, title in ((models, "mine"), (next(iter(models.pairs.values())), "mine")):
            given = Figure().add_subplot()
            assert result.plot(ax=given, title=title, cmap="gray") is given
            assert given.get_title() == "mine"
            assert given.images[0].get_cmap().name == "gray"

    def test_plot_has_a_panel_for_each_model(self, models: rs.ModelComparison) -> None:
        figure = models.plot().figure
        titles = [axes.get_title() for axes in figure.axes]
        assert "Hierarchy" in titles
        for name in models.models:
            assert f"Layers of {name} in the others" in titles
        panels = [axes for axes in figure.axes if "in the others" in axes.get_title()]
        assert len({axes.get_ylim() for axes in panels}) == 1

    def test_one_model_is_not_enough(self) -> None:
        a, _ = same_depths()
        with pytest.raises(InvalidInputError, match="two or more"):
            rs.compare_models({"only": a})
        with pytest.raises(InvalidTypeError, match="mapping of names"):
            rs.compare_models([a, a])  # type: ignore[arg-type]

    def test_a_model_of_one_layer(self) -> None:
        a, b = same_depths()
        single = {"layer_1": a["layer_1"]}
        models = rs.compare_models({"single": single, "wide": b}, measure="cka", n_permutations=0)
        assert np.isnan(models.best["single"]["single"]).all()
        assert models.to_dict()["best"]["single"]["single"] == [None]


def test_page_of_two_models(compared: rs.LayerComparison) -> None:
    data = comparison_page(compared)
    table = data.layer_tables[0]
    np.testing.assert_array_equal(table.values, compared.values)
    assert (table.row_model, table.column_model) == tuple(NAMES)
    html = render_report(data)
    assert "corrected for all pairs" in html
    assert "80 items matched by position" in html
