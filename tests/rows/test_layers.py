"""Files of several layers: their order, their ids, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from relspace.errors import FileFormatError, InvalidInputError, MemoryBudgetError
from relspace.features import read_layers, scan_layers
from relspace.rows.source import RowSource

LAYERS = {f"block.{i}": np.full((4, 3), float(i), dtype=np.float32) for i in (2, 9, 10, 1)}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **LAYERS, ids=["a", "b", "c", "d"], epoch=np.array(3))
    tensors = {name: torch.from_numpy(one) for name, one in LAYERS.items()}
    torch.save(tensors, "a.pt")
    save_file(tensors, "a.safetensors")
    with h5py.File("a.h5", "w") as file:
        for name, one in LAYERS.items():
            file[name] = one


@pytest.mark.parametrize("name", ["a.npz", "a.pt"])
def test_layers_in_the_order_of_the_file(name: str) -> None:
    read = read_layers(name)
    assert list(read.layers) == ["block.2", "block.9", "block.10", "block.1"]
    assert float(read.layers["block.10"][0, 0]) == 10


@pytest.mark.parametrize("name", ["a.safetensors", "a.h5"])
def test_layers_by_number_where_the_format_keeps_no_order(name: str) -> None:
    read = read_layers(name)
    assert list(read.layers) == ["block.1", "block.2", "block.9", "block.10"]
    assert float(read.layers["block.10"][0, 0]) == 10


def test_ids_come_along() -> None:
    assert read_layers("a.npz").ids == ("a", "b", "c", "d")
    assert read_layers("a.pt").ids is None
    np.savez("bad.npz", layer=LAYERS["block.1"], ids=["a", "b"])
    with pytest.raises(InvalidInputError, match="4 items and 2 ids"):
        read_layers("bad.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.pt", "a.safetensors", "a.h5"])
def test_opened_layers_are_those_read(name: str) -> None:
    opened, read = scan_layers(name), read_layers(name)
    assert (list(opened.layers), opened.ids) == (list(read.layers), read.ids)
    for layer, given in opened.layers.items():
        assert isinstance(given, RowSource) == name.endswith(("safetensors", "h5"))
        whole = given.read(0, 4) if isinstance(given, RowSource) else given
        np.testing.assert_array_equal(np.asarray(whole), LAYERS[layer])


def test_files_that_are_loaded_whole_must_fit(assume_free: Callable[..., None]) -> None:
    assume_free(100)
    with pytest.raises(MemoryBudgetError, match=r"a\.npz, which can only be loaded whole"):
        scan_layers("a.npz")
    assert len(scan_layers("a.h5").layers) == 4


@pytest.mark.parametrize("suffix", ["npy", "pt", "csv"])
def test_the_matrix_of_a_file_that_holds_one_is_a_layer(suffix: str) -> None:
    matrix = np.arange(12.0).reshape(4, 3)
    name = f"dino.{suffix}"
    if suffix == "npy":
        np.save(name, matrix)
    elif suffix == "pt":
        torch.save(torch.from_numpy(matrix), name)
    else:
        lines = [f"img{i}," + ",".join(map(str, row)) for i, row in enumerate(matrix)]
        Path(name).write_text("id,x,y,z\n" + "\n".join(lines))
    read, opened = read_layers(name), scan_layers(name)
    assert list(read.layers) == list(opened.layers) == ["dino"]
    np.testing.assert_array_equal(np.asarray(read.layers["dino"]), matrix)
    np.testing.assert_array_equal(opened.layers["dino"].read(0, 4), matrix)
    assert (
        read.ids == opened.ids == (tuple(f"img{i}" for i in range(4)) if suffix == "csv" else None)
    )


def test_what_holds_no_layers_is_refused() -> None:
    Path("notes.txt").write_text("a")
    with pytest.raises(InvalidInputError, match=r"files of features end in .*\.npz"):
        read_layers("notes.txt")
    np.savez("none.npz", epoch=np.array(3), names=np.array(["a"]))
    with pytest.raises(FileFormatError, match="no named matrices"):
        read_layers("none.npz")
    Path("cut.npz").write_bytes(Path("a.npz").read_bytes()[:200])
    with pytest.raises(FileFormatError, match="cut off"):
        read_layers("cut.npz")
    with pytest.raises(InvalidInputError, match=r"there is no file gone\.npz"):
        read_layers("gone.npz")
