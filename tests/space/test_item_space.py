"""The common space: its mapping, its numbers, and its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.generators.fresh_process import printed

import relspace as rs
from relspace.errors import FileFormatError, InvalidInputError, UnknownNameError


def gaussian(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def space() -> rs.ItemSpace:
    X = gaussian(60, 8)
    noisy = X + 0.1 * gaussian(60, 8, 1)
    return rs.align(
        {"sam": X, "dino": noisy.numpy()}, ids=[f"i{k}" for k in range(60)], landmarks=40
    )


def test_is_a_mapping_of_names(space: rs.ItemSpace) -> None:
    assert list(space) == ["sam", "dino"]
    assert len(space) == 2
    assert "sam" in space
    assert "clip" not in space
    assert {name: tuple(rows.shape) for name, rows in space.items()} == {
        "sam": (60, 40),
        "dino": (60, 40),
    }
    assert repr(space) == "ItemSpace('sam', 'dino': 60 items matched by ids, 40 landmarks)"


def test_unknown_set_is_named(space: rs.ItemSpace) -> None:
    with pytest.raises(
        UnknownNameError, match=r"no set is called 'clip'; .* 'sam', 'dino'"
    ) as info:
        space["clip"]
    assert isinstance(info.value, KeyError)


def test_match_agrees_with_pairwise(space: rs.ItemSpace) -> None:
    distances = torch.as_tensor(space.pairwise("sam", "dino"))
    match = space.match("sam", "dino", 3)
    best = distances.topk(3, dim=1, largest=False)
    assert torch.equal(match.indices, best.indices)
    torch.testing.assert_close(match.distances, best.values)
    hits = (best.indices == torch.arange(60)[:, None]).any(dim=1)
    assert match.accuracy == pytest.approx(hits.double().mean().item())
    assert match.chance == pytest.approx(3 / 60)
    assert match.accuracy > 0.9
    assert match.to_dict() == {
        "accuracy": match.accuracy,
        "chance": 0.05,
        "n_neighbors": 3,
        "n_items": 60,
    }


@pytest.mark.parametrize("k", [60, 61])
def test_neighbors_must_be_fewer_than_the_number_of_items(space: rs.ItemSpace, k: int) -> None:
    with pytest.raises(InvalidInputError, match=f"n_neighbors is {k}"):
        space.match("sam", "dino", k)


def test_related_items_are_closer_than_chance(space: rs.ItemSpace) -> None:
    assert float(space.distances("sam", "dino").mean()) < 0.3
    assert space.chance_distance("sam", "dino") == pytest.approx(1.0, abs=0.05)
    assert space.chance_distance("sam", "dino") == space.chance_distance("sam", "dino")


def test_distances_are_symmetric(space: rs.ItemSpace) -> None:
    forth = torch.as_tensor(space.pairwise("sam", "dino"))
    back = torch.as_tensor(space.pairwise("dino", "sam"))
    torch.testing.assert_close(forth, back.T)


def test_blocks_are_the_matrix(space: rs.ItemSpace, assume_free: Callable[..., None]) -> None:
    whole = space.pairwise("sam", "dino")
    assume_free(40_000)
    blocks = list(space.pairwise_blocks("sam", "dino"))
    assert len(blocks) > 5
    torch.testing.assert_close(torch.cat([block for _, block in blocks]), whole)


def test_summary_is_plain(space: rs.ItemSpace) -> None:
    summary = json.loads(json.dumps(space.summary()))
    assert summary["sets"]["sam"]["n_features"] == 8
    assert summary["sets"]["dino"]["density"] == pytest.approx(0.2, rel=1e-5)
    assert summary["matched_by"] == "ids"
    forth = summary["pairs"][0]
    assert (forth["from"], forth["to"]) == ("sam", "dino")
    assert forth["match_accuracy"] == space.match("sam", "dino").accuracy
    assert forth["match_chance"] == pytest.approx(1 / 60)
    assert forth["distance"] < 0.3 < forth["distance_chance"]


class TestFile:
    """What is saved comes back to the bit, and nothing else is taken for it."""

    @pytest.mark.parametrize("normalize", ["center+unit", "zscore", "half-whiten", "none"])
    @pytest.mark.parametrize("standardize", ["whiten", "half-whiten", "columns", "none"])
    def test_round_trip(self, tmp_path: Path, normalize: str, standardize: str) -> None:
        X, new = gaussian(50, 6), gaussian(9, 6, 5)
        space = rs.align(
            {"a": X.half(), "b": X.numpy()},
            landmarks=20,
            normalize=normalize,
            standardize=standardize,
        )
        again = rs.load_space(space.save(tmp_path / "deep" / "space.safetensors"))
        assert again.names == space.names
        assert again.ids == space.ids
        assert again.parameters == space.parameters
        assert torch.equal(again.landmarks, space.landmarks)
        assert again.aligner("a").bandwidth_ == space.aligner("a").bandwidth_
        assert again["a"].dtype == torch.float16
        assert torch.equal(again["a"], space["a"])
        assert np.array_equal(again["b"], space["b"])
        assert torch.equal(again.transform("b", new), space.transform("b", new))
        assert np.array_equal(again.pairwise("b", "a"), space.pairwise("b", "a"))

    def test_another_process_reads_the_same(self, space: rs.ItemSpace, tmp_path: Path) -> None:
        path = space.save(tmp_path / "space.safetensors")
        new = gaussian(7, 8, 3)
        np.save(tmp_path / "new.npy", new.numpy())
        code = (
            "import numpy, relspace, sys; space = relspace.load_space(sys.argv[1]);"
            "numpy.save(sys.argv[3], space.transform('sam', numpy.load(sys.argv[2])));"
            "print(space.ids[:2])"
        )
        files = [str(path), str(tmp_path / "new.npy"), str(tmp_path / "out.npy")]
        assert printed(code, *files).strip() == "('i0', 'i1')"
        assert np.array_equal(np.load(tmp_path / "out.npy"), space.transform("sam", new.numpy()))

    def test_a_failed_write_leaves_the_old_file(
        self, space: rs.ItemSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = space.save(tmp_path / "space.safetensors")
        before = path.read_bytes()

        def fail(_: object) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="no space left"):
            space.save(path)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["space.safetensors"]

    def test_a_file_cut_short_is_refused(self, space: rs.ItemSpace, tmp_path: Path) -> None:
        path = space.save(tmp_path / "space.safetensors")
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(FileFormatError, match="cut short"):
            rs.load_space(path)

    def test_other_files_are_refused(self, space: rs.ItemSpace, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        other = tmp_path / "other.safetensors"
        save_file({"x": torch.ones(2)}, other)
        with pytest.raises(FileFormatError, match="not written by relspace"):
            rs.load_space(other)
        other.write_bytes(b"no safetensors at all")
        with pytest.raises(FileFormatError, match="can't be read"):
            rs.load_space(other)
        with pytest.raises(FileNotFoundError, match="nowhere"):
            rs.load_space(tmp_path / "nowhere.safetensors")

    def test_a_later_format_is_refused(
        self, space: rs.ItemSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("relspace.rows.saved.FORMAT_VERSION", 2)
            path = space.save(tmp_path / "space.safetensors")
        with pytest.raises(FileFormatError, match="format version 2"):
            rs.load_space(path)
