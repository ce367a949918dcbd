"""Feature stores whose attributes were edited or whose arrays changed are refused by their name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from tests.generators.edited_json import edits

import relspace as rs
from relspace.errors import RelspaceError
from relspace.features.preprocessing import Preprocessing


class Network(torch.nn.Module):
    """Gives a map and a vector for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 4, 4)
        self.head = torch.nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(images).mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("stores") / "whole.zarr"
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), dtype=np.uint8)
    model = rs.ModuleModel(
        Network(),
        ["conv", "head"],
        layout={"conv": "bchw", "head": "nd"},
        preprocessing=Preprocessing(size=(8, 8)),
        device="cpu",
    )
    rs.extract(model, images, path)
    return path


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "edited.zarr"))


def used(path: Path) -> None:
    """Open a store and read all of it."""
    features = rs.open_features(path)
    repr(features)
    for name in features.layers:
        assert torch.isfinite(features[name].tokens()).all()


def test_every_edit_of_the_attributes_is_refused_by_name_or_harmless(store: Path) -> None:
    attributes = store / "zarr.json"
    tree = json.loads(attributes.read_text())
    tree.pop("consolidated_metadata", None)
    attributes.write_text(json.dumps(tree))
    used(store)
    (key,) = tree["attributes"]
    header = tree["attributes"][key]
    # Of the job only resuming makes use.
    shown = {name: {} if name == "job" else value for name, value in header.items()}
    # The second layer is like the first, and versions are only shown.
    skipped = ("('layers', 1, ", "('versions', ")
    every = [one for one in edits(shown) if not one[0].startswith(skipped)]
    n_refused, wrong = 0, []
    for what, edited in every:
        if edited.get("job") == {} and "job" in edited:
            edited["job"] = header["job"]
        attributes.write_text(json.dumps({**tree, "attributes": {key: edited}}))
        try:
            used(store)
        except RelspaceError as error:
            n_refused += 1
            if store.name not in str(error):
                wrong.append((what, repr(error)))
        except Exception as error:
            wrong.append((what, repr(error)))
    assert not wrong
    assert n_refused > 0.4 * len(every)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("job",), "bogus"),
        (("versions",), None),
        (("format_version",), "2"),
        (("format_version",), None),
        (("layers",), "bogus"),
        (("layers",), None),
        (("layers",), {}),
        (("layers",), []),
        (("layers", 0), None),
        (("layers", 0, "name"), None),
        (("layers", 0, "name"), "bogus"),
        (("layers", 0, "name"), "head"),
        (("layers", 0, "shape"), "224"),
        (("layers", 0, "shape"), 1e30),
        (("layers", 0, "shape"), [4, 1, 4]),
        (("layers", 0, "shape"), [True, 2, 4]),
        (("layers", 0, "shape"), [2.0, 2, 4]),
        (("layers", 0, "region"), "0"),
        (("layers", 0, "region"), 1e30),
        (("layers", 0, "region"), -1),
        (("layers", 0, "region"), 7),
        (("layers", 0, "region"), None),
        (("layers", 0, "beside"), "no"),
        (("layers", 0, "more"), 1),
        (("items",), "bogus"),
        (("items",), None),
    ],
)
def test_an_edited_header_is_refused(store: Path, where: tuple[Any, ...], value: Any) -> None:
    group = zarr.open_group(store, mode="r+")
    (key,) = dict(group.attrs)
    header = dict(group.attrs)[key]
    parent = header
    for step in where[:-1]:
        parent = parent[step]
    parent[where[-1]] = value
    group.attrs[key] = header
    with pytest.raises(RelspaceError, match=r"edited\.zarr"):
        pytest.fail(f"{rs.open_features(store)}")


@pytest.mark.parametrize(
    "name", ["status", "boxes", "image_sizes", "layers/conv", "layers/head", "digests"]
)
@pytest.mark.parametrize("change", ["missing", "shorter", "flat", "complex"])
def test_an_array_that_does_not_fit_is_refused(store: Path, name: str, change: str) -> None:
    group = zarr.open_group(store, mode="r+")
    values = np.asarray(group[name][...])
    del group[name]
    if change != "missing":
        changed = {"shorter": values[..., :-1, :] if values.ndim > 1 else values[:-1]}
        changed |= {"flat": values.reshape(-1)[:3], "complex": values.astype(complex)}
        group.create_array(name, data=changed[change])
    if (name, change) == ("digests", "missing"):
        assert rs.open_features(store).contents is None
        return
    with pytest.raises(RelspaceError, match=r"edited\.zarr"):
        pytest.fail(f"{rs.open_features(store)}")


def test_a_damaged_chunk_is_refused_when_it_is_read(store: Path) -> None:
    features = rs.open_features(store)
    for chunk in (store / "layers" / "conv" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(RelspaceError, match=r"edited\.zarr"):
        features["conv"].tokens()
