"""ONNX files as models: tensors of the graph by name, computed by onnxruntime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace.errors import FileFormatError, InvalidInputError
from relspace.features.models.foreign import explained, import_package
from relspace.features.models.graph import (
    GraphInput,
    GraphModel,
    GraphTensor,
    default_layers,
    image_input,
    read_hashed,
    refuse_training,
)

_FLOATS = {"FLOAT": torch.float32, "FLOAT16": torch.float16, "DOUBLE": torch.float64}
_RANDOM = frozenset({
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    *("Bernoulli", "Multinomial"),
})  # fmt: skip


class OnnxModel(GraphModel):
    """A vision network in an ONNX file, whose inner tensors are its layers.

    Parameters
    ----------
    path : str or Path
        The file. Weights in files beside it are read too; code is never run.
    layers : str or sequence of str, optional
        Names of nodes or tensors; ``*`` stands for any characters. By default the sums of two
        activations (the ends of residual blocks and stages), or the graph's outputs where it has
        no such sums.
    layout : str, or mapping of str to str, optional
        Axes of what the layers give: ``"bchw"``, ``"bhwc"``, ``"btd"`` (tokens) or ``"nd"``. By
        default those that the shape allows, if that is one.
    preprocessing : Preprocessing, str or Path, optional
        How its input is made of an image, also as the name of a common normalisation (see
        :meth:`Preprocessing.named`) or a JSON file. By default what is saved beside
        the file: ``NAME.json``, or ``preprocessor_config.json``.
    image_size : int or (int, int), optional
        Height and width of its input where the file leaves it open.
    n_prefix_tokens, grid_shape : int; (int, int), optional
        For tokens: how many class and register tokens there are before those of the grid, and the
        grid's rows and columns, by default those of a grid as wide and high as the input.
    name : str, optional
        Its name; by default that of the file without ``.onnx``.
    device : str or torch.device
        The device that it runs on; ``"auto"`` is the first GPU that onnxruntime can use, or the
        CPU.

    Raises
    ------
    MissingDependencyError
        If onnx or onnxruntime is not installed.
    FileFormatError
        If the file is damaged, was exported in training mode, or asks for operations that
        onnxruntime lacks.
    InvalidInputError
        If the graph takes anything but one image, or its input's size is not known.

    Notes
    -----
    A file whose batch size is fixed is run in parts of this size. The graph stays in memory,
    because onnxruntime computes what its outputs need, and is given it again for other layers.
    """

    family = "onnx"
    reopened = ("_proto", "_session")

    def _choose_device(self, device: str | torch.device) -> torch.device:
        self._providers = _providers_of(device)
        # onnxruntime returns arrays in the memory of the CPU, wherever it computes.
        return torch.device("cpu")

    @property
    def n_parameters(self) -> int:
        """Count the numbers in the graph's weights."""
        return sum(int(np.prod(one.dims, dtype=np.int64)) for one in self._proto.graph.initializer)

    def _open(self) -> GraphInput:
        onnx = _onnx()
        data, self._digest = read_hashed(self.path)
        with explained(lambda reason: FileFormatError(f"{self.path} is no ONNX file ({reason}).")):
            self._proto = onnx.load_model_from_string(data)
        graph = self._proto.graph
        if not graph.node:
            raise FileFormatError(f"{self.path} is no ONNX file, or its graph is empty.")
        self._external = _external_files(self._proto, self.path)
        self._session: tuple[tuple[str, ...], Any] | None = None
        refuse_training(self.path, _training_nodes(graph))
        weights = {one.name for one in graph.initializer}
        inputs = [one for one in graph.input if one.name not in weights]
        if len(inputs) != 1:
            shown = ", ".join(f"{one.name} {_sizes_of(one)}" for one in inputs)
            raise InvalidInputError(
                f"{self.path} takes {len(inputs)} inputs ({shown}); ONNX files that take one image "
                "can be extracted from."
            )
        (value,) = inputs
        kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        # Convolutions of ONNX have their channels first.
        convolved = any(
            node.op_type == "Conv" and node.input[0] == value.name for node in graph.node
        )
        return image_input(
            value.name,
            _sizes_of(value),
            _FLOATS.get(kind),
            self.path,
            channels_first=convolved,
        )

    def _tensors(self) -> tuple[list[GraphTensor], tuple[str, ...]]:
        """List the tensors of floats that nodes give, with shapes at the size of the input."""
        onnx = _onnx()
        value = next(one for one in self._proto.graph.input if one.name == self._input.name)
        dims = value.type.tensor_type.shape.dim
        sizes = (*self._size, 3) if self._input.channels_last else (3, *self._size)
        for axis, side in enumerate(sizes, start=1):
            dims[axis].dim_value = side
        with explained(
            lambda reason: FileFormatError(f"{self.path} has a damaged graph ({reason}).")
        ):
            graph = onnx.shape_inference.infer_shapes(self._proto).graph
        tensors = _tensors_of(graph)
        by_tensor = {one.tensor: one for one in tensors}
        weights = {one.name for one in graph.initializer}
        weights |= {out for node in graph.node if node.op_type == "Constant" for out in node.output}
        sums = [
            (node.output[0], list(node.input))
            for node in graph.node
            if node.op_type == "Add" and not weights & set(node.input)
        ]
        return tensors, default_layers(by_tensor, sums, [one.name for one in graph.output])

    def _beside(self) -> Sequence[Path]:
        return self._external

    def _runtime(self) -> object:
        return _onnxruntime()

    def _run(self, tensors: tuple[str, ...], images: NDArray[Any]) -> Sequence[torch.Tensor]:
        session = self._session_of(tensors)
        with explained(
            lambda reason: InvalidInputError(
                f"{self.path} can't be run on an input of shape {images.shape} ({reason})."
            )
        ):
            arrays = session.run(list(tensors), {self._input.name: images})
            return [torch.from_numpy(np.ascontiguousarray(one)) for one in arrays]

    def _session_of(self, tensors: tuple[str, ...]) -> Any:
        """Return a session that computes these tensors, and nothing that they don't need."""
        if self._session is not None and self._session[0] == tensors:
            return self._session[1]
        onnx, ort = _onnx(), _onnxruntime()
        graph = self._proto.graph
        own = list(graph.output)
        types = {one.name: one for one in (*own, *graph.value_info)}
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if self._external:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(self.path.parent)
            )
        try:
            del graph.output[:]
            graph.output.extend(types.get(one, onnx.ValueInfoProto(name=one)) for one in tensors)
            with explained(
                lambda reason: FileFormatError(
                    f"{self.path} can't be loaded by onnxruntime ({reason})."
                )
            ):
                session = ort.InferenceSession(
                    self._proto.SerializeToString(), options, providers=self._providers
                )
        finally:
            del graph.output[:]
            graph.output.extend(own)
        self._session = tensors, session
        return session


def _external_files(proto: Any, path: Path) -> tuple[Path, ...]:
    """Return the files beside a model that hold weights, and refuse those outside its folder."""
    found: dict[Path, None] = {}
    for tensor in proto.graph.initializer:
        if tensor.data_location != tensor.EXTERNAL:
            continue
        location = {one.key: one.value for one in tensor.external_data}.get("location", "")
        file = path.parent / location
        inside = file.resolve().is_relative_to(path.parent.resolve())
        if not location or not inside or Path(location).is_absolute():
            raise FileFormatError(f"{path} names weights outside of its folder: {location!r:.200}.")
        if not file.is_file():
            raise FileFormatError(f"{path} needs its weights beside it: there is no {file}.")
        found[file] = None
    return tuple(found)


def _training_nodes(graph: Any) -> list[str]:
    """Name the nodes that compute as in training, or by chance."""
    true = {
        one.name
        for one in graph.initializer
        if one.data_type == one.BOOL and any((*one.raw_data, *one.int32_data))
    }
    true |= {
        node.output[0]
        for node in graph.node
        if node.op_type == "Constant"
        and any(one.t.data_type == one.t.BOOL and any(one.t.raw_data) for one in node.attribute)
    }

    def trains(node: Any) -> bool:
        if node.op_type == "Dropout":
            return len(node.input) > 2 and node.input[2] in true
        modes = [one.i for one in node.attribute if one.name == "training_mode"]
        return node.op_type in _RANDOM or (node.op_type == "BatchNormalization" and any(modes))

    return [f"{node.op_type} {node.name}".strip() for node in graph.node if trains(node)]


def _sizes_of(value: Any) -> tuple[int | str, ...] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(
        int(one.dim_value) if one.HasField("dim_value") else one.dim_param or "?"
        for one in kind.shape.dim
    )


def _tensors_of(graph: Any) -> list[GraphTensor]:
    """Return the tensors of floats that nodes give, under the names of the nodes if these are."""
    types = _onnx().TensorProto
    outputs = {one.name for one in graph.output}
    values = {one.name: one for one in (*graph.value_info, *graph.output)}
    floats = {getattr(types, kind) for kind in _FLOATS}
    named = Counter(node.name for node in graph.node)
    tensors = {tensor for node in graph.node for tensor in node.output}
    found = []
    for node in graph.node:
        given = [tensor for tensor in node.output if tensor]
        for tensor in given:
            value = values.get(tensor)
            kind = value.type.tensor_type.elem_type if value is not None else 0
            shape = None if value is None else _sizes_of(value)
            # Tensors of unknown types are checked when they are computed.
            if node.op_type == "Constant" or (kind and kind not in floats):
                continue
            if shape is not None and len(shape) not in (2, 3, 4):
                continue
            is_known_by_node = (
                len(given) == 1
                and node.name != ""
                and named[node.name] == 1
                and node.name not in tensors
                and tensor not in outputs
            )
            name = node.name if is_known_by_node else tensor
            found.append(GraphTensor(name, tensor, node.op_type, shape))
    return found


def _providers_of(device: str | torch.device) -> list[str]:
    """Return what onnxruntime computes with."""
    there = _onnxruntime().get_available_providers()
    kind = str(device).partition(":")[0]
    if kind == "cpu" or (kind == "auto" and "CUDAExecutionProvider" not in there):
        return ["CPUExecutionProvider"]
    if kind in ("auto", "cuda") and "CUDAExecutionProvider" in there:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    raise InvalidInputError(
        f"device is {str(device)!r}, and this onnxruntime runs on {', '.join(there)} only.",
        ways_out=["give {device='cpu'}"],
    )


def _onnx() -> Any:
    import_package("onnx.shape_inference", "ONNX files", "relspace[onnx]")
    return import_package("onnx", "ONNX files", "relspace[onnx]")


def _onnxruntime() -> Any:
    return import_package("onnxruntime", "ONNX files", "relspace[onnx]")
