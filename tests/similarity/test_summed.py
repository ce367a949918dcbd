"""Layers that are read in blocks: the same tables, chance by the limit, bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.generators.fresh_process import printed

import relspace as rs
from relspace.errors import (
    InvalidInputError,
    ItemMismatchError,
    MemoryBudgetError,
    NonFiniteError,
)
from relspace.measures.sums.stacked_products import sum_stacked_products
from relspace.rows.formats.memory import ArrayRows

N = 1500
STREAMED = [one.name for one in map(rs.measures.get, rs.measures.names()) if one.streams]
# More than the sums need, less than the layers.
BUDGET = 200_000


def layers() -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(N, 6)) + 100
    second = np.tanh(first - 100 + rng.normal(size=(N, 6)))
    other = second @ rng.normal(size=(6, 8)) + rng.normal(size=(N, 8))
    return {"in": first, "out": second}, {"a": other, "b": other**2, "c": first[:, ::-1]}


def on_disk(model: dict[str, NDArray[Any]], folder: Path) -> dict[str, Path]:
    for name, array in model.items():
        np.save(folder / f"{name}.npy", array)
    return {name: folder / f"{name}.npy" for name in model}


@pytest.mark.parametrize("measure", STREAMED)
def test_tables_are_those_in_memory(tmp_path: Path, measure: str) -> None:
    a, b = layers()
    whole = rs.compare_layers(a, b, measure=measure, n_permutations=19)
    read = rs.compare_layers(
        on_disk(a, tmp_path),
        on_disk(b, tmp_path),
        measure=measure,
        n_permutations=19,
        memory_budget=BUDGET,
    )
    assert (whole.null_by, read.null_by) == ("permutations", "limit")
    np.testing.assert_allclose(read.values, whole.values, atol=1e-6)
    for one, other in zip(read.drift, whole.drift, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert whole.chance_std is not None
    np.testing.assert_allclose(read.chance, whole.chance, atol=2 * whole.chance_std.max())
    assert read.n_items == read.n_available == N


def test_the_null_is_that_of_permutations() -> None:
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(400, 3)), rng.normal(size=(400, 5))
    products = sum_stacked_products([ArrayRows(X), ArrayRows(Y)], ["X", "Y"])
    measure = rs.measures.get("cka")
    draw = products.permutations(range(1), range(1, 2), torch.Generator().manual_seed(0))
    limit = np.array([measure.from_cross_products(draw().pair(0, 1)) for _ in range(400)])
    exact = rs.compare(X, Y, measure="cka", n_permutations=400).null
    assert abs(limit.mean() - exact.mean()) < 3 * exact.std() / 20
    assert limit.std() == pytest.approx(exact.std(), rel=0.2)
    np.testing.assert_allclose(
        np.quantile(limit, 0.95), np.quantile(exact, 0.95), atol=0.5 * exact.std()
    )


def test_one_seed_gives_one_result(tmp_path: Path) -> None:
    a, b = (on_disk(model, tmp_path) for model in layers())
    options: dict[str, Any] = {"measure": "cka", "memory_budget": BUDGET}
    one, same, other = (rs.compare_layers(a, b, **options, random_state=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.extreme_null, same.extreme_null)
    assert not np.array_equal(one.extreme_null, other.extreme_null)


def test_other_measures_are_of_a_part_that_is_stated(tmp_path: Path) -> None:
    a, b = (on_disk(model, tmp_path) for model in layers())
    part = rs.compare_layers(a, b, measure="affinity", max_items=300, n_permutations=9)
    assert (part.n_items, part.n_available) == (300, N)
    assert part.to_dict()["n_available"] == N
    in_memory = rs.compare_layers(*layers(), measure="affinity", max_items=300, n_permutations=9)
    np.testing.assert_allclose(part.values, in_memory.values, atol=1e-12)


def test_groups_go_with_the_part() -> None:
    a, b = layers()
    groups = np.arange(N) // 3
    part = rs.compare_layers(a, b, measure="cka", max_items=300, n_permutations=9, groups=groups)
    assert (part.n_items, part.n_units) == (300, 100)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"memory_budget": 1000}, MemoryBudgetError, "34 features in all"),
        (
            {"memory_budget": BUDGET, "groups": [i // 3 for i in range(N)]},
            InvalidInputError,
            "max_it",
        ),
        ({"max_items": 2}, InvalidInputError, "max_items"),
    ],
)
def test_what_can_not_be_summed_is_refused(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    a, b = (on_disk(model, tmp_path) for model in layers())
    with pytest.raises(error, match=message):
        rs.compare_layers(a, b, measure="cka", **options)


def test_measures_of_pairs_of_items_are_refused_when_memory_is_short(
    tmp_path: Path, assume_free: Callable[..., None]
) -> None:
    assume_free(2 * BUDGET)
    a, b = (on_disk(model, tmp_path) for model in layers())
    with pytest.raises(InvalidInputError, match="max_items"):
        rs.compare_layers(a, b, measure="affinity")


def test_rows_that_are_not_finite_constant_or_in_another_order_are_refused() -> None:
    a, b = layers()
    broken = a["in"].copy()
    broken[700, 2] = np.nan
    sources = [ArrayRows(broken), ArrayRows(b["a"])]
    with pytest.raises(NonFiniteError, match=r"X holds .* NaN or infinite .*\(700, "):
        sum_stacked_products(sources, ["X", "Y"])
    products = sum_stacked_products([ArrayRows(a["in"]), ArrayRows(0.1 + 0 * b["a"])], ["X", "Y"])
    assert list(products.constant) == [1]
    assert "Y is constant" in str(products.constant[1])
    ids = tuple(map(str, range(N)))
    with pytest.raises(ItemMismatchError, match="different orders"):
        rs.compare_layers(
            {"x": ArrayRows(a["in"], ids)},
            {"y": ArrayRows(b["a"], ids[::-1])},
            measure="cka",
            memory_budget=BUDGET // 2,
        )


@pytest.mark.parametrize("measure", ["cka", "pwcca", "linear_predictivity"])
def test_several_models_are_those_in_memory(tmp_path: Path, measure: str) -> None:
    a, b = layers()
    options: dict[str, Any] = {"measure": measure, "n_permutations": 19}
    whole = rs.compare_models({"a": a, "b": b, "c": {"z": a["in"]}}, **options)
    read = rs.compare_models(
        {"a": on_disk(a, tmp_path), "b": on_disk(b, tmp_path), "c": {"z": tmp_path / "in.npy"}},
        **options,
        memory_budget=479_000,
    )
    assert (whole.null_by, read.null_by) == ("permutations", "limit")
    np.testing.assert_allclose(read.values, whole.values, atol=1e-6)
    np.testing.assert_allclose(read.summary, whole.summary, atol=1e-6)
    np.testing.assert_allclose(read.chance, whole.chance, atol=0.02)
    assert read.p_values is not None
    assert whole.p_values is not None
    assert read.p_values[0, 1] == whole.p_values[0, 1] == 0.05
    assert read.to_dict()["n_available"] == N


def test_several_models_are_compared_in_part(tmp_path: Path) -> None:
    a, b = (on_disk(model, tmp_path) for model in layers())
    part = rs.compare_models({"a": a, "b": b}, measure="affinity", max_items=300, n_permutations=0)
    assert (part.n_items, part.n_available, part.null_by) == (300, N, "permutations")
    pair = rs.compare_layers(a, b, measure="affinity", max_items=300, n_permutations=0)
    np.testing.assert_allclose(part.block("a", "b"), pair.values, atol=1e-12)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_items() -> None:
    program = """
import resource, sys, torch, relspace as rs
from relspace.rows.source import GeneratedRows
def rows(seed):
    def make(start, stop):
        at = torch.arange(start, stop)[:, None] + torch.arange(64) * 0.37 + seed
        return torch.sin(at * at % 1000.1)
    return GeneratedRows((int(sys.argv[1]), 64), make)
rs.compare_layers({"a": rows(0)}, {"b": rows(1), "c": rows(2)}, measure="cka",
                  n_permutations=9, memory_budget=40_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    # The layers of the larger one take 768 MB in float32.
    assert int(printed(program, 1_000_000)) - int(printed(program, 200_000)) < 60_000
