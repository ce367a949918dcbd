"""Any module of torch as a source of features: layers by name, axes declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from relspace._devices import choose_device
from relspace._validation import check_choice
from relspace.errors import InvalidInputError
from relspace.features.families.vision import mixed_precision
from relspace.features.feature_model import (
    FeatureModel,
    needed_size,
    split_tokens,
)
from relspace.features.hooks import match_layers, record
from relspace.features.layouts import LAYOUTS
from relspace.features.preprocessing import Preprocessing, View
from relspace.features.store import Box

if TYPE_CHECKING:
    from PIL.Image import Image


class ModuleModel(FeatureModel):
    """A vision network of one's own, read by hooks.

    Parameters
    ----------
    module : nn.Module
        Takes images (b, 3, height, width).
    layers : str or sequence of str
        Names as in ``module.named_modules()``; ``*`` stands for any part between dots.
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
    device, dtype
        Where it runs and what it computes in; see :func:`relspace.load_model`.

    Examples
    --------
    >>> module = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 6, 2, stride=2))
    >>> model = ModuleModel(module, ["0", "1"], layout="bchw", preprocessing=Preprocessing())
    >>> [(layer.name, layer.shape) for layer in model.describe(model.layers).layers]
    [('0', (56, 56, 8)), ('1', (28, 28, 6))]
    """

    modality = "image"

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
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.layers = match_layers(module, layers)
        self.device, self.dtype = choose_device(device), dtype
        self.module = module.eval().to(self.device)
        self.name = type(module).__name__ if name is None else name
        self.preprocessing = preprocessing
        self._size = needed_size(preprocessing, self.name)
        self._layout = {
            layer: layout if isinstance(layout, str) else layout.get(layer, "")
            for layer in self.layers
        }
        for layer, form in self._layout.items():
            check_choice(form, f"the layout of {layer}", LAYOUTS)
        if "btd" in self._layout.values() and (n_prefix_tokens is None or grid_shape is None):
            raise InvalidInputError(
                "layers of tokens ('btd') need n_prefix_tokens and grid_shape to say which token "
                "lies where."
            )
        self._n_prefix, self._grid_shape = n_prefix_tokens or 0, grid_shape or (0, 0)

    def prepare(self, item: Image) -> tuple[NDArray[np.float32], View]:
        """Make the module's input of an image."""
        return self.preprocessing(item)

    def regions(
        self, features: Mapping[str, torch.Tensor], input_shape: tuple[int, ...]
    ) -> dict[str, Box]:
        """Return what the grids cover: cells of the whole input."""
        whole = (0.0, 0.0, float(input_shape[1]), float(input_shape[2]))
        return {name: whole for name, one in features.items() if one.ndim == 4}

    def blank(self) -> NDArray[np.float32]:
        """Return an input of zeros."""
        return np.zeros((3, *self._size), dtype=np.float32)

    def settings(self) -> dict[str, Any]:
        """Return the class, the layouts and the preprocessing."""
        return {
            "family": "module",
            "architecture": type(self.module).__name__,
            "layout": self._layout,
            "n_prefix_tokens": self._n_prefix,
            "preprocessing": self.preprocessing.to_dict(),
        }

    @torch.no_grad()
    def forward(
        self,
        inputs: Sequence[NDArray[np.float32]],
        names: Sequence[str],
        *,
        dtype: torch.dtype | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return features of a batch by layer."""
        images = torch.from_numpy(np.stack(inputs))
        with record(self.module, list(names), device=None, dtype=dtype) as recorded:
            with mixed_precision(self.device, self.dtype):
                self.module(images.to(self.device))
            found: dict[str, torch.Tensor] = {}
            for name in names:
                found |= self._maps(name, recorded[name])
        return found

    def _maps(self, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        form = self._layout[name]
        if tensor.ndim != len(form):
            raise InvalidInputError(
                f"layer {name!r} gives shape {tuple(tensor.shape)}, which is not of the layout "
                f"{form!r}."
            )
        if form == "btd":
            maps: dict[str, torch.Tensor] = split_tokens(
                name, tensor, self._n_prefix, self._grid_shape
            )
            return maps
        return {name: tensor.permute(0, 2, 3, 1) if form == "bchw" else tensor}
