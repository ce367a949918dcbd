"""Small ONNX files whose tensors torch computes too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

SIDE, CHANNELS = 16, 6


def weights() -> dict[str, np.ndarray]:
    """Return the kernels of the network, the same every time."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (CHANNELS, 3, 2, 2), "w2": (CHANNELS, CHANNELS, 3, 3), "w3": (4, CHANNELS)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def expected(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what the network gives for images (b, 3, height, width)."""
    w = {name: torch.from_numpy(one) for name, one in weights().items()}
    down = functional.conv2d(images, w["w1"], stride=2)
    same = functional.conv2d(down, w["w2"], padding=1)
    block = same + down
    return {"down": down, "block": block, "logits": block.mean((2, 3)) @ w["w3"].T}


def save_onnx(
    path: Path,
    *,
    batch: int | str = "batch",
    side: int | str = SIDE,
    channels_last: bool = False,
    external: str | None = None,
    dtype: str = "FLOAT",
) -> Path:
    """Save the network: a convolution, a residual sum, and a vector.

    Parameters
    ----------
    path : Path
        The file.
    batch, side : int or str
        Sizes of the input; a name where they vary.
    channels_last : bool
        Whether the image is (b, height, width, 3).
    external : str, optional
        Where the weights are said to lie; they are written there if it is a plain name.
    dtype : str
        What the input and the weights are, as ONNX names it.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kind = getattr(TensorProto, dtype)
    shape = [batch, side, side, 3] if channels_last else [batch, 3, side, side]
    image = helper.make_tensor_value_info("image", kind, shape)
    logits = helper.make_tensor_value_info("logits", kind, [batch, 4])
    first = "image"
    nodes: list[Any] = []
    if channels_last:
        first = "turned"
        nodes.append(helper.make_node("Transpose", ["image"], [first], perm=[0, 3, 1, 2]))
    nodes += [
        helper.make_node("Conv", [first, "w1"], ["t1"], name="down", strides=[2, 2]),
        helper.make_node("Conv", ["t1", "w2"], ["t2"], name="same", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["t2", "t1"], ["t3"], name="block"),
        helper.make_node("GlobalAveragePool", ["t3"], ["t4"]),
        helper.make_node("Flatten", ["t4"], ["t5"], name="pooled"),
        helper.make_node("Gemm", ["t5", "w3"], ["logits"], name="head", transB=1),
    ]
    held = [
        numpy_helper.from_array(one.astype(helper.tensor_dtype_to_np_dtype(kind)), name)
        for name, one in weights().items()
    ]
    graph = helper.make_graph(nodes, "small", [image], [logits], held)
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    if external is None:
        onnx.save(model, str(path))
        return path
    onnx.save(
        model,
        str(path),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    if external != "weights.bin":
        moved = onnx.load(str(path), load_external_data=False)
        for tensor in moved.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = external
        path.write_bytes(moved.SerializeToString())
    return path
