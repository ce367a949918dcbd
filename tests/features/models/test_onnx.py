"""ONNX files as models: their tensors are torch's, and what can't be read is refused by name."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tests.generators.onnx_models import SIDE, expected, save_onnx

import relspace as rs
from relspace.cli import commands
from relspace.errors import FileFormatError, InvalidInputError, UnknownNameError
from relspace.features.store.writing import OtherExtractionError

pytest.importorskip("onnx", reason="ONNX files need onnx")
pytest.importorskip("onnxruntime", reason="ONNX files need onnxruntime")
ROOT = Path(__file__).resolve().parents[3]
PREPROCESSING = rs.Preprocessing(size=(SIDE, SIDE), mean=None, std=None)


def model_of(path: Path, **options: Any) -> rs.OnnxModel:
    options.setdefault("preprocessing", PREPROCESSING)
    return rs.OnnxModel(path, device="cpu", **options)


def images(n: int = 5) -> np.ndarray:
    return np.random.default_rng(1).random((n, 3, SIDE, SIDE), dtype=np.float32)


@pytest.mark.parametrize("batch", ["batch", 1, 2])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("external", [None, "weights.bin"])
def test_layers_are_what_torch_computes(
    tmp_path: Path, batch: int | str, channels_last: bool, external: str | None
) -> None:
    path = save_onnx(
        tmp_path / "small.onnx", batch=batch, channels_last=channels_last, external=external
    )
    model = model_of(path, layers=["down", "block", "logits"])
    given = model.forward(list(images()), model.layers)
    wanted = expected(torch.from_numpy(images()))
    torch.testing.assert_close(given["logits"], wanted["logits"], rtol=1e-4, atol=1e-4)
    for name in ("down", "block"):
        torch.testing.assert_close(
            given[name], wanted[name].permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4
        )


def test_half_precision_is_computed_in_its_own_type(tmp_path: Path) -> None:
    model = model_of(save_onnx(tmp_path / "half.onnx", dtype="FLOAT16"), layers="block")
    given = model.forward(list(images(2)), model.layers)["block"]
    assert given.dtype == torch.float16
    wanted = expected(torch.from_numpy(images(2)))["block"].permute(0, 2, 3, 1)
    torch.testing.assert_close(given.float(), wanted, rtol=0.05, atol=0.1)


def test_the_layers_by_default_are_residual_sums(tmp_path: Path) -> None:
    model = model_of(save_onnx(tmp_path / "small.onnx"))
    assert model.layers == ("block",)
    assert model.name == "small"
    named = {one.name: one for one in model.tensors}
    assert list(named) == ["down", "same", "block", "t4", "pooled", "logits"]
    assert named["block"].tensor == "t3"
    assert named["block"].op == "Add"
    assert named["block"].shape == ("batch", 6, 8, 8)


def test_nodes_tensors_patterns_and_numbers_name_layers(tmp_path: Path) -> None:
    model = model_of(save_onnx(tmp_path / "small.onnx"))
    assert model.names_of(["t3", "d*", -1]) == ("block", "down")
    assert model.names_of("all") == ("block",)
    with pytest.raises(UnknownNameError, match=r"no node or tensor 'Block'.*like it are 'block'"):
        model.names_of(["Block"])


def test_a_batch_of_fewer_images_than_the_graph_takes_is_filled_up(tmp_path: Path) -> None:
    model = model_of(save_onnx(tmp_path / "four.onnx", batch=4), layers="block")
    given = model.forward(list(images(5)), model.layers)["block"]
    wanted = expected(torch.from_numpy(images(5)))["block"].permute(0, 2, 3, 1)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)


def test_a_varying_size_is_the_one_asked_for(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "any.onnx", side="side")
    model = rs.OnnxModel(path, preprocessing="imagenet", image_size=24)
    described = model.describe(model.layers)
    assert [(one.name, one.shape) for one in described.layers] == [("block", (12, 12, 6))]
    assert described.regions == ((0.0, 0.0, 24.0, 24.0),)


def test_preprocessing_is_read_beside_the_file(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "small.onnx")
    with pytest.raises(InvalidInputError, match=r"small\.json or preprocessor_config\.json"):
        rs.OnnxModel(path)
    steps = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(steps))
    assert rs.OnnxModel(path).preprocessing.mean == (0.5, 0.5, 0.5)
    (tmp_path / "small.json").write_text(json.dumps(PREPROCESSING.to_dict()))
    assert rs.load_model(path).preprocessing == PREPROCESSING
    (tmp_path / "small.json").write_text(json.dumps(PREPROCESSING.to_dict() | {"zoom": 3}))
    with pytest.raises(FileFormatError, match=r"small\.json has entries of no known form.*zoom"):
        rs.load_model(path)


def test_a_size_that_the_graph_does_not_take_is_refused(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "small.onnx")
    with pytest.raises(InvalidInputError, match=r"takes images of 16 x 16.*makes 32 x 32"):
        rs.OnnxModel(path, preprocessing=rs.Preprocessing(size=(32, 32)))


def test_axes_that_could_be_either_are_declared(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "small.onnx")
    model = model_of(path, layers="block", layout={"block": "bhwc"})
    assert model.forward(list(images(2)), ["block"])["block"].shape == (2, 6, 8, 8)
    with pytest.raises(InvalidInputError, match="layout of block"):
        model_of(path, layout={"block": "bcwh"})
    with pytest.raises(InvalidInputError, match="not of the layout 'btd'"):
        model_of(path, layers="block", layout={"block": "btd"}).describe(["block"])


def test_extraction_resumes_only_the_same_file(tmp_path: Path, photos: Path) -> None:
    path, store = save_onnx(tmp_path / "small.onnx"), tmp_path / "f.zarr"
    fs = rs.extract(model_of(path), photos, store)
    assert fs["block"].shape == (5 * 64, 6)
    assert rs.extract(model_of(path), photos, store)["block"].shape == fs["block"].shape
    import onnx
    from onnx import numpy_helper

    changed = onnx.load(str(path))
    kernel = numpy_helper.to_array(changed.graph.initializer[0]).copy()
    kernel[0, 0, 0, 0] += 1
    changed.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "w1"))
    onnx.save(changed, str(path))
    with pytest.raises(OtherExtractionError, match="weights"):
        rs.extract(model_of(path), photos, store)


def test_weights_beside_the_file_count_as_its_own(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "small.onnx", external="weights.bin")
    before = model_of(path).fingerprint()
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(data)
    assert model_of(path).fingerprint() != before
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(FileFormatError, match=r"needs its weights beside it.*weights\.bin"):
        model_of(path)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "a/../../weights.bin"])
def test_weights_outside_of_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    path = save_onnx(tmp_path / "in" / "small.onnx", external=location)
    with pytest.raises(FileFormatError, match="outside of its folder"):
        model_of(path)


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    whole = save_onnx(tmp_path / "small.onnx").read_bytes()
    rng = np.random.default_rng(0)
    wanted = expected(torch.from_numpy(images(1)))["logits"]
    refused = 0
    for case in range(60):
        path = tmp_path / f"{case}.onnx"
        data = bytearray(whole)
        if case % 2:
            data = data[: int(rng.integers(len(data)))]
        else:
            for at in rng.integers(len(data), size=8):
                data[at] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            model = model_of(path, layers=["logits"])
            given = model.forward(list(images(1)), model.layers)["logits"]
        except (FileFormatError, InvalidInputError, UnknownNameError):
            refused += 1
            continue
        # Changed weights are other weights; what comes out has the shape that is promised.
        assert given.shape[0] == wanted.shape[0]
    assert refused >= 30
    with pytest.raises(InvalidInputError, match="there is no file"):
        model_of(tmp_path / "none.onnx")


def test_graphs_of_several_inputs_or_texts_are_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", "length"])
    cast = helper.make_node("Cast", ["input_ids"], ["out"], to=TensorProto.FLOAT)
    graph = helper.make_graph([cast], "text", [ids], [out])
    onnx.save(helper.make_model(graph), str(tmp_path / "text.onnx"))
    with pytest.raises(InvalidInputError, match=r"input_ids.*must be one image"):
        model_of(tmp_path / "text.onnx")


def test_a_model_can_be_sent_to_another_process(tmp_path: Path) -> None:
    model = model_of(save_onnx(tmp_path / "small.onnx"))
    before = model.forward(list(images(2)), ["block"])["block"]
    sent = pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(sent.forward(list(images(2)), ["block"])["block"], before)


def test_the_command_extracts_from_a_file(tmp_path: Path, photos: Path) -> None:
    path = save_onnx(tmp_path / "small.onnx")
    run = CliRunner().invoke(
        commands,
        [
            *("extract", str(path), str(photos), "-o", str(tmp_path / "f.zarr"), "--json"),
            *("--layers", "do*,logits", "--preprocessing", "imagenet"),
        ],
        catch_exceptions=False,
    )
    assert run.exit_code == 0, run.output
    (store,) = json.loads(run.stdout)["stores"]
    assert store["model"] == "small"
    assert [(one["name"], one["shape"]) for one in store["layers"]] == [
        ("down", "8 x 8 x 6"),
        ("logits", "4"),
    ]


def test_every_model_of_a_command_may_have_its_own_preprocessing(
    tmp_path: Path, photos: Path
) -> None:
    for name in ("one", "two"):
        save_onnx(tmp_path / f"{name}.onnx")
    models = [str(tmp_path / "one.onnx"), str(tmp_path / "two.onnx")]
    run = CliRunner().invoke(
        commands,
        [
            *("extract", *models, str(photos), "-o", str(tmp_path / "f"), "--layers", "down"),
            *("--preprocessing", "imagenet", "--preprocessing", "two=clip"),
        ],
        catch_exceptions=False,
    )
    assert run.exit_code == 0, run.output
    for name, preprocessing in (("one", "imagenet"), ("two", "clip")):
        model = rs.load_model(tmp_path / f"{name}.onnx", preprocessing=preprocessing, device="cpu")
        right = rs.extract(model, photos, tmp_path / f"{name}.zarr", layers=["down"])
        found = rs.open_features(tmp_path / "f" / f"{name}.zarr")
        assert np.array_equal(
            np.asarray(found["down"].read(0, 64)), np.asarray(right["down"].read(0, 64))
        )


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
import relspace as rs
from relspace.features import extraction

extraction._CHUNK_BYTES = 1
calls, forward = 0, rs.OnnxModel.forward

def dying(*args, **kwargs):
    global calls
    calls += 1
    if calls == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(*args, **kwargs)

rs.OnnxModel.forward = dying
model = rs.load_model({model!r}, preprocessing="imagenet", device="cpu")
rs.extract(model, {photos!r}, {out!r}, batch_size=1)
"""


@pytest.mark.slow
def test_a_killed_extraction_goes_on_to_the_same_features(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relspace.features import extraction

    monkeypatch.setattr(extraction, "_CHUNK_BYTES", 1)
    path = save_onnx(tmp_path / "small.onnx")
    model = rs.load_model(path, preprocessing="imagenet", device="cpu")
    whole = rs.extract(model, photos, tmp_path / "whole.zarr", batch_size=1)
    cut = tmp_path / "cut.zarr"
    script = KILLED.format(
        root=str(ROOT / "src"), model=str(path), photos=str(photos), out=str(cut)
    )
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=600, check=False, env=dict(os.environ)
    )
    assert done.returncode == -signal.SIGKILL
    assert 0 < len(rs.open_features(cut, partial=True)) < 5
    again = rs.extract(model, photos, cut, batch_size=1)
    assert np.array_equal(
        np.asarray(again["block"].read(0, 320)), np.asarray(whole["block"].read(0, 320))
    )
