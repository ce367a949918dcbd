"""Every result is a table, as a frame and as CSV, and its rows are what the result holds."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import relspace as rs
from relspace._core.result_tables import TabularResult
from relspace.errors import MissingDependencyError

pd = pytest.importorskip("pandas")

RNG = np.random.default_rng(0)
X, Y, Z, W = (RNG.normal(size=(30, 5)) for _ in range(4))
MODELS = {"a": {"in": X, "out": X**2}, "b": {"in": Y}, "c": {"in": Z}, "d": {"in": W}}


def of_two_measures() -> list[rs.ModelComparison]:
    return [
        rs.compare_models(MODELS, measure=measure, n_permutations=0) for measure in ("cka", "rsa")
    ]


RESULTS: dict[str, tuple[Callable[[], Any], int]] = {
    "Comparison": (lambda: rs.compare(X, Y, names=("sam", "dino"), n_bootstraps=9), 1),
    "LayerComparison": (lambda: rs.compare_layers(MODELS["a"], MODELS["b"]), 2),
    "ModelComparison": (lambda: rs.compare_models(MODELS, measure="cka"), 9),
    "FusedComparison": (lambda: rs.fuse(of_two_measures()), 6),
    "SimilarityCurve": (lambda: rs.similarity_curve(X, Y, sizes=[12, 30], n_draws=2), 2),
    "ModelRanking": (
        lambda: rs.compare_to([X, Y], {"c": Z, "d": W}, measure="cka", n_bootstraps=20),
        2,
    ),
    "Match": (lambda: rs.align(X, Y).match("a", "b", 2), 60),
}


@pytest.mark.parametrize("name", RESULTS)
def test_the_frame_and_the_csv_hold_the_same_rows(name: str, tmp_path: Path) -> None:
    make, n_rows = RESULTS[name]
    result = make()
    frame = result.to_dataframe()
    assert len(frame) == n_rows
    result.to_csv(tmp_path / "table.csv")
    read = pd.read_csv(tmp_path / "table.csv")
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)


def test_every_result_that_is_a_table_is_tried_here() -> None:
    public = {name for name in rs.__all__ if inspect.isclass(getattr(rs, name))}
    assert {name for name in public if issubclass(getattr(rs, name), TabularResult)} == set(RESULTS)


def test_the_row_of_a_comparison_names_both_sets() -> None:
    compared = RESULTS["Comparison"][0]()
    (row,) = compared.to_dataframe().to_dict("records")
    assert (row["first"], row["second"], row["measure"]) == ("sam", "dino", "affinity")
    assert (row["low"], row["high"]) == compared.interval
    assert row["value"] == compared.value
    assert row["threshold"] == compared.threshold


def test_layers_have_a_row_for_each_pair() -> None:
    compared = rs.compare_models(MODELS, measure="cka")
    frame = compared.to_dataframe().set_index(["first", "first_layer", "second", "second_layer"])
    pair = compared.pair("a", "c")
    assert frame.loc[("a", "out", "c", "in"), "value"] == pair.values[1, 0]
    assert frame.loc[("a", "out", "c", "in"), "p_value"] == pair.p_values[1, 0]


def test_matches_are_of_ids_where_there_are_some() -> None:
    ids = [f"image {i}" for i in range(30)]
    match = rs.align({"a": X, "b": X[::-1] * 2}, ids={"a": ids, "b": ids[::-1]}).match("a", "b")
    frame = match.to_dataframe()
    assert list(frame["item"]) == ids
    assert list(frame["nearest"]) == ids
    assert frame["is_right"].all()
    assert frame["is_right"].mean() == match.accuracy


def test_matches_of_some_items_keep_their_row_numbers() -> None:
    frame = rs.align(X, Y).match("a", "b", items=[7, 3, 11, 20]).to_dataframe()
    assert list(frame["item"]) == [7, 3, 11, 20]
    assert set(frame["nearest"]) <= {7, 3, 11, 20}


def test_matches_of_tokens_say_image_and_token() -> None:
    tokens = RNG.normal(size=(4, 6, 5)).astype(np.float32)
    sets = {
        "a": rs.FeatureSet.from_arrays(
            {"out": tokens}, layout="btd", n_prefix_tokens=0, grid_shape=(2, 3)
        ),
        "b": rs.FeatureSet.from_arrays(
            {"out": 2 * tokens}, layout="btd", n_prefix_tokens=0, grid_shape=(2, 3)
        ),
    }
    match = rs.align(sets).match("a", "b", images=[0, 2, 3])
    frame = match.to_dataframe()
    assert list(frame.columns[:4]) == ["image", "token", "nearest_image", "nearest_token"]
    assert list(frame["image"].unique()) == [0, 2, 3]
    assert list(frame["token"][:7]) == [0, 1, 2, 3, 4, 5, 0]
    assert frame["is_right"].mean() == match.accuracy == 1.0


def test_frames_need_pandas_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="to_dataframe needs pandas"):
        rs.compare(X, Y, n_permutations=0).to_dataframe()
