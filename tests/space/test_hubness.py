"""Matches that set hubs back: against the whole table of correlations, and on a planted hub."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import relspace as rs
from relspace.errors import InvalidInputError
from relspace.features import FeatureSet
from relspace.kernels.correlation import mean_of_nearest

random = np.random.default_rng(0)
X = random.normal(size=(120, 10))
Y = X @ random.normal(size=(10, 14)) + 2 * random.normal(size=(120, 14))


def spaces() -> dict[str, Any]:
    maps = random.normal(size=(9, 4, 4, 6)).astype(np.float32)
    other = maps + 2 * random.normal(size=maps.shape).astype(np.float32)
    sets = [FeatureSet.from_arrays({"l": one}, layout="bhwc") for one in (maps, other)]
    return {
        "items": rs.align({"a": X, "b": Y}, landmarks=40),
        "all landmarks": rs.align({"a": X, "b": Y}),
        "tokens": rs.align({"a": sets[0], "b": sets[1]}, landmarks=50),
    }


SPACES = spaces()


@pytest.mark.parametrize("which", SPACES)
def test_candidates_are_ranked_by_local_scaling(which: str) -> None:
    space = SPACES[which]
    table = 1 - torch.as_tensor(space.pairwise("a", "b")).double()
    of_rows, of_columns = (table.topk(10, dim=dim).values.mean(dim, keepdim=True) for dim in (1, 0))
    wanted = (2 * table - of_rows - of_columns).topk(3, dim=1).indices
    found = space.match("a", "b", 3, hubness="csls")
    same = torch.as_tensor(found.indices) == wanted
    assert float(same.double().mean()) > 0.999
    distances = 1 - table.gather(1, torch.as_tensor(found.indices))
    np.testing.assert_allclose(torch.as_tensor(found.distances), distances, atol=1e-5)
    plain = space.match("a", "b", 3)
    assert not np.array_equal(np.asarray(plain.indices), np.asarray(found.indices))


def test_blocks_give_the_nearest_of_all_rows() -> None:
    table = torch.from_numpy(random.normal(size=(37, 8)))
    blocks = [(slice(i, i + 5), table[i : i + 5]) for i in range(0, 37, 5)]
    wanted = table.topk(10, dim=0).values.mean(0)
    assert torch.equal(mean_of_nearest(lambda: iter(blocks)), wanted)
    few = mean_of_nearest(lambda: iter([(slice(0, 3), table[:3])]))
    assert torch.equal(few, table[:3].sort(dim=0, descending=True).values.mean(0))


def test_unrelated_sets_stay_at_chance() -> None:
    accuracies = []
    for seed in range(5):
        unrelated = np.random.default_rng(seed).normal(size=(2, 200, 8))
        space = rs.align({"a": unrelated[0], "b": unrelated[1]})
        accuracies.append(space.match("a", "b", 5, hubness="csls").accuracy)
    assert abs(np.mean(accuracies) - 5 / 200) < 0.015


def test_other_words_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="hubness"):
        SPACES["items"].match("a", "b", hubness="")
