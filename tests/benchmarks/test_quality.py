"""The quality benchmark's pieces: scores, ranks, what is done to features, training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from examples.digits.digits import load_split
from quality.conditions import (
    TRANSFORMS,
    root_mean_square_distance,
    rotated,
    seeded,
    with_massive_channel,
    with_outliers,
)
from quality.matchers import MATCHERS, Views
from quality.matching import top1
from quality.networks import MLP
from quality.results import Scores
from quality.scores import (
    average_precision,
    group_scores,
    identification_rate,
    order_conformity,
    ranks,
)
from quality.training import Treatment, train, with_pixel


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.integers(1, 30))
def test_average_precision_is_that_of_scikit_learn(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, size=40).astype(float)
    positive = np.arange(40) < rng.integers(1, 40)
    ours = average_precision(torch.tensor(scores), torch.tensor(positive))
    assert ours == pytest.approx(average_precision_score(positive, scores), abs=1e-12)


def test_ranks_share_ties() -> None:
    found = ranks({"a": [0.9, 1.0], "b": [0.5, 1.0], "c": [0.7, 0.0]})
    assert found == {"a": [1.0, 1.5], "b": [3.0, 1.5], "c": [2.0, 3.0]}


def test_identification_counts_ties_as_chance() -> None:
    assert identification_rate(torch.eye(5)) == 1.0
    assert identification_rate(torch.zeros(5, 5)) == pytest.approx(0.2)
    assert identification_rate(torch.eye(4).flip(0)) == 0.0


def test_groups_are_told_apart_or_not() -> None:
    groups = torch.arange(3).repeat_interleave(4)
    apart = (groups[:, None] == groups).double()
    assert group_scores(apart, groups) == (1.0, 1.0)
    precision, conformity = group_scores(1 - apart, groups)
    assert precision < 0.3
    assert conformity == 0.0


def test_order_of_layers() -> None:
    depth = torch.arange(6.0)
    nearer = -(depth[:, None] - depth).abs()
    assert order_conformity(nearer) == 1.0
    assert order_conformity(-nearer) == 0.0


def test_scores_rank_blocks_by_their_means() -> None:
    scores = Scores("task")
    for value, method in ((0.9, "good"), (0.1, "bad")):
        for block in ("x", "y"):
            for offset in (0.0, 0.02):
                scores.add(method, "column", block, value + offset)
    assert scores.mean("good", "column").value == pytest.approx(0.91)
    by_rank = scores.mean_ranks()
    assert (by_rank["good"].value, by_rank["bad"].value) == (1.0, 2.0)
    assert scores.to_dict()["methods"]["good"]["mean_rank"] == 1.0
    assert "| good" in scores.table().splitlines()[2]


def features(seed: int = 0) -> torch.Tensor:
    return torch.randn(200, 12, generator=torch.Generator().manual_seed(seed)) + 3


class TestConditions:
    def test_outliers_are_as_many_and_as_far_as_said(self) -> None:
        X = features()
        moved = (with_outliers(X, 0.05, seeded(1)) - X).norm(dim=1)
        assert int((moved > 0).sum()) == 10
        far = moved[moved > 0] / root_mean_square_distance(X)
        torch.testing.assert_close(far, torch.full((10,), 10.0))

    def test_one_channel_is_massive(self) -> None:
        X = features()
        ratio = with_massive_channel(X, seeded(1)) / X
        factors = ratio.mean(0).round().tolist()
        assert sorted(factors) == [1.0] * 11 + [100.0]

    def test_rotation_keeps_distances(self) -> None:
        X = features().double()
        torch.testing.assert_close(
            torch.pdist(rotated(X, seeded(1))), torch.pdist(X), rtol=1e-6, atol=1e-5
        )

    @pytest.mark.parametrize("name", TRANSFORMS)
    def test_seeds_decide_all(self, name: str) -> None:
        X, change = features(), TRANSFORMS[name]
        assert torch.equal(change(X, seeded(3)), change(X, seeded(3)))
        assert not torch.equal(change(X, seeded(3)), X)


@pytest.mark.parametrize("name", MATCHERS)
def test_matchers_find_copies_and_leave_unrelated_items_at_chance(name: str) -> None:
    X, Y = features(0) - 3, features(1) - 3
    copies = Views(X[:100], X[:100], X[100:], X[100:])
    unrelated = Views(X[:100], Y[:100], X[100:], Y[100:])
    # Of 12 coordinates, the sets of nearest landmarks of some items are the same.
    assert top1(MATCHERS[name](copies)) > 0.8
    assert top1(MATCHERS[name](unrelated)) < 0.08


class TestTraining:
    def test_treatments_do_what_they_say(self) -> None:
        digits, _ = load_split()
        assert len(Treatment(n_train=30).apply(digits).labels) == 30
        shuffled = Treatment(random_labels=1.0).apply(digits).labels
        assert 0.05 < float((shuffled == digits.labels).double().mean()) < 0.15
        marked = Treatment(shortcut=1.0).apply(digits)
        assert torch.equal(marked.images, with_pixel(digits.images, digits.labels))

    def test_same_seed_same_network(self) -> None:
        digits, held_out = load_split()
        first, again, other = (
            train(lambda: MLP(depth=2, width=16), digits, seed=seed, steps=20)(held_out.images)
            for seed in (0, 0, 1)
        )
        assert torch.equal(first, again)
        assert not torch.allclose(first, other)
