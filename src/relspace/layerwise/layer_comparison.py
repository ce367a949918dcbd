"""Comparison of all layers of one model with all layers of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace._html import html_table
from relspace._validation import ItemId, check_count, check_random_state
from relspace.comparison import as_measure
from relspace.comparison_record import PERMUTATIONS_FOR_CHANCE, library_versions
from relspace.errors import InvalidInputError
from relspace.layerwise.depth import depth_correlation, monotone_path, relative_depth
from relspace.layerwise.model_layers import ModelLayers, prepare_models
from relspace.layerwise.null_tables import chance_tables, drawn_tables, spread
from relspace.layerwise.streamed_layers import is_summed, sum_layers
from relspace.measures import MIN_ITEMS, Measure
from relspace.resampling import Units, p_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from relspace.figures.plots import Theme

Table = NDArray[np.float64]


@dataclass(frozen=True)
class BestMatch:
    """The layer of the other model that is most like a layer, with its value beside chance."""

    layer: str
    match: str
    value: float
    chance: float
    p_value: float | None


@dataclass(frozen=True, repr=False, eq=False)
class LayerComparison:
    """How alike every layer of one model and every layer of another are.

    Attributes
    ----------
    measure : Measure
        What was measured; its record says what the values mean.
    models : (str, str)
        The models' names, rows first.
    layers : (tuple of str, tuple of str)
        Their layers, from input to output.
    values : array of shape (L, M)
        The table.
    chance : array of shape (L, M)
        Means under permutation of the items.
    chance_std : array of shape (L, M) or None
        Standard deviations under permutation; None where means are known in closed form and no
        permutations were asked for.
    p_values : array of shape (L, M) or None
        Each value against the null distribution of the most alike pair in the table, so that one
        in twenty tables of unrelated models has any p below 0.05 (Westfall and Young 1993).
    extreme_null : array of shape (n_permutations,)
        The most alike value of the table under each permutation.
    drift : (array of shape (L - 1,), array of shape (M - 1,))
        Values between consecutive layers of each model.
    n_items, n_units : int
        Items compared, and groups of them permuted.
    n_available : int
        How many items there were; more than ``n_items`` where a random part was compared.
    null_by : str
        ``"permutations"`` of the items, or ``"limit"``: draws from the normal distribution that
        permutations of many items have, where items were summed over.
    matched_by : str
        Whether rows were matched by ``"ids"`` or by ``"position"``.
    random_state : int
        Seed of the permutations.
    versions : dict of str to str
        Of the libraries.
    """

    measure: Measure
    models: tuple[str, str]
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    values: Table
    chance: Table
    chance_std: Table | None
    p_values: Table | None
    extreme_null: Table
    drift: tuple[Table, Table]
    n_items: int
    n_units: int
    n_available: int
    null_by: str
    matched_by: str
    random_state: int
    versions: Mapping[str, str]

    @property
    def n_permutations(self) -> int:
        """How many permutations were asked for."""
        return len(self.extreme_null) if self.p_values is not None else 0

    @property
    def likeness(self) -> Table:
        """The table with larger values for more alike layers, whatever the measure's direction."""
        return self.values if self.measure.direction == "similarity" else -self.values

    @property
    def maximum(self) -> BestMatch:
        """The most alike pair of layers; its p-value is corrected for all the pairs."""
        row, column = np.unravel_index(int(self.likeness.argmax()), self.values.shape)
        return self._match(int(row), int(column), of_row=True)

    @property
    def best_matches(self) -> tuple[tuple[BestMatch, ...], tuple[BestMatch, ...]]:
        """For each layer of either model, the most alike layer of the other."""
        of_rows, of_columns = self.likeness.argmax(axis=1), self.likeness.argmax(axis=0)
        return (
            tuple(self._match(i, int(j), of_row=True) for i, j in enumerate(of_rows)),
            tuple(self._match(int(i), j, of_row=False) for j, i in enumerate(of_columns)),
        )

    @property
    def path(self) -> list[tuple[int, int]]:
        """Monotone alignment of depth: see :func:`relspace.layerwise.depth.monotone_path`."""
        return monotone_path(self.likeness)

    @property
    def depth_correlations(self) -> tuple[float, float]:
        """Rank correlation of each model's depths with the depths of its best matches."""
        return (
            depth_correlation(self.likeness.argmax(axis=1)),
            depth_correlation(self.likeness.argmax(axis=0)),
        )

    def _match(self, row: int, column: int, *, of_row: bool) -> BestMatch:
        names = self.layers[0][row], self.layers[1][column]
        return BestMatch(
            *(names if of_row else names[::-1]),
            value=float(self.values[row, column]),
            chance=float(self.chance[row, column]),
            p_value=None if self.p_values is None else float(self.p_values[row, column]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        first, second = self.models
        matches = self.best_matches
        correlations = [None if np.isnan(one) else one for one in self.depth_correlations]
        return {
            "measure": self.measure.name,
            "parameters": self.measure.parameters,
            "direction": self.measure.direction,
            "models": list(self.models),
            "layers": {first: list(self.layers[0]), second: list(self.layers[1])},
            "values": self.values.tolist(),
            "chance": self.chance.tolist(),
            "chance_std": None if self.chance_std is None else self.chance_std.tolist(),
            "p_values": None if self.p_values is None else self.p_values.tolist(),
            "maximum": vars(self.maximum),
            "best_matches": {
                first: [vars(one) for one in matches[0]],
                second: [vars(one) for one in matches[1]],
            },
            "path": [[self.layers[0][i], self.layers[1][j]] for i, j in self.path],
            "depth_correlations": dict(zip(self.models, correlations, strict=True)),
            "relative_depth": {
                name: relative_depth(len(layers)).tolist()
                for name, layers in zip(self.models, self.layers, strict=True)
            },
            "drift": {
                name: values.tolist() for name, values in zip(self.models, self.drift, strict=True)
            },
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
        best = self.maximum
        p = "" if best.p_value is None else f", p {best.p_value:.3g} (corrected)"
        return (
            f"LayerComparison({self.measure.title}: {self.models[0]} ({len(self.layers[0])} "
            f"layers) x {self.models[1]} ({len(self.layers[1])} layers), {self.n_items} items; "
            f"most alike {best.layer} and {best.match}: {best.value:.3f}, "
            f"chance {round(best.chance, 3) + 0.0:.3f}{p})"
        )

    def _repr_html_(self) -> str:
        """The table, shaded by likeness, which notebooks show."""
        like = self.likeness
        shades = (like - like.min()) / max(float(np.ptp(like)), np.finfo(np.float64).tiny)
        return html_table(
            f"{self.measure.title}: {self.models[0]} by {self.models[1]}",
            ["", *self.layers[1]],
            [
                [name, *map(float, row)]
                for name, row in zip(self.layers[0], self.values, strict=True)
            ],
            note=repr(self),
            shades=shades.tolist(),
        )

    def plot(self, *, theme: Theme | None = None) -> Figure:
        """Draw the table with its best matches and path, and values against relative depth.

        Parameters
        ----------
        theme : Theme, optional
            Colours; dark ink on white by default.

        Returns
        -------
        Figure
            A matplotlib figure; ``figure.savefig(path)`` writes it.

        Raises
        ------
        MissingDependencyError
            If matplotlib isn't installed.
        """
        from relspace.figures.layer_plots import draw_layer_comparison
        from relspace.figures.plots import LIGHT

        return draw_layer_comparison(
            self.measure.title,
            self.models,
            self.layers,
            self.values,
            self.chance,
            self.drift,
            self.path,
            is_distance=self.measure.direction == "distance",
            theme=theme or LIGHT,
        )


def compare_layers(
    a: object,
    b: object,
    *,
    measure: str | Measure = "affinity",
    names: Sequence[str] | None = None,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    n_permutations: int = 99,
    groups: object | None = None,
    random_state: int = 0,
    max_items: int | None = None,
    memory_budget: int | None = None,
    client: Any | None = None,
    progress: Callable[[str], None] | None = None,
) -> LayerComparison:
    """Compare every layer of one model with every layer of another.

    What depends on one layer alone is computed once and used for all pairs and permutations.
    Layers on disk that don't fit into memory are read in blocks: measures that are sums over items
    (``measure.streams``) come out the same, with chance and p-values from the normal limit of
    permutations; others are of a part of the items, if ``max_items`` allows it.

    Parameters
    ----------
    a, b : FeatureSet, or mapping of str to array-like of shape (n, d), path, or source of rows
        Layers of two models over the same items, from input to output. Tokens of images are items
        of their own, permuted image by image. What :func:`relspace.features.open_rows` takes is
        read in blocks.
    measure : str or Measure
        One of :func:`relspace.measures.list`, by name or as made by :func:`relspace.measures.get`.
    names : sequence of two str, optional
        What the models are called; by default as their feature sets say, else "first", "second".
    ids : mapping of str to sequence, one sequence, or "position", optional
        The items' ids, by model's name or for both; by default those that the sets bring. Where
        only one brings some, ``"position"`` must say that rows are matched by position.
    n_permutations : int
        How many permutations of the items make the null distribution; with 0 there are no
        p-values, and chance comes from the closed form, or from 20 permutations.
    groups : sequence, optional
        A label for each item of ``a``; groups are permuted as a whole.
    random_state : int
        Seed.
    max_items : int, optional
        Compare this many items at most, chosen at random. All by default.
    memory_budget : int, optional
        Bytes that the layers' factors may take; a quarter of what is free by default. Layers on
        disk that it does not hold are read in blocks.
    client : distributed.Client, optional
        A Dask cluster whose workers sum over parts of the items; they must reach files by the same
        paths.
    progress : callable, optional
        Called with a line of text as the work goes on.

    Returns
    -------
    LayerComparison
        The table, best matches both ways, alignment of depth, drift, p-values.

    Raises
    ------
    ItemMismatchError
        If the layers don't hold the same items.
    InvalidInputError
        If features are not finite, constant or too few, or an argument is out of range.

    Examples
    --------
    >>> import numpy as np, relspace as rs
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 8))
    >>> shallow = {"in": X, "out": np.tanh(X @ rng.normal(size=(8, 6)))}
    >>> deep = {"in": X[:, ::-1], "middle": X ** 2, "out": shallow["out"] @ rng.normal(size=(6, 9))}
    >>> layers = rs.compare_layers(shallow, deep, measure="cka")
    >>> [(match.layer, match.match) for match in layers.best_matches[0]]
    [('in', 'in'), ('out', 'out')]
    """
    record = as_measure(measure)
    seed = check_random_state(random_state)
    count = check_count(n_permutations, "n_permutations", at_least=0)
    called = model_names((a, b), names)
    models = [
        ModelLayers.of(given, name, ids_of_model(ids, name, called))
        for given, name in zip((a, b), called, strict=True)
    ]
    if max_items is not None:
        max_items = check_count(max_items, "max_items", at_least=MIN_ITEMS)
    options: dict[str, Any] = {"memory_budget": memory_budget, "progress": progress}
    if is_summed(models, record, max_items, memory_budget, client):
        rows = range(len(models[0].layers))
        tables = sum_layers(models, len(rows), record, groups=groups, client=client, **options)
        columns = range(len(rows), len(rows) + len(models[1].layers))
        values = tables.values(rows, columns)
        null = tables.null(rows, columns, count or PERMUTATIONS_FOR_CHANCE, seed, progress)
        drift = (tables.drift(rows), tables.drift(columns))
        chance, chance_std = spread(null)
        matched_by, null_by = tables.matched_by, "limit"
        n_items = n_units = n_available = models[0].n_items
    else:
        prepared = prepare_models(
            models, record, groups=groups, max_items=max_items, seed=seed, **options
        )
        x, y = prepared.factors
        if progress is not None:
            progress(f"Comparing {len(x)} x {len(y)} layers")
        values = record.table(x, y).numpy()
        null = drawn_tables(
            record, x, y, prepared.n_items, count, prepared.groups, seed, progress=progress
        )
        chance, chance_std = chance_tables(record, x, y, null)
        drift = (_drift(record, x), _drift(record, y))
        matched_by, null_by = prepared.matched_by, "permutations"
        n_items = n_units = prepared.n_items
        n_available = prepared.n_available
        if prepared.groups is not None:
            n_units = len(Units.of(n_items, prepared.groups))
    larger = record.direction == "similarity"
    extreme = null.max(axis=(1, 2)) if larger else null.min(axis=(1, 2))
    p_values = None
    if count:
        tested = [p_value(float(value), extreme, larger=larger) for value in values.flat]
        p_values = np.reshape(tested, values.shape)
    return LayerComparison(
        measure=record,
        models=(called[0], called[1]),
        layers=(tuple(models[0].layers), tuple(models[1].layers)),
        values=values,
        chance=chance,
        chance_std=chance_std,
        p_values=p_values,
        extreme_null=extreme,
        drift=drift,
        n_items=n_items,
        n_units=n_units,
        n_available=n_available,
        null_by=null_by,
        matched_by=matched_by,
        random_state=seed,
        versions=library_versions(),
    )


def model_names(models: Sequence[object], names: Sequence[str] | None) -> list[str]:
    """Say what models are called: as given, as their feature sets say, or by their number."""
    if names is not None:
        if isinstance(names, str) or len(names) != len(models):
            raise InvalidInputError(f"names is {names!r}; give one name for each model.")
        return [str(name) for name in names]
    own = [(getattr(model, "metadata", None) or {}).get("model") for model in models]
    if all(isinstance(name, str) for name in own) and len(set(own)) == len(own):
        return [str(name) for name in own]
    return ["first", "second"]


def ids_of_model(
    ids: Mapping[str, object] | Sequence[ItemId] | str | None, name: str, names: Sequence[str]
) -> object | None:
    """Pick a model's ids from what was given for each or for all."""
    if not isinstance(ids, Mapping):
        return ids
    unknown = [str(key) for key in ids if key not in names]
    if unknown:
        raise InvalidInputError(
            f"ids names {', '.join(unknown)}; the models are {', '.join(names)}."
        )
    return ids.get(name)


def _drift(measure: Measure, factors: Sequence[Any]) -> Table:
    return np.array([measure.from_factors(one, other) for one, other in pairwise(factors)])
