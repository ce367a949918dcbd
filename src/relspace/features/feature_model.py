"""What an extraction needs of a model: its layers, its input, and a batch's features."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from relspace._validation import name_some
from relspace.errors import InvalidInputError, InvalidTypeError, UnknownNameError
from relspace.features.feature_set import CLASS_SUFFIX
from relspace.features.preprocessing import Preprocessing, View
from relspace.features.store import Box, StoredLayer

#: The model's own summary of an item, where it has one.
POOLED = "pooled"

_VALUES_PER_PARAMETER = 16

Layers = str | Sequence[str] | Sequence[int]


@dataclass(frozen=True)
class Description:
    """What a model gives for its layers, known before anything is extracted.

    Attributes
    ----------
    layers : tuple of StoredLayer
        Shapes of one item's features.
    regions : tuple of Box
        Top, left, bottom and right, in pixels of the input, of what the layers' grids cover.
    """

    layers: tuple[StoredLayer, ...]
    regions: tuple[Box, ...]


class FeatureModel(ABC):
    """A model that features are extracted from.

    Attributes
    ----------
    name : str
        What it is called.
    module : nn.Module
        What runs.
    modality : {"image", "text"}
        What its items are.
    layers : tuple of str
        The layers that ``"all"`` stands for, in order.
    device : torch.device
        Where it runs.
    dtype : torch.dtype
        What it computes in; below float32 by automatic mixed precision.
    """

    name: str
    module: nn.Module
    modality: str
    layers: tuple[str, ...]
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def prepare(self, item: Any) -> tuple[NDArray[Any], View | None]:
        """Make the model's input of one item; called by several threads."""

    @abstractmethod
    def forward(
        self,
        inputs: Sequence[NDArray[Any]],
        names: Sequence[str],
        *,
        dtype: torch.dtype | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return features of a batch by layer: (b, rows, columns, d) or (b, d), with vectors.

        They are on the model's device, and in ``dtype`` where it is given.
        """

    @abstractmethod
    def regions(
        self, features: Mapping[str, torch.Tensor], input_shape: tuple[int, ...]
    ) -> dict[str, Box]:
        """Return what the grids of layers cover, in pixels of an input of some shape."""

    @abstractmethod
    def blank(self) -> NDArray[Any]:
        """Return an input that shows nothing."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what features depend on beside the weights, as plain values."""

    def describe(self, names: Sequence[str]) -> Description:
        """Return what layers give, from one blank input."""
        blank = self.blank()
        features = self.forward([blank], names)
        return describe_features(features, self.regions(features, blank.shape))

    def names_of(self, layers: Layers) -> tuple[str, ...]:
        """Return the names of layers: all of them, the last, or by position or name.

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
        return tuple(dict.fromkeys(names))

    def match_name(self, name: str) -> Sequence[str]:
        """Return the layers that a name stands for."""
        if name not in self.layers:
            raise UnknownNameError(
                f"{self.name} has no layer {name!r}; it has {name_some(self.layers)}"
                f"{self.name_hint()}."
            )
        return [name]

    def name_hint(self) -> str:
        """Say what else may be asked for."""
        return ""

    def fingerprint(self) -> str:
        """Return a digest of the weights, from a few values of each parameter.

        Two models of one name that were trained differently have different ones.
        """
        digest = hashlib.sha256()
        for key, tensor in self.module.state_dict().items():
            digest.update(f"{key}{tuple(tensor.shape)}".encode())
            flat = tensor.detach().reshape(-1)
            step = max(1, len(flat) // _VALUES_PER_PARAMETER)
            values = flat[::step].to("cpu", torch.float64)
            digest.update(values.numpy().tobytes())
        return digest.hexdigest()[:32]


def split_tokens(name: str, tokens: torch.Tensor, n_prefix: int, grid: tuple[int, int]) -> Any:
    """Split (b, t, d) into the map of the patches and the class token, by their names."""
    rows, columns = grid
    if tokens.shape[1] != n_prefix + rows * columns:
        raise InvalidInputError(
            f"{name} gives {tokens.shape[1]} tokens where {n_prefix} prefix tokens and a grid of "
            f"{rows} x {columns} are expected."
        )
    found = {name: tokens[:, n_prefix:].reshape(len(tokens), rows, columns, -1)}
    if n_prefix:
        found[name + CLASS_SUFFIX] = tokens[:, 0]
    return found


def describe_features(
    features: Mapping[str, torch.Tensor], region_of: Mapping[str, Box]
) -> Description:
    """Describe layers by what some items gave, and by what their grids cover."""
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


def needed_size(
    preprocessing: Preprocessing, name: str, own: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Return the size of a model's inputs, which must not depend on the image.

    Parameters
    ----------
    preprocessing : Preprocessing
        How inputs are made.
    name : str
        What an error calls the model.
    own : (int, int), optional
        Height and width in the model's configuration, which an error suggests.
    """
    size = preprocessing.input_size
    if size is None:
        height, width = own or (224, 224)
        given, option = str((height, width)), f"{height}x{width}"
        if height == width:
            given = option = str(height)
        whose = "the size in its configuration" if own else "for example"
        raise InvalidInputError(
            f"the preprocessing of {name} gives inputs of a size that depends on the image, and "
            f"grids must be equal: give image_size={given} (--image-size {option}), {whose}, or a "
            "preprocessing with a crop."
        )
    return size
