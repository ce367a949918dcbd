"""Approximate neighbours: their recall is what it is said to be, and ties are refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import relspace as rs
from relspace.errors import InvalidInputError, MissingDependencyError
from relspace.measures import approximate_neighbors, neighborhoods
from relspace.measures.neighborhoods import find_neighborhoods
from relspace.measures.neighbors import MutualNeighbors

K = 10


def sets(n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 16)).astype(np.float32)
    return X, X + 0.5 * rng.normal(size=X.shape).astype(np.float32)


def test_without_faiss_the_error_names_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    measure = rs.measures.get("mutual_neighbors", index="approximate")
    with pytest.raises(MissingDependencyError, match=r"relspace\[ann\].*index='exact'.*max_items"):
        measure(*sets(200))


def test_other_indices_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="index is 'fast'"):
        rs.measures.get("cknna", index="fast")


@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize("name", ["mutual_neighbors", "jaccard_neighbors", "second_order_cosine"])
@pytest.mark.parametrize("has_ties", [False, True])
def test_sorted_candidates_give_what_tables_give(
    name: str, permuted: bool, has_ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, Y = sets(150)
    if has_ties:
        X, Y = np.round(X), np.round(Y)[:, :3] + 0.1
    measure = rs.measures.get(name)
    x, y = measure.prepare(X), measure.prepare(Y)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0)) if permuted else None
    by_table = measure.from_factors(x, y, order)
    monkeypatch.setattr(neighborhoods, "MOST_IN_TABLES", 10)
    assert measure.from_factors(x, y, order) == pytest.approx(by_table, rel=1e-12)


class TestWithFaiss:
    @pytest.fixture(autouse=True)
    def _needs_faiss(self) -> None:
        pytest.importorskip("faiss", reason="faiss is not installed")

    @pytest.mark.parametrize("metric", ["cosine", "euclidean"])
    def test_recall_is_that_of_all_items(
        self, metric: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(approximate_neighbors, "_CELLS_SEARCHED", 3)
        X, _ = sets()
        measure = rs.measures.get("mutual_neighbors", metric=metric, index="approximate")
        assert isinstance(measure, MutualNeighbors)
        found = measure.prepare(X)
        exact = find_neighborhoods(torch.tensor(X), K, metric, "X").candidates
        shared = np.mean(
            [
                len(set(a) & set(b)) / K
                for a, b in zip(found.candidates.tolist(), exact.tolist(), strict=True)
            ]
        )
        assert 0.3 < shared < 0.98
        # 1,000 of 3,000 items are a sample; its standard error is below 0.01.
        assert found.recall == pytest.approx(shared, abs=0.03)
        assert not (found.candidates == torch.arange(len(X))[:, None]).any()

    def test_results_say_the_recall(self) -> None:
        X, Y = sets()
        measure = rs.measures.get("mutual_neighbors", index="approximate")
        compared = rs.compare(X, Y, measure=measure, n_permutations=19)
        exact = rs.compare(X, Y, measure="mutual_neighbors", n_permutations=19)
        assert compared.recall is not None
        assert 0.8 < compared.recall <= 1
        assert compared.value == pytest.approx(exact.value, abs=0.05)
        assert compared.p_value == 0.05
        assert repr(compared).endswith(f"approximate, recall {compared.recall:.4f}")
        assert compared.to_dict()["recall"] == compared.recall
        assert exact.recall is None
        assert "recall" not in repr(exact)
        curve = rs.similarity_curve(
            X, Y, measure=measure, sizes=[500, 3000], n_draws=2, n_permutations=19
        )
        assert curve.recall is not None
        assert f"recall {curve.recall:.4f}" in repr(curve)
        layers = rs.compare_layers({"a": X}, {"b": Y}, measure=measure, n_permutations=0)
        assert f"recall {compared.recall:.4f}" in repr(layers)

    def test_ties_are_refused(self) -> None:
        rng = np.random.default_rng(0)
        classes = np.eye(5)[rng.integers(0, 5, 400)]
        measure = rs.measures.get("mutual_neighbors", index="approximate")
        with pytest.raises(InvalidInputError, match="ties by the order of the items"):
            measure(classes, rng.normal(size=(400, 4)))

    def test_cells_of_too_few_items_are_made_up_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(approximate_neighbors, "_CELLS_SEARCHED", 1)
        X = np.random.default_rng(0).normal(size=(500, 6))
        # Cells hold about 70 items.
        k = 200
        measure = rs.measures.get("mutual_neighbors", metric="euclidean", index="approximate", k=k)
        found = measure.prepare(X)
        exact = find_neighborhoods(torch.tensor(X), k, "euclidean", "X").candidates
        assert found.recall == 1
        assert (found.candidates.sort(dim=1).values == exact.sort(dim=1).values).all()

    def test_groups_are_exact_only(self) -> None:
        X, Y = sets(200)
        measure = rs.measures.get("mutual_neighbors", index="approximate")
        with pytest.raises(InvalidInputError, match="neighbours of groups are exact"):
            rs.similarity_curve(X, Y, measure=measure, groups=list(range(200)))
