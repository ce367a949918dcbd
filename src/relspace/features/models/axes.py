"""Axes of what layers give: declared, or told by the shape where only one reading is possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import torch

from relspace._core.arguments import check_choice
from relspace.errors import InvalidInputError
from relspace.features.hooks import matches_pattern
from relspace.features.layouts import LAYOUTS, as_maps


@dataclass(frozen=True)
class Axes:
    """The axes of what a network's layers give, by which they are read as maps.

    Attributes
    ----------
    size : (int, int)
        Height and width of the network's input.
    layout : str, mapping of str to str, or None
        Axes of layers by name or pattern, or of all layers with as many axes.
    n_prefix : int or None
        How many tokens come before those of the grid.
    grid_shape : (int, int) or None
        Rows and columns of tokens; by default those of a grid as wide and high as the input.
    has_class : bool
        Whether the first prefix token is a class token.
    may_lack_prefix : bool
        Whether some layers have the tokens of the grid alone.
    otherwise : {"bchw", "bhwc"} or None
        The layout of maps whose shape allows both.
    """

    size: tuple[int, int]
    layout: str | Mapping[str, str] | None = None
    n_prefix: int | None = None
    grid_shape: tuple[int, int] | None = None
    has_class: bool = True
    may_lack_prefix: bool = False
    otherwise: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.layout, str):
            check_choice(self.layout, "layout", LAYOUTS)
        for layer, form in self.layout.items() if isinstance(self.layout, Mapping) else ():
            check_choice(form, f"the layout of {layer}", LAYOUTS)

    def maps(self, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what a layer gives: (b, rows, columns, d) or (b, d), a class token beside it."""
        shape = tuple(tensor.shape)
        if 0 in shape:
            raise InvalidInputError(f"{name} is empty: its shape is {shape}.")
        layout = self._layout_of(name, shape)
        if len(shape) != len(layout):
            raise InvalidInputError(
                f"layer {name!r} gives shape {shape}, which is not of the layout {layout!r}."
            )
        tokens = self._tokens(name, shape[1]) if layout == "btd" else ()
        return as_maps(name, tensor, layout, *tokens, has_class=self.has_class)

    def _layout_of(self, name: str, shape: tuple[int, ...]) -> str:
        if isinstance(self.layout, Mapping):
            declared = declared_layout(self.layout, name)
            if declared is not None:
                return declared
        elif self.layout is not None and len(self.layout) == len(shape):
            return self.layout
        if len(shape) in (2, 3):
            return "nd" if len(shape) == 2 else "btd"
        if len(shape) == 4:
            height, width = self.size
            fits = [
                form
                for form, rows, columns in (("bchw", 2, 3), ("bhwc", 1, 2))
                # Strides round up or down by a row.
                if abs(shape[rows] * width - shape[columns] * height) < max(height, width)
            ]
            if len(fits) > 1 and self.otherwise is not None:
                return self.otherwise
            if len(fits) == 1:
                return fits[0]
        raise InvalidInputError(
            f"{name} has shape {shape}, and its axes can't be told from an input of "
            f"{self.size[0]} x {self.size[1]}.",
            ways_out=[f"give {{layout={form!r}}}" for form in ("bchw", "bhwc") if len(shape) == 4]
            or ["leave this layer out"],
        )

    def _tokens(self, name: str, n_tokens: int) -> tuple[int | None, tuple[int, int]]:
        """Return the number of prefix tokens, and the rows and columns of the others."""
        if self.grid_shape is not None:
            return self.n_prefix, self.grid_shape
        if self.n_prefix is None:
            raise InvalidInputError(
                f"{name} has {n_tokens} tokens for each image, and it is not known how many of "
                "them are class and register tokens.",
                ways_out=["give {n_prefix_tokens}", "leave this layer out"],
            )
        height, width = self.size
        for n_prefix in (self.n_prefix, 0) if self.may_lack_prefix else (self.n_prefix,):
            n_patches = n_tokens - n_prefix
            rows = isqrt(max(n_patches, 0) * height // width)
            if rows and n_patches % rows == 0 and rows * width == n_patches // rows * height:
                return n_prefix, (rows, n_patches // rows)
        raise InvalidInputError(
            f"{name} has {n_tokens} tokens for each image; without {self.n_prefix} prefix tokens "
            f"they make no grid as wide and high as an input of {height} x {width}.",
            ways_out=["give {n_prefix_tokens}", "give {grid_shape}"],
        )


def declared_layout(layout: Mapping[str, str], name: str) -> str | None:
    """Return the axes of a layer: those of its name, of its calls, or of the first pattern for it.

    >>> declared_layout({"blocks.*": "btd", "blocks.1": "nd"}, "blocks.1")
    'nd'
    """
    own = without_call(name)
    matching = (pattern for pattern in layout if matches_pattern(own, pattern))
    found = next((one for one in (name, own) if one in layout), None) or next(matching, None)
    return None if found is None else layout[found]


def without_call(name: str) -> str:
    """Return the layer of ``"relu@2"``, its second call.

    >>> without_call("relu@2"), without_call("relu")
    ('relu', 'relu')
    """
    return name.rpartition("@")[0] or name
