"""Patches of models' layers in one common space -> what a report shows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from relspace.embedding import Coloring, NormalizedCut, kway
from relspace.errors import InvalidInputError
from relspace.report.common_width import to_common_width
from relspace.report.quantize import quantize_rows
from relspace.report.summary import Quantization, ReportLayer, ReportModel

#: What the vectors of a page may take; colours, images and base64 come on top.
MAX_VECTOR_BYTES = 8_000_000
_COMPONENTS = 48
_FEWEST_COMPONENTS = 24
_EMBEDDING_COMPONENTS = 16
_NODES = 4096

#: A layer of a model.
LayerKey = tuple[str, str]


@dataclass(frozen=True)
class ModelPatches:
    """One model's patches of the same images, in every layer.

    Attributes
    ----------
    relative : mapping of str to tensor of shape (n_images * rows * columns, m)
        Standardised relative features by layer, in image-major, row-major order.
    grid : tuple of two int
        Rows and columns.
    features : mapping of str to tensor of shape (n_images * rows * columns, d), optional
        The features before alignment, for the colours before.
    boxes : array of shape (n_images, 4), optional
        What of each image the grid covers, see :class:`relspace.report.ReportLayer`.
    description : str
        The model in a few words.
    """

    relative: Mapping[str, torch.Tensor]
    grid: tuple[int, int]
    features: Mapping[str, torch.Tensor] | None = None
    boxes: NDArray[np.float64] | None = None
    description: str = ""


def report_models(
    models: Mapping[str, ModelPatches],
    *,
    segment_counts: Sequence[int] = (2, 4, 6, 8, 12, 16),
    max_vector_bytes: int = MAX_VECTOR_BYTES,
    random_state: int = 0,
) -> tuple[tuple[ReportModel, ...], Quantization]:
    """Quantise the patches of all models' layers, colour them and cut them into segments.

    Colours come from normalized cuts: "joint" of all models' layers at once in the common space,
    "per model" of each model's layers by themselves, "before" of all at once before alignment,
    where every layer was cut to a common width by its own principal components.

    Parameters
    ----------
    models : mapping of str to ModelPatches
        Models by name.
    segment_counts : sequence of int
        Numbers of segments, from 2 to 17.
    max_vector_bytes : int
        What all vectors may take. Where 48 bytes per patch are too many, they become fewer, and
        then grids are averaged down to half their sides.
    random_state : int
        Seed of samples, cuts and segments.

    Returns
    -------
    models : tuple of ReportModel
        For :class:`relspace.report.ReportData`.
    quantization : Quantization
        How well products of the vectors approximate correlations.
    """
    shrunk = {name: _checked(name, one) for name, one in models.items()}
    while _n_tokens(shrunk) * _FEWEST_COMPONENTS > max_vector_bytes:
        largest = max(shrunk, key=lambda name: shrunk[name].grid[0] * shrunk[name].grid[1])
        if min(shrunk[largest].grid) < 2:
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
    joint = _cut(rows, random_state)
    colors: dict[str, Mapping[LayerKey, NDArray[np.uint8]]] = {"joint": _colors(joint)}
    own: dict[LayerKey, NDArray[np.uint8]] = {}
    for name in shrunk:
        own |= _colors(_cut({key: rows[key] for key in keys if key[0] == name}, random_state))
    colors["per model"] = own
    before = _before_alignment(shrunk, random_state)
    if before is not None:
        colors["before"] = before
    segments = {k: _segments(joint, k, random_state) for k in segment_counts}
    by_key = dict(zip(keys, vectors, strict=True))

    def layer_of(name: str, layer: str) -> ReportLayer:
        key, one = (name, layer), shrunk[name]
        grid = (-1, *one.grid)
        return ReportLayer(
            name=layer,
            vectors=by_key[key].reshape(*grid, by_key[key].shape[1]),
            colors={title: found[key].reshape(*grid, 3) for title, found in colors.items()},
            segments={k: found[key].reshape(grid) for k, found in segments.items()},
            boxes=one.boxes,
        )

    return tuple(
        ReportModel(name, [layer_of(name, layer) for layer in one.relative], one.description)
        for name, one in shrunk.items()
    ), quantization


def _checked(name: str, one: ModelPatches) -> ModelPatches:
    per_image = one.grid[0] * one.grid[1]
    for layer, rows in one.relative.items():
        if len(rows) == 0 or len(rows) % per_image:
            raise InvalidInputError(
                f"{name} {layer} has {len(rows)} patches, which is no multiple of its grid of "
                f"{one.grid[0]} x {one.grid[1]}."
            )
    return one


def _n_tokens(models: Mapping[str, ModelPatches]) -> int:
    return sum(len(rows) for one in models.values() for rows in one.relative.values())


def _halved(one: ModelPatches) -> ModelPatches:
    """Average patches two by two; rows get back their unit norm."""
    height, width = (side - side % 2 for side in one.grid)

    def average(rows: torch.Tensor) -> torch.Tensor:
        grids = rows.reshape(-1, *one.grid, rows.shape[1])[:, :height, :width]
        grids = grids.reshape(len(grids), height // 2, 2, width // 2, 2, -1).mean(dim=(2, 4))
        return grids.flatten(0, 2)

    relative = {
        layer: torch.nn.functional.normalize(average(rows), dim=1)
        for layer, rows in one.relative.items()
    }
    features = one.features and {layer: average(rows) for layer, rows in one.features.items()}
    boxes = one.boxes
    if (height, width) != one.grid:
        n_images = len(next(iter(one.relative.values()))) // (one.grid[0] * one.grid[1])
        boxes = np.tile([0.0, 0.0, 1.0, 1.0], (n_images, 1)) if boxes is None else boxes.copy()
        kept = np.array([width / one.grid[1], height / one.grid[0]])
        boxes[:, 2:] = boxes[:, :2] + (boxes[:, 2:] - boxes[:, :2]) * kept
    note = f"{one.grid[0]} x {one.grid[1]} patches shown as {height // 2} x {width // 2}"
    description = f"{one.description}; {note}" if one.description else note
    return ModelPatches(relative, (height // 2, width // 2), features, boxes, description)


def _cut(rows: Mapping[LayerKey, torch.Tensor], random_state: int) -> NormalizedCut:
    n_components = min(_EMBEDDING_COMPONENTS, min(_NODES, sum(map(len, rows.values()))) - 2)
    cut = NormalizedCut(n_components, n_landmarks=_NODES, random_state=random_state)
    return cut.fit({_joined(key): one for key, one in rows.items()})


def _colors(cut: NormalizedCut) -> dict[LayerKey, NDArray[np.uint8]]:
    return {
        _parted(name): (255 * one).round().to(torch.uint8).numpy()
        for name, one in Coloring().fit(cut).colors_.items()
    }


def _segments(cut: NormalizedCut, k: int, random_state: int) -> dict[LayerKey, NDArray[np.uint8]]:
    found = kway(cut.embedding_, k, random_state=random_state)
    return {_parted(name): one.to(torch.uint8).numpy() for name, one in found.items()}


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
    return _colors(_cut(to_common_width(rows), random_state))


def _joined(key: LayerKey) -> str:
    return "\x1f".join(key)


def _parted(name: str) -> LayerKey:
    model, layer = name.split("\x1f")
    return model, layer
