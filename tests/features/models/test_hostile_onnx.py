"""ONNX files that no extraction can come from: each is refused with its reason, none by a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.generators.onnx_models import SIDE, save_onnx

import relspace as rs
from relspace.errors import FileFormatError, InvalidInputError

onnx = pytest.importorskip("onnx", reason="ONNX files need onnx")
pytest.importorskip("onnxruntime", reason="ONNX files need onnxruntime")
PREPROCESSING = rs.Preprocessing(size=(SIDE, SIDE), mean=None, std=None)
FLOAT = 1


def save(
    path: Path,
    nodes: list[Any],
    *,
    inputs: list[tuple[str, int, list[Any]]] | None = None,
    held: dict[str, np.ndarray] | None = None,
    opset: int = 15,
) -> Path:
    helper = onnx.helper
    given = inputs or [("image", FLOAT, ["b", 3, SIDE, SIDE])]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(*one) for one in given],
        [helper.make_tensor_value_info("out", FLOAT, None)],
        [onnx.numpy_helper.from_array(one, name) for name, one in (held or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


def node(op: str, inputs: list[str], **attributes: Any) -> Any:
    return onnx.helper.make_node(op, inputs, ["out"], **attributes)


def run(path: Path, **options: Any) -> Any:
    model = rs.OnnxModel(path, preprocessing=PREPROCESSING, device="cpu", **options)
    return model.forward([np.ones((3, SIDE, SIDE), np.float32)] * 2, model.layers)


ONE = np.ones(3, np.float32)


def graphs(path: Path) -> dict[str, tuple[Path, str]]:
    def of(name: str, nodes: list[Any], message: str, **options: Any) -> tuple[Path, str]:
        return save(path / f"{name}.onnx", nodes, **options), message

    two = [("a", FLOAT, ["b", 3, SIDE, SIDE]), ("b", FLOAT, ["b", 3, SIDE, SIDE])]
    norm = {"s": ONE, "z": ONE * 0, "m": ONE * 0, "v": ONE}
    dropout = {"ratio": np.float32(0.5), "on": np.bool_(True)}
    return {
        "inputs": of("two", [node("Add", ["a", "b"])], r"takes 2 inputs \(a .*, b", inputs=two),
        "strings": of(
            "strings", [node("Identity", ["x"])], "other than float", inputs=[("x", 8, ["b", 3])]
        ),
        "opset": of("opset", [node("Relu", ["image"])], "onnxruntime|damaged graph", opset=999),
        "operator": of("operator", [node("Nonsense", ["image"])], "Nonsense"),
        "empty": of(
            "empty",
            [node("Slice", ["image", "zero", "zero"])],
            r"out (is empty|has shape)",
            held={"zero": np.zeros(4, np.int64)},
        ),
        "training": of(
            "training",
            [node("Dropout", ["image", "ratio", "on"])],
            "Dropout.*as in training",
            held=dropout,
        ),
        "random": of("random", [node("RandomNormalLike", ["image"])], "RandomNormalLike.*chance"),
        "norm": of(
            "norm",
            [
                onnx.helper.make_node(
                    "BatchNormalization", ["image", *norm], ["out", "m2", "v2"], training_mode=1
                )
            ],
            "BatchNormalization.*as in training",
            held=norm,
        ),
        "rows": of("rows", [node("Concat", ["image", "image"], axis=0)], "don't stand for images"),
        "whole": of("whole", [node("Cast", ["image"], to=7)], "nothing that could be a layer|type"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "inputs",
        "strings",
        "opset",
        "operator",
        "empty",
        "training",
        "random",
        "norm",
        "rows",
        "whole",
    ],
)
def test_each_is_refused_with_its_reason(tmp_path: Path, case: str) -> None:
    path, message = graphs(tmp_path)[case]
    with pytest.raises((InvalidInputError, FileFormatError), match=message):
        run(path)


def test_a_dropout_that_is_off_is_no_training(tmp_path: Path) -> None:
    path = save(tmp_path / "off.onnx", [node("Dropout", ["image"])])
    assert run(path, layout="bchw")["out"].shape == (2, SIDE, SIDE, 3)


def test_channels_that_are_left_open_are_told_by_the_convolution(tmp_path: Path) -> None:
    kernel = np.ones((4, 3, 2, 2), np.float32)
    path = save(
        tmp_path / "open.onnx",
        [node("Conv", ["image", "w"], strides=[2, 2])],
        inputs=[("image", FLOAT, ["batch", "channels", "height", "width"])],
        held={"w": kernel},
    )
    assert run(path)["out"].shape == (2, SIDE // 2, SIDE // 2, 4)


def test_tokens_make_a_grid_as_wide_and_high_as_the_input(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Conv", ["image", "w"], ["map"], strides=[4, 4]),
        onnx.helper.make_node("Reshape", ["map", "flat"], ["rows"]),
        node("Transpose", ["rows"], perm=[0, 2, 1]),
    ]
    held = {"w": np.ones((5, 3, 4, 4), np.float32), "flat": np.array([0, 5, -1], np.int64)}
    path = save(tmp_path / "tokens.onnx", nodes, held=held)
    with pytest.raises(InvalidInputError, match="class and register tokens: give n_prefix_tokens"):
        run(path)
    assert run(path, n_prefix_tokens=0)["out"].shape == (2, 4, 4, 5)
    with pytest.raises(InvalidInputError, match="make no grid"):
        run(path, n_prefix_tokens=2)


def test_a_file_that_changed_is_not_sent_to_another_process(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "small.onnx")
    state = rs.OnnxModel(path, preprocessing=PREPROCESSING).__getstate__()
    save_onnx(path, batch=1)
    again = rs.OnnxModel.__new__(rs.OnnxModel)
    with pytest.raises(FileFormatError, match="another file than the one that was opened"):
        again.__setstate__(state)
