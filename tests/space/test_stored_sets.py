"""Saved spaces whose metadata or tensors were edited are refused by their name, when loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tests.generators.edited_json import edits

import relspace as rs
from relspace.errors import FileFormatError, RelspaceError
from relspace.features import FeatureSet

Parts = tuple[dict[str, torch.Tensor], dict[str, Any]]


def parts_of(path: Path) -> Parts:
    with safe_open(path, framework="pt") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, json.loads(  # noqa: SIM118
            file.metadata()["relspace"]
        )


def write(path: Path, parts: Parts, *, checksum: bool = False) -> Path:
    tensors, metadata = parts
    if not checksum:
        metadata = {key: value for key, value in metadata.items() if key != "sha256"}
    save_file(tensors, path, {"relspace": json.dumps(metadata)})
    return path


def items_space() -> rs.ItemSpace:
    X = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    ids = [f"item {i}" for i in range(9)]
    return rs.align({"a": X, "b": X.flip(1)}, landmarks=6, ids={"a": ids, "b": ids})


def tokens_space() -> rs.TokenSpace:
    generator = torch.Generator().manual_seed(0)
    sets = {
        name: FeatureSet.from_arrays(
            {"x": torch.randn(3, 4, 2, 2, generator=generator)}, layout="bchw"
        )
        for name in ("a", "b")
    }
    return rs.align(sets, landmarks=6)  # type: ignore[return-value]


SPACES: dict[str, Callable[[], rs.ItemSpace | rs.TokenSpace]] = {
    "items": items_space,
    "tokens": tokens_space,
}


@pytest.fixture(params=SPACES)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return SPACES[request.param]().save(tmp_path / "whole.safetensors")


def used(path: Path) -> None:
    """Load a space and use all of it."""
    space = rs.load_space(path)
    repr(space)
    for name in space.names:
        assert torch.isfinite(torch.as_tensor(space[name])).all()
        space.transform(name, torch.ones(2, space.aligner(name).n_features_in_))
    space.distances(*space.names)


def test_a_file_without_a_checksum_loads_as_before(saved: Path, tmp_path: Path) -> None:
    again = rs.load_space(write(tmp_path / "older.safetensors", parts_of(saved)))
    for name, rows in rs.load_space(saved).items():
        torch.testing.assert_close(again[name], rows, rtol=0, atol=0)


def test_every_edit_of_the_metadata_is_refused_by_name_or_harmless(
    saved: Path, tmp_path: Path
) -> None:
    tensors, metadata = parts_of(saved)
    del metadata["sha256"]
    path, n_refused, wrong = tmp_path / "edited space.safetensors", 0, []
    # The second set is like the first.
    every = [one for one in edits(metadata) if not one[0].startswith("('sets', 1, ")]
    for what, edited in every:
        write(path, (tensors, edited))
        try:
            used(path)
        except RelspaceError as error:
            n_refused += 1
            if path.name not in str(error):
                wrong.append((what, repr(error)))
        except Exception as error:
            wrong.append((what, repr(error)))
    assert not wrong
    assert n_refused > 0.7 * len(every)


def test_every_edit_is_told_by_the_checksum(saved: Path, tmp_path: Path) -> None:
    tensors, metadata = parts_of(saved)
    path = tmp_path / "edited.safetensors"
    for what, edited in list(edits(metadata))[::7]:
        if "sha256" not in edited:
            continue
        write(path, (tensors, edited), checksum=True)
        with pytest.raises(FileFormatError, match=r"edited\.safetensors"):
            pytest.fail(f"{what} was accepted: {rs.load_space(path)}")


def test_negated_landmarks_are_told_by_the_checksum(saved: Path, tmp_path: Path) -> None:
    tensors, metadata = parts_of(saved)
    tensors["0.landmarks"] = -tensors["0.landmarks"]
    path = write(tmp_path / "negated.safetensors", (tensors, metadata), checksum=True)
    with pytest.raises(FileFormatError, match=r"negated\.safetensors.*checksum"):
        rs.load_space(path)


def test_a_missing_tensor_is_refused(saved: Path, tmp_path: Path) -> None:
    tensors, metadata = parts_of(saved)
    path = tmp_path / "missing.safetensors"
    # Rows that were not held are not saved either, and what reads them says so.
    for name in set(tensors) - {"0.relative", "1.relative"}:
        left = {key: one for key, one in tensors.items() if key != name}
        with pytest.raises(FileFormatError, match=r"missing\.safetensors"):
            pytest.fail(f"without {name}: {rs.load_space(write(path, (left, metadata)))}")


@pytest.mark.parametrize("change", ["shorter", "transposed", "nan", "infinite", "whole numbers"])
def test_a_changed_tensor_is_refused(saved: Path, tmp_path: Path, change: str) -> None:
    tensors, metadata = parts_of(saved)
    path = tmp_path / "changed.safetensors"
    for name, one in tensors.items():
        if not one.is_floating_point() and change != "shorter":
            continue
        if change == "infinite" and name.endswith("profile_deviation"):
            continue
        if change == "transposed" and (one.ndim < 2 or one.shape[0] == one.shape[1]):
            continue
        if change == "whole numbers" and name.endswith(("boxes", "places.y", "places.x")):
            continue
        values = {
            "shorter": one[:-1],
            "transposed": one.movedim(0, -1),
            "nan": one * torch.nan if one.is_floating_point() else one,
            "infinite": one * 0 + torch.inf,
            "whole numbers": one.long(),
        }
        edited = {**tensors, name: values[change].contiguous().clone()}
        with pytest.raises(RelspaceError, match=r"changed\.safetensors"):
            pytest.fail(f"{change} {name}: {rs.load_space(write(path, (edited, metadata)))}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("normalize", "bogus"),
        ("normalize", "none"),
        ("normalize", "zscore"),
        ("standardize", "bogus"),
        ("n_rows", 8),
        ("n_rows", 10),
        ("bandwidth", {"sigma": -1.0}),
        ("bandwidth", {"sigma": 0}),
        ("bandwidth", {"sigma": float("nan")}),
        ("bandwidth", {"sigma": float("inf")}),
        ("dtype", "int64"),
        ("dtype", "nn"),
        ("feature_names", ["x"]),
        ("name", "b"),
    ],
)
def test_values_that_were_accepted_silently_are_refused(
    saved: Path, tmp_path: Path, key: str, value: Any
) -> None:
    tensors, metadata = parts_of(saved)
    record = metadata["sets"][0]
    record[key] = {**record[key], **value} if isinstance(value, dict) else value
    with pytest.raises(RelspaceError, match=r"edited\.safetensors"):
        rs.load_space(write(tmp_path / "edited.safetensors", (tensors, metadata)))


def test_landmarks_that_are_no_items_are_refused(tmp_path: Path) -> None:
    tensors, metadata = parts_of(items_space().save(tmp_path / "whole.safetensors"))
    for wrong in (tensors["landmarks"] + 9, tensors["landmarks"] * 0):
        edited = {**tensors, "landmarks": wrong}
        with pytest.raises(RelspaceError, match=r"edited\.safetensors.*landmarks"):
            rs.load_space(write(tmp_path / "edited.safetensors", (edited, metadata)))
