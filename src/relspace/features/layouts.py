"""Layouts of arrays of features: the axes are declared and checked, never guessed."""

from __future__ import annotations

import torch

from relspace._core.arguments import check_choice, check_count
from relspace.errors import InvalidInputError

#: Axes by their letters: n items, d features; b images, t tokens, c channels, h rows, w columns.
LAYOUTS = ("nd", "btd", "bchw", "bhwc")

#: The suffix of the class token of a layer: ``layer_7.class``.
CLASS_SUFFIX = ".class"


def check_layout(name: str, shape: tuple[int, ...], layout: str | None) -> str:
    """Return the layout of a layer's array; only that of a matrix need not be declared."""
    ndim = len(shape)
    if 0 in shape:
        raise InvalidInputError(f"{name} is empty: its shape is {tuple(shape)}.")
    if layout is None:
        if ndim == 2:
            return "nd"
        could_be = [form for form in LAYOUTS if len(form) == ndim]
        raise InvalidInputError(
            f"{name} has shape {tuple(shape)}, and its layout is not declared"
            + ("." if could_be else ", and it fits none."),
            ways_out=[f"give {{layout={form!r}}}" for form in could_be],
        )
    check_choice(layout, f"the layout of {name}", LAYOUTS)
    if ndim != len(layout):
        raise InvalidInputError(
            f"{name} has shape {tuple(shape)}, which is not of the layout {layout!r}."
        )
    return layout


def as_maps(
    name: str,
    tensor: torch.Tensor,
    layout: str,
    n_prefix_tokens: int | None = None,
    grid_shape: tuple[int, int] | None = None,
    *,
    has_class: bool = True,
) -> dict[str, torch.Tensor]:
    """Return features in a layout as (b, rows, columns, d) or (b, d), by name.

    Of tokens (``"btd"``) the first is a layer of its own if it is a class token; other prefix
    tokens (registers) are dropped.
    """
    if layout != "btd":
        return {name: tensor.permute(0, 2, 3, 1) if layout == "bchw" else tensor}
    n_tokens = tensor.shape[1]
    if n_prefix_tokens is None or grid_shape is None:
        missing = "n_prefix_tokens" if n_prefix_tokens is None else "grid_shape"
        raise InvalidInputError(
            f"{name} has {n_tokens} tokens for each image, which could be many grids with or "
            f"without class and register tokens: give {missing}."
        )
    n_prefix = check_count(n_prefix_tokens, "n_prefix_tokens", at_least=0)
    rows, columns = (check_count(one, "grid_shape") for one in grid_shape)
    if n_prefix + rows * columns != n_tokens:
        raise InvalidInputError(
            f"{name} has {n_tokens} tokens for each image; {n_prefix} prefix tokens and a grid of "
            f"{rows} x {columns} make {n_prefix + rows * columns}."
        )
    found = {name: tensor[:, n_prefix:].reshape(len(tensor), rows, columns, -1)}
    if n_prefix and has_class:
        found[name + CLASS_SUFFIX] = tensor[:, 0]
    return found
