"""Matching in the case study: rates on cases with known answers, controls at chance."""

import pytest
import torch

from examples.digits.matching import (
    Split,
    bring_to_unit_norm,
    chance_rates,
    compare_penultimate,
    nearest_before,
    pad_to_common_width,
    rates,
    with_shuffled_landmarks,
)


def test_landmarks_and_queried_items_share_none_and_miss_none() -> None:
    split = Split.draw(50, 20, 0)
    assert len(split.landmarks) == 20
    together = torch.cat([split.landmarks, split.queried])
    assert together.sort().values.tolist() == list(range(50))


def test_padding_keeps_values_and_distances() -> None:
    X, Y = torch.ones(3, 2), torch.ones(3, 4)
    padded, same = pad_to_common_width(X, Y)
    assert padded.tolist() == [[1, 1, 0, 0]] * 3
    assert torch.equal(same, Y)


def test_identical_features_find_themselves_before_alignment() -> None:
    X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    queried = torch.arange(10, 40)
    assert torch.equal(nearest_before(X, X, queried)[:, 0], queried)


def test_rates_count_the_item_itself_and_the_class_of_others() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    queried = torch.arange(6)
    nearest = torch.tensor(
        [
            [0, 1, 2, 3, 4],  # itself, then its own class
            [0, 1, 2, 3, 4],  # second, own class first
            [3, 4, 5, 0, 1],  # not at all, other class
            [3, 0, 1, 2, 4],  # itself, then another class
            [3, 5, 0, 1, 4],  # fifth, own class first
            [0, 1, 2, 3, 4],  # not at all, other class
        ]
    )
    assert rates(nearest, queried, labels) == {
        "top1": pytest.approx(2 / 6),
        "top5": pytest.approx(4 / 6),
        "label": pytest.approx(3 / 6),
    }


def test_chance_is_what_random_neighbours_reach() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (60,), generator=generator)
    queried = torch.arange(60)
    reached = [
        rates(
            torch.stack([torch.randperm(60, generator=generator)[:5] for _ in queried]),
            queried,
            labels,
        )
        for _ in range(300)
    ]
    for rate, chance in chance_rates(queried, labels).items():
        mean = sum(one[rate] for one in reached) / len(reached)
        assert mean == pytest.approx(chance, rel=0.1)


def test_unit_norm_removes_scale_and_offset() -> None:
    X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    landmarks = torch.arange(12)
    torch.testing.assert_close(
        bring_to_unit_norm(7 * X + 3, landmarks), bring_to_unit_norm(X, landmarks)
    )


def test_shuffling_touches_the_landmarks_only() -> None:
    Y = torch.arange(20.0)[:, None]
    landmarks = torch.arange(0, 20, 2)
    shuffled = with_shuffled_landmarks(Y, landmarks, 0)
    assert torch.equal(shuffled[1::2], Y[1::2])
    assert not torch.equal(shuffled, Y)
    assert torch.equal(shuffled.sort(0).values, Y)


def test_a_rotated_copy_is_found_after_and_not_before() -> None:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(300, 12, generator=generator)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
    labels = torch.arange(300) % 10
    found = compare_penultimate(X, 5 * X @ rotation + 2, labels, Split.draw(300, 150, 0), 0)
    assert found["after"]["top1"] == 1.0
    assert found["before"]["top1"] < 0.05
    assert found["shuffled"]["top1"] < 0.05
    assert found["chance"]["top1"] == 1 / 150


def test_unrelated_features_are_matched_at_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    X, Y = torch.randn(600, 12, generator=generator), torch.randn(600, 20, generator=generator)
    found = compare_penultimate(X, Y, torch.arange(600) % 10, Split.draw(600, 200, 0), 0)
    for when in ("before", "before_scaled", "after", "shuffled"):
        assert found[when]["top1"] <= 0.0125
        assert found[when]["top5"] <= 0.035
        assert found[when]["label"] == pytest.approx(found["chance"]["label"], abs=0.06)
