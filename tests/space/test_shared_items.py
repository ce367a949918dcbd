"""Sets that share some of their items: what is kept, what is said, and which may be landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import relspace as rs
from relspace.cli import commands
from relspace.errors import InvalidInputError, ItemMismatchError
from relspace.features import FeatureSet

X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
NAMES = [f"image {i}" for i in range(60)]
#: The first set lacks the last ten items, and the second one, in another order, the first ten.
A_ROWS = np.arange(50)
B_ROWS = np.random.default_rng(1).permutation(np.arange(10, 60))
IDS = {"a": [NAMES[i] for i in A_ROWS], "b": [NAMES[i] for i in B_ROWS]}
SETS = {"a": X[A_ROWS], "b": 3 * X[B_ROWS] + 1}


def test_shared_items_are_aligned_as_if_they_were_given_alone() -> None:
    space = rs.align(SETS, ids=IDS, on_missing="intersect")
    alone = rs.align({"a": X[10:50], "b": 3 * X[10:50] + 1}, ids=NAMES[10:50])
    assert space.ids == alone.ids == tuple(NAMES[10:50])
    for name in SETS:
        np.testing.assert_allclose(space[name], alone[name], atol=1e-5)
    assert space.match("a", "b").accuracy == 1
    assert "40 items matched by ids (of 50 in 'a', 50 in 'b')" in repr(space)
    assert space.parameters["n_given"] == {"a": 50, "b": 50}


def test_shared_items_are_aligned_alike_held_and_lazily() -> None:
    held = rs.align(SETS, ids=IDS, on_missing="intersect")
    lazy = rs.align(SETS, ids=IDS, on_missing="intersect", memory_budget=2000)
    for name in SETS:
        np.testing.assert_allclose(lazy[name], held[name], atol=1e-6)


def test_a_saved_space_knows_of_how_many_items_it_was_made(tmp_path: Path) -> None:
    space = rs.align(SETS, ids=IDS, on_missing="intersect")
    assert repr(rs.load_space(space.save(tmp_path / "s.safetensors"))) == repr(space)


def test_landmarks_are_named_by_ids_or_by_rows_of_the_first_set() -> None:
    names = NAMES[20:45]
    space = rs.align(SETS, ids=IDS, on_missing="intersect", landmarks=names)
    assert [space.ids[i] for i in space.landmarks.tolist()] == names
    rows = rs.align(SETS, ids=IDS, on_missing="intersect", landmarks=list(range(20, 45)))
    assert torch.equal(rows.landmarks, space.landmarks)
    with pytest.raises(ItemMismatchError, match=r"rows 3 .*which other sets lack"):
        rs.align(SETS, ids=IDS, on_missing="intersect", landmarks=[3, 20, 21, 22])
    with pytest.raises(ItemMismatchError, match="'image 55', which are not in all"):
        rs.align(SETS, ids=IDS, on_missing="intersect", landmarks=[*names, "image 55"])
    with pytest.raises(InvalidInputError, match="named by ids, and the sets have none"):
        rs.align({"a": X, "b": X}, landmarks=NAMES)


def test_other_items_are_brought_in_by_the_landmarks() -> None:
    space = rs.align(SETS, ids=IDS, on_missing="intersect")
    a, b = space.transform("a", X[50:]), space.transform("b", 3 * X[50:] + 1)
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_without_being_asked_for_nothing_is_left_out() -> None:
    with pytest.raises(ItemMismatchError, match=r"b lacks 10 items of a.*on_missing=.intersect"):
        rs.align(SETS, ids=IDS)
    with pytest.raises(InvalidInputError, match="on_missing"):
        rs.align(SETS, ids=IDS, on_missing="inner")  # type: ignore[call-overload]
    with pytest.raises(ItemMismatchError, match="have no ids"):
        rs.align({"a": X, "b": X}, on_missing="intersect")


def test_images_that_all_feature_sets_hold_are_kept() -> None:
    maps = np.random.default_rng(2).normal(size=(9, 3, 3, 5)).astype(np.float32)
    names = [f"{i}.png" for i in range(9)]
    a = FeatureSet.from_arrays({"l": maps[:7]}, layout="bhwc", ids=names[:7])
    b = FeatureSet.from_arrays({"l": maps[:1:-1]}, layout="bhwc", ids=names[:1:-1])
    space = rs.align({"a": a, "b": b}, on_missing="intersect", landmarks=30)
    assert space.ids == tuple(names[2:7])
    assert float(torch.as_tensor(space.distances("a", "b")).max()) < 1e-5
    assert "5 images matched by ids (of 7 in 'a', 7 in 'b')" in repr(space)


def test_the_command_keeps_shared_items_and_says_so(tmp_path: Path) -> None:
    for name, rows in SETS.items():
        np.savez(tmp_path / f"{name}.npz", features=rows, ids=np.array(IDS[name]))
    files = [str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    out = str(tmp_path / "s.safetensors")
    refused = CliRunner().invoke(commands, ["align", *files, "-o", out])
    assert refused.exit_code != 0
    assert "--on-missing" in refused.output
    done = CliRunner().invoke(commands, ["align", *files, "-o", out, "--on-missing", "intersect"])
    assert done.exit_code == 0, done.output
    assert "40 items (of 50 in a, 50 in b) matched by ids" in done.output
