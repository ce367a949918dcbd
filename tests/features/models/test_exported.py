"""Exported programs: their tensors are the network's, and what could run code is refused."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import relspace as rs
from relspace.errors import FileFormatError, InvalidInputError, InvalidTypeError, UnknownNameError
from relspace.features.models.exported import is_arithmetic

PREPROCESSING = rs.Preprocessing(size=(16, 16), mean=None, std=None)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.norm(self.conv(x)).relu_())


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 2, stride=2)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(6, 4)
        self.register_buffer("scale", torch.full((1,), 2.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3))) * self.scale


def save(path: Path, network: nn.Module, *, batch: int | None = None) -> Path:
    images = torch.zeros(batch or 2, 3, 16, 16)
    sizes = None if batch else {"x": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(network, (images,), dynamic_shapes=sizes), str(path))
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("exported") / "net.pt2", Network().eval())


def model_of(path: Path, **options: Any) -> Any:
    return rs.load_model(path, preprocessing=PREPROCESSING, device="cpu", **options)


def images(n: int = 5) -> np.ndarray:
    return np.random.default_rng(0).random((n, 3, 16, 16), dtype=np.float32)


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_layers_are_what_the_network_computes(tmp_path: Path, batch: int | None) -> None:
    network = Network().eval()
    model = model_of(save(tmp_path / "net.pt2", network, batch=batch))
    assert model.layers == ("blocks.0", "blocks.1")
    names = {"stem": "stem", "batch_norm": "blocks.0.norm", "blocks.1": "blocks.1", "head": "head"}
    found = model.forward(list(images()), list(names))
    with rs.record(network, list(names.values())) as recorded:
        network(torch.from_numpy(images()))
    for name, module in names.items():
        # A norm is changed in place by the activation behind it, and kept as it was.
        wanted = recorded[module]
        wanted = wanted.permute(0, 2, 3, 1) if wanted.ndim == 4 else wanted
        torch.testing.assert_close(found[name], wanted)


def test_it_is_extracted_described_and_sent(saved: Path, photos: Path, tmp_path: Path) -> None:
    model = model_of(saved)
    fs = rs.extract(model, photos, tmp_path / "f.zarr", layers=["blocks.*.drop", "add"])
    assert set(fs.layers) == {"blocks.0.drop", "blocks.1.drop", "add"}
    assert (
        len(rs.extract(model_of(saved), photos, tmp_path / "f.zarr", layers=list(fs.layers))) == 5
    )
    summary = rs.describe_model(saved)
    assert summary.n_parameters == sum(one.numel() for one in Network().parameters())
    assert [one.shape for one in summary.layers] == [(8, 8, 6)] * 2
    sent = pickle.loads(pickle.dumps(model))
    given = [one.forward(list(images(2)), ["head"])["head"] for one in (model, sent)]
    assert torch.equal(*given)
    with pytest.raises(UnknownNameError, match=r"no node or tensor 'blokcs\.0'.*'blocks\.0'"):
        model.names_of(["blokcs.0"])


def test_training_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"batch_norm.*dropout.*as in training"):
        model_of(save(tmp_path / "net.pt2", Network().train()))


def test_programs_of_two_inputs_are_refused(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    program = torch.export.export(Two(), (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)))
    torch.export.save(program, str(tmp_path / "two.pt2"))
    with pytest.raises(InvalidInputError, match=r"takes 2 inputs \(x, y\)"):
        model_of(tmp_path / "two.pt2")


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def edited(saved: Path, path: Path, edit: Callable[[dict[str, bytes]], None]) -> Path:
    """Write an archive again with other records."""
    with zipfile.ZipFile(saved) as archive:
        records = {one: archive.read(one) for one in archive.namelist()}
    root = next(iter(records)).partition("/")[0]
    plain = {name.partition("/")[2]: data for name, data in records.items()}
    edit(plain)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in plain.items():
            archive.writestr(f"{root}/{name}", data)
    return path


def change(record: str, old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    def edit(records: dict[str, bytes]) -> None:
        text = records[record].decode()
        assert old in text
        records[record] = text.replace(old, new).encode()

    return edit


GRAPH, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change(GRAPH, "torch.ops.aten.conv2d.default", "torch.hub.load"), r"torch\.hub\.load"),
        (change(GRAPH, "torch.ops.aten.conv2d.default", "torch.ops.evil.run.default"), "evil"),
        (change(GRAPH, "torch.ops.aten.conv2d.default", "_operator.attrgetter"), "attrgetter"),
        (change(GRAPH, "Symbol('s", "__import__('os').mkdir('s"), "__import__"),
        (change(GRAPH, '"name": "x"', '"name": "x=print()"'), r"x=print\(\)"),
        (change(GRAPH, "in forward", "in forward\\rimport os"), "no operator of torch"),
        (change(WEIGHTS, '"use_pickle": false', '"use_pickle": true'), "pickled object"),
        (lambda records: records.update({"data/aotinductor/model/a.so": b"x"}), "aotinductor"),
        (lambda records: records.update({"data/constants/opaque_obj_0": b"x"}), "opaque_obj"),
        (lambda records: records.update({"data/weights/model.pt": b"x"}), r"model\.pt"),
        (lambda records: records.update({GRAPH: b"{}"}), "no exported program"),
        (lambda records: records.update({GRAPH: b"["}), "no exported program"),
    ],
)
def test_what_could_run_code_is_not_loaded(
    saved: Path, tmp_path: Path, edit: Callable[[dict[str, bytes]], None], message: str
) -> None:
    with pytest.raises(FileFormatError, match=message):
        model_of(edited(saved, tmp_path / "evil.pt2", edit))


def test_sample_inputs_are_not_unpickled(saved: Path, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    evil = tmp_path / "inputs.pt"
    torch.save((Evil(trace),), evil)

    def edit(records: dict[str, bytes]) -> None:
        records["data/sample_inputs/model.pt"] = evil.read_bytes()

    with pytest.raises(FileFormatError, match="no exported program"):
        model_of(edited(saved, tmp_path / "evil.pt2", edit))
    assert not trace.exists()


def test_an_archive_that_was_only_written_again_is_read(saved: Path, tmp_path: Path) -> None:
    again = model_of(edited(saved, tmp_path / "again.pt2", lambda records: None))
    assert again.layers == ("blocks.0", "blocks.1")


def test_damaged_files_are_refused_by_name(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 10):
        path = tmp_path / f"{size}.pt2"
        path.write_bytes(whole[:size])
        with pytest.raises(FileFormatError, match=f"{size}.pt2 is no exported program"):
            model_of(path)


@pytest.mark.parametrize(
    "expression", ["9**9**9", "1 << 99", "a.b", "f(x)", "'x'", "x if y else z", "[x]", "1" * 600]
)
def test_sizes_are_arithmetic(expression: str) -> None:
    assert not is_arithmetic(expression)


def test_torchscript_and_weights_alone_are_refused_with_a_way_out(tmp_path: Path) -> None:
    class Plain(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    script = torch.jit.trace(Plain(), torch.zeros(1, 3, 4, 4))
    script.save(str(tmp_path / "script.pt"))
    with pytest.raises(FileFormatError, match=r"is TorchScript.*torch\.export\.save"):
        rs.load_model(tmp_path / "script.pt")
    with pytest.raises(InvalidTypeError, match="TorchScript calls no hooks"):
        rs.load_model(script)
    torch.save(Network().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(FileFormatError, match=r"holds weights or a pickled object.*ModuleModel"):
        rs.load_model(tmp_path / "weights.pth")
    (tmp_path / "notes.txt").write_text(json.dumps({}))
    with pytest.raises(FileFormatError, match=r"no model file that is known"):
        rs.load_model(tmp_path / "notes.txt")
