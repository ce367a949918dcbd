"""Neighbours that are tied: values are means over tie breaks, and p-values keep their promise."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

import relspace
from relspace import measures
from relspace.measures import Measure
from relspace.measures.neighborhoods import Neighborhoods

NAMES = ["mutual_neighbors", "jaccard_neighbors", "second_order_cosine", "cknna"]


def tied_sets(seed: int, n: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    X, Y = rng.integers(0, 2, size=(n, 3)), rng.integers(0, 3, size=(n, 2))
    X, Y = np.c_[X, np.ones(n)], np.c_[Y, np.ones(n)]
    return torch.tensor(X, dtype=torch.float64), torch.tensor(Y, dtype=torch.float64)


def one_hot(n: int, n_classes: int, rng: np.random.Generator) -> np.ndarray:
    return np.eye(n_classes)[rng.integers(0, n_classes, n)]


def neighbor_sets(X: torch.Tensor, k: int, metric: str) -> list[list[set[int]]]:
    """For every item all sets of k neighbours that some way to break ties gives."""
    points = X / X.norm(dim=1, keepdim=True) if metric == "cosine" else X
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    ways = []
    for i, row in enumerate(distances.round(9)):
        others = [j for j in range(len(row)) if j != i]
        last = sorted(row[others])[k - 1]
        sure = {j for j in others if row[j] < last}
        tied = [j for j in others if row[j] == last]
        ways.append([sure | set(some) for some in itertools.combinations(tied, k - len(sure))])
    return ways


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_values_are_means_over_all_ways_to_break_ties(k: int, metric: str) -> None:
    for seed in range(8):
        X, Y = tied_sets(seed)
        ways = list(zip(neighbor_sets(X, k, metric), neighbor_sets(Y, k, metric), strict=True))
        assert any(len(one) > 1 for pair in ways for one in pair)
        mutual = [np.mean([len(a & b) / k for a in x for b in y]) for x, y in ways]
        jaccard = [np.mean([len(a & b) / len(a | b) for a in x for b in y]) for x, y in ways]
        parameters: dict[str, Any] = {"k": k, "metric": metric}
        for name, expected in (("mutual_neighbors", mutual), ("jaccard_neighbors", jaccard)):
            for dtype in (torch.float64, torch.float32):
                value = measures.get(name, **parameters)(X.to(dtype), Y.to(dtype))
                assert value == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("tied", [0, 1, 2])
def test_one_set_with_ties_and_one_without(tied: int) -> None:
    X, Y = tied_sets(1)
    noise = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sets = [noise if tied == 0 else X, noise + 1 if tied == 1 else Y]
    ways = list(zip(*(neighbor_sets(Z, 3, "cosine") for Z in sets), strict=True))
    expected = np.mean([np.mean([len(a & b) / len(a | b) for a in x for b in y]) for x, y in ways])
    assert measures.get("jaccard_neighbors", k=3)(*sets) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_breaking_ties_at_random_gives_the_value_on_average(name: str) -> None:
    rng = np.random.default_rng(0)
    n, k = 60, 5
    X, Y = (np.c_[rng.integers(0, 2, size=(n, 5)), np.ones(n)] for _ in range(2))
    measure = measures.get(name, k=k)
    values = []
    for _ in range(300):
        # Steps far below the distances break ties and change nothing else.
        broken = [Z + 1e-7 * rng.normal(size=Z.shape) for Z in (X, Y)]
        values.append(measure(*broken))
    error = np.std(values) / np.sqrt(len(values))
    # Sums of cosines and kernels are means; their ratios are means to within a few per cent.
    slack = 0.0 if name in NAMES[:2] else 0.02
    assert measure(X, Y) == pytest.approx(np.mean(values), abs=5 * error + slack)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_order_of_items_does_not_matter(name: str, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    X, Y = (torch.tensor(one_hot(80, 4, rng), dtype=dtype) for _ in range(2))
    Y = torch.cat([Y, torch.tensor(rng.integers(0, 2, size=(80, 3)), dtype=dtype)], dim=1)
    order = torch.from_numpy(rng.permutation(80))
    measure = measures.get(name)
    assert measure(X[order], Y[order]) == pytest.approx(measure(X, Y), abs=1e-12)
    factors = measure.prepare(X), measure.prepare(Y)
    permuted = measure.from_factors(*factors, order)
    assert measure(X[order], Y) == pytest.approx(permuted, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["one-hot", "binary"])
def test_unrelated_sets_with_ties_are_no_more_alike_than_chance(name: str, kind: str) -> None:
    rng = np.random.default_rng(0)
    n, draws = 60, 40

    def draw() -> np.ndarray:
        if kind == "one-hot":
            return one_hot(n, 5, rng)
        binary = rng.integers(0, 2, size=(n, 6)).astype(float)
        binary[binary.sum(axis=1) == 0, 0] = 1.0
        return binary

    p_values = [
        relspace.compare(draw(), draw(), measure=name, n_permutations=39, random_state=seed).p_value
        for seed in range(draws)
    ]
    assert sum(p <= 0.05 for p in p_values) <= binom.ppf(0.999, draws, 0.05)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.2)


def test_related_labels_are_found() -> None:
    rng = np.random.default_rng(0)
    X = one_hot(200, 5, rng)
    Y = X.copy()
    Y[:100] = one_hot(100, 5, rng)
    for name in NAMES:
        assert relspace.compare(X, Y, measure=name, n_permutations=99).p_value == 0.01


def test_float32_ties_are_found_where_norms_are_rounded() -> None:
    # Cosines of binary items are tied, their float32 unit vectors only nearly.
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.integers(0, 2, size=(50, 7)) + np.eye(50, 7) > 0, dtype=torch.float32)
    X[X.sum(dim=1) == 0, 0] = 1.0
    of = [measures.get("mutual_neighbors").prepare(Z) for Z in (X, X.double())]
    for one, other in zip(*((f.n_sure, f.n_tied) for f in of), strict=True):
        assert torch.equal(one, other)
    assert of[0].has_ties


def prepared(measure: Measure, X: np.ndarray) -> Neighborhoods:
    factor: Neighborhoods = measure.prepare(X)
    return factor


def test_whole_numbers_far_apart_are_not_tied_by_rounding() -> None:
    # Squared distances of about 2^40, of which two differ by 2.
    X = np.array([[0, 0], [2**20, 0], [2**20 - 1, 2**10], [-(2**22), 3], [2**22, 2**22]])
    X = np.r_[X, [[2**23, -(2**23)]]].astype(float)
    squares = np.sum((X[1:3] - X[0]) ** 2, axis=1)
    assert abs(squares[0] - squares[1]) < 2**20
    factor = prepared(measures.get("mutual_neighbors", k=1, metric="euclidean"), X)
    assert not factor.has_ties
    assert int(factor.candidates[0, 0]) == 1 + int(squares.argmin())


def test_candidates_of_an_item_are_itself_where_there_are_no_more() -> None:
    X = np.array([[1.0, 0], [1, 0], [1, 0], [1, 0], [0, 1], [0.1, 1], [0.3, 1]])
    factor = prepared(measures.get("mutual_neighbors", k=2), X)
    assert factor.n_tied.tolist() == [3, 3, 3, 3, 0, 0, 0]
    assert factor.candidates.shape == (7, 3)
    assert factor.candidates[4].tolist() == [5, 6, 4]
    assert factor.weights[0].tolist() == pytest.approx([2 / 3] * 3)
    assert factor.weights[4].tolist() == [1.0, 1.0, 0.0]
