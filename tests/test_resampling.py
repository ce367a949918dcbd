"""Permutations, halves and splits: what they draw, what stays together, what they say."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

import relspace as rs
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError
from relspace.resampling import (
    PartitionFamily,
    Units,
    bootstrap,
    interval_around,
    labels_by_id,
    p_value,
    permutation_null,
    shift_families,
    split_halves,
)


def permutations(n_items: int, count: int, **keywords: object) -> list[torch.Tensor]:
    families = shift_families(n_items, count, **keywords)  # type: ignore[arg-type]
    return [one for family in families for one in family.permutations()]


class TestPermutations:
    @pytest.mark.parametrize(("n_items", "count"), [(10, 4), (10, 9), (10, 10), (10, 57), (5, 200)])
    def test_as_many_as_asked_for_each_of_all_items(self, n_items: int, count: int) -> None:
        drawn = permutations(n_items, count)
        assert len(drawn) == count
        assert all(sorted(one.tolist()) == list(range(n_items)) for one in drawn)

    def test_one_ring_never_draws_the_identity_nor_one_twice(self) -> None:
        drawn = {tuple(one.tolist()) for one in permutations(50, 49)}
        assert len(drawn) == 49
        assert tuple(range(50)) not in drawn

    def test_turns_of_one_ring_and_the_identity_are_a_group(self) -> None:
        drawn = [one.tolist() for one in permutations(7, 6)]
        group = {tuple(range(7)), *map(tuple, drawn)}
        assert {tuple(a[i] for i in b) for a in group for b in group} == group

    def test_every_item_meets_every_other_equally_often(self) -> None:
        partners = Counter(
            int(one[0]) for seed in range(200) for one in permutations(5, 20, random_state=seed)
        )
        expected = 200 * 20 / 5
        # The identity is left out of the first ring, so item 0 meets itself a little less.
        assert all(abs(count - expected) < 0.25 * expected for count in partners.values())

    def test_groups_move_as_a_whole_and_in_order(self) -> None:
        groups = ["b", "a", "c", "d", "b", "a", "c", "d"]
        rows = {name: [i for i, one in enumerate(groups) if one == name] for name in "abcd"}
        for one in permutations(8, 20, groups=groups):
            for name in "abcd":
                moved = one[rows[name]].tolist()
                assert moved in rows.values()

    def test_groups_of_unequal_size_are_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="from 1 to 2 items"):
            permutations(5, 3, groups=[0, 0, 1, 2, 3])

    def test_same_seed_same_permutations(self) -> None:
        first, again, other = (permutations(20, 30, random_state=seed) for seed in (3, 3, 4))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))

    def test_any_statistic_of_one_or_more_numbers(self) -> None:
        null = permutation_null(lambda p: p[:2].numpy(), 10, 5)
        assert null.shape == (5, 2)
        assert permutation_null(lambda p: float(p[0]), 10, 5).tolist() == null[:, 0].tolist()


class TestPartitions:
    PARTS = torch.tensor([0, 2, 1, 0, 2, 1, 1, 2, 0, 3])

    def draws(self, count: int, seed: int = 0) -> torch.Tensor:
        (batch,) = PartitionFamily(self.PARTS, count, seed).batches(count)
        return batch

    def test_every_part_becomes_a_part_of_its_size(self) -> None:
        for one in self.draws(50):
            assert sorted(one.tolist()) == list(range(10))
            moved = self.PARTS[one]
            assert len({(int(a), int(b)) for a, b in zip(self.PARTS, moved, strict=True)}) == 4
            assert moved[9] == 3

    def test_all_such_permutations_are_drawn_equally_often(self) -> None:
        parts = torch.tensor([0, 1, 0, 1, 2])
        (drawn,) = PartitionFamily(parts, 4000, 1).batches(4000)
        counts = Counter(tuple(one) for one in drawn.tolist())
        # Two orders within each of two parts, which may be exchanged.
        assert len(counts) == 8
        assert all(abs(count - 500) < 5 * 500**0.5 for count in counts.values())

    def test_batches_and_inverses_are_of_the_same_draws(self) -> None:
        family = PartitionFamily(self.PARTS, 7, 3)
        assert len(family) == 7
        whole = torch.cat(list(family.batches(7)))
        torch.testing.assert_close(torch.cat(list(family.batches(3))), whole)
        back = torch.cat(list(family.inverse().batches(2)))
        torch.testing.assert_close(back, whole.argsort(dim=1))
        torch.testing.assert_close(torch.cat(list(family.inverse().inverse().batches(4))), whole)
        assert not torch.equal(whole, self.draws(7, seed=4))


class TestPValue:
    def test_counts_the_observed_value_too(self) -> None:
        null = np.array([0.0, 1.0, 2.0, 3.0])
        assert p_value(2.0, null) == 3 / 5
        assert p_value(9.0, null) == 1 / 5
        assert p_value(0.5, null, larger=False) == 2 / 5

    def test_values_that_differ_by_rounding_are_equal(self) -> None:
        null = np.array([1.0 - 1e-9, 0.0])
        assert p_value(1.0, null) == 2 / 3
        assert p_value(1.0 - 2e-9, 1 - null, larger=False) == 1.0

    def test_statistic_that_no_permutation_changes(self) -> None:
        assert p_value(1.0, np.ones(99)) == 1.0

    def test_is_exact_under_all_of_a_ring(self) -> None:
        """Whatever item order is the true one, ranks of the observed value are uniform."""
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(2, 6))
        ring = permutations(6, 5)
        values = [x @ y, *(x[p] @ y for p in ring)]
        ranks = []
        for p in [torch.arange(6), *ring]:
            null = [x[p][q] @ y for q in ring]
            ranks.append(p_value(float(x[p] @ y), np.array(null)))
        assert sorted(ranks) == pytest.approx([i / 6 for i in range(1, 7)])
        assert len(set(np.round(values, 9))) == 6


class TestBootstrap:
    def test_halves_hold_no_item_twice(self) -> None:
        drawn: list[torch.Tensor] = []
        bootstrap(lambda rows: drawn.append(rows) or 0.0, 11, 20)
        assert {len(rows) for rows in drawn} == {5}
        assert all(len(set(rows.tolist())) == 5 for rows in drawn)

    def test_groups_are_drawn_as_a_whole(self) -> None:
        drawn: list[torch.Tensor] = []
        groups = [0, 0, 0, 1, 2, 2, 3, 3]
        bootstrap(lambda rows: drawn.append(rows) or 0.0, 8, 20, groups=groups)
        for rows in drawn:
            chosen = {groups[row] for row in rows.tolist()}
            assert len(chosen) == 2
            assert rows.tolist() == [i for i, one in enumerate(groups) if one in chosen]

    def test_spread_is_the_standard_error(self) -> None:
        x = np.random.default_rng(0).normal(size=1000)
        draws = bootstrap(lambda rows: float(x[rows.numpy()].mean()), 1000, 2000)
        assert draws.std() == pytest.approx(1 / math.sqrt(1000), rel=0.06)

    def test_intervals_hold_the_truth_as_often_as_they_say(self) -> None:
        hits = 0
        for seed in range(300):
            x = np.random.default_rng(seed).exponential(size=100)
            draws = bootstrap(lambda rows, x=x: float(x[rows.numpy()].mean()), 100, 100)
            low, high = interval_around(float(x.mean()), draws)
            hits += low <= 1.0 <= high
        assert 0.89 <= hits / 300 <= 0.98

    def test_bias_of_smaller_samples_is_taken_off(self) -> None:
        low, high = interval_around(1.0, np.linspace(1.9, 2.1, 101))
        assert (low + high) / 2 == pytest.approx(1.0)


class TestSplitHalves:
    def test_halves_are_a_partition(self) -> None:
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        split_halves(lambda a, b: seen.append((a, b)) or 0.0, 9, 4)
        assert all(sorted([*a.tolist(), *b.tolist()]) == list(range(9)) for a, b in seen)
        assert all(len(a) == 4 for a, _ in seen)

    def test_one_feature_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="at least 2 to split"):
            split_halves(lambda a, b: 0.0, 1)


class TestUnits:
    def test_labels_of_any_kind(self) -> None:
        for labels in (["a", "b", "c", "d", "a"], np.array([0, 1, 2, 3, 0]), [0, 1, 2, 3, 0]):
            assert [one.tolist() for one in Units.of(5, labels).rows] == [[0, 4], [1], [2], [3]]

    def test_errors(self) -> None:
        with pytest.raises(ItemMismatchError, match="5 items and 4 group labels"):
            Units.of(5, [0, 1, 2, 3])
        with pytest.raises(InvalidInputError, match="there are 2 groups"):
            Units.of(5, [0, 1, 0, 1, 0])
        with pytest.raises(InvalidTypeError, match="groups is of type str"):
            Units.of(5, "abcde")


def test_groups_that_name_items_are_matched_by_id() -> None:
    pd = pytest.importorskip("pandas")
    ids = [f"i{k}" for k in range(40)]
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 5)), index=ids)
    labels = pd.Series([k // 4 for k in range(40)], index=ids)
    Y = X + rng.normal(size=(40, 5))
    expected = rs.compare(X, Y, groups=labels.tolist(), n_permutations=19).to_dict()
    for given in (labels, labels[::-1]):
        assert rs.compare(X, Y, groups=given, n_permutations=19).to_dict() == expected
        sets = {"a": {"l": X}, "b": {"l": Y}}
        layers = rs.compare_layers(*sets.values(), groups=given, n_permutations=19)
        assert layers.n_units == 10
        rs.compare(X, Y, groups=given, max_items=20)
    counted = pd.Series(labels.tolist())
    assert labels_by_id(counted, lambda: None) == labels.tolist()
    with pytest.raises(ItemMismatchError, match="no label for 'i5'"):
        rs.compare(X, Y, groups=labels.drop("i5"))
    with pytest.raises(ItemMismatchError, match=r"features have no ids: give ids, or give labels"):
        rs.compare(X.to_numpy(), Y.to_numpy(), groups=labels)
