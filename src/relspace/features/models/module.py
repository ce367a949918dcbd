"""Any module of torch as a source of features: layers by name, axes declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from relspace._core.arguments import name_some
from relspace._core.devices import choose_device
from relspace.errors import InvalidInputError, UnknownNameError
from relspace.features.evaluation import (
    forward_pass,
    mixed_precision,
    own_device,
    own_dtype,
    unwrapped,
)
from relspace.features.feature_model import Features, ImageModel, Inputs
from relspace.features.hooks import Layer, Recording, find_layers, record
from relspace.features.models.axes import Axes, declared_layout, without_call
from relspace.features.models.processors import needed_size
from relspace.features.preprocessing import Preprocessing


class ModuleModel(ImageModel):
    """Any vision network, whose layers are recorded by hooks.

    Parameters
    ----------
    module : nn.Module
        Takes images (b, 3, height, width), in the type of its own weights. It is run in evaluation
        mode; its modes, device, weights and buffers are restored afterwards.
    layers : str or sequence of str
        Names as in ``module.named_modules()``; ``*`` stands for any part between dots. Of a layer
        that runs several times in a pass, ``"relu@2"`` is the second call, and ``*`` stands for
        all of them.
    layout : str, or mapping of str to str, optional
        Axes of what the layers give: ``"bchw"``, ``"bhwc"``, ``"btd"`` (tokens) or ``"nd"``, of
        all or by name or pattern, ``{"blocks.*": "btd", "stem": "bchw"}``. By default those that
        the shape allows, if that is one.
    preprocessing : Preprocessing
        How its input is made of an image.
    n_prefix_tokens, grid_shape : int; (int, int), optional
        For tokens: how many class and register tokens there are before those of the grid, and the
        grid's rows and columns, by default those of a grid as wide and high as the input.
    name : str, optional
        Its name; by default its class.
    device : str or torch.device
        The device that it runs on; ``"auto"`` is its accelerator, or the first GPU, or the CPU.
    dtype : torch.dtype, optional
        The type of computation, by automatic mixed precision; by default that of its weights.

    Examples
    --------
    >>> module = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 6, 2, stride=2))
    >>> model = ModuleModel(module, ["0", "1"], layout="bchw", preprocessing=Preprocessing())
    >>> [(layer.name, layer.shape) for layer in model.describe(model.layers).layers]
    [('0', (56, 56, 8)), ('1', (28, 28, 6))]
    """

    def __init__(
        self,
        module: nn.Module,
        layers: str | Sequence[str],
        *,
        layout: str | Mapping[str, str] | None = None,
        preprocessing: Preprocessing,
        n_prefix_tokens: int | None = None,
        grid_shape: tuple[int, int] | None = None,
        name: str | None = None,
        device: str | torch.device = "auto",
        dtype: torch.dtype | None = None,
    ) -> None:
        found = find_layers(module, layers)
        self.module = unwrapped(module)
        own = own_device(self.module)
        stays = device == "auto" and own is not None and own.type not in ("cpu", "meta")
        self.device = own if stays and own is not None else choose_device(device)
        self.dtype = self._computed_in(dtype)
        self.name = type(self.module).__name__ if name is None else name
        self.preprocessing = preprocessing
        self._size = needed_size(preprocessing, self.name)
        stated: dict[str, str] = {}
        if isinstance(layout, str):
            stated = dict.fromkeys((one.name for one in found), layout)
        elif layout is not None:
            stated = _layout_by_layer(layout, [one.name for one in found])
        self._axes = Axes(self._size, stated, n_prefix_tokens, grid_shape)
        if "btd" in stated.values() and n_prefix_tokens is None:
            raise InvalidInputError(
                "layers of tokens ('btd') need n_prefix_tokens to say which token lies where."
            )
        self._counts: dict[str, int] = {}
        self.layers = tuple(name for layer in found for name in self._calls_of(layer, found))

    def read_as(self, **known: Any) -> None:
        """Set what the network's library knows of the axes of layers, see :class:`Axes`."""
        self._axes = replace(self._axes, **known)

    def match_name(self, name: str) -> Sequence[str]:
        if name in self.layers:
            return [name]
        found = find_layers(self.module, name)
        return [call for layer in found for call in self._calls_of(layer, found)]

    def others(self) -> tuple[str, ...]:
        own = {without_call(name) for name in self.layers}
        return tuple(name for name, _ in self.module.named_modules() if name and name not in own)

    def part_of(self, name: str) -> nn.Module | None:
        return find_layers(self.module, name)[0].module

    def settings(self) -> dict[str, Any]:
        return {
            "family": "module",
            "architecture": type(self.module).__name__,
            "layout": self._axes.layout,
            "n_prefix_tokens": self._axes.n_prefix or 0,
            "preprocessing": self.preprocessing.to_dict(),
        }

    def forward(
        self, inputs: Inputs, names: Sequence[str], *, dtype: torch.dtype | None = None
    ) -> Features:
        with self._recorded(inputs, names, dtype) as recorded:
            found: Features = {}
            for name in names:
                found |= self._axes.maps(name, recorded[name])
        return found

    @contextmanager
    def _recorded(
        self, inputs: Inputs, names: Sequence[str], dtype: torch.dtype | None = None
    ) -> Iterator[Recording]:
        """Run the module, and yield the records of its layers."""
        own = own_dtype(self.module)
        computed_in = torch.float32 if own == self.dtype else self.dtype
        with (
            forward_pass(self.module, self.device),
            record(self.module, list(names), device=None, dtype=dtype) as recorded,
        ):
            images = torch.from_numpy(np.stack(inputs)).to(self.device, own)
            with mixed_precision(self.device, computed_in):
                self.module(images)
            yield recorded

    def _computed_in(self, dtype: torch.dtype | None) -> torch.dtype:
        own = own_dtype(self.module)
        if dtype is None or dtype == own or dtype in (torch.float16, torch.bfloat16):
            return own if dtype is None else dtype
        raise InvalidInputError(
            f"dtype is {dtype} and the module's weights are {own}: leave it out, or convert the "
            "module itself."
        )

    def _calls_of(self, layer: Layer, found: Sequence[Layer]) -> Sequence[str]:
        """The names of the calls of a layer that a pattern found, by a pass of an empty image."""
        if layer.is_named or layer.call is not None:
            return [layer.name]
        if layer.name not in self._counts:
            names = [one.name for one in found]
            with self._recorded([self.blank()], names) as recorded:
                self._counts |= {name: recorded.calls(name) for name in names}
        count = self._counts[layer.name]
        return [f"{layer.name}@{i}" for i in range(1, count + 1)] if count > 1 else [layer.name]


def _layout_by_layer(layout: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return the axes of the layers that names and patterns stand for."""
    for key in layout:
        if all(declared_layout({key: ""}, name) is None for name in names):
            raise UnknownNameError(
                f"layout has {key!r}, and no layer is called so; the layers are {name_some(names)}."
            )
    found = {name: declared_layout(layout, name) for name in names}
    return {name: form for name, form in found.items() if form is not None}
