"""Permutations come in batches, and small work is done on one core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import relspace
from relspace import measures
from relspace.measures import Measure
from relspace.resampling import ShiftFamily

EVERY = pytest.mark.parametrize(
    "measure", [pytest.param(one, id=one.name) for one in map(measures.get, measures.names())]
)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def gaussian(seed: int, n: int = 60, d: int = 5) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def family(n: int, count: int) -> ShiftFamily:
    generator = torch.Generator().manual_seed(0)
    order, relabelled = (torch.randperm(n, generator=generator) for _ in range(2))
    return ShiftFamily(order, relabelled, torch.arange(count))


def watch(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[int]:
    """With how many cores torch works in each call of a method."""
    seen: list[int] = []
    method = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        seen.append(torch.get_num_threads())
        return method(*arguments, **options)

    monkeypatch.setattr(owner, name, call)
    return seen


def test_batches_are_the_permutations() -> None:
    turned = family(11, 7)
    one_by_one = list(turned.permutations())
    for size in (1, 3, 7, 20):
        assert torch.equal(torch.cat(list(turned.batches(size))), torch.stack(one_by_one))
    for shift, permutation in zip(turned.shifts.tolist(), one_by_one, strict=True):
        expected = torch.empty(11, dtype=torch.long)
        expected[turned.order] = turned.relabelled.roll(-shift)
        assert torch.equal(permutation, expected)


@EVERY
@pytest.mark.usefixtures("two_threads")
def test_small_factors_are_made_on_one_core(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch, type(measure), "_factor")
    measure.prepare(gaussian(0))
    assert seen == [1]
    assert torch.get_num_threads() == 2


@EVERY
@pytest.mark.usefixtures("two_threads")
def test_permutations_are_compared_on_one_core_each(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = [measure.prepare(gaussian(seed)) for seed in range(3)]
    expected = [measure.table(factors[:2], factors, one) for one in family(60, 20).permutations()]
    if hasattr(factors[0], "squared_norm") and measure.name != "rsa_kendall":
        seen = watch(monkeypatch, torch.fft, "rfft")
    else:
        seen = watch(monkeypatch, type(measure), "_tables")
    done: list[int] = []
    null = measure.null_table(factors[:2], factors, family(60, 20), on_progress=done.append)
    torch.testing.assert_close(null, torch.stack(expected), rtol=0, atol=1e-6)
    assert set(seen) == {1}
    assert done[-1] == 20
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_neighbours_of_all_permutations_are_read_in_a_few_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = watch(monkeypatch, type(measures.get("mutual_neighbors")), "_tables")
    layers = {str(seed): gaussian(seed, 100) for seed in range(3)}
    relspace.compare_layers(layers, dict(layers), measure="mutual_neighbors", n_permutations=99)
    assert len(seen) <= 10
