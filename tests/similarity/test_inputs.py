"""Features on disk are compared as those in memory are, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.generators.fresh_process import printed

import relspace as rs
from relspace.errors import InvalidInputError, ItemMismatchError, MemoryBudgetError
from relspace.rows.formats.memory import ArrayRows

N_ITEMS = 900
# Less than comparing these in memory takes, more than a few rows.
SMALL = 200_000
GROUPS = [number // 3 for number in range(N_ITEMS)]


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    concepts = rng.normal(size=(N_ITEMS, 4))
    X = concepts @ rng.normal(size=(4, 10)) + 0.5 * rng.normal(size=(N_ITEMS, 10))
    Y = np.tanh(concepts) @ rng.normal(size=(4, 20)) + 0.5 * rng.normal(size=(N_ITEMS, 20))
    paths = tmp_path / "x.npy", tmp_path / "y.npy"
    for path, features in zip(paths, (X, Y), strict=True):
        np.save(path, features)
    return paths


@pytest.mark.parametrize("measure", ["cka", "svcca", "pwcca", "procrustes", "linear_predictivity"])
def test_blocks_give_the_value_of_the_whole(measure: str, stored: tuple[Path, Path]) -> None:
    whole = rs.compare(*map(np.load, stored), measure=measure, n_permutations=199)
    blocks = rs.compare(*stored, measure=measure, n_permutations=199, memory_budget=SMALL)
    assert blocks.value == pytest.approx(whole.value, abs=1e-10)
    assert (blocks.n_items, blocks.n_available, blocks.n_features) == (N_ITEMS, N_ITEMS, (10, 20))
    assert (whole.null_by, blocks.null_by) == ("permutations", "limit")
    assert blocks.p_value == whole.p_value == 1 / 200
    assert abs(blocks.chance - whole.chance) < 0.5 * whole.null.std()
    assert "199 draws of their limit" in repr(blocks)
    again = rs.compare(*stored, measure=measure, n_permutations=199, memory_budget=SMALL)
    np.testing.assert_array_equal(again.null, blocks.null)


def test_what_fits_is_compared_in_memory_whatever_the_measure(stored: tuple[Path, Path]) -> None:
    whole = rs.compare(*map(np.load, stored), measure="rsa", n_permutations=19)
    read = rs.compare(*stored, measure="rsa", n_permutations=19)
    numbers = ("value", "chance", "chance_std")
    for name in numbers:
        assert getattr(read, name) == pytest.approx(getattr(whole, name), abs=1e-9)
    rest = [
        {key: one for key, one in found.to_dict().items() if key not in numbers}
        for found in (read, whole)
    ]
    assert rest[0] == rest[1]


def test_shards_maps_and_sources_are_read_alike(stored: tuple[Path, Path]) -> None:
    X, Y = map(np.load, stored)
    sources = [
        [X[:100], X[100:]],
        np.load(stored[0], mmap_mode="r"),
        ArrayRows(torch.from_numpy(X)),
    ]
    expected = rs.compare(X, Y, measure="cka").value
    for source in sources:
        found = rs.compare(source, stored[1], measure="cka", memory_budget=SMALL)
        assert found.value == pytest.approx(expected, abs=1e-10)


def test_a_part_of_the_items_is_chosen_by_the_seed_and_stated(stored: tuple[Path, Path]) -> None:
    blocks = rs.compare(*stored, measure="rsa", max_items=300, memory_budget=SMALL)
    whole = rs.compare(*map(np.load, stored), measure="rsa", max_items=300)
    # Rows in blocks and as a whole are not one path: equal but for rounding.
    assert blocks.value == pytest.approx(whole.value, abs=1e-9)
    assert (blocks.n_items, blocks.n_available) == (300, N_ITEMS)
    assert "300 of 900, at random" in repr(blocks)
    other = rs.compare(*stored, measure="rsa", max_items=300, random_state=1)
    assert other.value != blocks.value
    full = rs.compare(*stored, measure="rsa")
    assert abs(full.value - blocks.value) < 0.1


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_intervals_of_blocks_are_like_those_of_the_whole(
    groups: list[int] | None, stored: tuple[Path, Path]
) -> None:
    settings = {"measure": "cka", "n_bootstraps": 200, "groups": groups, "n_permutations": 0}
    whole = rs.compare(*map(np.load, stored), **settings)
    blocks = rs.compare(*stored, memory_budget=3 * SMALL, **settings)
    assert whole.interval is not None
    assert blocks.interval is not None
    assert blocks.value == pytest.approx(whole.value, abs=1e-10)
    widths = [one[1] - one[0] for one in (whole.interval, blocks.interval)]
    assert 0.7 < widths[1] / widths[0] < 1.4
    assert blocks.interval[0] < blocks.value < blocks.interval[1]
    assert (whole.n_parts, blocks.n_units) == (None, whole.n_units)
    assert blocks.n_parts is not None
    assert blocks.n_parts >= 32
    assert f"halves of {blocks.n_parts} random parts" in repr(blocks)
    assert blocks.to_dict()["n_parts"] == blocks.n_parts
    assert (blocks.chance_std is None) == (groups is not None)
    again = rs.compare(*stored, memory_budget=3 * SMALL, **settings)
    assert again.interval == blocks.interval


def test_groups_go_with_the_items_chosen(stored: tuple[Path, Path]) -> None:
    X, Y = map(np.load, stored)
    found = rs.compare(
        X, Y, measure="cka", max_items=600, groups=np.arange(N_ITEMS), n_permutations=9
    )
    assert found.n_units == 600


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"measure": "affinity"}, "max_items"),
        ({"measure": "cka", "ceiling": True, "n_permutations": 0}, "ceiling needs items again"),
        ({"measure": "cka", "groups": GROUPS, "n_permutations": 9}, "by groups"),
        (
            {"measure": "linear_predictivity", "groups": GROUPS, "n_permutations": 0},
            "linear_predictivity by groups",
        ),
        ({"measure": "cka", "groups": [0] * N_ITEMS}, "there are 1 groups"),
        ({"measure": "cka", "max_items": 3}, "max_items"),
    ],
)
def test_what_blocks_can_not_give_is_refused(
    settings: dict[str, object], said: str, stored: tuple[Path, Path]
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        rs.compare(*stored, memory_budget=SMALL, **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_bootstraps": 10, "memory_budget": SMALL}, "at least 32 parts .*n_bootstraps"),
        ({"memory_budget": 10_000}, "products of 30 features .*max_items"),
    ],
)
def test_sums_beyond_the_budget_are_refused(
    settings: dict[str, int], said: str, stored: tuple[Path, Path]
) -> None:
    with pytest.raises(MemoryBudgetError, match=said):
        rs.compare(*stored, measure="cka", **settings)


def test_other_items_and_other_orders_are_refused(stored: tuple[Path, Path]) -> None:
    X, Y = (torch.from_numpy(np.load(path)) for path in stored)
    with pytest.raises(ItemMismatchError, match="Y has 899"):
        rs.compare(ArrayRows(X), ArrayRows(Y[1:]), measure="cka", memory_budget=SMALL)
    ids = tuple(f"item {number}" for number in range(N_ITEMS))
    turned = ArrayRows(Y.flip(0), ids[::-1])
    with pytest.raises(ItemMismatchError, match="row 0 is 'item 0' in X"):
        rs.compare(ArrayRows(X, ids), turned, measure="cka", memory_budget=SMALL)
    with pytest.raises(ItemMismatchError, match="different orders"):
        rs.compare(X, Y, measure="cka", client=object(), ids={"X": ids, "Y": ids[::-1]})
    told = rs.compare(ArrayRows(X), ArrayRows(Y), measure="cka", memory_budget=SMALL, ids=ids)
    assert (told.matched_by, told.provenance.ids) == ("ids", ids)
    by_ids = rs.compare(ArrayRows(X, ids), turned, measure="cka")
    assert by_ids.matched_by == "ids"
    assert by_ids.value == pytest.approx(rs.compare(X, Y, measure="cka").value, abs=1e-9)


PEAK = """
import sys, torch
import relspace as rs
from relspace.rows.source import GeneratedRows

def make(seed):
    def rows(start, stop):
        generator = torch.Generator().manual_seed(seed + start)
        return torch.randn(stop - start, 64, generator=generator)
    return rows

n = int(sys.argv[1])
X, Y = (GeneratedRows((n, 64), make(seed)) for seed in (0, 10**9))
found = rs.compare(X, Y, measure="cka", memory_budget=2**26)
assert found.n_items == n and abs(found.value) < 0.01, found
for line in open("/proc/self/status"):
    if line.startswith("VmHWM:"):
        print(int(line.split()[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_memory_does_not_grow_with_the_items() -> None:
    peaks = [int(printed(PEAK, n)) for n in (200_000, 1_000_000)]
    # A million rows of both sets are 977 MiB in float64.
    assert peaks[1] - peaks[0] < 48


def test_a_budget_may_be_text() -> None:
    X, Y = np.random.default_rng(0).normal(size=(2, 40, 6))
    given = {"measure": "rsa", "n_permutations": 9}
    text = rs.compare(X, Y, memory_budget="1 GiB", **given)
    assert text.value == rs.compare(X, Y, memory_budget=2**30, **given).value
