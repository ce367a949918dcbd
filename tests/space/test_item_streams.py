"""Spaces of items whose relative features no memory holds: made as read, and the same results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

import relspace as rs
from relspace.errors import InvalidInputError, MemoryBudgetError, NonFiniteError
from relspace.rows.source import GeneratedRows, RowSource

N, M = 700, 60
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 8)).astype(np.float32)
Y = np.tanh(X @ RNG.normal(size=(8, 12))).astype(np.float32)
IDS = [f"item {i}" for i in range(N)]
ORDER = RNG.permutation(N)


@pytest.fixture(params=["arrays", "files", "other order"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, object], object]:
    """Two sets in memory or on disk, the second one perhaps in an order of its own."""
    if request.param == "arrays":
        return {"a": X, "b": Y}, None
    if request.param == "other order":
        np.save(tmp_path / "b.npy", Y[ORDER])
        ids = {"a": IDS, "b": [IDS[i] for i in ORDER]}
        return {"a": X, "b": tmp_path / "b.npy"}, ids
    np.save(tmp_path / "a.npy", X)
    group = zarr.create_group(str(tmp_path / "b.zarr"))
    group.create_array("features", data=Y, chunks=(90, 12))
    return {"a": tmp_path / "a.npy", "b": tmp_path / "b.zarr"}, None


@pytest.mark.parametrize("standardize", ["whiten", "none"])
def test_results_are_the_same_as_of_rows_that_are_held(
    given: tuple[dict[str, object], object], standardize: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets, ids = given
    settings = {"landmarks": M, "standardize": standardize}
    held = rs.align({"a": X, "b": Y}, **settings)
    made = rs.align(sets, ids=ids, memory_budget=1000, **settings)
    assert isinstance(made.rows("b"), RowSource)
    assert len(made.landmarks) == M
    monkeypatch.setattr("relspace.space.item_space._BYTES_AT_A_TIME", 50_000)
    monkeypatch.setattr("relspace.space.item_space._SUMMARY_ITEMS", 300)
    for name in ("a", "b"):
        expected = torch.as_tensor(held[name])
        torch.testing.assert_close(made.rows(name).read(0, N), expected, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(
            made.rows(name).read(101, 350), expected[101:350], atol=2e-6, rtol=1e-5
        )
        torch.testing.assert_close(torch.as_tensor(made[name]), expected, atol=2e-6, rtol=1e-5)
    np.testing.assert_allclose(
        np.asarray(made.distances("a", "b")), held.distances("a", "b"), atol=1e-5
    )
    items = [5, 600, 7, 8, 9, 350, 12]
    ours, theirs = (one.match("a", "b", 2, items=items) for one in (made, held))
    assert np.array_equal(np.asarray(ours.indices), theirs.indices)
    np.testing.assert_allclose(np.asarray(ours.distances), theirs.distances, atol=1e-5)
    assert made.chance_distance("a", "b") == pytest.approx(held.chance_distance("a", "b"), abs=0.05)
    ours, theirs = made.summary(), held.summary()
    assert ours["sets"] == theirs["sets"]
    for one, other in zip(ours["pairs"], theirs["pairs"], strict=True):
        assert one["match_accuracy"] == other["match_accuracy"]
        assert one["distance"] == pytest.approx(other["distance"], abs=1e-5)


def test_they_are_embedded_written_and_saved_without_being_held(tmp_path: Path) -> None:
    held = rs.align({"a": X, "b": Y}, landmarks=M)
    made = rs.align({"a": X, "b": Y}, landmarks=M, memory_budget=1)
    out = {name: tmp_path / f"{name}.npy" for name in "ab"}
    cut = rs.NormalizedCut(4, n_landmarks=200).fit(made, out=out)
    exact = rs.NormalizedCut(4, n_landmarks=200).fit(held)
    np.testing.assert_allclose(cut["b"].read(0, N), exact["b"], atol=1e-3, rtol=1e-3)
    assert made.plot(n_items=50) is not None
    loaded = rs.load_space(made.save(tmp_path / "space.safetensors"))
    assert repr(loaded) == repr(made)
    np.testing.assert_allclose(loaded.transform("a", X), held.transform("a", X), atol=1e-6)
    with pytest.raises(InvalidInputError, match="saved without its rows"):
        loaded.distances("a", "b")


def test_what_takes_all_rows_at_once_is_refused_and_damaged_rows_are_named(
    assume_free: Callable[..., None],
) -> None:
    bad = X.copy()
    landmarks = [i for i in range(50) if i != 33]
    bad[333, 2] = np.nan
    source = GeneratedRows((N, 8), lambda start, stop: bad[start:stop])
    made = rs.align({"a": source, "b": Y}, landmarks=landmarks, memory_budget=1)
    with pytest.raises(NonFiniteError, match=r"\(333, 2\)"):
        made.distances("a", "b")
    assume_free(100_000)
    for use in (lambda: made["b"], lambda: made.match("b", "a"), lambda: made.pairwise("b", "a")):
        with pytest.raises(MemoryBudgetError, match=r"700 tokens over 49 .*space.rows\(name\)"):
            use()
