"""Comparison of all layers of several models: model x model x layer, and how they lie together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace._core.progress import Listener, Progress, as_listener
from relspace._core.validation import ItemId, check_random_state, check_resamples
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.measures import Measure
from relspace.measures.symmetrized import symmetrized
from relspace.pictures.html import html_table
from relspace.similarity.arrangement import classical_scaling, dissimilarity, hierarchy
from relspace.similarity.compare import as_measure
from relspace.similarity.opening import open_tables
from relspace.similarity.record import library_versions
from relspace.similarity.tables import most_alike, places_of, plain_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from relspace.pictures.theme import Theme

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
        symmetric the mean of both orders, which is then what is tested. NaN where the measure has
        no value.
    chance : array of shape (T, T)
        Means under permutation of the items; NaN between layers of one model, which are not
        tested.
    best : mapping of str to mapping of str to array of shape (L,)
        Model x model x layer: for each layer of the first, its value with the most alike layer of
        the second; of a model with itself, with the most alike *other* layer.
    summary : array of shape (n_models, n_models)
        Mean best match over the layers of both models; of a model with itself the measure's value
        of identical features.
    p_values : array of shape (n_models, n_models) or None
        Of the most alike pair of layers of two models, against its null distribution; NaN of a
        model with itself.
    left_out : mapping of str to str
        Layers on which the measure has no value (``"model, layer"``), and why.
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
    left_out: Mapping[str, str]
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
        return self._block(self.values, first, second)

    def chance_block(self, first: str, second: str) -> Table:
        """The chance levels of the layers of two models."""
        return self._block(self.chance, first, second)

    def _block(self, table: Table, first: str, second: str) -> Table:
        rows, columns = self._places[first], self._places[second]
        return table[rows.start : rows.stop, columns.start : columns.stop]

    @property
    def _places(self) -> dict[str, range]:
        return places_of({name: len(layers) for name, layers in self.layers.items()})

    @property
    def layer_distances(self) -> Table:
        """Dissimilarities of all layers of all models, see ``values``."""
        return dissimilarity(self.values, self.measure.direction, self.measure.identical)

    @property
    def scaling(self) -> tuple[Table, float]:
        """Places of all layers in a plane, and the share of the variance that it holds.

        Returns
        -------
        points : array of shape (T, 2)
            See :func:`relspace.similarity.arrangement.classical_scaling`; NaN for layers that lack
            values.
        explained : float
            The share.
        """
        distances = self.layer_distances
        kept = np.arange(len(distances))
        # Layers that lack most values go first, until no pair of those left lacks one.
        while np.isnan(distances[np.ix_(kept, kept)]).any():
            kept = np.delete(kept, np.isnan(distances[np.ix_(kept, kept)]).sum(axis=1).argmax())
        points = np.full((len(distances), 2), np.nan)
        placed, explained = classical_scaling(distances[np.ix_(kept, kept)])
        points[kept] = placed
        return points, explained

    @property
    def model_distances(self) -> Table:
        """Dissimilarities of the models, see ``summary``."""
        return dissimilarity(self.summary, self.measure.direction, self.measure.identical)

    @property
    def merges(self) -> Table:
        """Hierarchy of the models: see :func:`relspace.similarity.arrangement.hierarchy`."""
        return hierarchy(self.model_distances)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        points, explained = self.scaling
        return {
            "measure": self.measure.name,
            "parameters": self.measure.parameters,
            "direction": self.measure.direction,
            "layers": {name: list(layers) for name, layers in self.layers.items()},
            "values": plain_values(self.values),
            "chance": plain_values(self.chance),
            "best": {
                name: {other: plain_values(values) for other, values in of_one.items()}
                for name, of_one in self.best.items()
            },
            "summary": plain_values(self.summary),
            "p_values": plain_values(self.p_values),
            "scaling": {"points": plain_values(points), "explained": explained},
            "merges": self.merges.tolist(),
            "left_out": dict(self.left_out),
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
        from relspace.pictures.layer_plots import draw_model_comparison
        from relspace.pictures.theme import LIGHT

        points, explained = self.scaling
        return draw_model_comparison(
            self.measure.title,
            self.models,
            self.summary,
            self.merges,
            {name: points[list(place)] for name, place in self._places.items()},
            explained,
            self.best,
            self.mean_chance,
            is_distance=self.measure.direction == "distance",
            theme=theme or LIGHT,
        )

    @property
    def mean_chance(self) -> float:
        """Mean chance level of layers of different models."""
        return float(np.nanmean(self.chance))


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
    progress: Progress = None,
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
    record, tell = as_measure(measure), as_listener(progress)
    # The order of two models does not matter here: neither to values nor to what they are tested
    # against, which come from this one statistic.
    statistic = symmetrized(record)
    seed = check_random_state(random_state)
    count = check_resamples(n_permutations, "n_permutations", at_least=0)
    names = [str(name) for name in models]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"models have the names {', '.join(names)}; they must differ.")
    # The order of names, not that of the mapping, says whose items are permuted.
    pairs = list(combinations(sorted(names), 2))
    tables = open_tables(
        dict(zip(names, models.values(), strict=True)),
        statistic,
        pairs,
        ids=ids,
        groups=groups,
        seed=seed,
        max_items=max_items,
        memory_budget=memory_budget,
        client=client,
        progress=tell,
    )
    places = tables.places
    tell(0, 0, f"Comparing {len(tables.names)} layers of {len(names)} models")
    values, chance = np.full((2, len(tables.names), len(tables.names)), np.nan)
    p_values = np.full((len(names), len(names)), np.nan)
    for first, second in pairs:
        rows, columns = places[first], places[second]
        found = tables.beside_chance(
            rows, columns, count, seed, _of_pair(tell, f"{first} and {second}")
        )
        for table, of_pair in ((values, found.values), (chance, found.chance)):
            table[np.ix_(rows, columns)], table[np.ix_(columns, rows)] = of_pair, of_pair.T
        if count:
            i, j = names.index(first), names.index(second)
            p_values[i, j] = p_values[j, i] = found.smallest_p
    for own in places.values():
        of_one = tables.values(own, own)
        values[np.ix_(own, own)] = (of_one + of_one.T) / 2
    tables.warn_of_gaps()
    best = _best_matches(values, places, larger=record.direction == "similarity")
    return ModelComparison(
        measure=record,
        layers=tables.layers,
        values=values,
        chance=chance,
        best=best,
        summary=_summary(best, record.identical),
        p_values=p_values if count else None,
        left_out=tables.missing_layers(),
        n_items=tables.n_items,
        n_units=tables.n_units,
        n_available=tables.n_available,
        null_by=tables.null_by,
        matched_by=tables.matched_by,
        n_permutations=count,
        random_state=seed,
        versions=library_versions(),
    )


def _of_pair(tell: Listener, models: str) -> Listener:
    """Say which two models the permutations are of."""
    return lambda done, total, text: tell(done, total, f"{models}: {text}")


def _best_matches(
    values: Table, places: Mapping[str, range], *, larger: bool
) -> dict[str, dict[str, Table]]:
    without_self = values.copy()
    np.fill_diagonal(without_self, np.nan)
    # A model of one layer has no other layer to match.
    return {
        name: {
            other: most_alike(without_self[np.ix_(rows, columns)], 1, larger=larger)
            for other, columns in places.items()
        }
        for name, rows in places.items()
    }


def _summary(best: Mapping[str, Mapping[str, Table]], identical: float) -> Table:
    names = list(best)
    summary = np.full((len(names), len(names)), identical)
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            if i != j:
                both = np.concatenate([best[first][second], best[second][first]])
                summary[i, j] = np.nanmean(both)
    return summary
