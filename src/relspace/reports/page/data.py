"""What an interactive report holds, as plain data: arrays and text, no drawing, no HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relspace.errors import InvalidInputError

#: The colourings that a page knows by these names, in the order in which it offers them.
COLORINGS = ("joint", "per model", "before")


@dataclass(frozen=True)
class Table:
    """A table: its caption, the titles of its columns, and rows that start with their own title.

    Attributes
    ----------
    emphasis : int, optional
        The column that the eye should find first.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    emphasis: int | None = None


@dataclass(frozen=True)
class Picture:
    """A PNG for light pages and one for dark pages, with what it shows in words."""

    caption: str
    description: str
    light: bytes
    dark: bytes


@dataclass(frozen=True)
class KeyNumber:
    """A number that the page opens with, and what it is to be read beside."""

    value: str
    title: str
    beside: str


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then pictures, then tables."""

    heading: str
    paragraphs: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class ReportImage:
    """A thumbnail: its title and its pixels of shape (h, w, 3), uint8 sRGB."""

    title: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class ReportLayer:
    """One layer of one model over all images, on one grid of patches.

    Attributes
    ----------
    name : str
        The layer.
    vectors : array of shape (n_images, rows, columns, n_components), int8
        Quantised relative features (:func:`relspace.reports.quantize.quantize_rows`).
    colors : mapping of str to array of shape (n_images, rows, columns, 3), uint8
        sRGB by colouring; "joint", "per model" and "before" are the usual ones.
    segments : mapping of int to array of shape (n_images, rows, columns), uint8
        Each patch's segment by number of segments, the same number being the same segment
        everywhere.
    boxes : array of shape (n_images, 4), optional
        Top, left, bottom, right of what the grid covers, as fractions of the image, which it may
        leave where an image was padded; all of the image by default.
    averaged_from : tuple of two int, optional
        Rows and columns of the layer's own grid, where patches were averaged.
    """

    name: str
    vectors: NDArray[np.int8]
    colors: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    segments: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    boxes: NDArray[np.floating[Any]] | None = None
    averaged_from: tuple[int, int] | None = None


@dataclass(frozen=True)
class ReportModel:
    """One model: its name, what it is in a few words, and its layers from input to output."""

    name: str
    layers: Sequence[ReportLayer]
    description: str = ""


@dataclass(frozen=True)
class Quantization:
    """How vectors became small, and what that costs.

    Attributes
    ----------
    scales : array of shape (n_components,)
        Step of every component: a value is its int8 times this.
    n_columns : int
        Columns of the rows before, the number of landmarks.
    energy : float
        Share of the rows' squared norm that the components keep.
    error : float
        Root mean square of (product of quantised vectors - correlation) over pairs of rows.
    error_95 : float
        The size that 95 % of these errors stay under.
    n_pairs : int
        How many pairs of rows the errors were measured on.
    """

    scales: NDArray[np.floating[Any]]
    n_columns: int
    energy: float
    error: float
    error_95: float
    n_pairs: int


@dataclass(frozen=True)
class LayerTable:
    """A layer x layer table of two models.

    Attributes
    ----------
    title : str
        The measure.
    row_model, column_model : str
        Names of the models.
    row_layers, column_layers : sequence of str
        Their layers, from input to output.
    values : array of shape (len(row_layers), len(column_layers))
        The values; NaN where there is none.
    chance : float, optional
        What unrelated features would give.
    p_values : array of the same shape, optional
        Chance of a value as extreme for unrelated features.
    is_distance : bool
        Whether small values mean alike.
    scale : str
        What its colours measure; the title by default. Tables of one scale share a range of
        colours and a legend, so that they can be compared.
    """

    title: str
    row_model: str
    column_model: str
    row_layers: Sequence[str]
    column_layers: Sequence[str]
    values: NDArray[np.floating[Any]]
    chance: float | None = None
    p_values: NDArray[np.floating[Any]] | None = None
    is_distance: bool = False
    scale: str = ""


@dataclass(frozen=True)
class Curve:
    """One line of a chart: its title, and a value for each of the chart's labels."""

    title: str
    values: Sequence[float]
    is_control: bool = False


@dataclass(frozen=True)
class CurveChart:
    """Lines over layers, or over other ordered labels, with their chance level."""

    title: str
    y_title: str
    labels: Sequence[str]
    curves: Sequence[Curve]
    chance: float | None = None
    x_title: str = "layer"


@dataclass(frozen=True)
class Scatter:
    """Items of several sets as points of one plane.

    Attributes
    ----------
    title : str
        What is shown.
    items : sequence of str
        Titles of the items; item i is point i of every set.
    points : mapping of str to array of shape (n, 2)
        Points of the plane by set.
    colors : mapping of str to array of shape (n, 3), uint8
        sRGB by set.
    shows_images : bool
        Whether the report's image i is that of item i.
    """

    title: str
    items: Sequence[str]
    points: Mapping[str, NDArray[np.floating[Any]]]
    colors: Mapping[str, NDArray[np.uint8]]
    shows_images: bool = False


@dataclass(frozen=True)
class Value:
    """A value as it has to be read: beside chance, with p-value, calibrated score, interval."""

    title: str
    value: float
    chance: float | None = None
    p_value: float | None = None
    calibrated: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that an interactive report holds, see :func:`relspace.reports.page.render_report`.

    Parts that are left out don't appear on the page.

    Attributes
    ----------
    title, lead : str
        What the page is called, and what it says in two or three sentences.
    key_numbers : sequence of KeyNumber
        The numbers that the page opens with.
    images : sequence of ReportImage
        The images that the layers' grids lie on.
    models : sequence of ReportModel
        Models with their layers' patches.
    quantization : Quantization, optional
        Of the layers' vectors; needed where there are models.
    layer_tables : sequence of LayerTable
        Layer x layer tables, linked to the panels by the names of models and layers.
    folded_tables : sequence of Table
        Tables of the layers, which the reader unfolds.
    charts : sequence of CurveChart
        Curves over layers.
    scatters : sequence of Scatter
        Items as points.
    tables : sequence of Table
        Values with chance and p-values (:func:`value_table`), matches, and the like.
    about_layers, about_values : sequence of str
        Paragraphs over the layers and over the tables: what the values are values of.
    matched_by : str
        How items of different models were matched, in words.
    parameters, versions : mapping
        What the numbers depend on.
    sections : sequence of Section
        Anything else: headings with paragraphs, pictures and tables, below the rest.
    """

    title: str
    lead: str = ""
    key_numbers: Sequence[KeyNumber] = ()
    images: Sequence[ReportImage] = ()
    models: Sequence[ReportModel] = ()
    quantization: Quantization | None = None
    layer_tables: Sequence[LayerTable] = ()
    folded_tables: Sequence[Table] = ()
    charts: Sequence[CurveChart] = ()
    scatters: Sequence[Scatter] = ()
    tables: Sequence[Table] = ()
    about_layers: Sequence[str] = ()
    about_values: Sequence[str] = ()
    matched_by: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    sections: Sequence[Section] = ()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def n_tokens(self) -> int:
        """Patches of all layers of all models."""
        return sum(
            math.prod(layer.vectors.shape[:3]) for model in self.models for layer in model.layers
        )


def value_table(caption: str, values: Sequence[Value]) -> Table:
    """Lay values out beside their chance, p-value and interval; columns without any are left out.

    Examples
    --------
    >>> value_table("Alike?", [Value("CKA", 0.61, chance=0.02, p_value=0.001)]).columns
    ['', 'value', 'chance', 'p']
    """
    has_chance, has_p, has_calibrated, has_interval = (
        any(vars(one)[name] is not None for one in values)
        for name in ("chance", "p_value", "calibrated", "interval")
    )
    columns = ["", "value"]
    columns += ["chance"] * has_chance + ["p"] * has_p + ["calibrated"] * has_calibrated
    columns += ["from", "to"] * has_interval
    rows: list[list[str | float]] = []
    for one in values:
        optional = [one.chance] * has_chance + [one.p_value] * has_p
        optional += [one.calibrated] * has_calibrated
        optional += list(one.interval or (None, None)) * has_interval
        rows.append([one.title, one.value, *("" if cell is None else cell for cell in optional)])
    return Table(caption, columns, rows, emphasis=1)


def _check(data: ReportData) -> None:
    if data.models and (not data.images or data.quantization is None):
        raise InvalidInputError("models are given without images or without quantization.")
    for image in data.images:
        _expect(f"pixels of {image.title}", image.pixels, (None, None, 3), np.uint8)
    for model in data.models:
        for layer in model.layers:
            where = f"{model.name} {layer.name}"
            width = len(data.quantization.scales) if data.quantization else None
            _expect(
                f"vectors of {where}",
                layer.vectors,
                (len(data.images), None, None, width),
                np.int8,
            )
            grid = layer.vectors.shape[:3]
            for name, colors in layer.colors.items():
                _expect(f"colours {name!r} of {where}", colors, (*grid, 3), np.uint8)
            for k, segments in layer.segments.items():
                _expect(f"segments at {k} of {where}", segments, grid, np.uint8)
            if layer.boxes is not None:
                _expect(f"boxes of {where}", layer.boxes, (len(data.images), 4), None)
    for table in data.layer_tables:
        _expect(
            f"values of {table.title}",
            table.values,
            (len(table.row_layers), len(table.column_layers)),
            None,
        )
    for chart in data.charts:
        for curve in chart.curves:
            _expect(f"curve {curve.title}", np.asarray(curve.values), (len(chart.labels),), None)
    for scatter in data.scatters:
        for name, points in scatter.points.items():
            _expect(f"points of {name}", points, (len(scatter.items), 2), None)


def _expect(
    what: str, array: NDArray[Any], shape: Sequence[int | None], dtype: type | None
) -> None:
    found = np.asarray(array)
    fits = found.ndim == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, found.shape, strict=True)
    )
    if not fits or (dtype is not None and found.dtype != dtype):
        wanted = " x ".join("any" if size is None else str(size) for size in shape)
        kind = "" if dtype is None else f" of {np.dtype(dtype)}"
        raise InvalidInputError(
            f"{what}: found {' x '.join(map(str, found.shape))} of {found.dtype}; it must be "
            f"{wanted}{kind}."
        )
