"""Comparisons: values beside chance, p-values, intervals, groups, ceilings, and what they print."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import relspace as rs
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    ItemMismatchError,
    MemoryBudgetError,
)
from relspace.resampling import permutation_null
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.source import GeneratedRows

Matrix = NDArray[np.float64]


def sets(n: int = 60, seed: int = 0, noise: float = 0.5) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 4))
    X = shared @ rng.normal(size=(4, 8)) + noise * rng.normal(size=(n, 8))
    Y = np.tanh(shared @ rng.normal(size=(4, 12))) + noise * rng.normal(size=(n, 12))
    return X, Y


@pytest.mark.parametrize("name", ["affinity", "rsa_spearman", "mutual_neighbors", "procrustes"])
def test_value_and_null_are_those_of_the_measure(name: str) -> None:
    X, Y = sets()
    measure = rs.measures.get(name)
    compared = rs.compare(X, Y, measure=name, n_permutations=70, random_state=5)
    assert compared.value == pytest.approx(measure(X, Y), abs=1e-9)
    null = permutation_null(lambda p: measure(X[p.numpy()], Y), 60, 70, random_state=5)
    np.testing.assert_allclose(compared.null, null, atol=1e-9)
    assert compared.chance == pytest.approx(null.mean())
    assert compared.chance_std == pytest.approx(null.std(ddof=1))
    assert compared.p_value == 1 / 71


def test_default_measure_is_the_affinity() -> None:
    X, Y = sets()
    by_name = rs.measures.get("affinity")(X, Y)
    assert rs.compare(X, Y).value == pytest.approx(by_name, abs=1e-9)
    changed = rs.measures.get("affinity", density=0.1)
    assert rs.compare(X, Y, measure=changed).value == pytest.approx(changed(X, Y), abs=1e-9)
    assert abs(changed(X, Y) - by_name) > 1e-6


def test_chance_is_there_without_permutations() -> None:
    X, Y = sets()
    exact = rs.compare(X, Y, measure="mutual_neighbors", n_permutations=0)
    assert (exact.chance, exact.chance_std, exact.p_value) == (10 / 59, None, None)
    sampled = rs.compare(X, Y, measure="procrustes", n_permutations=0)
    assert 0.9 < sampled.chance < 1.4
    assert sampled.chance_std is not None
    assert sampled.p_value is None
    assert sampled.to_dict()["n_permutations"] == 0


def test_rows_are_matched_by_ids() -> None:
    X, Y = sets()
    order = np.random.default_rng(1).permutation(60)
    names = [f"image {i}" for i in range(60)]
    value = rs.compare(X, Y).value
    shuffled = [names[i] for i in order]
    matched = rs.compare(X, Y[order], ids={"X": names, "Y": shuffled})
    assert matched.value == pytest.approx(value, abs=1e-9)
    assert matched.matched_by == "ids"
    by_position = rs.compare(X, Y[order])
    assert by_position.matched_by == "position"
    assert abs(by_position.value) < value / 2
    assert rs.compare(X, Y, ids=names).matched_by == "ids"


def test_sets_that_bring_ids_are_matched_by_them() -> None:
    X, Y = sets()
    order = np.random.default_rng(1).permutation(60)
    names = [f"image {i}" for i in range(60)]
    first = rs.FeatureSet.from_arrays({"layer": X}, ids=names)
    second = rs.FeatureSet.from_arrays({"layer": Y[order]}, ids=[names[i] for i in order])
    compared = rs.compare(first["layer"], second["layer"])
    assert compared.matched_by == "ids"
    assert compared.value == pytest.approx(rs.compare(X, Y).value, abs=1e-9)


def test_same_seed_same_numbers() -> None:
    X, Y = sets()
    keywords: dict[str, Any] = {"n_permutations": 30, "n_bootstraps": 10, "ceiling": True}
    first, again = (rs.compare(X, Y, random_state=3, **keywords) for _ in range(2))
    assert first.to_dict() == again.to_dict()
    other = rs.compare(X, Y, random_state=4, **keywords)
    assert first.value == other.value
    assert first.interval != other.interval


def patches(seed: int, n_images: int = 12, n_patches: int = 20) -> tuple[Matrix, Matrix, list[int]]:
    """Two unrelated sets in which the patches of an image are alike in either."""
    rng = np.random.default_rng(seed)
    images = np.repeat(np.arange(n_images), n_patches)
    X, Y = (
        rng.normal(size=(n_images, 6))[images] + 0.3 * rng.normal(size=(len(images), 6))
        for _ in range(2)
    )
    return X, Y, images.tolist()


def test_groups_keep_patches_of_one_image_from_faking_evidence() -> None:
    naive, honest = [], []
    for seed in range(20):
        X, Y, images = patches(seed)
        naive.append(rs.compare(X, Y, measure="cka_rbf", n_permutations=39).p_value)
        by_image = rs.compare(X, Y, measure="cka_rbf", n_permutations=39, groups=images)
        honest.append(by_image.p_value)
        assert by_image.n_units == 12
    assert np.mean(np.array(naive) <= 0.05) > 0.9
    assert np.mean(np.array(honest, dtype=float) <= 0.05) <= 0.2


def test_groups_widen_the_interval() -> None:
    X, Y, images = patches(0)
    widths = []
    for groups in (None, images):
        compared = rs.compare(X, Y, measure="cka", n_bootstraps=60, groups=groups)
        assert compared.interval is not None
        widths.append(compared.interval[1] - compared.interval[0])
    assert widths[1] > 1.5 * widths[0]


def test_interval_is_within_the_range_and_narrows_with_items() -> None:
    widths = []
    for n in (40, 400):
        compared = rs.compare(*sets(n), measure="rsa", n_bootstraps=50)
        assert compared.interval is not None
        assert compared.interval[0] < compared.value < compared.interval[1]
        widths.append(compared.interval[1] - compared.interval[0])
    assert widths[1] < widths[0] / 2
    X, _ = sets()
    perfect = rs.compare(X, 2 * X, measure="mutual_neighbors", n_bootstraps=20)
    assert perfect.interval == (1.0, 1.0)


def test_ceiling_is_what_noise_leaves() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 200))
    measure = rs.measures.get("rsa", distance="squared_euclidean")
    X, Y = (truth + 6 * rng.normal(size=truth.shape) for _ in range(2))
    compared = rs.compare(X, Y, measure=measure, ceiling=True)
    assert compared.ceiling == pytest.approx(compared.value, abs=0.08)
    assert compared.value < 0.8
    clean = rs.compare(truth, Y, measure=measure, ceiling=True)
    assert clean.ceiling is not None
    assert clean.value < clean.ceiling + 0.05
    distances = rs.compare(X, Y, measure="procrustes", ceiling=True)
    assert distances.ceiling is not None
    assert distances.ceiling == pytest.approx(distances.value, abs=0.03)
    assert distances.ceiling < distances.chance - 0.02


def test_prints_a_small_table() -> None:
    X, Y = sets()
    compared = rs.compare(X, Y, measure="cka", n_permutations=19, n_bootstraps=9, ceiling=True)
    lines = repr(compared).splitlines()
    assert [line[:13].strip() for line in lines] == [
        *("Linear CKA", "chance", "p", "calibrated", "95 % interval", "ceiling", "items")
    ]
    assert f"{compared.value:.4f}" in lines[0]
    assert "0.05 (19 permutations)" in lines[2]
    assert lines[-1].endswith("60, matched by position")
    assert "in 30 groups" in repr(rs.compare(X, Y, groups=np.arange(60) // 2))


def test_versions_are_those_that_run_installed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert rs.compare(*sets()).versions["relspace"] == rs.__version__


def test_to_dict_is_json() -> None:
    X, Y = sets()
    plain = rs.compare(X, Y, n_permutations=19, n_bootstraps=9, ceiling=True).to_dict()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again == plain
    assert again["n_features"] == [8, 12]
    assert set(again["versions"]) == {"relspace", "torch", "numpy"}


@pytest.mark.parametrize("n_permutations", [0, 50])
def test_plot_shows_value_and_null(n_permutations: int) -> None:
    X, Y = sets()
    compared = rs.compare(X, Y, n_permutations=n_permutations, n_bootstraps=9, ceiling=True)
    figure = compared.plot().figure
    axes = figure.axes[0]
    assert axes.get_xlabel() == "Affinity"
    assert f"{compared.value:.3f}" in axes.get_title()
    bars = sum(bar.get_height() for bar in axes.patches)
    assert bars == n_permutations
    assert any(compared.value in line.get_xdata() for line in axes.lines)


def test_tensors_of_two_kinds() -> None:
    X, Y = sets()
    value = rs.compare(torch.from_numpy(X).float(), Y).value
    assert value == pytest.approx(rs.compare(X, Y).value, abs=1e-4)


class TestErrors:
    def test_unknown_measure(self) -> None:
        with pytest.raises(KeyError, match="there is no measure 'cika'"):
            rs.compare(*sets(), measure="cika")
        with pytest.raises(InvalidTypeError, match="measure is of type int"):
            rs.compare(*sets(), measure=3)  # type: ignore[arg-type]

    def test_items_that_do_not_match(self) -> None:
        X, Y = sets()
        with pytest.raises(ItemMismatchError, match="X has 60 items and Y has 59"):
            rs.compare(X, Y[1:])
        names = [f"image {i}" for i in range(60)]
        with pytest.raises(ItemMismatchError, match="Y lacks 1 item of X: 'image 0'"):
            rs.compare(X, Y, ids={"X": names, "Y": [*names[1:], "other"]})
        with pytest.raises(ItemMismatchError, match="name the items of each"):
            rs.compare(X, Y, ids={"X": names})
        with pytest.raises(InvalidInputError, match="ids names Z; what is compared is X, Y"):
            rs.compare(X, Y, ids={"Z": names})

    @pytest.mark.parametrize("memory_budget", [None, 30_000])
    def test_sets_are_called_as_the_user_names_them(self, memory_budget: int | None) -> None:
        X, Y = sets()
        broken = Y.copy()
        broken[3, 2] = np.nan
        names = [f"image {i}" for i in range(60)]
        wrong: list[tuple[Any, Any, str]] = [
            (X, broken, "clip holds .*NaN"),
            (X, Y[1:], "dino has 60 items and clip has 59"),
            (X, 0 * Y + 1, "clip is constant"),
            (X[:3], Y[:3], "dino has 3 items"),
        ]
        for first, second, message in wrong:
            given = [ArrayRows(one) if memory_budget else one for one in (first, second)]
            with pytest.raises(InvalidInputError, match=message):
                rs.compare(
                    *given,
                    measure="cka",
                    names=["dino", "clip"],
                    memory_budget=memory_budget,
                )
        ids = {"dino": names, "clip": [*names[1:], "other"]}
        with pytest.raises(ItemMismatchError, match="clip lacks 1 item of dino"):
            rs.compare(X, Y, names=["dino", "clip"], ids=ids)
        with pytest.raises(InvalidInputError, match="ids names X; what is compared is dino, clip"):
            rs.compare(X, Y, names=["dino", "clip"], ids={"X": names})
        with pytest.raises(InvalidTypeError, match="names is 'dino'; it must be a list of two"):
            rs.compare(X, Y, names="dino")
        for odd in (["one"], ["one", "one"]):
            with pytest.raises(InvalidInputError, match="each of the two sets a name of its own"):
                rs.compare(X, Y, names=odd)

    @pytest.mark.parametrize("name", ["n_permutations", "n_bootstraps", "random_state"])
    def test_counts_below_zero(self, name: str) -> None:
        with pytest.raises(InvalidInputError, match=name):
            rs.compare(*sets(), **{name: -1})

    def test_groups_that_do_not_fit(self) -> None:
        with pytest.raises(ItemMismatchError, match="60 items and 3 group labels"):
            rs.compare(*sets(), groups=[0, 1, 2])


@pytest.mark.release
@pytest.mark.parametrize("name", ["affinity", "cka"])
def test_intervals_hold_the_value_of_the_population(name: str) -> None:
    def draw(n: int, seed: int) -> tuple[Matrix, Matrix]:
        maps, rng = np.random.default_rng(99), np.random.default_rng(seed)
        A, B = maps.normal(size=(4, 8)), maps.normal(size=(4, 12))
        shared = rng.normal(size=(n, 4))
        X = shared @ A + rng.normal(size=(n, 8))
        return X, np.tanh(shared @ B) + 0.7 * rng.normal(size=(n, 12))

    truth = rs.measures.get(name)(*draw(2000, 1000))
    hits = []
    for seed in range(60):
        compared = rs.compare(*draw(60, seed), measure=name, n_bootstraps=60)
        assert compared.interval is not None
        hits.append(compared.interval[0] <= truth <= compared.interval[1])
    assert 0.85 <= np.mean(hits) <= 1.0


@pytest.mark.parametrize(("measure", "ceiling"), [("rsa_spearman", False), ("rsa_kendall", True)])
def test_pairs_beyond_the_budget_are_refused_before_anything_is_read(
    measure: str, ceiling: bool, assume_free: Callable[..., None]
) -> None:
    def make(start: int, stop: int) -> torch.Tensor:
        raise AssertionError("rows were read")

    X = GeneratedRows((5000, 3), make)
    with pytest.raises(
        MemoryBudgetError, match=r"ranks all pairs of 5000 items.*max_items=\d+"
    ) as e:
        rs.compare(X, X, measure=measure, ceiling=ceiling, memory_budget=2**24)
    fits = int(str(e.value).split("max_items=")[1].split()[0].rstrip(","))
    assert 400 < fits < 600
    with pytest.raises(MemoryBudgetError, match="pairs of 1000 items"):
        rs.compare(X, X, measure=measure, memory_budget=2**24, max_items=1000)
    with pytest.raises(MemoryBudgetError, match="pairs of 5000 items"):
        rs.compare_layers({"a": X}, {"b": X}, measure=measure, memory_budget=2**24)
    assume_free(2**24)
    with pytest.raises(MemoryBudgetError, match="5000"):
        rs.compare(X, X, measure=measure)
    Y = torch.randn(fits, 8, generator=torch.Generator().manual_seed(0))
    found = rs.compare(Y, Y, measure=measure, ceiling=ceiling, n_permutations=0)
    assert found.value == pytest.approx(1.0)


@pytest.mark.parametrize("measure", ["affinity", "cka", "mutual_neighbors"])
def test_a_budget_does_not_change_what_is_found(measure: str) -> None:
    X, Y = (torch.randn(300, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    Y = X + Y
    settings = {"measure": measure, "n_permutations": 19, "n_bootstraps": 5, "ceiling": True}
    # A matrix of pairs takes 360 kB.
    free, tight = (rs.compare(X, Y, **settings, memory_budget=one) for one in (None, 10_000))
    assert tight.value == pytest.approx(free.value, abs=1e-6)
    assert tight.interval == pytest.approx(free.interval, abs=1e-5)
    assert tight.ceiling == pytest.approx(free.ceiling, abs=1e-5)
    assert tight.p_value == free.p_value
