"""Part retrieval and colour agreement on cases with known answers."""

from __future__ import annotations

import pytest
import torch

from examples.portraits.drawing import PARTS
from relspace.demo.color_agreement import color_agreement, retrieval_both_ways
from relspace.demo.retrieval import (
    Patches,
    chance,
    choose_queries,
    for_euclidean,
    mean_of,
    nearest_by_correlation,
    retrieval_of,
)

N_IMAGES = 12


def patches(seed: int, per_image: int = 70) -> Patches:
    generator = torch.Generator().manual_seed(seed)
    images = torch.arange(N_IMAGES).repeat_interleave(per_image)
    parts = torch.arange(N_IMAGES * per_image) % len(PARTS)
    return Patches(images, parts, torch.rand(len(images), 2, generator=generator) * 96, PARTS)


def rows_of(its: Patches, seed: int, noise: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.eye(len(PARTS))[its.parts]
    return rows + noise * torch.randn(rows.shape, generator=generator)


def test_nearest_are_sorted_and_never_of_the_same_image() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, others = torch.randn(40, 6, generator=generator), torch.randn(90, 6, generator=generator)
    images, other_images = torch.arange(40) % 4, torch.arange(90) % 4
    found = nearest_by_correlation(rows, others, images, other_images)
    similarity = (rows @ others.T).gather(1, found)
    assert bool((similarity.diff(dim=1) <= 0).all())
    assert bool((other_images[found] != images[:, None]).all())
    allowed = (rows @ others.T).masked_fill(images[:, None] == other_images, -torch.inf)
    torch.testing.assert_close(similarity, allowed.topk(5, dim=1).values)


def test_a_column_more_turns_products_into_euclidean_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    X, Y = torch.randn(30, 3, generator=generator), torch.randn(50, 3, generator=generator)
    A, B = for_euclidean(X, Y)
    nearest = nearest_by_correlation(A, B, torch.zeros(30), torch.ones(50))
    assert torch.equal(nearest, torch.cdist(X, Y).topk(5, largest=False).indices)


def test_retrieval_counts_by_part_and_weighs_parts_alike() -> None:
    asked = torch.tensor([0, 0, 0, 1, 2, 3, 4, 5, 6])
    found = asked[:, None].repeat(1, 5)
    found[0] = 1
    found[3, :3] = 0
    counted = retrieval_of(asked, found, PARTS)
    assert counted.per_part["background"] == pytest.approx(2 / 3)
    assert counted.per_part["hair"] == pytest.approx(2 / 5)
    assert counted.mean == pytest.approx((2 / 3 + 2 / 5 + 5) / 7)
    assert mean_of([counted, counted]).per_part == pytest.approx(counted.per_part)


def test_perfect_rows_find_every_part_and_noise_finds_chance() -> None:
    its = (patches(0), patches(1))
    queries = tuple(choose_queries(one, 60, 0) for one in its)
    clear = [rows_of(one, seed, 0.05) for seed, one in enumerate(its)]
    noise = [rows_of(one, seed, 100.0) for seed, one in enumerate(its)]
    assert retrieval_both_ways(clear, its, queries).mean > 0.99
    assert retrieval_both_ways(noise, its, queries).mean == pytest.approx(1 / 7, abs=0.03)
    assert chance(its[0]).mean == pytest.approx(1 / 7)


def test_chance_is_one_in_seven_whatever_the_shares() -> None:
    uneven = Patches(
        torch.zeros(40),
        torch.tensor([0] * 30 + list(range(7)) + [1] * 3),
        torch.zeros(40, 2),
        PARTS,
    )
    assert chance(uneven).mean == pytest.approx(1 / 7)
    assert chance(uneven).per_part["background"] == 31 / 40


def test_queries_are_balanced_seeded_and_distinct() -> None:
    its = patches(0)
    chosen = choose_queries(its, 20, 3)
    assert torch.bincount(its.parts[chosen]).tolist() == [20] * len(PARTS)
    assert len(chosen.unique()) == len(chosen)
    assert torch.equal(chosen, choose_queries(its, 20, 3))
    assert not torch.equal(chosen, choose_queries(its, 20, 4))


def test_the_same_colors_agree_and_unrelated_ones_do_not() -> None:
    its = (patches(0), patches(1))
    queries = tuple(choose_queries(one, 60, 0) for one in its)
    generator = torch.Generator().manual_seed(0)
    palette = torch.rand(len(PARTS), 3, generator=generator)
    other = palette.roll(2, dims=0)
    same = color_agreement([palette[one.parts] for one in its], its, queries)
    assert same.consistency == pytest.approx(0, abs=1e-4)
    assert same.retrieval.mean == 1.0
    unlike = color_agreement([palette[its[0].parts], other[its[1].parts]], its, queries)
    assert unlike.consistency > 0.8
    assert unlike.retrieval.mean == 0.0
    assert set(unlike.to_dict()) == {"consistency", "per_part", "retrieval"}
