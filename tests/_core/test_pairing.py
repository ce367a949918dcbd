"""Items of several sets: matched by ids or by position, and refused where they are others."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import relspace as rs
from relspace._core.pairing import (
    ItemContents,
    ItemContentWarning,
    OtherItemsError,
    pair_items,
    pair_sets,
)
from relspace.errors import InvalidInputError, ItemMismatchError
from relspace.features import FeatureSet
from relspace.features.layer import LayerFeatures, MemorySource
from relspace.similarity import compare_feature_sets

N = 200
X = np.random.default_rng(0).normal(size=(N, 6)).astype(np.float32)
TEXTS = ItemContents("texts", tuple(f"text {i}" for i in range(N)))
SHUFFLED = np.random.default_rng(1).permutation(N)
IDS = tuple(f"{i}.png" for i in range(N))


def feature_set(
    rows: np.ndarray, contents: ItemContents | None = None, ids: tuple[str, ...] | None = None
) -> FeatureSet:
    layer = LayerFeatures("a", MemorySource(torch.from_numpy(X[rows])), None, ids, contents)
    return FeatureSet({"a": layer}, ids=ids, contents=contents)


HERE = feature_set(np.arange(N), TEXTS)
THERE = feature_set(SHUFFLED, TEXTS.select(SHUFFLED.tolist()))
NAMED = feature_set(np.arange(N), TEXTS, IDS)


def matched(space: Any) -> float:
    return float(space.match("x", "y").accuracy)


WAYS = {
    "compare": lambda a, b, **given: rs.compare(a["a"], b["a"], measure="cka", **given).value,
    "compare of sets": lambda a, b, **given: rs.compare(a, b, measure="cka", **given).value,
    "compare of sums": lambda a, b, **given: (
        rs.compare(a, b, measure="cka", memory_budget=60_000, **given).value
    ),
    "compare_layers": lambda a, b, **given: rs.compare_layers(
        a, b, measure="cka", n_permutations=0, **given
    ).values[0, 0],
    "compare_layers of sums": lambda a, b, **given: rs.compare_layers(
        a, b, measure="cka", n_permutations=0, memory_budget=15_000, **given
    ).values[0, 0],
    "compare_models": lambda a, b, **given: rs.compare_models(
        {"x": a, "y": b}, measure="cka", n_permutations=0, **given
    ).values[0, 1],
    "align": lambda a, b, **given: (
        1 - float(np.asarray(rs.align({"x": a, "y": b}, **given).distances("x", "y")).mean())
    ),
    "align of layers": lambda a, b, **given: (
        1
        - float(
            np.asarray(rs.align({"x": a["a"], "y": b["a"]}, **given).distances("x", "y")).mean()
        )
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_rows_of_other_items_are_not_matched_by_position(way: str) -> None:
    value = WAYS[way]
    with pytest.raises(OtherItemsError, match="same items in different orders"):
        value(HERE, THERE)
    other = feature_set(np.arange(N), TEXTS.select([*range(N - 1), 0]))
    with pytest.raises(OtherItemsError, match=r"row 199 of .* are different items; 1 of 200 rows"):
        value(HERE, other)
    assert value(HERE, HERE) == pytest.approx(1, abs=1e-5)
    # Who says so is believed.
    assert value(HERE, THERE, ids="position") < 0.9


@pytest.mark.parametrize("way", WAYS)
def test_a_set_with_ids_and_one_without_are_matched_by_position_only_when_told(way: str) -> None:
    without = feature_set(np.arange(N))
    for pair in ((NAMED, without), (without, NAMED)):
        with pytest.raises(ItemMismatchError, match=r"has no ids while .*ids='position'"):
            WAYS[way](*pair)
        assert WAYS[way](*pair, ids="position") == pytest.approx(1, abs=1e-5)


def test_an_array_beside_pooled_features_with_ids_is_refused() -> None:
    maps = np.random.default_rng(2).normal(size=(N, 2, 2, 5)).astype(np.float32)
    fs = FeatureSet.from_arrays({"a": maps}, layout="bhwc", ids=IDS)
    rows = maps.mean(axis=(1, 2))
    with pytest.raises(ItemMismatchError, match="ids='position'"):
        rs.compare(fs.pool("mean"), rows[SHUFFLED], measure="cka")
    told = {"X": IDS, "Y": [IDS[i] for i in SHUFFLED]}
    assert rs.compare(
        fs.pool("mean"), rows[SHUFFLED], measure="cka", ids=told
    ).value == pytest.approx(1, abs=1e-5)


def test_sets_compared_for_a_page_are_matched_as_others() -> None:
    with pytest.raises(OtherItemsError):
        compare_feature_sets({"x": HERE, "y": THERE}, n_permutations=0)
    with pytest.raises(ItemMismatchError, match="has no ids"):
        compare_feature_sets({"x": NAMED, "y": feature_set(np.arange(N))}, n_permutations=0)


def test_tokens_are_of_items_too() -> None:
    maps = torch.from_numpy(np.random.default_rng(2).normal(size=(9, 2, 3, 5)).astype(np.float32))
    known = ItemContents("arrays", tuple("abcdefghi"))
    grid = FeatureSet.from_arrays({"a": maps}, layout="bhwc")["a"].grid
    order = [1, 0, *range(2, 9)]

    def of(items: list[int]) -> FeatureSet:
        whole = LayerFeatures("a", MemorySource(maps), grid, None, known)
        return FeatureSet({"a": whole}, contents=known).select(images=items)

    assert rs.compare(of(order)["a"], of(order)["a"], measure="cka").value > 0.999
    with pytest.raises(OtherItemsError, match="item 0 and 1 more of 9 differ"):
        rs.compare(of(order)["a"], of(list(range(9)))["a"], measure="cka")
    with pytest.raises(OtherItemsError):
        rs.align({"x": of(order), "y": of(list(range(9)))}, landmarks=20)
    pooled = of(order).pool("mean")
    assert pooled["a"].contents == ItemContents("arrays", tuple("bacdefghi"))
    with pytest.raises(ItemMismatchError, match=r"6 rows for each of 9 items and .* 1 for each"):
        pair_sets(
            {"x": 54, "y": 54},
            {"x": None, "y": None},
            {"x": of(order)["a"].contents, "y": pooled["a"].contents},
        )


def test_ids_say_what_belongs_together_and_other_content_is_told() -> None:
    contents = ItemContents("image files", tuple(str(i % 198) for i in range(N)))
    there = feature_set(
        SHUFFLED, contents.select(SHUFFLED.tolist()), tuple(IDS[i] for i in SHUFFLED)
    )
    files = ItemContents("image files", tuple(map(str, range(N))))
    here = feature_set(np.arange(N), files, IDS)
    with pytest.warns(
        ItemContentWarning, match=r"2 of 200 items .* X and .*'198\.png', '199\.png'"
    ):
        assert rs.compare(here, there, measure="cka").value == pytest.approx(1, abs=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rs.compare(here, here, measure="cka")
        # Texts and image files are known by different digests.
        rs.compare(here, NAMED, measure="cka")


def test_contents_follow_the_items() -> None:
    chosen = NAMED.select(images=["3.png", "1.png"])
    assert chosen.contents == TEXTS.select([3, 1])
    assert chosen["a"].contents == TEXTS.select([3, 1])
    fs = FeatureSet({"a": NAMED["a"]}, lines=range(1, N + 1))
    assert fs.select(images=[4, 2]).lines == (5, 3)
    with pytest.raises(ItemMismatchError, match="200 items and 199 lines"):
        FeatureSet({"a": NAMED["a"]}, lines=range(N - 1))
    with pytest.raises(ItemMismatchError, match="2 digests of their content"):
        FeatureSet({"a": NAMED["a"]}, contents=TEXTS.select([3, 1]))


@pytest.mark.parametrize("call", [rs.compare, rs.compare_layers])
def test_ids_that_are_another_word_are_refused(call: Any) -> None:
    given = (HERE, HERE)
    with pytest.raises(InvalidInputError, match="ids is 'order'; it must be lists of ids, or 'pos"):
        call(*given, ids="order")


def test_ids_in_another_order_than_the_sets_own_are_refused_everywhere():
    rows = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    names = [f"image {i}" for i in range(12)]
    turned = names[::-1]
    a = rs.FeatureSet.from_arrays({"layer": rows}, ids=names)
    b = rs.FeatureSet.from_arrays({"layer": rows[::-1].copy()}, ids=turned)
    calls = [
        lambda ids: rs.compare(a["layer"], b["layer"], measure="cka", ids=ids),
        lambda ids: rs.align({"X": a, "Y": b}, ids=ids, landmarks=6),
        lambda ids: rs.compare_layers(a, b, measure="cka", ids=ids, names=("X", "Y")),
        lambda ids: rs.compare_models({"X": a, "Y": b}, measure="cka", ids=ids),
    ]
    for call in calls:
        for ids in (names, {"X": names, "Y": names}):
            with pytest.raises(ItemMismatchError, match="Y names row 0 'image 11', and the ids"):
                call(ids)
        # The sets' own order, and names of another kind, are the caller's to give.
        call({"X": names, "Y": turned})
        call({"X": [n[6:] for n in names], "Y": [n[6:] for n in turned]})


@given(st.lists(st.integers(0, 99), min_size=1, max_size=20, unique=True), st.randoms())
def test_items_are_brought_into_the_order_of_the_first_set(ids, random) -> None:
    shuffled = list(ids)
    random.shuffle(shuffled)
    shared, order = pair_items(
        {"a": len(ids), "b": len(ids)}, {"a": tuple(ids), "b": tuple(shuffled)}
    )
    assert shared == tuple(ids)
    assert order["a"] is None
    rows = range(len(ids)) if order["b"] is None else order["b"].tolist()
    assert [shuffled[row] for row in rows] == list(ids)


def test_without_ids_items_are_paired_by_position() -> None:
    ids, order = pair_items({"a": 3, "b": 3}, {"a": None, "b": None})
    assert ids is None
    assert order == {"a": None, "b": None}


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"a": None, "b": None}, "a has 3 items and b has 2; without ids .*: give ids"),
        ({"a": (1, 2, 3), "b": None}, "'b' has no ids while 'a' has"),
        ({"a": (1, 2, 3), "b": (1, 2)}, "b lacks 1 item of a: 3"),
        ({"a": (1, 2, 3), "b": (4, 1)}, "b lacks 2 items of a: 2, 3; a lacks 1 item of b: 4"),
        ({"a": (1, 2, 3), "b": ("1", "02")}, "ids of a are whole numbers and those of b are str"),
        ({"a": (1, 2, 3), "b": ("1", "x")}, "ids of a are whole numbers and those of b are str"),
    ],
)
def test_items_that_do_not_correspond_are_named(ids, message) -> None:
    with pytest.raises(ItemMismatchError, match=message):
        pair_items({"a": 3, "b": 2}, ids)


@pytest.mark.parametrize(
    ("first", "second"), [((1, 2, 30), ("30", "1", "2")), (("1", "2", "30"), (30, 1, 2))]
)
def test_whole_numbers_in_text_are_those_numbers(first, second) -> None:
    shared, order = pair_items({"a": 3, "b": 3}, {"a": first, "b": second})
    assert shared == first
    assert order["b"] is not None
    assert order["b"].tolist() == [1, 2, 0]


def test_integer_labels_offer_ids_of_each_set_first() -> None:
    rows = {"X": (5, 6, 7), "Y": (6, 7, 8)}
    with pytest.raises(ItemMismatchError) as caught:
        pair_items(dict.fromkeys(rows, 3), rows)
    assert caught.value.ways_out[0] == "name the items of each: {ids={'X': ..., 'Y': ...}}"
    with pytest.raises(ItemMismatchError, match=r"ids=\{'X': \.\.\., 'Y': \.\.\.\}, or match"):
        pair_items(dict.fromkeys(rows, 3), {**rows, "Y": None})


def test_items_that_all_sets_hold_are_kept_in_the_order_of_the_first() -> None:
    ids = {"a": ("1", "2", "3", "4"), "b": (4, 9, 2), "c": ("2", "4")}
    shared, order = pair_items({"a": 4, "b": 3, "c": 2}, ids, "intersect")
    assert shared == ("2", "4")
    assert {name: None if rows is None else rows.tolist() for name, rows in order.items()} == {
        "a": [1, 3],
        "b": [2, 0],
        "c": None,
    }


def test_sets_without_shared_items_or_without_ids_are_not_intersected() -> None:
    sizes = {"a": 2, "b": 2}
    with pytest.raises(ItemMismatchError, match="no item is in all of the sets: a holds"):
        pair_items(sizes, {"a": ("u", "v"), "b": ("w", "x")}, "intersect")
    with pytest.raises(ItemMismatchError, match=r"have no ids.*give"):
        pair_items(sizes, {"a": None, "b": None}, "intersect")
