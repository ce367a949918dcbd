"""Values of galleries of rising size: what they are, chance, exponents, groups, tables, errors."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

import relspace as rs
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError

Matrix = NDArray[np.float64]


def sets(n: int = 240, seed: int = 0) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 4))
    X = shared @ rng.normal(size=(4, 8)) + 0.3 * rng.normal(size=(n, 8))
    return X, np.tanh(shared @ rng.normal(size=(4, 12))) + 0.3 * rng.normal(size=(n, 12))


@pytest.mark.parametrize(
    "measure", ["mutual_neighbors", "cka", "procrustes", "linear_predictivity"]
)
def test_all_items_are_what_compare_gives(measure: str) -> None:
    X, Y = sets()
    curve = rs.similarity_curve(X, Y, measure=measure, sizes=[60, 240], n_draws=2, random_state=3)
    compared = rs.compare(X, Y, measure=measure, n_permutations=99, random_state=3)
    np.testing.assert_allclose(curve.values[1], compared.value, rtol=1e-9)
    np.testing.assert_allclose(curve.chances[1], compared.chance, rtol=1e-9)
    larger = compared.measure.direction == "similarity"
    both = np.sort(np.append(compared.null, compared.value))
    tau = both[94] if larger else both[5]
    np.testing.assert_allclose(curve.thresholds[1], tau, rtol=1e-9)
    best = compared.measure.identical
    expected = max(0.0, (compared.value - tau) / (best - tau))
    np.testing.assert_allclose(curve.calibrated_values[1], expected, rtol=1e-9)


def test_galleries_are_prefixes_of_random_orders_of_the_same_items() -> None:
    X, Y = sets()
    curve = rs.similarity_curve(X, Y, measure="cka", sizes=[50, 100], n_draws=3, random_state=7)
    generator = torch.Generator().manual_seed(7)
    for draw in range(3):
        order = torch.randperm(240, generator=generator)
        for row, size in enumerate(curve.sizes):
            rows = order[:size].sort().values.numpy()
            value = rs.measures.get("cka")(X[rows], Y[rows])
            assert curve.values[row, draw] == pytest.approx(value, rel=1e-9)


def test_unrelated_features_have_a_calibrated_value_of_0() -> None:
    shown = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X, Y = rng.normal(size=(60, 5)), rng.normal(size=(60, 90))
        curve = rs.similarity_curve(X, Y, measure="cka_biased", sizes=[30, 60], n_draws=1)
        shown += int(curve.calibrated[1] > 0)
        assert curve.value[1] > 0.05
    # Of 40 at 5 %, more than 6 have a probability of 1 %.
    assert shown <= 6


def test_exponent_is_the_slope_and_its_interval_holds_it() -> None:
    X, Y = sets(400)
    curve = rs.similarity_curve(X, Y, n_draws=6, n_permutations=19)
    assert curve.sizes == (100, 200, 400)
    logs = np.log(curve.sizes)
    centered = logs - logs.mean()
    slope = (centered * np.log(curve.value)).sum() / (centered**2).sum()
    assert curve.exponent == pytest.approx(slope)
    law = np.exp(np.log(curve.value).mean() + slope * centered)
    ratio = np.maximum(curve.value / law, law / curve.value)
    assert curve.misfit == pytest.approx(ratio.max() - 1)
    assert repr(curve).endswith(f"values are up to {curve.misfit:.0%} off this power law")
    of_draws = [(centered * np.log(one)).sum() / (centered**2).sum() for one in curve.values.T]
    assert curve.exponent_interval is not None
    low, high = curve.exponent_interval
    assert (high - low) / 2 == pytest.approx(2.5706 * np.std(of_draws, ddof=1), rel=1e-4)
    assert low < slope < high < 0


def test_values_that_are_not_above_0_have_no_exponent() -> None:
    rng = np.random.default_rng(2)
    X, Y = rng.normal(size=(80, 5)), rng.normal(size=(80, 5))
    curve = rs.similarity_curve(X, Y, measure="cka", sizes=[20, 40, 80], n_draws=1)
    assert (curve.value <= 0).any()
    assert curve.exponent is None
    assert curve.exponent_interval is None
    assert curve.misfit is None
    assert repr(curve).endswith("none: values are not above 0")


def test_ids_match_rows() -> None:
    X, Y = sets()
    order = np.random.default_rng(0).permutation(240)
    ids = {"X": list(range(240)), "Y": order.tolist()}
    given: dict[str, Any] = {"measure": "cka", "sizes": [50, 240], "n_draws": 2}
    matched = rs.similarity_curve(X, Y[order], ids=ids, **given)
    np.testing.assert_allclose(matched.values, rs.similarity_curve(X, Y, **given).values)
    assert matched.matched_by == "ids"


class TestGroups:
    def test_captions_count_if_they_are_of_the_right_image(self) -> None:
        X, Y = sets(120)
        rng = np.random.default_rng(1)
        captions = np.repeat(Y, 5, axis=0) + 0.05 * rng.normal(size=(600, 12))
        order = rng.permutation(600)
        groups = {"X": [f"photo {i}" for i in range(120)]}
        groups["Y"] = [f"photo {i // 5}" for i in order]
        curve = rs.similarity_curve(X, captions[order], groups=groups, sizes=[60, 120], n_draws=2)
        of_one = rs.similarity_curve(X, Y, sizes=[60, 120], n_draws=2)
        np.testing.assert_allclose(curve.value, of_one.value, atol=0.06)
        np.testing.assert_allclose(curve.chance, [10 / 59, 10 / 119], rtol=0.06)
        assert curve.n_units == 120
        assert curve.matched_by == "groups"
        assert repr(curve).splitlines()[1].startswith("groups")
        # Item by item, in the order that they come in, captions would not be those of the photos.
        assert curve.calibrated[-1] > 0.3

    def test_items_in_order_of_groups_of_one_are_pairs(self) -> None:
        X, Y = sets(100)
        grouped = rs.similarity_curve(X, Y, groups=list(range(100)), sizes=[50, 100], n_draws=2)
        pairs = rs.similarity_curve(X, Y, sizes=[50, 100], n_draws=2)
        np.testing.assert_allclose(grouped.values, pairs.values)

    def test_refusals(self) -> None:
        X, Y = sets(100)
        labels = list(range(100))
        with pytest.raises(InvalidInputError, match="cka compares items one to one"):
            rs.similarity_curve(X, Y, groups=labels, measure="cka")
        with pytest.raises(ItemMismatchError, match=r"2 groups are in one .* 99, 'x'"):
            rs.similarity_curve(X, Y, groups={"X": labels, "Y": [*labels[:-1], "x"]})
        with pytest.raises(InvalidInputError, match="ids or groups, not both"):
            rs.similarity_curve(X, Y, groups=labels, ids=labels)
        with pytest.raises(InvalidInputError, match="give those of X and of Y"):
            rs.similarity_curve(X, Y, groups={"X": labels})


def test_table_is_the_same_in_memory_and_as_a_file(tmp_path: Path) -> None:
    X, Y = sets()
    curve = rs.similarity_curve(X, Y, sizes=[50, 100], n_draws=2, n_permutations=19)
    frame = curve.to_dataframe()
    assert list(frame.columns) == [
        "size", "value", "low", "high", "chance", "threshold", "calibrated"
    ]  # fmt: skip
    np.testing.assert_array_equal(frame["value"], curve.value)
    curve.to_csv(tmp_path / "curve.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "curve.csv"), frame)
    with (tmp_path / "curve.csv").open() as file:
        assert len(list(csv.reader(file))) == 3
    plain = json.loads(json.dumps(curve.to_dict()))
    assert plain["curve"]["size"] == [50, 100]
    assert plain["exponent_interval"] == list(curve.exponent_interval or ())
    assert len(repr(curve).splitlines()) == 5
    assert "<table" in curve._repr_html_()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sizes": [100, 50]}, "rising order"),
        ({"sizes": [100]}, "two or more"),
        ({"sizes": [100, 241]}, "a gallery of 241 is asked for; there are 240 items"),
        ({"n_permutations": 18}, "needs at least 19"),
        ({"n_draws": 0}, "n_draws is 0"),
        ({"alpha": 1.0}, "alpha is 1.0"),
        ({"sizes": [8, 100]}, "k is 10 and X has 8 items"),
    ],
)
def test_refusals(given: dict[str, Any], said: str) -> None:
    X, Y = sets()
    with pytest.raises(InvalidInputError, match=said):
        rs.similarity_curve(X, Y, **given)


def test_other_refusals() -> None:
    X, Y = sets(90)
    with pytest.raises(InvalidInputError, match=r"there are 90: give smaller sizes"):
        rs.similarity_curve(X, Y)
    with pytest.raises(InvalidTypeError, match="sizes is of type int"):
        rs.similarity_curve(X, Y, sizes=50)  # type: ignore[arg-type]
    with pytest.raises(ItemMismatchError):
        rs.similarity_curve(X, Y[1:])


def test_default_sizes_double_up_to_12_of_them() -> None:
    X = np.random.default_rng(0).normal(size=(1000, 2))
    curve = rs.similarity_curve(X, X, measure="cka", n_draws=1, n_permutations=19)
    assert curve.sizes[0] == 100
    assert curve.sizes[-1] == 1000
    assert len(curve.sizes) == 1 + round(math.log2(10))
    np.testing.assert_allclose(curve.value, 1.0)


def test_one_list_of_groups_for_rows_in_two_orders_is_refused() -> None:
    import pandas as pd

    rows = np.random.default_rng(0).normal(size=(40, 5))
    frame = pd.DataFrame(rows, index=[f"image {i}" for i in range(40)])
    labels = np.repeat(np.arange(20), 2)
    with pytest.raises(ItemMismatchError, match=r"groups is one list.*a list for each"):
        rs.similarity_curve(frame, frame.iloc[::-1], groups=labels, sizes=[12, 20])
