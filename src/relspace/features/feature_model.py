"""The interface of models for extraction: layers, inputs, and features of a batch."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from relspace._core.arguments import name_some, say_count
from relspace.errors import InvalidInputError, InvalidTypeError, UnknownNameError
from relspace.features.evaluation import evaluated
from relspace.features.layouts import CLASS_SUFFIX
from relspace.features.network_identity import identify_network
from relspace.features.preprocessing import Preprocessing, View
from relspace.features.store.reading import Box, StoredLayer
from relspace.rows.identity import Identity

#: The layer of the model's own pooled output.
POOLED = "pooled"
# Attributes that do not change features.
_NOT_IDENTIFIED = ("name", "device", "layers", "_counts")

Layers = str | Sequence[str] | Sequence[int]
#: The inputs of a batch, and its features by layer.
Inputs = Sequence[NDArray[Any]]
Features = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Description:
    """The layers that a model gives, and the boxes that their grids cover, in input pixels."""

    layers: tuple[StoredLayer, ...]
    regions: tuple[Box, ...]


class FeatureModel(ABC):
    """A model that features are extracted from.

    Attributes
    ----------
    name : str
        Its name.
    module : nn.Module
        The network, if torch runs it; models of another runtime have their own ``held`` and
        ``fingerprint``.
    modality : {"image", "text"}
        The kind of its items.
    layers : tuple of str
        The layers that ``"all"`` stands for, in order.
    device : torch.device
        The device that it runs on.
    dtype : torch.dtype
        The type that it computes in; below float32 by automatic mixed precision.
    """

    name: str
    module: nn.Module
    modality: str
    layers: tuple[str, ...]
    device: torch.device
    dtype: torch.dtype

    def __repr__(self) -> str:
        layers = say_count(len(self.layers), "layer")
        return f"{type(self).__name__}({self.name!r}: {layers}, {self.modality}s, {self.device})"

    @abstractmethod
    def prepare(self, item: Any) -> tuple[NDArray[Any], View | None]:
        """Make the model's input of one item; called by several threads."""

    @abstractmethod
    def forward(
        self, inputs: Inputs, names: Sequence[str], *, dtype: torch.dtype | None = None
    ) -> Features:
        """Return features of a batch by layer: (b, rows, columns, d) or (b, d), with vectors.

        They are on the model's device, and in ``dtype`` where it is given.
        """

    @abstractmethod
    def regions(
        self, features: Mapping[str, torch.Tensor], input_shape: tuple[int, ...]
    ) -> dict[str, Box]:
        """Return the boxes that the grids of layers cover, in pixels of the input."""

    @abstractmethod
    def blank(self) -> NDArray[Any]:
        """Return a blank input."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what features depend on besides the weights, as plain values."""

    def describe(self, names: Sequence[str]) -> Description:
        """Describe layers by the features of one blank input."""
        blank = self.blank()
        features = self.forward([blank], names)
        return describe_features(features, self.regions(features, blank.shape))

    def names_of(self, layers: Layers) -> tuple[str, ...]:
        """Return the names of layers: all of them, the last, or by position or name.

        Layers of :attr:`layers` come in its order, from input to output, however they are listed.

        Raises
        ------
        UnknownNameError
            If there is no such layer; it says which there are.
        """
        if isinstance(layers, str):
            if layers == "all":
                return self.layers
            layers = [self.layers[-1] if layers == "last" else layers]
        names: list[str] = []
        if not isinstance(layers, list | tuple):
            raise InvalidTypeError(
                f"layers is of type {type(layers).__name__}; give 'all', 'last', or a list of "
                "names and positions."
            )
        for layer in layers:
            if isinstance(layer, bool) or not isinstance(layer, int | str | np.integer):
                raise InvalidTypeError(f"layers holds {layer!r}; give names or positions.")
            if not isinstance(layer, str):
                count = len(self.layers)
                if not -count <= layer < count:
                    raise UnknownNameError(
                        f"{self.name} has no layer {layer}; there are {count}, "
                        f"{self.layers[0]} to {self.layers[-1]}."
                    )
                names.append(self.layers[layer])
            else:
                names.extend(self.match_name(layer))
        if not names:
            raise InvalidInputError("layers is empty; name at least one layer.")
        depth = {name: number for number, name in enumerate(self.layers)}
        if all(name in depth for name in names):
            names.sort(key=depth.__getitem__)
        return tuple(dict.fromkeys(names))

    def match_name(self, name: str) -> Sequence[str]:
        """Return the layers that match a name."""
        if name not in self.layers:
            raise UnknownNameError(
                f"{self.name} has no layer {name!r}; it has {name_some(self.layers)}"
                f"{self.name_hint()}."
            )
        return [name]

    def name_hint(self) -> str:
        """Return a hint on other names, for errors."""
        return ""

    def others(self) -> tuple[str, ...]:
        """Return the names of layers that may be asked for beside those of ``layers``."""
        return ()

    def part_of(self, name: str) -> nn.Module | None:
        """Return the module whose output is a layer; None if there is none."""
        return None

    @property
    def n_parameters(self) -> int:
        """The number of parameters, shared ones counted once."""
        return sum(one.numel() for one in self.module.parameters())

    def describe_truncated(self, texts: Iterable[Any], names: Sequence[str]) -> dict[str, Any]:
        """Warn of items that are longer than the model takes, and return which are cut."""
        return {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the network in evaluation mode and on its device for many batches.

        Otherwise each batch does so, see :func:`relspace.features.evaluation.evaluated`.
        """
        with evaluated(self.module, self.device):
            yield

    def fingerprint(self) -> str:
        """Return a digest of all weights and buffers, their types and shapes.

        Two models of one name that were trained differently have different ones.
        """
        digest = hashlib.blake2b(digest_size=16)
        network = self.module
        # state_dict() may lack some of them, and hold more, such as quantized weights.
        own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        for key, value in (network.state_dict() | own).items():
            digest.update(key.encode())
            _digest_value(value, digest.update)
        return digest.hexdigest()

    def identity(self) -> Identity:
        """Return the identity of the model's code, settings and hooks, without its weights.

        It is unknown if the network refers to any object whose state can't be read.
        """
        attributes = {key: one for key, one in vars(self).items() if key not in _NOT_IDENTIFIED}
        return identify_network(type(self), attributes, self.module)


class ImageModel(FeatureModel):
    """A model of images, whose inputs are made by its ``preprocessing`` and are all of one size."""

    modality = "image"
    preprocessing: Preprocessing
    _size: tuple[int, int]

    def prepare(self, item: Any) -> tuple[NDArray[np.float32], View]:
        return self.preprocessing(item)

    def regions(
        self, features: Mapping[str, torch.Tensor], input_shape: tuple[int, ...]
    ) -> dict[str, Box]:
        whole = (0.0, 0.0, float(input_shape[1]), float(input_shape[2]))
        return {name: whole for name, one in features.items() if one.ndim == 4}

    def blank(self) -> NDArray[np.float32]:
        return np.zeros((3, *self._size), dtype=np.float32)


def _digest_value(value: Any, update: Callable[[bytes | memoryview], None]) -> None:
    """Add the tensors in a state to a digest; other values are part of the identity."""
    if isinstance(value, torch.Tensor):
        update(f"{value.dtype}{tuple(value.shape)}".encode())
        plain = value.detach()
        if plain.is_quantized:
            plain = plain.dequantize()
        if plain.layout != torch.strided:
            plain = plain.to_dense()
        plain = plain.to("cpu").contiguous().reshape(-1)
        if plain.numel():
            update(plain.view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping | tuple | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            _digest_value(one, update)


def describe_features(
    features: Mapping[str, torch.Tensor], region_of: Mapping[str, Box]
) -> Description:
    """Describe layers by the features of some items, and the boxes of their grids."""
    regions = tuple(dict.fromkeys(region_of.values()))
    layers = [
        StoredLayer(
            name,
            tuple(tensor.shape[1:]),
            regions.index(region_of[name]) if name in region_of else None,
            beside=name == POOLED or name.endswith(CLASS_SUFFIX),
        )
        for name, tensor in features.items()
    ]
    return Description(tuple(layers), regions or ((0.0, 0.0, 1.0, 1.0),))
