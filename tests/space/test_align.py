"""Alignment: what comes in, what comes out, and that unrelated sets look unrelated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import relspace as rs
from relspace.errors import (
    BandwidthError,
    InvalidInputError,
    InvalidTypeError,
    ItemMismatchError,
    MemoryBudgetError,
    NonFiniteError,
)
from relspace.kernels import NORMALIZATIONS


def gaussian(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rotation(d: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(gaussian(d, d, seed, torch.float64)).Q


@pytest.mark.parametrize("landmarks", [1024, 150, list(range(100))])
@pytest.mark.parametrize("standardize", ["whiten", "half-whiten", "columns", "none"])
@pytest.mark.parametrize("density", [0.02, 0.05, 0.3])
def test_independent_sets_match_at_chance(
    landmarks: object, standardize: str, density: float
) -> None:
    n = 400
    accuracies, distances = [], []
    for seed in range(4):
        space = rs.align(
            {"a": gaussian(n, 48, 2 * seed), "b": gaussian(n, 96, 2 * seed + 1)},
            landmarks=landmarks,
            standardize=standardize,
            density=density,
        )
        accuracies.append(space.match("a", "b", 5).accuracy)
        distances.append(float(space.distances("a", "b").mean()))
    hits = sum(accuracies) * n
    # 4 x 400 draws of chance 5 / 400: 20 hits expected, with a deviation of 4.4.
    assert 3 <= hits <= 42
    assert np.mean(distances) == pytest.approx(1.0, abs=0.02)


def test_held_out_items_of_independent_sets_match_at_chance() -> None:
    n, held = 500, torch.arange(100, 500)
    space = rs.align(
        {"a": gaussian(n, 48, 1), "b": gaussian(n, 48, 2)}, landmarks=torch.arange(100)
    )
    match = space.match("a", "b", 5, items=held)
    assert match.n_items == 400
    assert match.chance == pytest.approx(5 / 400)
    assert match.accuracy < 0.05
    assert int(match.indices.min()) >= 100


def test_own_entries_would_leak_where_they_are_kept() -> None:
    """The check above can fail: raw affinity rows of unrelated sets do find each other."""
    X, Y = gaussian(300, 48, 1), gaussian(300, 96, 2)
    A, B = (rs.rbf_affinity(Z) for Z in (X, Y))
    nearest = torch.cdist(A, B).argmin(dim=1)
    assert (nearest == torch.arange(300)).float().mean() > 0.95


@pytest.mark.parametrize("landmarks", [1024, [3, 7, 1, 30, 22, 9]])
def test_distances_leave_own_columns_out_pair_by_pair(landmarks: object) -> None:
    X = gaussian(40, 6, 0, torch.float64)
    Y = X @ gaussian(6, 9, 1, torch.float64)
    space = rs.align({"a": X, "b": Y}, landmarks=landmarks, standardize="columns")
    rows = {}
    for name, Z in (("a", X), ("b", Y)):
        aligner = space.aligner(name)
        rows[name] = (aligner.affinity(Z) - aligner.profile_.mean) / aligner.profile_.deviation
    column = {int(item): place for place, item in enumerate(space.landmarks)}
    expected = np.empty((40, 40))
    for i in range(40):
        for j in range(40):
            dropped = {column.get(i), column.get(j)}
            kept = [c for c in range(len(column)) if c not in dropped]
            expected[i, j] = 1 - np.corrcoef(rows["a"][i, kept], rows["b"][j, kept])[0, 1]
    np.testing.assert_allclose(space.pairwise("a", "b"), expected, atol=1e-7)
    np.testing.assert_allclose(space.distances("a", "b"), np.diag(expected), atol=1e-7)
    others = expected[~np.eye(40, dtype=bool)]
    assert space.chance_distance("a", "b") == pytest.approx(others.mean(), abs=0.05)


def test_rows_are_centred_and_of_unit_norm() -> None:
    space = rs.align({"a": gaussian(300, 16)}, landmarks=50)
    rows = space["a"]
    outside = torch.ones(300, dtype=torch.bool)
    outside[space.landmarks] = False
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(300))
    torch.testing.assert_close(rows[outside].mean(dim=1), torch.zeros(250), atol=1e-6, rtol=0)
    assert bool((rows[space.landmarks, torch.arange(50)] == 0).all())


def test_plain_affinities_are_the_affinity_matrix() -> None:
    X = gaussian(60, 8)
    space = rs.align({"a": X}, standardize="none", normalize="none", density=0.05)
    torch.testing.assert_close(space["a"], rs.rbf_affinity(X), atol=2e-6, rtol=0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_invariant_to_rotation_shift_and_scale(seed: int, scale: float, shift: float) -> None:
    X = gaussian(50, 7, seed, torch.float64)
    moved = scale * X @ rotation(7, seed) + shift
    space = rs.align({"a": X, "b": moved})
    assert float(space.distances("a", "b").max()) < 1e-6
    assert space.match("a", "b").accuracy == 1.0


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_every_normalization_finds_a_rotated_set(normalize: str) -> None:
    X = gaussian(200, 12, 3)
    Y = (X.double() @ rotation(12)).float()
    space = rs.align({"a": X, "b": Y}, normalize=normalize)
    assert space.match("a", "b").accuracy > 0.9


def test_unknown_normalization_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"normalize is 'whiten'.*center\+unit"):
        rs.align({"a": gaussian(20, 3)}, normalize="whiten")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_out_comes_what_went_in(dtype: torch.dtype) -> None:
    X = gaussian(40, 5).to(dtype)
    space = rs.align({"a": X, "b": X.float().numpy()})
    assert space["a"].dtype == dtype
    assert isinstance(space["b"], np.ndarray)
    assert space["b"].dtype == np.float32
    assert space.transform("a", X).dtype == dtype
    assert isinstance(space.distances("b", "a"), np.ndarray)
    assert isinstance(space.match("b", "a").indices, np.ndarray)


def test_transform_of_old_items_differs_only_in_own_entries() -> None:
    X = gaussian(80, 6, 4)
    space = rs.align({"a": X}, landmarks=20)
    again = space.transform("a", X)
    others = torch.ones(80, dtype=torch.bool)
    others[space.landmarks] = False
    torch.testing.assert_close(again[others], space["a"][others])
    assert not torch.allclose(again[~others], space["a"][~others])


def test_transform_brings_new_items_of_both_sets_together() -> None:
    latent, new = gaussian(300, 10, 1), gaussian(50, 10, 2)
    maps = gaussian(10, 10, 3), (2 * rotation(10)).float()
    space = rs.align({"a": latent @ maps[0], "b": latent @ maps[0] @ maps[1]})
    left = space.transform("a", new @ maps[0])
    right = space.transform("b", new @ maps[0] @ maps[1])
    assert bool((torch.cdist(left, right).argmin(dim=1) == torch.arange(50)).all())


def test_seed_chooses_landmarks() -> None:
    sets = {"a": gaussian(100, 4)}
    first, again, other = (rs.align(sets, landmarks=10, random_state=s) for s in (1, 1, 2))
    assert torch.equal(first.landmarks, again.landmarks)
    assert torch.equal(first["a"], again["a"])
    assert not torch.equal(first.landmarks, other.landmarks)


def test_features_are_left_as_they_were() -> None:
    X = gaussian(50, 4)
    before = X.clone()
    rs.align({"a": X}, normalize="none")
    assert torch.equal(X, before)


class TestIds:
    """Sets are matched by id, and refused where that can't be done."""

    def test_sets_are_reordered_to_the_first(self) -> None:
        X = gaussian(30, 4)
        ids = [f"image-{i}" for i in range(30)]
        order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
        space = rs.align(
            {"a": X, "b": X[order]}, ids={"a": ids, "b": [ids[i] for i in order.tolist()]}
        )
        assert space.ids == tuple(ids)
        assert space.matched_by == "ids"
        assert torch.equal(space["a"], space["b"])

    def test_one_list_serves_all_sets(self) -> None:
        space = rs.align({"a": gaussian(5, 2), "b": gaussian(5, 3)}, ids=range(5))
        assert space.ids == (0, 1, 2, 3, 4)

    def test_position_is_said(self) -> None:
        assert rs.align({"a": gaussian(5, 2)}).matched_by == "position"

    @pytest.mark.parametrize(
        ("ids", "error", "message"),
        [
            ({"a": [1, 2, 3, 4], "b": [1, 2, 3, 9]}, ItemMismatchError, r"b lacks 1 item of a: 4"),
            ({"a": [1, 2, 3, 3], "b": [1, 2, 3, 4]}, ItemMismatchError, "more than once: 3"),
            ({"a": [1, 2, 3], "b": [1, 2, 3, 4]}, ItemMismatchError, "4 items and 3 ids"),
            ({"a": [1, 2, 3, 4]}, ItemMismatchError, "'b' has no ids while 'a' has"),
            ({"a": [1, 2, 3, "4"], "b": [1, 2, 3, 4]}, ItemMismatchError, "mix strings"),
            (
                {"a": ["1", "2", "3", "04"], "b": [1, 2, 3, 4]},
                ItemMismatchError,
                "those of b are whole numbers",
            ),
            ({"a": [1, 2, 3, 4.5], "b": [1, 2, 3, 4]}, InvalidTypeError, "float"),
            ({"c": [1, 2, 3, 4]}, InvalidInputError, "ids names 'c'; the sets are 'a', 'b'"),
            ({"a": "abcd", "b": "abcd"}, InvalidTypeError, "list of strings"),
        ],
    )
    def test_what_can_not_be_matched_is_refused(
        self, ids: dict[str, object], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            rs.align({"a": gaussian(4, 2), "b": gaussian(4, 3)}, ids=ids)

    def test_without_ids_lengths_must_agree(self) -> None:
        with pytest.raises(ItemMismatchError, match="a has 4 items and b has 5"):
            rs.align({"a": gaussian(4, 2), "b": gaussian(5, 3)})


class TestErrors:
    """Wrong input is named."""

    def test_bad_features_are_named_by_their_set(self) -> None:
        bad = gaussian(10, 2)
        bad[3, 1] = float("nan")
        with pytest.raises(NonFiniteError, match=r"sam holds 1 NaN .* \(3, 1\)"):
            rs.align({"sam": bad})

    def test_constant_landmarks_are_named_by_their_set(self) -> None:
        with pytest.raises(BandwidthError, match="landmarks of dino: the features are constant"):
            rs.align({"dino": torch.ones(10, 2)})

    @pytest.mark.parametrize("landmarks", [2, [0, 1], [0, 0, 1], [0, 1, 99], 0, -5, True, "all"])
    def test_bad_landmarks(self, landmarks: object) -> None:
        with pytest.raises((InvalidInputError, InvalidTypeError), match="landmark"):
            rs.align({"a": gaussian(10, 2)}, landmarks=landmarks)

    @pytest.mark.parametrize("sets", [{}, [gaussian(4, 2)], {1: gaussian(4, 2)}])
    def test_bad_sets(self, sets: object) -> None:
        with pytest.raises((InvalidInputError, InvalidTypeError), match="sets"):
            rs.align(sets)

    @pytest.mark.parametrize("density", [0, 1, -0.1, float("nan"), "dense"])
    def test_bad_density(self, density: object) -> None:
        with pytest.raises((InvalidInputError, InvalidTypeError), match="density"):
            rs.align({"a": gaussian(10, 2)}, density=density)

    def test_unfitted_aligner(self) -> None:
        with pytest.raises(InvalidInputError, match="call fit"):
            rs.Aligner().transform(gaussian(3, 2))

    def test_other_width(self) -> None:
        aligner = rs.Aligner().fit(gaussian(10, 3))
        with pytest.raises(InvalidInputError, match="4 features; these landmarks have 3"):
            aligner.transform(gaussian(10, 4))

    def test_too_large_a_result_is_refused_before_it_is_allocated(
        self, assume_free: Callable[..., None]
    ) -> None:
        aligner = rs.Aligner().fit(gaussian(10, 3))
        assume_free(1000)
        with pytest.raises(MemoryBudgetError, match="relative features of 100 tokens"):
            aligner.transform(gaussian(100, 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalize": ""}, "normalize is ''; it must be one of none, unit"),
        ({"standardize": ""}, "standardize is ''; it must be one of whiten"),
        ({"ids": ""}, "ids is ''; it must be lists of ids"),
        ({"ids": []}, "a has 30 items and 0 ids"),
        ({"layer": ""}, "layer is '' and no set is a FeatureSet"),
        ({"landmarks": 2.0}, "landmarks is 2.0; it must be a whole number"),
        ({"landmarks": None}, "landmarks is of type NoneType; .* how many items"),
    ],
)
def test_what_is_empty_is_not_the_default(settings: dict[str, object], message: str) -> None:
    X = gaussian(30, 5)
    with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
        rs.align({"a": X, "b": X}, **settings)


def test_numbers_and_ids_of_numpy_are_taken() -> None:
    X = gaussian(30, 5)
    space = rs.align({"a": X, "b": X}, landmarks=np.int64(20), ids=np.arange(30))
    assert len(space.landmarks) == 20
    assert space.ids == tuple(range(30))


def test_sets_without_names_are_called_by_letters() -> None:
    rng = np.random.default_rng(0)
    X, Y, Z = rng.normal(size=(3, 40, 6))
    given, named = rs.align(X, Y, Z), rs.align({"a": X, "b": Y, "c": Z})
    assert given.names == ("a", "b", "c")
    for name in named:
        np.testing.assert_array_equal(given[name], named[name])


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (({"a": np.eye(5)}, np.eye(5)), "give all sets in one mapping"),
        ((np.eye(5),), r'such as \{"sam": X, "dino": Y\}, or two sets or more: align\(X, Y\)'),
    ],
)
def test_sets_that_are_half_named_are_refused(sets: tuple[Any, ...], said: str) -> None:
    with pytest.raises(InvalidTypeError, match=said):
        rs.align(*sets)


def test_more_sets_than_letters_need_names() -> None:
    with pytest.raises(InvalidInputError, match="27 sets are given without names"):
        rs.align(*[np.eye(5)] * 27)
