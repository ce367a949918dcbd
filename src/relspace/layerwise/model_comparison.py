"""Comparison of all layers of several models: model x model x layer, and how they lie together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace._html import html_table
from relspace._validation import ItemId, check_count, check_random_state
from relspace.comparison import as_measure
from relspace.comparison_record import PERMUTATIONS_FOR_CHANCE, library_versions
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.layerwise.arrangement import classical_scaling, dissimilarity, hierarchy
from relspace.layerwise.layer_comparison import ids_of_model
from relspace.layerwise.model_layers import ModelLayers, prepare_models
from relspace.layerwise.null_tables import chance_tables, drawn_tables, spread
from relspace.layerwise.streamed_layers import is_summed, sum_layers
from relspace.measures import MIN_ITEMS, Measure
from relspace.resampling import Units, p_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from relspace.figures.plots import Theme

Table = NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class ModelComparison:
    """How alike all layers of several models are.

    Attributes
    ----------
    measure : Measure
        What was measured.
    layers : mapping of str to tuple of str
        Layers by model, from input to output.
    values : array of shape (T, T)
        The table over all T layers of all models, model by model; for a measure that is not
        symmetric the mean of both orders.
    chance : array of shape (T, T)
        Means under permutation of the items.
    best : mapping of str to mapping of str to array of shape (L,)
        Model x model x layer: for each layer of the first, its value with the most alike layer of
        the second; of a model with itself, with the most alike *other* layer.
    summary : array of shape (n_models, n_models)
        Mean best match over the layers of both models; of a model with itself the measure's value
        of identical features.
    p_values : array of shape (n_models, n_models) or None
        Of the most alike pair of layers of two models, against its null distribution.
    n_items, n_units, n_available, null_by, matched_by, n_permutations, random_state, versions
        As in :class:`relspace.LayerComparison`.
    """

    measure: Measure
    layers: Mapping[str, tuple[str, ...]]
    values: Table
    chance: Table
    best: Mapping[str, Mapping[str, Table]]
    summary: Table
    p_values: Table | None
    n_items: int
    n_units: int
    n_available: int
    null_by: str
    matched_by: str
    n_permutations: int
    random_state: int
    versions: Mapping[str, str]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(self.layers)

    def block(self, first: str, second: str) -> Table:
        """The table of the layers of two models."""
        places = slices_of({name: len(layers) for name, layers in self.layers.items()})
        return self.values[places[first], places[second]]

    @property
    def layer_distances(self) -> Table:
        """Dissimilarities of all layers of all models, see ``values``."""
        return dissimilarity(self.values, self.measure.direction, self.measure.identical)

    @property
    def model_distances(self) -> Table:
        """Dissimilarities of the models, see ``summary``."""
        return dissimilarity(self.summary, self.measure.direction, self.measure.identical)

    @property
    def merges(self) -> Table:
        """Hierarchy of the models: see :func:`relspace.layerwise.arrangement.hierarchy`."""
        return hierarchy(self.model_distances)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        points, explained = classical_scaling(self.layer_distances)
        return {
            "measure": self.measure.name,
            "parameters": self.measure.parameters,
            "direction": self.measure.direction,
            "layers": {name: list(layers) for name, layers in self.layers.items()},
            "values": self.values.tolist(),
            "chance": self.chance.tolist(),
            "best": {
                name: {other: _plain(values) for other, values in of_one.items()}
                for name, of_one in self.best.items()
            },
            "summary": self.summary.tolist(),
            "p_values": None if self.p_values is None else _plain(self.p_values),
            "scaling": {"points": points.tolist(), "explained": explained},
            "merges": self.merges.tolist(),
            "n_items": self.n_items,
            "n_units": self.n_units,
            "n_available": self.n_available,
            "null_by": self.null_by,
            "matched_by": self.matched_by,
            "n_permutations": self.n_permutations,
            "random_state": self.random_state,
            "versions": dict(self.versions),
        }

    def __repr__(self) -> str:
        width = max(map(len, self.models))
        lines = [f"ModelComparison({self.measure.title}, {self.n_items} items, mean best match)"]
        for name, row in zip(self.models, self.summary, strict=True):
            lines.append(f"{name.ljust(width)}  " + "  ".join(f"{value:6.3f}" for value in row))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The mean best matches, which notebooks show."""
        return html_table(
            f"{self.measure.title}: mean best match",
            ["", *self.models],
            [[name, *map(float, row)] for name, row in zip(self.models, self.summary, strict=True)],
            note=f"{self.n_items} items matched by {self.matched_by}",
        )

    def plot(self, *, theme: Theme | None = None) -> Figure:
        """Draw the models' table and hierarchy, and all their layers in one plane.

        Parameters
        ----------
        theme : Theme, optional
            Colours; dark ink on white by default.

        Returns
        -------
        Figure
            A matplotlib figure.

        Raises
        ------
        MissingDependencyError
            If matplotlib isn't installed.
        """
        from relspace.figures.layer_plots import draw_model_comparison
        from relspace.figures.plots import LIGHT

        points, explained = classical_scaling(self.layer_distances)
        places = slices_of({name: len(layers) for name, layers in self.layers.items()})
        return draw_model_comparison(
            self.measure.title,
            self.models,
            self.summary,
            self.merges,
            {name: points[place] for name, place in places.items()},
            explained,
            self.best,
            self.mean_chance,
            is_distance=self.measure.direction == "distance",
            theme=theme or LIGHT,
        )

    @property
    def mean_chance(self) -> float:
        """Mean chance level of layers of different models."""
        places = slices_of({name: len(layers) for name, layers in self.layers.items()})
        across = [
            self.chance[places[first], places[second]].mean()
            for first in self.models
            for second in self.models
            if first != second
        ]
        return float(np.mean(across))


def compare_models(
    models: Mapping[str, object],
    *,
    measure: str | Measure = "affinity",
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    n_permutations: int = 99,
    groups: object | None = None,
    random_state: int = 0,
    max_items: int | None = None,
    memory_budget: int | None = None,
    client: Any | None = None,
    progress: Callable[[str], None] | None = None,
) -> ModelComparison:
    """Compare all layers of two or more models with each other.

    Parameters
    ----------
    models : mapping of str to (FeatureSet, or mapping of str to array-like of shape (n, d))
        Layers by model, over the same items; what is on disk and does not fit into memory is read
        in blocks, as by :func:`relspace.compare_layers`.
    measure, n_permutations, groups, random_state, max_items, memory_budget, client, progress
        As in :func:`relspace.compare_layers`.
    ids : mapping of str to sequence, one sequence, or "position", optional
        The items' ids, by model or for all; by default those that the sets bring. Where only some
        bring ids, ``"position"`` must say that rows are matched by position.

    Returns
    -------
    ModelComparison
        Tables over layers and over models, with a plane and a hierarchy of them.

    Raises
    ------
    ItemMismatchError
        If the layers don't hold the same items.
    InvalidInputError
        If there are fewer than two models, or features can't be compared.

    Examples
    --------
    >>> import numpy as np, relspace as rs
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(60, 8)), rng.normal(size=(60, 8))
    >>> models = {"a": {"in": X, "out": X**2}, "b": {"in": 2 * X, "out": X**3}, "c": {"in": Y}}
    >>> rs.compare_models(models, measure="cka").summary.round(1) + 0.0
    array([[1. , 0.7, 0. ],
           [0.7, 1. , 0. ],
           [0. , 0. , 1. ]])
    """
    if not isinstance(models, Mapping):
        raise InvalidTypeError(
            f"models is of type {type(models).__name__}; it must be a mapping of names to layers."
        )
    if len(models) < 2:
        raise InvalidInputError(f"models holds {len(models)} models; give two or more.")
    record = as_measure(measure)
    seed = check_random_state(random_state)
    count = check_count(n_permutations, "n_permutations", at_least=0)
    read = [
        ModelLayers.of(given, name, ids_of_model(ids, name, list(models)))
        for name, given in models.items()
    ]
    if max_items is not None:
        max_items = check_count(max_items, "max_items", at_least=MIN_ITEMS)
    options: dict[str, Any] = {"memory_budget": memory_budget, "progress": progress}
    places = slices_of({model.name: len(model.layers) for model in read})
    if is_summed(read, record, max_items, memory_budget, client):
        every = range(sum(len(model.layers) for model in read))
        tables = sum_layers(read, len(every), record, groups=groups, client=client, **options)
        values = tables.values(every, every)
        null = tables.null(every, every, count or PERMUTATIONS_FOR_CHANCE, seed, progress)
        chance, matched_by, null_by = spread(null)[0], tables.matched_by, "limit"
        n_items = n_units = n_available = read[0].n_items
    else:
        prepared = prepare_models(
            read, record, groups=groups, max_items=max_items, seed=seed, **options
        )
        factors = [factor for of_model in prepared.factors for factor in of_model]
        if progress is not None:
            progress(f"Comparing {len(factors)} layers of {len(read)} models")
        values = record.table(factors, factors).numpy()
        n_items = n_units = prepared.n_items
        null = drawn_tables(
            record, factors, factors, n_items, count, prepared.groups, seed, progress=progress
        )
        chance = chance_tables(record, factors, factors, null)[0]
        matched_by, null_by = prepared.matched_by, "permutations"
        n_available = prepared.n_available
        if prepared.groups is not None:
            n_units = len(Units.of(n_items, prepared.groups))
    values = (values + values.T) / 2
    larger = record.direction == "similarity"
    p_values = _p_values(values, null, list(places.values()), larger=larger) if count else None
    best = _best_matches(values, places, larger=larger)
    return ModelComparison(
        measure=record,
        layers={model.name: tuple(model.layers) for model in read},
        values=values,
        chance=chance,
        best=best,
        summary=_summary(best, record.identical),
        p_values=p_values,
        n_items=n_items,
        n_units=n_units,
        n_available=n_available,
        null_by=null_by,
        matched_by=matched_by,
        n_permutations=count,
        random_state=seed,
        versions=library_versions(),
    )


def _plain(values: Table) -> Any:
    """Lists of numbers, with None where there is none."""
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    return plain.tolist()


def slices_of(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Where each of several lists lies when they stand in one row."""
    ends = np.cumsum(list(sizes.values()))
    return {
        name: slice(int(end) - size, int(end))
        for (name, size), end in zip(sizes.items(), ends, strict=True)
    }


def _best_matches(
    values: Table, places: Mapping[str, slice], *, larger: bool
) -> dict[str, dict[str, Table]]:
    worst = -np.inf if larger else np.inf
    without_self = values.copy()
    np.fill_diagonal(without_self, worst)
    pick = np.max if larger else np.min
    best: dict[str, dict[str, Table]] = {}
    for name, rows in places.items():
        best[name] = {}
        for other, columns in places.items():
            found = pick(without_self[rows, columns], axis=1)
            # A model of one layer has no other layer to match.
            best[name][other] = np.where(np.isinf(found), np.nan, found)
    return best


def _summary(best: Mapping[str, Mapping[str, Table]], identical: float) -> Table:
    names = list(best)
    summary = np.full((len(names), len(names)), identical)
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            if i != j:
                both = np.concatenate([best[first][second], best[second][first]])
                summary[i, j] = both.mean()
    return summary


def _p_values(values: Table, null: Table, places: Sequence[slice], *, larger: bool) -> Table:
    table = np.full((len(places), len(places)), np.nan)
    for i, rows in enumerate(places):
        for j, columns in enumerate(places[:i]):
            block, of_null = values[rows, columns], null[:, rows, columns]
            observed = block.max() if larger else block.min()
            extreme = of_null.max(axis=(1, 2)) if larger else of_null.min(axis=(1, 2))
            table[i, j] = table[j, i] = p_value(float(observed), extreme, larger=larger)
    return table
