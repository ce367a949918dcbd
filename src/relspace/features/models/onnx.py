"""ONNX files as models: tensors of the graph by name, computed by onnxruntime."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import check_choice, name_some
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    MissingDependencyError,
    UnknownNameError,
)
from relspace.features.feature_model import ImageModel, Layers, maps_of_layout, needed_size
from relspace.features.layouts import LAYOUTS
from relspace.features.network_identity import identify_network
from relspace.features.preprocessing import (
    Preprocessing,
    as_preprocessing,
    read_preprocessing,
)
from relspace.rows.identity import Identity

_FLOATS = {"FLOAT": torch.float32, "FLOAT16": torch.float16, "DOUBLE": torch.float64}


@dataclass(frozen=True)
class GraphTensor:
    """A tensor that a graph computes.

    Attributes
    ----------
    name : str
        What the layer is called: the name of the node that gives it, or its own.
    tensor : str
        What the graph calls it.
    op : str
        The operation that gives it.
    shape : tuple of (int or str), or None
        Its sizes, with the names of those that vary; None where they can't be inferred.
    """

    name: str
    tensor: str
    op: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True)
class _Input:
    """The image that a graph takes: its name, its shape (0 where any), its axes and its type."""

    name: str
    batch: int
    size: tuple[int, int]
    channels_last: bool
    dtype: torch.dtype


class OnnxModel(ImageModel):
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
        For ``"btd"``: class and register tokens before those of the grid, and the grid's rows and
        columns.
    name : str, optional
        What it is called; by default the file's name without ``.onnx``.
    device : str or torch.device
        Where it runs; ``"auto"`` is the first GPU that onnxruntime can use, or the CPU.

    Raises
    ------
    MissingDependencyError
        If onnx or onnxruntime is not installed.
    FileFormatError
        If the file is damaged, or asks for operations that onnxruntime lacks.
    InvalidInputError
        If the graph takes anything but one image, or its input's size is not known.

    Notes
    -----
    A file whose batch size is fixed is run in parts of this size. The file is read again whenever
    other layers are asked for, since onnxruntime computes what a graph's outputs need.
    """

    def __init__(
        self,
        path: str | Path,
        layers: str | Sequence[str] | None = None,
        *,
        layout: str | Mapping[str, str] | None = None,
        preprocessing: Preprocessing | str | Path | None = None,
        image_size: int | tuple[int, int] | None = None,
        n_prefix_tokens: int | None = None,
        grid_shape: tuple[int, int] | None = None,
        name: str | None = None,
        device: str | torch.device = "auto",
    ) -> None:
        self.path = Path(path).expanduser()
        self.name = self.path.name.removesuffix(".onnx") if name is None else name
        self._providers = _providers_of(device)
        # Arrays come back in the memory of the CPU, wherever they were computed.
        self.device = torch.device("cpu")
        proto = _load_proto(self.path)
        self._input = _image_input(proto.graph, self.path)
        self.dtype = self._input.dtype
        self.preprocessing = self._preprocessing(preprocessing, image_size)
        self._size = needed_size(self.preprocessing, self.name, self._own_size)
        graph = _graph_with_shapes(proto, self.path, self._input, self._size)
        tensors = _tensors_of(graph)
        self._by_name = {one.name: one for one in tensors}
        self._by_tensor = {one.tensor: one for one in tensors}
        self._default = _residual_sums(graph, self._by_tensor) or tuple(
            self._by_tensor[one.name].name for one in graph.output
        )
        if isinstance(layout, str):
            check_choice(layout, "layout", LAYOUTS)
        for layer, form in layout.items() if isinstance(layout, Mapping) else ():
            check_choice(form, f"the layout of {layer}", LAYOUTS)
        self._layout = layout
        self._n_prefix, self._grid_shape = n_prefix_tokens, grid_shape
        self._session: tuple[tuple[str, ...], Any] | None = None
        self.layers = self._default
        if layers is not None:
            self.layers = self.names_of(layers if layers == "all" else _listed(layers))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_session": None}

    @property
    def tensors(self) -> tuple[GraphTensor, ...]:
        """What may be asked for as layers: all tensors of numbers, in the order of the graph."""
        return tuple(self._by_name.values())

    def names_of(self, layers: Layers) -> tuple[str, ...]:
        """Return the names of layers; a number that is a tensor's name means this tensor."""
        if isinstance(layers, list | tuple):
            layers = [
                str(one) if type(one) is int and str(one) in self._by_tensor else one
                for one in layers
            ]
        return super().names_of(layers)

    def match_name(self, name: str) -> Sequence[str]:
        """Return the layers that a name stands for: a node, a tensor, or a pattern of them."""
        if name in self._by_name:
            return [name]
        if name in self._by_tensor:
            return [self._by_tensor[name].name]
        found = [one.name for one in self.tensors if fnmatchcase(one.name, name)]
        if not found:
            near = [one for one in self._by_name if name.lower() in one.lower()]
            raise UnknownNameError(
                f"{self.name} has no node or tensor {name!r}; by default its layers are "
                f"{name_some(self._default)}"
                + (f", and names that hold it are {name_some(near)}" if near else "")
                + "."
            )
        return found

    def settings(self) -> dict[str, Any]:
        """Return the layouts and the preprocessing."""
        layout = dict(self._layout) if isinstance(self._layout, Mapping) else self._layout
        return {
            "family": "onnx",
            "layout": layout,
            "n_prefix_tokens": self._n_prefix,
            "grid_shape": None if self._grid_shape is None else list(self._grid_shape),
            "preprocessing": self.preprocessing.to_dict(),
        }

    def fingerprint(self) -> str:
        """Return a digest of the file and of the weights that lie beside it."""
        digest = hashlib.blake2b(digest_size=16)
        for path in (self.path, *_external_files(_load_proto(self.path), self.path)):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        return digest.hexdigest()

    def identity(self) -> Identity:
        """Return what tells preprocessing and runtime; the graph is told by the file."""
        attributes = {"preprocessing": self.preprocessing, "runtime": _import("onnxruntime")}
        return identify_network(type(self), attributes, None)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do nothing: a session keeps no mode, and is kept until other layers are asked for."""
        yield

    def forward(
        self,
        inputs: Sequence[NDArray[np.float32]],
        names: Sequence[str],
        *,
        dtype: torch.dtype | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return features of a batch by layer."""
        tensors = list(dict.fromkeys(self._by_name[name].tensor for name in names))
        batch = np.stack(inputs).astype(torch.empty(0, dtype=self.dtype).numpy().dtype, copy=False)
        if self._input.channels_last:
            batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        n_items, step = len(batch), self._input.batch or len(batch)
        session = self._session_of(tuple(tensors))
        parts: list[list[NDArray[Any]]] = []
        for start in range(0, n_items, step):
            part = batch[start : start + step]
            if len(part) < step and self._input.batch:
                # A graph of a fixed batch takes no smaller one.
                part = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)])
            parts.append(self._run(session, tensors, part))
        found: dict[str, torch.Tensor] = {}
        for name in names:
            index = tensors.index(self._by_name[name].tensor)
            whole = torch.from_numpy(np.concatenate([one[index] for one in parts])[:n_items])
            whole = whole if dtype is None else whole.to(dtype)
            form = self._layout_of(name, tuple(whole.shape))
            found |= maps_of_layout(name, whole, form, self._n_prefix, self._grid_shape)
        return found

    def _run(self, session: Any, tensors: list[str], part: NDArray[Any]) -> list[NDArray[Any]]:
        try:
            arrays: list[NDArray[Any]] = session.run(tensors, {self._input.name: part})
        except MemoryError:
            raise
        except Exception as error:
            raise InvalidInputError(
                f"{self.path} can't be run on an input of shape {part.shape} ({_reason(error)})."
            ) from error
        for tensor, one in zip(tensors, arrays, strict=True):
            if one.ndim < 2 or len(one) != len(part):
                raise InvalidInputError(
                    f"{self._by_tensor[tensor].name} has shape {one.shape} for {len(part)} images, "
                    "so its rows don't stand for images."
                )
        return arrays

    def _session_of(self, tensors: tuple[str, ...]) -> Any:
        """Return a session whose outputs are some tensors; what they don't need isn't computed."""
        if self._session is not None and self._session[0] == tensors:
            return self._session[1]
        ort = _import("onnxruntime")
        proto = _load_proto(self.path)
        types = {one.name: one for one in (*proto.graph.output, *proto.graph.value_info)}
        del proto.graph.output[:]
        onnx = _import("onnx")
        for tensor in tensors:
            proto.graph.output.append(types.get(tensor, onnx.ValueInfoProto(name=tensor)))
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if _external_files(proto, self.path):
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(self.path.parent)
            )
        try:
            session = ort.InferenceSession(
                proto.SerializeToString(), options, providers=self._providers
            )
        except MemoryError:
            raise
        except Exception as error:
            raise FileFormatError(
                f"{self.path} can't be loaded by onnxruntime ({_reason(error)})."
            ) from error
        self._session = tensors, session
        return session

    def _layout_of(self, name: str, shape: tuple[int, ...]) -> str:
        declared = self._layout
        form = declared.get(name) if isinstance(declared, Mapping) else declared
        if form is not None and (isinstance(declared, Mapping) or len(form) == len(shape)):
            return form
        if len(shape) in (2, 3):
            return "nd" if len(shape) == 2 else "btd"
        if len(shape) == 4:
            height, width = self._size
            fits = [
                one
                for one, rows, columns in (("bchw", 2, 3), ("bhwc", 1, 2))
                # Strides round up or down by a row.
                if abs(shape[rows] * width - shape[columns] * height) < max(height, width)
            ]
            if len(fits) == 1:
                return fits[0]
        raise InvalidInputError(
            f"{name} has shape {shape}, and its axes can't be told from an input of "
            f"{self._size[0]} x {self._size[1]}.",
            ways_out=[
                f"give {{layout={form!r}}}" for form in ("bchw", "bhwc") if len(shape) == len(form)
            ]
            or ["leave this layer out"],
        )

    @property
    def _own_size(self) -> tuple[int, int] | None:
        return self._input.size if all(self._input.size) else None

    def _preprocessing(
        self, given: Preprocessing | str | Path | None, image_size: int | tuple[int, int] | None
    ) -> Preprocessing:
        """Return what is given or saved, at the size that the graph takes."""
        own = self._own_size
        if given is not None:
            given = as_preprocessing(given, own or image_size)
        else:
            given = read_preprocessing(
                [self.path.with_suffix(".json"), self.path.parent / "preprocessor_config.json"],
                str(self.path),
            )
        if image_size is not None:
            given = given.at_size(image_size)
        if own is not None and given.input_size is not None and given.input_size != own:
            raise InvalidInputError(
                f"{self.path} takes images of {own[0]} x {own[1]}, and its preprocessing makes "
                f"{given.input_size[0]} x {given.input_size[1]}.",
                ways_out=[f"give {{image_size={own[0] if own[0] == own[1] else own}}}"],
            )
        return given


def _listed(layers: str | Sequence[str]) -> Sequence[str]:
    return [layers] if isinstance(layers, str) else list(layers)


def _load_proto(path: Path) -> Any:
    """Return the file as onnx reads it, without the weights that lie beside it."""
    onnx = _import("onnx")
    if not path.is_file():
        raise InvalidInputError(f"there is no file {path}.")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except MemoryError:
        raise
    except Exception as error:
        raise FileFormatError(f"{path} is no ONNX file ({_reason(error)}).") from error
    if not proto.graph.node:
        raise FileFormatError(f"{path} is no ONNX file, or its graph is empty.")
    return proto


def _graph_with_shapes(proto: Any, path: Path, image: _Input, size: tuple[int, int]) -> Any:
    """Return the graph with the shapes that follow from the size of its input."""
    _external_files(proto, path)
    value = next(one for one in proto.graph.input if one.name == image.name)
    dims = value.type.tensor_type.shape.dim
    for axis, side in zip((1, 2) if image.channels_last else (2, 3), size, strict=True):
        dims[axis].dim_value = side
    try:
        return _import("onnx").shape_inference.infer_shapes(proto).graph
    except MemoryError:
        raise
    except Exception as error:
        raise FileFormatError(f"{path} has a damaged graph ({_reason(error)}).") from error


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


def _sizes_of(value: Any) -> tuple[int | str, ...] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(
        int(one.dim_value) if one.HasField("dim_value") else one.dim_param or "?"
        for one in kind.shape.dim
    )


def _image_input(graph: Any, path: Path) -> _Input:
    """Return the only input of a graph, which must be an image of three channels."""
    weights = {one.name for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in weights]
    shown = ", ".join(f"{one.name} {_sizes_of(one)}" for one in inputs)
    if len(inputs) != 1:
        raise InvalidInputError(
            f"{path} takes {len(inputs)} inputs ({shown}); ONNX files that take one image can be "
            "extracted from."
        )
    shape = _sizes_of(inputs[0])
    kind = _import("onnx").TensorProto.DataType.Name(inputs[0].type.tensor_type.elem_type)
    if shape is None or len(shape) != 4 or kind not in _FLOATS or 3 not in (shape[1], shape[3]):
        raise InvalidInputError(
            f"{path} takes {shown} of type {kind.lower()}; it must be one image of three channels, "
            "(b, 3, height, width) or (b, height, width, 3), of type float."
        )
    if shape[1] == shape[3] == 3:
        raise InvalidInputError(f"{path} takes {shown}, of which either axis may be channels.")
    channels_last = shape[3] == 3
    rows, columns = (shape[1], shape[2]) if channels_last else (shape[2], shape[3])
    batch, height, width = (one if isinstance(one, int) else 0 for one in (shape[0], rows, columns))
    return _Input(inputs[0].name, batch, (height, width), channels_last, _FLOATS[kind])


def _tensors_of(graph: Any) -> list[GraphTensor]:
    """Return the tensors of floats that nodes give, under the names of the nodes if these are."""
    onnx = _import("onnx")
    outputs = {one.name for one in graph.output}
    values = {one.name: one for one in (*graph.value_info, *graph.output)}
    floats = {getattr(onnx.TensorProto, kind) for kind in _FLOATS}
    named = Counter(node.name for node in graph.node)
    tensors = {tensor for node in graph.node for tensor in node.output}
    found = []
    for node in graph.node:
        given = [tensor for tensor in node.output if tensor]
        for tensor in given:
            value = values.get(tensor)
            kind = value.type.tensor_type.elem_type if value is not None else 0
            shape = None if value is None else _sizes_of(value)
            # The type of what couldn't be inferred shows when it is run.
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
            found.append(
                GraphTensor(node.name if is_known_by_node else tensor, tensor, node.op_type, shape)
            )
    return found


def _residual_sums(graph: Any, tensors: Mapping[str, GraphTensor]) -> tuple[str, ...]:
    """Return the sums of two activations of one shape: where blocks and stages end."""
    weights = {one.name for one in graph.initializer}
    weights |= {out for node in graph.node if node.op_type == "Constant" for out in node.output}
    names = []
    for node in graph.node:
        if node.op_type != "Add" or weights & set(node.input) or node.output[0] not in tensors:
            continue
        one = tensors[node.output[0]]
        shapes = [tensors[name].shape for name in node.input if name in tensors]
        if one.shape is not None and len(one.shape) >= 3 and shapes == [one.shape] * 2:
            names.append(one.name)
    return tuple(names)


def _providers_of(device: str | torch.device) -> list[str]:
    """Return what onnxruntime computes with."""
    there = _import("onnxruntime").get_available_providers()
    kind = str(device).partition(":")[0]
    if kind == "cpu" or (kind == "auto" and "CUDAExecutionProvider" not in there):
        return ["CPUExecutionProvider"]
    if kind in ("auto", "cuda") and "CUDAExecutionProvider" in there:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    raise InvalidInputError(
        f"device is {str(device)!r}, and this onnxruntime runs on {', '.join(there)} only.",
        ways_out=["give {device='cpu'}"],
    )


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _import(name: str) -> Any:
    try:
        module = __import__(name)
        if name == "onnx":
            __import__("onnx.shape_inference")
        return module
    except ImportError as error:
        raise MissingDependencyError(
            f"ONNX files need {name}, which is not installed: pip install relspace[onnx]."
        ) from error
