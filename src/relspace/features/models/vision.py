"""Vision networks of transformers: one way to run all families, each described by a record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from relspace.errors import InvalidInputError
from relspace.features.evaluation import forward_pass, mixed_precision, own_dtype, unwrapped
from relspace.features.feature_model import (
    POOLED,
    Features,
    ImageModel,
    Inputs,
)
from relspace.features.hooks import record_named
from relspace.features.layouts import as_maps
from relspace.features.models.blocks import BlockModel, block_number
from relspace.features.models.processors import needed_size
from relspace.features.preprocessing import Preprocessing
from relspace.features.store.reading import Box

#: The last hidden state, after the final norm or neck if there is one.
OUTPUT = "output"

# Modules of attention and MLP in a block, as versions of transformers name them.
TRANSFORMER_PARTS: Mapping[str, tuple[str, ...]] = {
    "query": ("self_attn.q_proj", "attention.q_proj", "attention.attention.query"),
    "key": ("self_attn.k_proj", "attention.k_proj", "attention.attention.key"),
    "value": ("self_attn.v_proj", "attention.v_proj", "attention.attention.value"),
    "attention": ("self_attn", "attention"),
    "mlp": ("mlp",),
}


def _no_arguments(config: Any, inputs: torch.Tensor) -> dict[str, Any]:
    return {}


def class_token(config: Any) -> int:
    """Count the class token alone."""
    return 1


@dataclass(frozen=True)
class VisionFamily:
    """A family of networks: how they are loaded, and where their layers are.

    Attributes
    ----------
    title : str
        Its name.
    model_types : tuple of str
        ``model_type`` in its ``config.json``, of full models and of vision towers.
    architecture : str
        The class of transformers that holds the vision network alone.
    layout : {"btd", "bhwc", "bchw"}
        Axes of a block's output.
    n_prefix : callable
        Returns the number of class and register tokens, given the configuration.
    n_blocks : callable
        Returns the number of blocks or stages, given the configuration.
    parts : mapping of str to tuple of str
        Parts of a block that can be layers, and names that their module may have in the block.
    is_patched : bool
        Whether tokens are patches of ``patch_size``; otherwise strides are powers of two.
    shift : callable
        Returns the distance in input pixels from a cell's centre to the centre of its token's
        receptive field, given the stride.
    size : {"any", "flag", "fixed"}
        Whether inputs of other sizes work, work with ``interpolate_pos_encoding``, or don't.
    arguments : callable
        Returns further arguments of the forward pass, given the configuration and the images.
    load_arguments : mapping
        Arguments of the constructor.
    output_layout : str or None
        Axes of the last hidden state, if they differ.
    joined_parts : callable or None
        For blocks that keep several parts in one tensor: returns the map of a part, given the
        tensor, the part, the configuration, the block's number from 0, and the input's size.
    within : mapping of str to (str, str)
        For types whose vision network can't be loaded alone: the class of the whole model, and
        the path of the vision network in it.
    """

    title: str
    model_types: tuple[str, ...]
    architecture: str
    layout: str = "btd"
    n_prefix: Callable[[Any], int] = lambda config: 0
    n_blocks: Callable[[Any], int] = lambda config: int(config.num_hidden_layers)
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: TRANSFORMER_PARTS)
    is_patched: bool = True
    shift: Callable[[float], float] = lambda stride: 0.0
    size: str = "flag"
    arguments: Callable[[Any, torch.Tensor], dict[str, Any]] = _no_arguments
    load_arguments: Mapping[str, Any] = field(default_factory=dict)
    output_layout: str | None = None
    joined_parts: Callable[[torch.Tensor, str, Any, int, tuple[int, int]], torch.Tensor] | None = (
        None
    )
    within: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class VisionModel(BlockModel, ImageModel):
    """A vision network of transformers, run as its family says.

    Layers are called as ``hidden_states`` counts them: ``layer_0`` goes into the first block and
    ``layer_i`` comes out of block i. ``layer_3.key`` is the key of the block that gives
    ``layer_3``; ``output`` is the model's own last hidden state.
    """

    extra_layers = (OUTPUT,)

    def __init__(
        self,
        name: str,
        module: nn.Module,
        family: VisionFamily,
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.name = name
        self.module = unwrapped(module)
        self.family = family
        self.preprocessing = preprocessing
        self.device, self.dtype = device, dtype
        self.config: Any = self.module.config
        self._find_blocks(family.n_blocks(self.config), family.parts, family.title)
        own = self._own_size()
        self._size = needed_size(preprocessing, name, own)
        if family.size == "fixed" and own is not None and self._size != own:
            raise InvalidInputError(
                f"{family.title} takes images of {own[0]} x {own[1]} pixels and the preprocessing "
                f"gives {self._size[0]} x {self._size[1]}; leave image_size out."
            )

    def regions(
        self, features: Mapping[str, torch.Tensor], input_shape: tuple[int, ...]
    ) -> dict[str, Box]:
        return {
            name: self._region(one.shape[1], one.shape[2], input_shape[1])
            for name, one in features.items()
            if one.ndim == 4
        }

    def settings(self) -> dict[str, Any]:
        return {
            "family": self.family.title,
            "architecture": type(self.module).__name__,
            "preprocessing": self.preprocessing.to_dict(),
        }

    def forward(
        self, inputs: Inputs, names: Sequence[str], *, dtype: torch.dtype | None = None
    ) -> Features:
        """Return features of a batch by layer, class tokens and the pooled output beside them."""
        images = torch.from_numpy(np.stack(inputs)).to(self.device, own_dtype(self.module))
        size, family = (images.shape[2], images.shape[3]), self.family
        arguments = family.arguments(self.config, images)
        if family.size == "flag" and self._own_size() not in (None, size):
            arguments["interpolate_pos_encoding"] = True
        where = {name: self.hook(name) for name in names if name != OUTPUT}
        found: Features = {}
        with (
            forward_pass(self.module, self.device),
            record_named(self.module, where, dtype=dtype) as recorded,
        ):
            with mixed_precision(self.device, self.dtype):
                output = self.module(images, **arguments)
            for name in names:
                if name == OUTPUT:
                    one, layout = output.last_hidden_state, family.output_layout or family.layout
                else:
                    one, layout = self._part(name, recorded(name), size), family.layout
                found |= self._maps(name, one, layout, size)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            found[POOLED] = pooled.flatten(1)
        return {name: one.to(dtype or one.dtype) for name, one in found.items()}

    def _part(self, name: str, tensor: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        part, joined_parts = name.partition(".")[2], self.family.joined_parts
        if joined_parts is None or not part:
            return tensor
        return joined_parts(tensor, part, self.config, block_number(name), size)

    def _maps(
        self, name: str, tensor: torch.Tensor, layout: str, size: tuple[int, int]
    ) -> Features:
        if layout != "btd":
            return as_maps(name, tensor, layout)
        patch = _side(self.config.patch_size)
        grid = size[0] // patch, size[1] // patch
        return as_maps(name, tensor, layout, self.family.n_prefix(self.config), grid)

    def _region(self, rows: int, columns: int, height: int) -> Box:
        if self.family.is_patched:
            stride = float(_side(self.config.patch_size))
        else:
            stride = 2.0 ** round(math.log2(height / rows))
        shift = self.family.shift(stride)
        return shift, shift, shift + rows * stride, shift + columns * stride

    def _own_size(self) -> tuple[int, int] | None:
        size = getattr(self.config, "image_size", None)
        return None if size is None else (_side(size, 0), _side(size, -1))


def _side(size: Any, axis: int = 0) -> int:
    return int(size if isinstance(size, int) else size[axis])
