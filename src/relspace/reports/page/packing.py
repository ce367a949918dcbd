"""What a page's scripts draw of a report, ready for JSON: arrays compressed, numbers rounded."""

from __future__ import annotations

import base64
import gzip
import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relspace.pictures.color_maps import DIVERGING, SEQUENTIAL, color_map, segment_colors
from relspace.reports.page.data import COLORINGS, ReportData, ReportLayer


def packed_figures(data: ReportData) -> dict[str, Any]:
    """What the page's scripts draw, ready for JSON; arrays are packed (:func:`pack`)."""
    counts = sorted({k for model in data.models for one in model.layers for k in one.segments})
    return {
        "images": [image.title for image in data.images],
        "models": [
            {
                "name": model.name,
                "description": model.description,
                "layers": [_packed_layer(layer) for layer in model.layers],
            }
            for model in data.models
        ],
        "scales": _plain(data.quantization.scales) if data.quantization else [],
        "layer_tables": [
            {**_plain(table), "scale": table.scale or table.title} for table in data.layer_tables
        ],
        "charts": [_plain(chart) for chart in data.charts],
        "scatters": [
            {
                "title": scatter.title,
                "items": list(scatter.items),
                "shows_images": scatter.shows_images,
                "sets": [
                    {
                        "name": name,
                        "points": _plain(points),
                        "colors": np.asarray(scatter.colors[name]).tolist(),
                    }
                    for name, points in scatter.points.items()
                ],
            }
            for scatter in data.scatters
        ],
        "palette": {
            "sequential": _base64(color_map(SEQUENTIAL)),
            "diverging": _base64(color_map(DIVERGING)),
            "segments": {str(k): _base64(segment_colors(k)) for k in counts},
        },
    }


def pack(array: NDArray[Any]) -> dict[str, Any]:
    """Pack an array of bytes for JSON: its shape, its type, its content compressed, in base64.

    Examples
    --------
    >>> import numpy as np
    >>> packed = pack(np.zeros((2, 3), dtype=np.uint8))
    >>> packed["type"], packed["shape"]
    ('uint8', [2, 3])
    """
    # No time stamp: the same array must give the same page.
    content = gzip.compress(np.ascontiguousarray(array).tobytes(), compresslevel=9, mtime=0)
    return {
        "type": str(array.dtype),
        "shape": list(array.shape),
        "gzip": base64.b64encode(content).decode("ascii"),
    }


def _base64(colors: NDArray[np.uint8]) -> str:
    return base64.b64encode(colors.tobytes()).decode("ascii")


def _packed_layer(layer: ReportLayer) -> dict[str, Any]:
    known = [name for name in COLORINGS if name in layer.colors]
    return {
        "name": layer.name,
        "vectors": pack(layer.vectors),
        "colors": {
            name: pack(layer.colors[name])
            for name in [*known, *(name for name in layer.colors if name not in known)]
        },
        "segments": {str(k): pack(layer.segments[k]) for k in sorted(layer.segments)},
        "boxes": _plain(layer.boxes),
        "averaged_from": layer.averaged_from,
    }


def _plain(value: Any) -> Any:
    """Data classes, sequences and arrays as dicts, lists and numbers."""
    if is_dataclass(value):
        return {one.name: _plain(vars(value)[one.name]) for one in fields(value)}
    if isinstance(value, np.ndarray):
        return _plain(value.astype(float).tolist())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | None:
    """Rounded to what can be seen; None where it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
