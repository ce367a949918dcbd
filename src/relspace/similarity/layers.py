"""Comparison of all layers of one model with all layers of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace._core.progress import Progress, as_listener
from relspace._core.validation import ItemId, check_random_state, check_resamples
from relspace.measures import Measure
from relspace.pictures.html import html_table
from relspace.similarity.compare import as_measure
from relspace.similarity.depth import depth_correlation, monotone_path, relative_depth
from relspace.similarity.opening import named_models, open_tables
from relspace.similarity.record import library_versions
from relspace.similarity.tables import plain_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from relspace.pictures.theme import Theme

Table = NDArray[np.float64]


@dataclass(frozen=True)
class BestMatch:
    """The layer of the other model that is most like a layer, with its value beside chance.

    Of a layer on which the measure has no value, ``match`` is None and ``value`` is NaN.
    """

    layer: str
    match: str | None
    value: float
    chance: float
    p_value: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, with None where there is none."""
        return {name: plain_values(one) for name, one in vars(self).items()}


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
    left_out : mapping of str to str
        Layers on which the measure has no value (``"model, layer"``), and why; all their values
        are NaN.
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
    left_out: Mapping[str, str]
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
        row, column = np.unravel_index(int(np.nanargmax(self.likeness)), self.values.shape)
        return self._match(int(row), int(column), of_row=True)

    @property
    def best_matches(self) -> tuple[tuple[BestMatch, ...], tuple[BestMatch, ...]]:
        """For each layer of either model, the most alike layer of the other."""
        of_rows, of_columns = self._nearest
        return (
            tuple(self._match(i, j, of_row=True) for i, j in enumerate(of_rows.tolist())),
            tuple(self._match(i, j, of_row=False) for j, i in enumerate(of_columns.tolist())),
        )

    @property
    def path(self) -> list[tuple[int, int]]:
        """Monotone alignment of depth, see :func:`relspace.similarity.depth.monotone_path`.

        Layers without values are passed over.
        """
        has_value = ~np.isnan(self.values)
        rows, columns = (np.flatnonzero(has_value.any(axis=axis)) for axis in (1, 0))
        likeness = self.likeness[np.ix_(rows, columns)]
        # A gap between layers that have values elsewhere is as unlike as the most unlike pair.
        likeness = np.where(np.isnan(likeness), np.nanmin(likeness), likeness)
        return [(int(rows[i]), int(columns[j])) for i, j in monotone_path(likeness)]

    @property
    def depth_correlations(self) -> tuple[float, float]:
        """Rank correlation of each model's depths with the depths of its best matches."""
        of_rows, of_columns = self._nearest
        return depth_correlation(of_rows), depth_correlation(of_columns)

    @property
    def _nearest(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The number of each layer's most alike layer; -1 where it has no value with any."""
        likeness = np.where(np.isnan(self.values), -np.inf, self.likeness)
        return (
            np.where(np.isinf(likeness.max(axis=1)), -1, likeness.argmax(axis=1)),
            np.where(np.isinf(likeness.max(axis=0)), -1, likeness.argmax(axis=0)),
        )

    def _match(self, row: int, column: int, *, of_row: bool) -> BestMatch:
        here, there = (row, column) if of_row else (column, row)
        layers, others = self.layers if of_row else self.layers[::-1]
        if there < 0:
            return BestMatch(layers[here], None, np.nan, np.nan, None)
        return BestMatch(
            layers[here],
            others[there],
            value=float(self.values[row, column]),
            chance=float(self.chance[row, column]),
            p_value=None if self.p_values is None else float(self.p_values[row, column]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        first, second = self.models
        matches = self.best_matches
        correlations = [plain_values(one) for one in self.depth_correlations]
        return {
            "measure": self.measure.name,
            "parameters": self.measure.parameters,
            "direction": self.measure.direction,
            "models": list(self.models),
            "layers": {first: list(self.layers[0]), second: list(self.layers[1])},
            "values": plain_values(self.values),
            "chance": plain_values(self.chance),
            "chance_std": plain_values(self.chance_std),
            "p_values": plain_values(self.p_values),
            "maximum": self.maximum.to_dict(),
            "best_matches": {
                first: [one.to_dict() for one in matches[0]],
                second: [one.to_dict() for one in matches[1]],
            },
            "path": [[self.layers[0][i], self.layers[1][j]] for i, j in self.path],
            "depth_correlations": dict(zip(self.models, correlations, strict=True)),
            "relative_depth": {
                name: relative_depth(len(layers)).tolist()
                for name, layers in zip(self.models, self.layers, strict=True)
            },
            "drift": {
                name: plain_values(values)
                for name, values in zip(self.models, self.drift, strict=True)
            },
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
        like = np.where(np.isnan(self.values), np.nanmin(self.likeness), self.likeness)
        shades = (like - like.min()) / max(float(np.ptp(like)), np.finfo(np.float64).tiny)
        return html_table(
            f"{self.measure.title}: {self.models[0]} by {self.models[1]}",
            ["", *self.layers[1]],
            [
                [name, *row]
                for name, row in zip(self.layers[0], plain_values(self.values), strict=True)
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
        from relspace.pictures.layer_plots import draw_layer_comparison
        from relspace.pictures.theme import LIGHT

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
    progress: Progress = None,
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
        of their own, permuted image by image; tokens on different grids are read at the same
        places of the images. What :func:`relspace.features.scan` takes is read in blocks.
    measure : str or Measure
        One of :func:`relspace.measures.names`, by name or as made by :func:`relspace.measures.get`.
    names : sequence of two str, optional
        What the models are called; by default as their feature sets say, else "first", "second".
    ids : mapping of str to sequence, one sequence, or "position", optional
        The items' ids, by model's name or for both; by default those that the sets bring. Where
        only one brings some, ``"position"`` must say that rows are matched by position.
    n_permutations : int
        How many permutations of the items make the null distribution; with 0 there are no
        p-values, and chance comes from the closed form, or from a few permutations
        (``measure.permutations_for_chance``). At most 10,000,000.
    groups : sequence, optional
        A label for each item of ``a``, or for each image where tokens lie on different grids;
        groups are permuted as a whole.
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
    progress : callable or bool, optional
        Told ``(done, total, text)`` as the work goes on; True prints lines on stderr.

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
    UndefinedValueError
        If the measure has no value on any layer of a model. Where it has none on some, a warning
        says which, and they are left out.

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
    record, tell = as_measure(measure), as_listener(progress)
    seed = check_random_state(random_state)
    count = check_resamples(n_permutations, "n_permutations", at_least=0)
    models = named_models((a, b), names)
    first, second = models
    tables = open_tables(
        models,
        record,
        [(first, second)],
        ids=ids,
        groups=groups,
        seed=seed,
        max_items=max_items,
        memory_budget=memory_budget,
        client=client,
        progress=tell,
    )
    rows, columns = tables.places[first], tables.places[second]
    tell(0, 0, f"Comparing {len(rows)} x {len(columns)} layers")
    found = tables.beside_chance(rows, columns, count, seed, tell)
    drift = tables.drift(rows), tables.drift(columns)
    tables.warn_of_gaps()
    return LayerComparison(
        measure=record,
        models=(first, second),
        layers=(tables.layers[first], tables.layers[second]),
        values=found.values,
        chance=found.chance,
        chance_std=found.chance_std,
        p_values=found.p_values if count else None,
        extreme_null=found.extreme_null,
        drift=drift,
        left_out=tables.missing_layers(),
        n_items=tables.n_items,
        n_units=tables.n_units,
        n_available=tables.n_available,
        null_by=tables.null_by,
        matched_by=tables.matched_by,
        random_state=seed,
        versions=library_versions(),
    )
