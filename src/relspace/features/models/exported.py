"""Programs of ``torch.export`` as models: checked before they are loaded, run node by node."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import fx
from torch.export.graph_signature import InputKind

from relspace._core.arguments import name_some
from relspace._core.devices import choose_device
from relspace.errors import FileFormatError, InvalidInputError, MissingDependencyError
from relspace.features.models.foreign import explained
from relspace.features.models.graph import (
    GraphInput,
    GraphModel,
    GraphTensor,
    default_layers,
    image_input,
    read_hashed,
    refuse_training,
)

_FLOATS = (torch.float32, torch.float16, torch.float64)
_HELD = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
# What a saved program may hold: a graph, plain tensors, and the inputs that it was traced with.
_RECORDS = re.compile(
    r"models/[\w.-]+\.json|data/weights/(weight_\d+|[\w.-]+_weights_config\.json)"
    r"|data/constants/(tensor_\d+|[\w.-]+_constants_config\.json)|data/sample_inputs/[\w.-]+\.pt"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_OPERATORS = re.compile(
    r"torch\.ops\.aten\.(?!from_file)\w+\.\w+|torch\.ops\.higher_order\.wrap_with_set_grad_enabled"
    r"|torch\._?sym_\w+|math\.(ceil|floor|trunc|sqrt)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_)"
)
_NAME = re.compile(r"([A-Za-z_][\w.]*)?")
_CONTROL = re.compile(r"[^\n\t -~\xa0-\U0010ffff]")
# Sizes are arithmetic of symbols; torch evaluates them as Python.
_ARITHMETIC = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.Load, ast.Name),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Call),
    *(ast.unaryop, ast.cmpop, ast.boolop),
)
_FUNCTIONS = frozenset({
    *("FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt"),
    *("FloorToInt", "CeilDiv", "IntTrueDiv", "FloatTrueDiv", "TruncToInt", "RoundToInt"),
    *("ToFloat", "Identity", "Max", "Min", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "floor", "ceiling"),
    *("Add", "Mul", "Integer", "Rational", "Equality", "Unequality", "StrictLessThan", "LessThan"),
    *("StrictGreaterThan", "GreaterThan", "And", "Or", "Not"),
})  # fmt: skip
_SYMBOL = re.compile(r"Symbol\('\w+'(, \w+=(True|False))*\)")
_LONGEST_EXPRESSION = 500
_LARGEST_NUMBER = 2**63
_RANDOM = re.compile(r"(rand|normal|bernoulli|multinomial|poisson|exponential|rrelu)")


class ExportedModel(GraphModel):
    """A vision network that ``torch.export.save`` wrote (.pt2), whose inner tensors are its layers.

    Layers are nodes of the graph by name, or modules of the network that it was made of by theirs
    (``"blocks.3"``): what the last node of the module gives. By default they are the sums of two
    activations, or the outputs where there are none.

    Parameters
    ----------
    path : str or Path
        The file. Before ``torch.export.load`` reads it, it is checked to hold nothing but a graph
        of torch's operators, plain tensors and sizes: nothing is unpickled.
    layers, layout, preprocessing, image_size, n_prefix_tokens, grid_shape, name
        As for :class:`relspace.OnnxModel`.
    device : str or torch.device
        The device that it runs on.

    Raises
    ------
    FileFormatError
        If the file is damaged, was exported in training mode, or holds what can run code: pickled
        tensors and objects, compiled code, operators of others than torch.
    InvalidInputError
        If the program takes anything but one image, or its input's size is not known.
    """

    family = "exported program"
    reopened = ("_program",)

    def _choose_device(self, device: str | torch.device) -> torch.device:
        return choose_device(device)

    @property
    def n_parameters(self) -> int:
        """Count the numbers in the program's parameters."""
        return sum(one.numel() for one in self._program.parameters())

    def _open(self) -> GraphInput:
        data, self._digest = read_hashed(self.path)
        program = load_program(data, self.path)
        refuse_training(self.path, list(_training_nodes(program.graph_module)))
        tensors = [*program.state_dict.values(), *program.constants.values()]
        if any(one.device.type != self.device.type for one in tensors):
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, str(self.device))
        self._program = program
        specs = program.graph_signature.input_specs
        odd = [str(one.kind) for one in specs if one.kind not in (InputKind.USER_INPUT, *_HELD)]
        if odd:
            raise FileFormatError(f"{self.path} takes {name_some(odd)}, which are no tensors.")
        inputs = [one.arg.name for one in specs if one.kind == InputKind.USER_INPUT]
        if len(inputs) != 1:
            raise InvalidInputError(
                f"{self.path} takes {len(inputs)} inputs ({', '.join(map(str, inputs))}); programs "
                "that take one image can be extracted from."
            )
        node = next(one for one in program.graph.nodes if one.name == inputs[0])
        value = node.meta.get("val")
        is_float = isinstance(value, torch.Tensor) and value.dtype in _FLOATS
        return image_input(
            str(inputs[0]),
            _sizes_of(value) if isinstance(value, torch.Tensor) else None,
            value.dtype if is_float else None,
            self.path,
            channels_first=any("conv" in str(user.target) for user in node.users),
        )

    def _tensors(self) -> tuple[list[GraphTensor], tuple[str, ...]]:
        """List the nodes that give maps or vectors, and the modules that end in one of them."""
        nodes: dict[str, GraphTensor] = {}
        ends: dict[str, tuple[str, str]] = {}
        sums: list[tuple[str, Sequence[str]]] = []
        for node in self._program.graph.nodes:
            value = node.meta.get("val")
            if node.op != "call_function" or not isinstance(value, torch.Tensor):
                continue
            if value.dtype not in _FLOATS or value.ndim not in (2, 3, 4):
                continue
            op = str(node.target)
            nodes[node.name] = GraphTensor(node.name, node.name, op, _sizes_of(value))
            for path, kind in (node.meta.get("nn_module_stack") or {}).values():
                ends[path] = (node.name, kind if isinstance(kind, str) else kind.__name__)
            if op == "aten.add.Tensor":
                sums.append((node.name, [getattr(one, "name", "") for one in node.args[:2]]))
        # A node that ends several modules is named by the outermost.
        modules = [
            GraphTensor(path, node, kind.rpartition(".")[2], nodes[node].shape)
            for path, (node, kind) in sorted(ends.items(), key=lambda one: -one[0].count("."))
            if path and path not in nodes
        ]
        named = nodes | {one.tensor: one for one in modules}
        outputs = [
            spec.arg.name for spec in self._program.graph_signature.output_specs if spec.arg.name
        ]
        return [*nodes.values(), *modules], default_layers(named, sums, outputs)

    def _runtime(self) -> object:
        return torch

    def _run(self, tensors: tuple[str, ...], images: NDArray[Any]) -> Sequence[torch.Tensor]:
        program = self._program
        values: list[Any] = []
        for spec in program.graph_signature.input_specs:
            if spec.kind == InputKind.USER_INPUT:
                values.append(torch.from_numpy(images).to(self.device))
                continue
            held = program.state_dict if spec.target in program.state_dict else program.constants
            values.append(held[str(spec.target)])
        recorder = _Recorder(program.graph_module, set(tensors))
        with (
            torch.no_grad(),
            explained(
                lambda reason: InvalidInputError(
                    f"{self.path} can't be run on an input of shape {images.shape} ({reason})."
                )
            ),
            suppress(_Enough),
        ):
            recorder.run(*values, enable_io_processing=False)
        return [recorder.found[one] for one in tensors]


class _Enough(Exception):  # noqa: N818 (no error: it ends a pass that has gone far enough)
    """All nodes that are wanted have run."""


class _Recorder(fx.Interpreter):
    """Runs a graph node by node, without Python code of it, and keeps what some nodes give."""

    def __init__(self, module: fx.GraphModule, wanted: set[str]) -> None:
        super().__init__(module)
        self.wanted, self.found = wanted, dict[str, torch.Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        """Run a node; what is wanted is copied, since later nodes may change it in place."""
        result = super().run_node(n)
        if n.name in self.wanted:
            self.found[n.name] = result.detach().clone()
            if len(self.found) == len(self.wanted):
                raise _Enough
        return result


def load_program(data: bytes, path: Path) -> Any:
    """Load what ``torch.export.save`` wrote, after everything that could run code was refused.

    ``torch.export.load`` unpickles what says that it is pickled, falls back to unpickling of inputs
    that hold more than tensors, loads compiled code, evaluates sizes as Python, and looks operators
    up by name.
    """
    try:
        from torch.export.pt2_archive._package import PT2ArchiveReader
    except ImportError as error:
        raise MissingDependencyError(
            "exported programs need torch 2.9 or newer: pip install --upgrade torch."
        ) from error
    with explained(lambda reason: FileFormatError(f"{path} is no exported program ({reason}).")):
        reader = PT2ArchiveReader(io.BytesIO(data))
        names = reader.get_file_names()
        odd = [name for name in names if not _RECORDS.fullmatch(name)]
        if odd:
            raise FileFormatError(
                f"{path} holds more than a graph and plain tensors: {name_some(odd)}; it may be of "
                "an older torch, or hold compiled code or pickled objects, which are never loaded.",
                ways_out=["save the program again with torch.export.save"],
            )
        graphs = [name for name in names if name.startswith("models/")]
        if len(graphs) != 1:
            raise FileFormatError(f"{path} holds {len(graphs)} programs; it must be one.")
        _refuse_code(json.loads(reader.read_bytes(graphs[0])), path)
        for name in names:
            if name.endswith("_config.json"):
                _refuse_pickled(json.loads(reader.read_bytes(name)), path)
            elif name.startswith("data/sample_inputs/"):
                # Anything but tensors fails here, and never reaches the fallback of torch.
                torch.load(io.BytesIO(reader.read_bytes(name)), weights_only=True)
        return torch.export.load(io.BytesIO(data))


def _refuse_pickled(config: Mapping[str, Any], path: Path) -> None:
    for name, one in config["config"].items():
        if one["use_pickle"] is not False or not _PAYLOAD.fullmatch(one["path_name"]):
            raise FileFormatError(
                f"{path} holds {name} as a pickled object, which is never loaded.",
                ways_out=["export a network whose weights and constants are plain tensors"],
            )


def _refuse_code(found: object, path: Path, key: str = "") -> None:
    """Refuse names, operators and sizes in a graph that could be code."""
    if key in ("as_custom_obj", "as_operator", "custom_obj_name"):
        _require(found is None, found, path)
    elif isinstance(found, Mapping):
        if {"target", "inputs", "outputs"} <= set(found):
            _require(_OPERATORS.fullmatch(str(found["target"])), found["target"], path)
        for name, one in found.items():
            _refuse_code(name, path)
            _refuse_code(one, path, name)
    elif isinstance(found, list):
        for one in found:
            _refuse_code(one, path, key)
    elif isinstance(found, str):
        _require(not _CONTROL.search(found) and "default_factory" not in found, found, path)
        _require(key != "name" or _NAME.fullmatch(found), found, path)
        _require(key != "expr_str" or is_arithmetic(found), found, path)


def _require(is_plain: object, found: object, path: Path) -> None:
    if not is_plain:
        raise FileFormatError(
            f"{path} holds {found!r:.100}, which is no operator of torch, no name and no size; it "
            "is not loaded, since it could run code."
        )


def is_arithmetic(expression: str) -> bool:
    """Whether an expression computes with symbols and numbers alone, and without powers.

    >>> is_arithmetic("Mul(Integer(2), Symbol('s0', integer=True))"), is_arithmetic("2*s0 + 1")
    (True, True)
    >>> is_arithmetic("__import__('os').getcwd()"), is_arithmetic("9**9**9**9")
    (False, False)
    """
    if len(expression) > _LONGEST_EXPRESSION:
        return False
    try:
        tree = ast.parse(_SYMBOL.sub("symbol", expression), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return False
    return all(_is_plain(node) for node in ast.walk(tree))


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and abs(node.value) <= _LARGEST_NUMBER
    if isinstance(node, ast.Call):
        is_named = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        return is_named and not node.keywords
    return isinstance(node, _ARITHMETIC) and "__" not in getattr(node, "id", "")


def _sizes_of(value: torch.Tensor) -> tuple[int | str, ...]:
    return tuple(one if isinstance(one, int) else str(one) for one in value.shape)


def _training_nodes(module: fx.GraphModule) -> Iterator[str]:
    """Name the nodes that compute as in training, or by chance."""
    graphs = [one for one in module.modules() if isinstance(one, fx.GraphModule)]
    for node in (one for graph in graphs for one in graph.graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            continue
        given = dict(zip((one.name for one in schema.arguments), node.args, strict=False))
        given |= node.kwargs
        trains = given.get("train") is True or given.get("training") is True
        drops = "scaled_dot_product" in schema.name and (given.get("dropout_p") or 0) > 0
        name = schema.name.partition("::")[2]
        if trains or drops or _RANDOM.match(name):
            yield f"{name} {node.name}"
