"""Any module of torch as a source of features: layers by name, axes declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from relspace._core.arguments import check_choice
from relspace._core.devices import choose_device
from relspace.errors import InvalidInputError
from relspace.features.evaluation import forward_pass, own_device, own_dtype, unwrapped
from relspace.features.feature_model import (
    ImageModel,
    maps_of_layout,
    needed_size,
)
from relspace.features.hooks import Layer, Recording, find_layers, record
from relspace.features.layouts import LAYOUTS
from relspace.features.models.vision import mixed_precision
from relspace.features.preprocessing import Preprocessing


class ModuleModel(ImageModel):
    """A vision network of one's own, read by hooks.

    Parameters
    ----------
    module : nn.Module
        Takes images (b, 3, height, width), in the type of its own weights. It is run in evaluation
        mode and comes back as it was: modes, device, weights and buffers.
    layers : str or sequence of str
        Names as in ``module.named_modules()``; ``*`` stands for any part between dots. Of a layer
        that runs several times in a pass, ``"relu@2"`` is the second call, and ``*`` stands for
        all of them.
    layout : str, or mapping of str to str
        Axes of what the layers give: ``"bchw"``, ``"bhwc"``, ``"btd"`` (tokens) or ``"nd"``.
    preprocessing : Preprocessing
        How its input is made of an image.
    n_prefix_tokens : int, optional
        For ``"btd"``: class and register tokens before those of the grid.
    grid_shape : (int, int), optional
        For ``"btd"``: rows and columns of the grid.
    name : str, optional
        What it is called; by default its class.
    device : str or torch.device
        Where it runs; ``"auto"`` is the accelerator that it is on, or the first GPU, or the CPU.
    dtype : torch.dtype, optional
        What it computes in, by automatic mixed precision; by default the type of its weights.

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
        layout: str | Mapping[str, str],
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
        self._layout = {
            layer.name: layout
            if isinstance(layout, str)
            else layout.get(layer.name, layout.get(_without_call(layer.name), ""))
            for layer in found
        }
        for layer, form in self._layout.items():
            check_choice(form, f"the layout of {layer}", LAYOUTS)
        if "btd" in self._layout.values() and (n_prefix_tokens is None or grid_shape is None):
            raise InvalidInputError(
                "layers of tokens ('btd') need n_prefix_tokens and grid_shape to say which token "
                "lies where."
            )
        self._n_prefix, self._grid_shape = n_prefix_tokens or 0, grid_shape or (0, 0)
        self._counts: dict[str, int] | None = None
        self.layers = tuple(name for layer in found for name in self._calls_of(layer, found))

    def match_name(self, name: str) -> Sequence[str]:
        """Return the layers that a name stands for; a call of a layer may be asked for."""
        if name not in self.layers and _without_call(name) in self._layout:
            return [name]
        return super().match_name(name)

    def settings(self) -> dict[str, Any]:
        """Return the class, the layouts and the preprocessing."""
        return {
            "family": "module",
            "architecture": type(self.module).__name__,
            "layout": self._layout,
            "n_prefix_tokens": self._n_prefix,
            "preprocessing": self.preprocessing.to_dict(),
        }

    def forward(
        self,
        inputs: Sequence[NDArray[np.float32]],
        names: Sequence[str],
        *,
        dtype: torch.dtype | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return features of a batch by layer."""
        with self._recorded(inputs, names, dtype) as recorded:
            found: dict[str, torch.Tensor] = {}
            for name in names:
                found |= self._maps(name, recorded[name])
        return found

    @contextmanager
    def _recorded(
        self,
        inputs: Sequence[NDArray[np.float32]],
        names: Sequence[str],
        dtype: torch.dtype | None = None,
    ) -> Iterator[Recording]:
        """Run the module and give what layers gave."""
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
        if self._counts is None:
            names = [one.name for one in found]
            with self._recorded([self.blank()], names) as recorded:
                self._counts = {name: recorded.calls(name) for name in names}
        count = self._counts[layer.name]
        return [f"{layer.name}@{i}" for i in range(1, count + 1)] if count > 1 else [layer.name]

    def _maps(self, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        form = self._layout.get(name) or self._layout[_without_call(name)]
        return maps_of_layout(name, tensor, form, self._n_prefix, self._grid_shape)


def _without_call(name: str) -> str:
    return name.rpartition("@")[0] or name
