"""A report's data -> one self-contained interactive page that needs no network."""

from __future__ import annotations

import base64
import functools
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace.errors import MissingDependencyError
from relspace.pictures.theme import DARK, LIGHT
from relspace.reports.page.data import LayerTable, Quantization, ReportData, Table
from relspace.reports.page.packing import packed_figures
from relspace.reports.page.scripts import page_script

if TYPE_CHECKING:
    from jinja2 import Environment

_COLORING_TITLES = {"joint": "Joint", "per model": "Per model", "before": "Before"}
#: Thumbnails of up to this side are kept to the bit; larger ones as JPEG.
_EXACT_SIDE = 128
_JPEG_QUALITY = 88
# Control characters but line breaks and tabs, what sets the direction of text, and surrogates.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
#: How many sections the bar at the top names; the menu beside it names all.
_SECTIONS_IN_BAR = 5


def render_report(data: ReportData) -> str:
    """Render a report as HTML with its style, scripts, images and data inside.

    Parameters
    ----------
    data : ReportData
        What it holds; all text is escaped.

    Returns
    -------
    str
        The HTML. It refers to nothing outside itself and forbids the browser to load anything.

    Raises
    ------
    MissingDependencyError
        If jinja2 isn't installed, or Pillow where there are images.

    Examples
    --------
    >>> from relspace.reports.page import ReportData, render_report
    >>> "<h1>A &amp; B</h1>" in render_report(ReportData(title="A & B"))
    True
    """
    environment = _environment()
    from markupsafe import Markup

    template = environment.get_template("report.html.j2")
    # "<" can't end the script element that it stands in when it is written as an escape.
    figures = json.dumps(packed_figures(data), allow_nan=False).replace("<", "\\u003c")
    style = environment.get_template("report.css.j2").render(light=LIGHT, dark=DARK)
    counts = sorted({k for model in data.models for layer in model.layers for k in layer.segments})
    return template.render(
        data=data,
        style=Markup(style),
        script=Markup(page_script()),
        figures=Markup(figures),
        contents=contents(data),
        n_in_bar=_SECTIONS_IN_BAR,
        thumbnails=[image_address(image.pixels) for image in data.images],
        colorings=_colorings(data, has_segments=bool(counts)),
        segment_counts=counts,
        has_before=any("before" in layer.colors for one in data.models for layer in one.layers),
        has_layers=any(len(model.layers) > 1 for model in data.models),
        explorer_note=_explorer_note(data),
        layer_groups=_layer_groups(data),
        layer_value_tables=[*data.folded_tables, *map(_layer_value_table, data.layer_tables)],
        method_tables=_method_tables(data),
    )


@functools.cache
def _environment() -> Environment:
    """What pages are rendered by, with its templates compiled once."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError(
            'pages need jinja2, which is not installed: pip install "relspace[report]".'
        ) from error
    environment = Environment(
        loader=PackageLoader("relspace.reports.page"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"png_address": png_address, "cell": cell_text}
    return environment


def _shown(value: object) -> object:
    """Text of the page without what turns or hides the text around it; markup as it is."""
    from markupsafe import Markup

    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], value)
    return value


def png_address(png: bytes) -> str:
    """A PNG as the address of itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def image_address(pixels: NDArray[np.uint8]) -> str:
    """Encode a thumbnail as the address of itself: small ones as PNG, others as JPEG."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            'images in pages need Pillow, which is not installed: pip install "relspace[report]".'
        ) from error
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if max(image.size) <= _EXACT_SIDE:
        image.save(buffer, format="PNG", optimize=True)
        return png_address(buffer.getvalue())
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def cell_text(cell: str | float | None) -> str:
    """A table's cell as it is shown: numbers to three decimals, or three digits where small.

    Examples
    --------
    >>> [cell_text(cell) for cell in (0.61803, 0.0001234, 12, "text", None)]
    ['0.618', '0.000123', '12', 'text', '']
    """
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return str(cell)
    if not math.isfinite(cell):
        return "none"
    return f"{cell:.3g}" if 0 < abs(cell) < 0.01 or abs(cell) >= 1000 else f"{cell:.3f}"


def contents(data: ReportData) -> list[tuple[str, str]]:
    """The sections of a page: their anchors and titles."""
    parts = [
        ("explorer", "Explorer", bool(data.models)),
        ("layers", "Layers", bool(data.layer_tables or data.charts)),
        ("items", "Items", bool(data.scatters)),
        ("values", "Values", bool(data.tables)),
        *(
            (f"section-{number}", section.heading, True)
            for number, section in enumerate(data.sections, start=1)
        ),
        ("method", "How it was made", bool(data.parameters or data.matched_by)),
    ]
    return [(anchor, title) for anchor, title, is_there in parts if is_there]


def _colorings(data: ReportData, *, has_segments: bool) -> list[tuple[str, str]]:
    names = dict.fromkeys(
        name for model in data.models for layer in model.layers for name in layer.colors
    )
    known = [name for name in _COLORING_TITLES if name in names]
    ordered = known + [name for name in names if name not in known]
    found = [(name, _COLORING_TITLES.get(name, name)) for name in ordered]
    return [*found, ("segments", "Segments")] if has_segments else found


def _explorer_note(data: ReportData) -> str:
    if data.quantization is None:
        return ""
    one = data.quantization
    return (
        f"Similarities are correlations of relative features over {one.n_columns} landmarks, "
        f"computed here from {len(one.scales)} bytes per patch: off by {one.error:.3f} (root mean "
        f"square) and by less than {one.error_95:.3f} for 95 % of {one.n_pairs:,} random pairs."
    )


def _layer_groups(data: ReportData) -> list[tuple[str, list[int], str]]:
    """Tables that share a scale: its name, their numbers, and what to do with them."""
    groups: dict[str, list[int]] = {}
    for number, table in enumerate(data.layer_tables):
        groups.setdefault(table.scale or table.title, []).append(number)
    names = {model.name for model in data.models}
    marks = "\u25cb best of its row, \u25a1 best of its column."

    def note(numbers: list[int]) -> str:
        tables = [data.layer_tables[number] for number in numbers]
        if any({one.row_model, one.column_model} <= names for one in tables):
            return f"{marks} Click a cell to see its two layers side by side above."
        return marks

    return [(scale, numbers, note(numbers)) for scale, numbers in groups.items()]


def _layer_value_table(table: LayerTable) -> Table:
    return Table(
        f"{table.title}: {table.row_model} by {table.column_model}",
        ["", *table.column_layers],
        [
            [name, *map(float, line)]
            for name, line in zip(table.row_layers, np.asarray(table.values), strict=True)
        ],
    )


def _method_tables(data: ReportData) -> list[Table]:
    tables = []
    if data.parameters:
        tables.append(_pairs_table("Parameters", data.parameters))
    if data.quantization is not None:
        tables.append(_quantization_table(data.quantization))
    if data.versions:
        tables.append(_pairs_table("Versions", data.versions))
    return tables


def _pairs_table(caption: str, pairs: Mapping[str, object]) -> Table:
    return Table(caption, ["", "value"], [[name, _plain(value)] for name, value in pairs.items()])


def _plain(value: object) -> str | float:
    if isinstance(value, float):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(_plain(one)) for one in value)
    return str(value)


def _quantization_table(one: Quantization) -> Table:
    rows: list[list[Any]] = [
        ["bytes per patch", len(one.scales)],
        ["columns before", one.n_columns],
        ["share of squared norm kept", one.energy],
        ["root mean square error of a correlation", one.error],
        ["95 % of errors are under", one.error_95],
    ]
    return Table("Vectors in this page", ["", "value"], rows)
