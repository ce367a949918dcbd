"""Networks in files as graphs of named tensors, any of which can be a layer."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import name_some, near_names
from relspace.errors import FileFormatError, InvalidInputError, UnknownNameError
from relspace.features.feature_model import (
    Features,
    ImageModel,
    Inputs,
    Layers,
)
from relspace.features.models.axes import Axes
from relspace.features.models.processors import (
    needed_size,
    read_preprocessing,
    read_steps,
    refuse_other_size,
)
from relspace.features.network_identity import identify_network
from relspace.features.preprocessing import Preprocessing
from relspace.rows.identity import Identity


@dataclass(frozen=True)
class GraphTensor:
    """A tensor that a graph computes.

    Attributes
    ----------
    name : str
        The name of the layer: that of the node that computes it, or of the tensor.
    tensor : str
        The name of the tensor in the graph.
    op : str
        The operation that computes it.
    shape : tuple of (int or str), or None
        Its sizes, with names for those that vary; None if they can't be inferred.
    """

    name: str
    tensor: str
    op: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True)
class GraphInput:
    """The image that a graph takes: its name, its sizes (0 where any), its axes and its type."""

    name: str
    batch: int
    size: tuple[int, int]
    channels_last: bool
    dtype: torch.dtype


def image_input(
    name: str,
    shape: tuple[int | str, ...] | None,
    dtype: torch.dtype | None,
    path: Path,
    *,
    channels_first: bool = False,
) -> GraphInput:
    """Check the shape of a graph's only input, which must be an image of three channels.

    With ``channels_first`` a second axis of unknown size is that of the channels.
    """
    shown = f"{name} {shape} of type {dtype or 'other than float'}"
    if shape is not None and len(shape) == 4 and channels_first and isinstance(shape[1], str):
        shape = (shape[0], 3, *shape[2:])
    if shape is None or len(shape) != 4 or dtype is None or 3 not in (shape[1], shape[3]):
        raise InvalidInputError(
            f"{path} takes {shown}; it must be one image of three channels, (b, 3, height, width) "
            "or (b, height, width, 3), of type float."
        )
    if shape[1] == shape[3] == 3:
        raise InvalidInputError(f"{path} takes {shown}, of which either axis may be channels.")
    channels_last = shape[3] == 3
    rows, columns = (shape[1], shape[2]) if channels_last else (shape[2], shape[3])
    batch, height, width = (one if isinstance(one, int) else 0 for one in (shape[0], rows, columns))
    return GraphInput(name, batch, (height, width), channels_last, dtype)


class GraphModel(ImageModel):
    """A vision network in a file, whose inner tensors are its layers.

    A graph of a fixed batch size is run in parts of this size.
    """

    family: str
    path: Path
    #: Attributes that aren't pickled, but read from the file again.
    reopened: tuple[str, ...] = ()
    _digest: bytes

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
        self.device = self._choose_device(device)
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise InvalidInputError(f"there is no file {self.path}.")
        self.name = self.path.stem if name is None else name
        self._input = self._open()
        self.dtype = self._input.dtype
        self.preprocessing = self._preprocessing(preprocessing, image_size)
        self._size = needed_size(self.preprocessing, self.name, self._own_size)
        self._axes = Axes(self._size, layout, n_prefix_tokens, grid_shape)
        tensors, default = self._tensors()
        self._by_name = {one.name: one for one in tensors}
        self._by_tensor = {one.tensor: one for one in tensors}
        self.layers = self._default = default
        if not default:
            raise InvalidInputError(f"{self.path} computes nothing that could be a layer.")
        if layers is not None:
            listed = [layers] if isinstance(layers, str) and layers != "all" else layers
            self.layers = self.names_of(listed)

    def __getstate__(self) -> dict[str, Any]:
        return {key: one for key, one in vars(self).items() if key not in self.reopened}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()
        if self._digest != state["_digest"]:
            raise FileFormatError(f"{self.path} is another file than the one that was opened.")

    @abstractmethod
    def _choose_device(self, device: str | torch.device) -> torch.device:
        """Return the device that features are computed to."""

    @abstractmethod
    def _open(self) -> GraphInput:
        """Read the file once, set its digest, and return its input."""

    @abstractmethod
    def _tensors(self) -> tuple[list[GraphTensor], tuple[str, ...]]:
        """Return the tensors that may be layers, at the size of the input, and the default ones."""

    @abstractmethod
    def _run(self, tensors: tuple[str, ...], images: NDArray[Any]) -> Sequence[torch.Tensor]:
        """Compute tensors of a batch that the graph takes."""

    @property
    def tensors(self) -> tuple[GraphTensor, ...]:
        """All tensors that can be layers, in the order of the graph."""
        return tuple(self._by_name.values())

    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self._by_name if name not in self.layers)

    def names_of(self, layers: Layers) -> tuple[str, ...]:
        # A number that is the name of a tensor is this tensor, not a position.
        if isinstance(layers, list | tuple):
            layers = [
                str(one) if type(one) is int and str(one) in self._by_tensor else one
                for one in layers
            ]
        return super().names_of(layers)

    def match_name(self, name: str) -> Sequence[str]:
        if name in self._by_name:
            return [name]
        if name in self._by_tensor:
            return [self._by_tensor[name].name]
        found = [one.name for one in self.tensors if fnmatchcase(one.name, name)]
        found = found or [one.name for one in self.tensors if fnmatchcase(one.tensor, name)]
        if not found:
            near = [one for one in self._by_name if name.strip("*").lower() in one.lower()]
            near = near or list(near_names(name, list(self._by_name)))
            raise UnknownNameError(
                f"{self.name} has no node or tensor {name!r}; by default its layers are "
                f"{name_some(self._default)}"
                + (f", and names like it are {name_some(near)}" if near else "")
                + f"; it has {len(self._by_name)} tensors."
            )
        return found

    def settings(self) -> dict[str, Any]:
        axes = self._axes
        return {
            "family": self.family,
            "layout": dict(axes.layout) if isinstance(axes.layout, Mapping) else axes.layout,
            "n_prefix_tokens": axes.n_prefix,
            "grid_shape": None if axes.grid_shape is None else list(axes.grid_shape),
            "preprocessing": self.preprocessing.to_dict(),
        }

    def fingerprint(self) -> str:
        """Return a digest of the file and of the weights that lie beside it."""
        digest = hashlib.blake2b(self._digest, digest_size=16)
        for path in self._beside():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        return digest.hexdigest()

    def _beside(self) -> Sequence[Path]:
        """Return the files beside the model that hold weights."""
        return ()

    def identity(self) -> Identity:
        # The graph itself is identified by its file (fingerprint).
        attributes = {"preprocessing": self.preprocessing, "runtime": self._runtime()}
        return identify_network(type(self), attributes, None)

    @abstractmethod
    def _runtime(self) -> object:
        """Return the package that runs the graph."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do nothing: a graph has no mode to restore."""
        yield

    def forward(
        self, inputs: Inputs, names: Sequence[str], *, dtype: torch.dtype | None = None
    ) -> Features:
        tensors = tuple(dict.fromkeys(self._by_name[name].tensor for name in names))
        batch = np.stack(inputs).astype(torch.empty(0, dtype=self.dtype).numpy().dtype, copy=False)
        if self._input.channels_last:
            batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        n_items, step = len(batch), self._input.batch or len(batch)
        parts: list[Sequence[torch.Tensor]] = []
        for start in range(0, n_items, step):
            part = batch[start : start + step]
            if len(part) < step:
                # A graph of a fixed batch takes no smaller one.
                part = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)])
            parts.append(self._run_checked(tensors, part))
        found: Features = {}
        for name in names:
            index = tensors.index(self._by_name[name].tensor)
            whole = torch.cat([one[index] for one in parts])[:n_items]
            found |= self._axes.maps(name, whole if dtype is None else whole.to(dtype))
        return found

    def _run_checked(self, tensors: tuple[str, ...], part: NDArray[Any]) -> Sequence[torch.Tensor]:
        arrays = self._run(tensors, part)
        for tensor, one in zip(tensors, arrays, strict=True):
            name = self._by_tensor[tensor].name
            if not one.is_floating_point():
                raise InvalidInputError(f"{name} is of type {one.dtype}; layers are of type float.")
            if one.ndim < 2 or len(one) != len(part):
                raise InvalidInputError(
                    f"{name} has shape {tuple(one.shape)} for {len(part)} images, so its rows "
                    "don't stand for images."
                )
        return arrays

    @property
    def _own_size(self) -> tuple[int, int] | None:
        return self._input.size if all(self._input.size) else None

    def _preprocessing(
        self, given: Preprocessing | str | Path | None, image_size: int | tuple[int, int] | None
    ) -> Preprocessing:
        """Return what is given or saved, at the size that the graph takes."""
        own = self._own_size
        if given is not None:
            steps = read_steps(given, own or image_size)
        else:
            steps = read_preprocessing(
                [self.path.with_suffix(".json"), self.path.parent / "preprocessor_config.json"],
                str(self.path),
            )
        if image_size is not None:
            steps = steps.at_size(image_size)
        if own is not None:
            refuse_other_size(steps, own, str(self.path))
        return steps


def read_hashed(path: Path) -> tuple[bytes, bytes]:
    """Read a file, and return it with its digest, so that what runs is what was hashed."""
    data = path.read_bytes()
    return data, hashlib.blake2b(data).digest()


def default_layers(
    tensors: Mapping[str, GraphTensor],
    sums: Sequence[tuple[str, Sequence[str]]],
    outputs: Sequence[str],
) -> tuple[str, ...]:
    """Return the sums of two activations of one shape, where blocks and stages end.

    ``sums`` are tensors that are sums, with what they add; without any the outputs are returned.
    """
    names = []
    for tensor, added in sums:
        one = tensors.get(tensor)
        shapes = [tensors[name].shape for name in added if name in tensors]
        if one is None or one.shape is None or len(one.shape) < 3:
            continue
        if shapes == [one.shape] * 2:
            names.append(one.name)
    return tuple(names) or tuple(tensors[name].name for name in outputs if name in tensors)


def refuse_training(path: Path, found: Sequence[str]) -> None:
    """Refuse a graph in training mode, whose features depend on chance and on the batch."""
    if found:
        raise FileFormatError(
            f"{path} computes {name_some(found)} as in training, by which features depend on "
            "chance or on the rest of the batch: export it in evaluation mode."
        )
