"""Patches of models' layers in one common space -> what a report shows of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.resources import Resources
from relspace.embedding import Coloring, NormalizedCut, kway
from relspace.errors import BandwidthError, InvalidInputError, RelspaceWarning
from relspace.kernels.axes import principal_axes
from relspace.kernels.normalization import fit_normalization
from relspace.reports.page.data import Quantization, ReportLayer, ReportModel
from relspace.reports.quantize import quantize_rows

#: What the vectors of a page may take; colours, images and base64 come on top.
MAX_VECTOR_BYTES = 6_500_000
_COMPONENTS = 48
_FEWEST_COMPONENTS = 24
_EMBEDDING_COMPONENTS = 16
_NODES = 2048
#: Principal components of features before alignment, where every layer has as many.
_COMMON_WIDTH = 32

#: Densities of the graph that colours come from: the first that every layer can have.
_DENSITIES = (0.05, 0.1, 0.2, 0.4)

# A float32, and its double while colours are computed.
_BYTES_PER_VALUE = 12

#: A layer of a model.
LayerKey = tuple[str, str]
#: Rows and columns.
Grid = tuple[int, int]
#: What a grid covers of each image; None for all of it.
Boxes = NDArray[np.float64] | None


class DensityWarning(RelspaceWarning):
    """Colours are those of a denser graph than usual."""


@dataclass(frozen=True)
class ModelPatches:
    """One model's patches of the same images, in every layer.

    Attributes
    ----------
    relative : mapping of str to tensor of shape (n_images * rows * columns, m)
        Standardised relative features by layer, in image-major, row-major order.
    grid : tuple of two int, or mapping of str to tuple of two int
        Rows and columns, of all layers or by layer.
    features : mapping of str to tensor of shape (n_images * rows * columns, d), optional
        The features before alignment, for the colours before.
    boxes : array of shape (n_images, 4), or mapping of str to one, optional
        What of each image the grid covers, see :class:`relspace.reports.page.ReportLayer`.
    description : str
        The model in a few words.
    """

    relative: Mapping[str, torch.Tensor]
    grid: Grid | Mapping[str, Grid]
    features: Mapping[str, torch.Tensor] | None = None
    boxes: Boxes | Mapping[str, Boxes] = None
    description: str = ""

    def grid_of(self, layer: str) -> Grid:
        """Rows and columns of a layer."""
        return self.grid[layer] if isinstance(self.grid, Mapping) else self.grid

    def boxes_of(self, layer: str) -> Boxes:
        """What the grid of a layer covers."""
        return self.boxes[layer] if isinstance(self.boxes, Mapping) else self.boxes


def require_patches(shapes: Mapping[str, tuple[int, int]], n_images: int) -> None:
    """Refuse, before any is read, patches of layers (n, width) that memory doesn't hold."""
    Resources().require(
        sum(_BYTES_PER_VALUE * n * width for n, width in shapes.values()),
        f"a report of {n_images} images and {len(shapes)} layers",
        "explore fewer images: {n_images=4}",
    )


def report_models(
    models: Mapping[str, ModelPatches],
    *,
    segment_counts: Sequence[int] = (2, 4, 6, 8, 12, 16),
    max_vector_bytes: int = MAX_VECTOR_BYTES,
    random_state: int = 0,
) -> tuple[tuple[ReportModel, ...], Quantization]:
    """Quantise the patches of all models' layers, colour them and cut them into segments.

    Colours come from normalized cuts: "joint" of all models at once in the common space, "per
    model" of each model by itself, "before" of all at once before alignment, where every layer is
    reduced to a common width by its own principal components. The graph holds patches of the
    models' last layers, which separate parts best, as many layers as fill it; other layers are
    embedded as new patches of their model.

    Vectors take at most ``max_vector_bytes``: where 48 bytes per patch are too many, they become
    fewer, and then grids are averaged down to half their sides.
    """
    shrunk = {name: _checked(name, one) for name, one in models.items()}
    while _n_tokens(shrunk) * _FEWEST_COMPONENTS > max_vector_bytes:
        largest = max(shrunk, key=lambda name: _largest_grid(shrunk[name]))
        if min(_largest_grid(shrunk[largest])) < 2:
            raise InvalidInputError(
                f"{_n_tokens(shrunk):,} patches don't fit into {max_vector_bytes:,} bytes; show "
                "fewer images or layers."
            )
        shrunk[largest] = _halved(shrunk[largest])
    n_components = min(_COMPONENTS, max_vector_bytes // _n_tokens(shrunk))
    keys = [(name, layer) for name, one in shrunk.items() for layer in one.relative]
    vectors, quantization = quantize_rows(
        [shrunk[name].relative[layer] for name, layer in keys],
        n_components,
        random_state=random_state,
    )
    steps = torch.from_numpy(np.asarray(quantization.scales))
    rows = {
        key: torch.from_numpy(one).to(steps) * steps for key, one in zip(keys, vectors, strict=True)
    }
    joint = _embed(rows, random_state)
    colors: dict[str, Mapping[LayerKey, NDArray[np.uint8]]] = {"joint": _colors(joint)}
    own: dict[LayerKey, NDArray[np.uint8]] = {}
    for name in shrunk:
        own |= _colors(_embed({key: rows[key] for key in keys if key[0] == name}, random_state))
    colors["per model"] = own
    before = _before_alignment(shrunk, random_state)
    if before is not None:
        colors["before"] = before
    segments = {k: _segments(joint, k, random_state) for k in segment_counts}
    by_key = dict(zip(keys, vectors, strict=True))

    def layer_of(name: str, layer: str) -> ReportLayer:
        key, one, own_grid = (name, layer), shrunk[name], models[name].grid_of(layer)
        grid = (-1, *one.grid_of(layer))
        return ReportLayer(
            name=layer,
            vectors=by_key[key].reshape(*grid, by_key[key].shape[1]),
            colors={title: found[key].reshape(*grid, 3) for title, found in colors.items()},
            segments={k: found[key].reshape(grid) for k, found in segments.items()},
            boxes=one.boxes_of(layer),
            averaged_from=None if own_grid == one.grid_of(layer) else own_grid,
        )

    return tuple(
        ReportModel(name, [layer_of(name, layer) for layer in one.relative], one.description)
        for name, one in shrunk.items()
    ), quantization


def _checked(name: str, one: ModelPatches) -> ModelPatches:
    for layer, rows in one.relative.items():
        height, width = one.grid_of(layer)
        if len(rows) == 0 or len(rows) % (height * width):
            raise InvalidInputError(
                f"{name} {layer} has {len(rows)} patches, which is no multiple of its grid of "
                f"{height} x {width}."
            )
    return one


def _n_tokens(models: Mapping[str, ModelPatches]) -> int:
    return sum(len(rows) for one in models.values() for rows in one.relative.values())


def _largest_grid(one: ModelPatches) -> Grid:
    return max(map(one.grid_of, one.relative), key=lambda grid: grid[0] * grid[1])


def _halved(one: ModelPatches) -> ModelPatches:
    """Average the patches of the largest grids two by two; rows get back their unit norm.

    A last row or column without a partner is left out, and so is what it covers.
    """
    largest = _largest_grid(one)
    height, width = (side // 2 for side in largest)
    chosen = [layer for layer in one.relative if one.grid_of(layer) == largest]
    grids = {layer: one.grid_of(layer) for layer in one.relative} | dict.fromkeys(
        chosen, (height, width)
    )

    def average(rows: torch.Tensor) -> torch.Tensor:
        maps = rows.reshape(-1, *largest, rows.shape[1])[:, : 2 * height, : 2 * width]
        means = maps.reshape(len(maps), height, 2, width, 2, -1).mean(dim=(2, 4))
        return means.flatten(0, 2)

    relative = dict(one.relative) | {
        layer: torch.nn.functional.normalize(average(one.relative[layer]), dim=1)
        for layer in chosen
    }
    features = one.features and (
        dict(one.features) | {layer: average(one.features[layer]) for layer in chosen}
    )
    boxes = {layer: one.boxes_of(layer) for layer in grids}
    for layer in chosen:
        boxes[layer] = _box_of_kept(boxes[layer], one, layer, (2 * height, 2 * width))
    return ModelPatches(relative, grids, features, boxes, one.description)


def _box_of_kept(boxes: Boxes, one: ModelPatches, layer: str, kept: Grid) -> Boxes:
    grid = one.grid_of(layer)
    if kept == grid:
        return boxes
    n_images = len(one.relative[layer]) // (grid[0] * grid[1])
    found = np.tile([0.0, 0.0, 1.0, 1.0], (n_images, 1)) if boxes is None else boxes.copy()
    share = np.array([kept[0] / grid[0], kept[1] / grid[1]])
    found[:, 2:] = found[:, :2] + (found[:, 2:] - found[:, :2]) * share
    return found


@dataclass(frozen=True)
class _Embedded:
    """The cut of the last layers, and what it makes of the patches of all layers."""

    cut: NormalizedCut
    rows: dict[LayerKey, torch.Tensor]


def _embed(rows: Mapping[LayerKey, torch.Tensor], random_state: int) -> _Embedded:
    fitted = _last_layers(rows)
    last = dict(rows.keys())
    cut = _cut({_joined(key): rows[key] for key in fitted}, random_state)
    return _Embedded(
        cut,
        {
            key: cut.embedding_[_joined(key)]
            if key in fitted
            else torch.as_tensor(cut.transform(_joined((key[0], last[key[0]])), one))
            for key, one in rows.items()
        },
    )


def _last_layers(rows: Mapping[LayerKey, torch.Tensor]) -> list[LayerKey]:
    """Of every model the last layers, no more than fill the graph with patches."""
    layers: dict[str, list[str]] = {}
    for name, layer in rows:
        layers.setdefault(name, []).append(layer)
    chosen: list[LayerKey] = []
    for depth in range(1, max(map(len, layers.values())) + 1):
        chosen = [(name, layer) for name, own in layers.items() for layer in own[-depth:]]
        if sum(len(rows[key]) for key in chosen) >= _NODES:
            break
    return chosen


def _cut(rows: Mapping[str, torch.Tensor], random_state: int) -> NormalizedCut:
    n_components = min(_EMBEDDING_COMPONENTS, min(_NODES, sum(map(len, rows.values()))) - 2)

    for density in _DENSITIES:
        options: dict[str, Any] = {"density": density, "n_landmarks": _NODES}
        try:
            cut = NormalizedCut(n_components, random_state=random_state, **options).fit(rows)
        except BandwidthError:
            if density == _DENSITIES[-1]:
                raise
            continue
        break
    if density > _DENSITIES[0]:
        warnings.warn(
            "many patches coincide, as those of flat regions do: colours and segments are those of "
            f"a graph of density {density} instead of {_DENSITIES[0]}.",
            DensityWarning,
            stacklevel=4,
        )
    return cut


def _colors(embedded: _Embedded) -> dict[LayerKey, NDArray[np.uint8]]:
    coloring = Coloring().fit(embedded.cut)
    return {
        key: (255 * torch.as_tensor(coloring.transform(one))).round().to(torch.uint8).numpy()
        for key, one in embedded.rows.items()
    }


def _segments(embedded: _Embedded, k: int, random_state: int) -> dict[LayerKey, NDArray[np.uint8]]:
    named = {_joined(key): one for key, one in embedded.rows.items()}
    found = kway(named, k, random_state=random_state)
    return {key: found[_joined(key)].to(torch.uint8).numpy() for key in embedded.rows}


def _before_alignment(
    models: Mapping[str, ModelPatches], random_state: int
) -> dict[LayerKey, NDArray[np.uint8]] | None:
    """Colours of the features themselves; None unless all models have them."""
    rows: dict[LayerKey, torch.Tensor] = {}
    for name, one in models.items():
        if one.features is None:
            return None
        for layer, features in one.features.items():
            rows[name, layer] = features
    return _colors(_embed(_of_common_width(rows), random_state))


def _of_common_width(features: Mapping[LayerKey, torch.Tensor]) -> dict[LayerKey, torch.Tensor]:
    """Every layer's own principal components, as many of each, of rows centred and of unit norm.

    The axes of different layers have nothing to do with each other: what is compared after this is
    what there was before alignment.
    """
    rows = {key: fit_normalization(one, "center+unit").apply(one) for key, one in features.items()}
    width = min(_COMMON_WIDTH, *(one.shape[1] for one in rows.values()))
    return {key: one @ principal_axes(one, width).to(one) for key, one in rows.items()}


def _joined(key: LayerKey) -> str:
    return repr(key)
