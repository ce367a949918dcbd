"""Description of a model: its layers, their shapes and parameters, without any images."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from relspace._core.arguments import say_count
from relspace._core.text_tables import text_table
from relspace.features.feature_model import FeatureModel, Layers
from relspace.features.models.loading import is_graph_file, load_model
from relspace.features.models.processors import MissingPreprocessingError
from relspace.pictures.html import html_table

_OTHERS_SHOWN = 8


@dataclass(frozen=True)
class LayerSummary:
    """A layer, and its features of one item.

    Attributes
    ----------
    name : str
        Its name.
    shape : tuple of int
        (rows, columns, d) of a map, or (d,) of a vector.
    n_parameters : int or None
        Number of parameters of the module whose output it is; None if it isn't the output of one.
    beside : bool
        Whether it is stored beside the layers: a class token, or the pooled output.
    """

    name: str
    shape: tuple[int, ...]
    n_parameters: int | None
    beside: bool

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the map; None of a vector."""
        return (self.shape[0], self.shape[1]) if len(self.shape) == 3 else None


@dataclass(frozen=True, repr=False)
class ModelSummary:
    """A model's layers, as :func:`relspace.describe_model` finds them; it prints as a table.

    Attributes
    ----------
    name, family, modality : str
        Its name, its family, and whether its items are images or texts.
    architecture : str or None
        The class of the network; None if it is a graph in a file.
    input_size : (int, int) or None
        Height and width of its input; None for text models.
    n_parameters : int
        Number of parameters of the network.
    preprocessing : dict or None
        How its input is made of an image; None if it is not saved with the model, and has to be
        given to extract features.
    layers : tuple of LayerSummary
        The layers that would be extracted.
    others : tuple of str
        Names of other layers.
    """

    name: str
    family: str
    modality: str
    architecture: str | None
    input_size: tuple[int, int] | None
    n_parameters: int
    preprocessing: dict[str, Any] | None
    layers: tuple[LayerSummary, ...]
    others: tuple[str, ...]

    @property
    def bytes_per_item(self) -> int:
        """Bytes of one item in a store of type float16."""
        return sum(math.prod(one.shape) for one in self.layers) * np.dtype("float16").itemsize

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, as JSON has them."""
        layers = [asdict(one) | {"grid": one.grid} for one in self.layers]
        return asdict(self) | {"layers": layers, "bytes_per_item": self.bytes_per_item}

    def __str__(self) -> str:
        columns, rows = self._table()
        cells = [["" if one is None else str(one) for one in row] for row in rows]
        return "\n".join([self._title(), "", *text_table(columns, cells), "", *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """A table of the layers, which notebooks show."""
        return html_table(self._title(), *self._table(), note=" ".join(self._notes()))

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        columns = ["layer", "grid", "features", "parameters"]
        rows = [
            [
                one.name,
                None if one.grid is None else f"{one.grid[0]} x {one.grid[1]}",
                one.shape[-1],
                None if one.n_parameters is None else f"{one.n_parameters:,}",
            ]
            for one in self.layers
        ]
        told = [column for column in range(len(columns)) if any(row[column] for row in rows)]
        return [columns[i] for i in told], [[row[i] for i in told] for row in rows]

    def _title(self) -> str:
        kind = self.family if self.architecture is None else f"{self.family}, {self.architecture}"
        takes = "texts"
        if self.input_size is not None:
            takes = f"images of {self.input_size[0]} x {self.input_size[1]}"
        return f"{self.name} ({kind}): takes {takes}, {self.n_parameters:,} parameters"

    def _notes(self) -> list[str]:
        n_layers = sum(not one.beside for one in self.layers)
        size = f"{self.bytes_per_item / 1e6:,.3g} MB in float16"
        layers = say_count(n_layers, "layer")
        notes = [f"{layers} would be extracted, {size} for each {self.modality}."]
        if self.preprocessing is None and self.modality == "image":
            notes.append("Its preprocessing is not saved with it, and has to be given.")
        if self.others:
            shown = ", ".join(self.others[:_OTHERS_SHOWN])
            left = len(self.others) - _OTHERS_SHOWN
            more = f" and {left} more" if left > 0 else ""
            notes.append(f"Others may be asked for by name or pattern: {shown}{more}.")
        return notes


def describe_model(
    model: str | Path | nn.Module | FeatureModel, layers: Layers = "all", **options: Any
) -> ModelSummary:
    """List a model's layers with shapes and parameters, and what would be extracted.

    No images are needed: the model is run once on an input that shows nothing.

    Parameters
    ----------
    model : str, Path, nn.Module or FeatureModel
        What :func:`relspace.load_model` takes, or what it returned.
    layers : "all", "last", or a sequence of int or str
        Which layers, as for :func:`relspace.extract`.
    **options
        What :func:`relspace.load_model` takes beside the model.

    Returns
    -------
    ModelSummary
        It prints as a table; ``to_dict()`` is for JSON.

    Raises
    ------
    UnknownNameError
        If a layer doesn't exist; it says which there are.
    InvalidInputError
        If there is no such model, or the axes of a layer can't be told.

    Examples
    --------
    >>> import relspace as rs
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 6, 2, stride=2))
    >>> model = rs.ModuleModel(network, ["0", "1"], preprocessing=rs.Preprocessing())
    >>> print(rs.describe_model(model))
    Sequential (module, Sequential): takes images of 224 x 224, 590 parameters
    <BLANKLINE>
    layer     grid  features  parameters
    0      56 x 56         8         392
    1      28 x 28         6         198
    <BLANKLINE>
    2 layers would be extracted, 0.0596 MB in float16 for each image.
    """
    loaded, is_preprocessed = _load(model, options)
    names = loaded.names_of(layers)
    settings = loaded.settings()
    described = loaded.describe(names)
    parts = {name: loaded.part_of(name) for name in names}
    blank = loaded.blank()
    return ModelSummary(
        name=loaded.name,
        family=str(settings["family"]),
        modality=loaded.modality,
        architecture=settings.get("architecture"),
        input_size=(blank.shape[1], blank.shape[2]) if loaded.modality == "image" else None,
        n_parameters=loaded.n_parameters,
        preprocessing=settings.get("preprocessing") if is_preprocessed else None,
        layers=tuple(
            LayerSummary(one.name, one.shape, _count(parts.get(one.name)), one.beside)
            for one in described.layers
        ),
        others=tuple(one for one in loaded.others() if one not in names),
    )


def _load(model: Any, options: dict[str, Any]) -> tuple[FeatureModel, bool]:
    """Load a model, also without preprocessing where shapes are in its file; say if it has one."""
    if isinstance(model, FeatureModel):
        return model, True
    try:
        return load_model(model, **options), True
    except MissingPreprocessingError:
        if not is_graph_file(model):
            raise
        return load_model(model, **options | {"preprocessing": "imagenet"}), False


def _count(part: nn.Module | None) -> int | None:
    return None if part is None else sum(one.numel() for one in part.parameters())
