"""Comparison of all layers of one model with all layers of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relspace._core.arguments import check_fraction, check_random_state, check_resamples
from relspace._core.items import ItemId
from relspace._core.limits import DEFAULT_ALPHA, DEFAULT_PERMUTATIONS
from relspace._core.progress import Listener, Progress, as_listener
from relspace._core.result_tables import TabularResult
from relspace.features import FeatureSet
from relspace.pictures.html import html_table
from relspace.resampling import p_value
from relspace.similarity.depth import depth_correlation, monotone_path, relative_depth
from relspace.similarity.inputs import MeasureLike, as_measure, check_names, open_models
from relspace.similarity.record import Compared, Provenance
from relspace.similarity.same_positions import at_same_positions
from relspace.similarity.tables import LayerTables, Table, most_alike, plain_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from relspace.pictures.theme import Theme


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
    calibrated: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, with None where there is none."""
        return {name: plain_values(one) for name, one in vars(self).items()}


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class LayerComparison(Compared, TabularResult):
    """How alike every layer of one model and every layer of another are.

    Attributes
    ----------
    models : (str, str)
        The models' names, rows first.
    layers : (tuple of str, tuple of str)
        Their layers, from input to output.
    values : array of shape (L, M)
        The table; NaN where the measure has no value.
    chance : array of shape (L, M)
        Means under permutation of the items.
    chance_std : array of shape (L, M) or None
        Standard deviations under permutation; None where means are known in closed form and no
        permutations were asked for.
    extreme_null : array of shape (n_permutations,)
        The most alike value of the table under each permutation.
    drift : (array of shape (L - 1,), array of shape (M - 1,))
        Values between consecutive layers of each model.
    provenance : Provenance
        What was compared and how. Its attributes ``measure``, ``n_items``, ``n_available``,
        ``n_units``, ``matched_by``, ``null_by``, ``n_permutations``, ``random_state``, ``left_out``
        and ``versions`` are attributes of the comparison too.
    """

    models: tuple[str, str]
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    values: Table
    chance: Table
    chance_std: Table | None
    extreme_null: Table
    drift: tuple[Table, Table]

    @cached_property
    def p_values(self) -> Table | None:
        """Each value (L, M) against the null distribution of the most alike pair in the table.

        One in twenty tables of unrelated models has any p below 0.05 (Westfall and Young 1993).
        None where no permutations were asked for.
        """
        if not self.n_permutations:
            return None
        larger = self._larger
        tested = [
            np.nan if np.isnan(one) else p_value(float(one), self.extreme_null, larger=larger)
            for one in self.values.flat
        ]
        return np.reshape(tested, self.values.shape)

    @cached_property
    def threshold(self) -> float | None:
        """The value that a pair of layers has to pass for a p-value of at most ``alpha``.

        It is the quantile of the most alike pair under permutation, see
        :func:`relspace.resampling.critical_value`. None where no permutations were asked for.
        """
        if not self.n_permutations:
            return None
        return self._threshold(self._extreme, self.extreme_null)

    @cached_property
    def calibrated(self) -> Table | None:
        """How far each value (L, M) lies from the threshold (0) to that of identical sets (1).

        0 where its p-value is above ``alpha``, see :func:`relspace.resampling.calibrated_score`.
        The score of the whole table is ``maximum.calibrated``: above 0 in one of twenty tables of
        unrelated models, however many layers they have. None where no permutations were asked for;
        InvalidInputError where identical sets have no value, or where permutations are fewer than
        ``1 / alpha - 1``, so that no p-value reaches ``alpha``.
        """
        if not self.n_permutations:
            return None
        thresholds = [
            np.nan if np.isnan(one) else self._threshold(float(one), self.extreme_null)
            for one in self.values.flat
        ]
        return self._calibrate(self.values, np.reshape(thresholds, self.values.shape))

    @property
    def _extreme(self) -> float:
        """The most alike value of the table."""
        return float(self.values.flat[int(np.nanargmax(self.likeness))])

    @property
    def likeness(self) -> Table:
        """The table with larger values for more alike layers, also for distances."""
        return self.values if self._larger else -self.values

    @property
    def maximum(self) -> BestMatch:
        """The most alike pair of layers; its p-value is corrected for all the pairs."""
        row, column = np.unravel_index(int(np.nanargmax(self.likeness)), self.values.shape)
        return self._match(int(row), int(column), of_row=True)

    @property
    def last(self) -> BestMatch:
        """The last layers of both models; the p-value is corrected for all the pairs."""
        return self._match(len(self.layers[0]) - 1, len(self.layers[1]) - 1, of_row=True)

    @property
    def transposed(self) -> LayerComparison:
        """The same with the models in the other order."""
        return replace(
            self,
            models=self.models[::-1],
            layers=self.layers[::-1],
            values=self.values.T,
            chance=self.chance.T,
            chance_std=None if self.chance_std is None else self.chance_std.T,
            drift=self.drift[::-1],
        )

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
            return BestMatch(layers[here], None, np.nan, np.nan, None, None)
        return BestMatch(
            layers[here],
            others[there],
            value=float(self.values[row, column]),
            chance=float(self.chance[row, column]),
            p_value=None if self.p_values is None else float(self.p_values[row, column]),
            calibrated=float(self.calibrated[row, column])
            if self.is_calibrated and self.calibrated is not None
            else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        first, second = self.models
        matches = self.best_matches
        correlations = [plain_values(one) for one in self.depth_correlations]
        return self.provenance.to_dict() | {
            "models": list(self.models),
            "layers": {first: list(self.layers[0]), second: list(self.layers[1])},
            "values": plain_values(self.values),
            "chance": plain_values(self.chance),
            "chance_std": plain_values(self.chance_std),
            "p_values": plain_values(self.p_values),
            "threshold": self.threshold,
            "calibrated": plain_values(self.calibrated) if self.is_calibrated else None,
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
        }

    @property
    def _columns(self) -> dict[str, list[Any]]:
        """One row for each pair of layers."""
        rows, columns = np.indices(self.values.shape).reshape(2, -1)
        tables = {
            "value": self.values,
            "chance": self.chance,
            "chance_std": self.chance_std,
            "p_value": self.p_values,
            "calibrated": self.calibrated if self.is_calibrated else None,
        }
        empty = [None] * len(rows)
        return {
            "first": [self.models[0]] * len(rows),
            "first_layer": [self.layers[0][i] for i in rows],
            "second": [self.models[1]] * len(rows),
            "second_layer": [self.layers[1][j] for j in columns],
            "measure": [self.measure.name] * len(rows),
            **{
                name: empty if one is None else plain_values(one.ravel())
                for name, one in tables.items()
            },
        }

    def __repr__(self) -> str:
        best = self.maximum
        p = "" if best.p_value is None else f", p {best.p_value:.3g} (corrected)"
        p += "" if best.calibrated is None else f", calibrated {best.calibrated:.3f}"
        return (
            f"LayerComparison({self.measure.title}: {self.models[0]} ({len(self.layers[0])} "
            f"layers) x {self.models[1]} ({len(self.layers[1])} layers), {self.n_items} items; "
            f"most alike {best.layer} and {best.match}: {best.value:.3f}, "
            f"chance {round(best.chance, 3) + 0.0:.3f}{p}{self._said_of_recall})"
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

    def plot(
        self,
        *,
        ax: Axes | None = None,
        title: str | None = None,
        cmap: Any = None,
        theme: Theme | None = None,
    ) -> Axes:
        """Draw the table with its best matches and path, and values against relative depth.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where the table is drawn; by default in a new figure with more panels.
        title : str, optional
            The title; by default it names both models.
        cmap : str or matplotlib.colors.Colormap, optional
            Colours of the table.
        theme : Theme, optional
            Colours of all else; dark ink on white by default.

        Returns
        -------
        matplotlib.axes.Axes
            Those of the table; ``axes.figure.savefig(path)`` writes the figure.

        Raises
        ------
        MissingDependencyError
            If matplotlib isn't installed.
        """
        from relspace.pictures.layer_plots import draw_layer_comparison
        from relspace.pictures.theme import LIGHT, Look

        return draw_layer_comparison(
            self.measure.title,
            self.models,
            self.layers,
            self.values,
            self.chance,
            self.drift,
            self.path,
            self.threshold,
            is_distance=self.measure.direction == "distance",
            look=Look(ax, title, cmap, theme or LIGHT),
        )


def compare_layers(
    a: object,
    b: object,
    *,
    measure: MeasureLike = "affinity",
    names: Sequence[str] | None = None,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    n_permutations: int = DEFAULT_PERMUTATIONS,
    groups: object | None = None,
    random_state: int = 0,
    alpha: float = DEFAULT_ALPHA,
    max_items: int | None = None,
    memory_budget: int | str | None = None,
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
        positions of the images. What :func:`relspace.features.scan` takes is read in blocks.
    measure : str, Measure or callable
        One of :func:`relspace.measures.names`, by name or as made by :func:`relspace.measures.get`;
        or a function (X, Y) -> float, larger for more alike, see
        :func:`relspace.measures.from_function`.
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
    alpha : float
        Level of the test that thresholds and calibrated scores are of.
    max_items : int, optional
        Compare this many items at most, chosen at random. All by default.
    memory_budget : int or str, optional
        Bytes that the call may take, or text such as "2 GiB"; by default half of the free memory.
        Features on disk that don't fit, with what is computed of them, are read in blocks. Matrices
        over pairs of items that don't fit are made tile by tile, or refused where they can't be.
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
    level = check_fraction(alpha, "alpha")
    count = check_resamples(n_permutations, "n_permutations", at_least=0)
    first, second = check_names(names, "models") or _own_names(a, b)
    given, ids, groups = at_same_positions(
        {first: a, second: b}, ids, groups, max_items, seed, tell
    )
    tables = open_models(
        given,
        record,
        [(first, second)],
        ids=ids,
        groups=groups,
        seed=seed,
        max_items=max_items,
        memory_budget=memory_budget,
        client=client,
        tell=tell,
        n_permutations=count,
    )
    drift = [tables.drift(numbers) for numbers in tables.numbers.values()]
    provenance = tables.provenance(record, count, seed, level)
    found = compare_pair(tables, (first, second), (drift[0], drift[1]), provenance, tell)
    tables.warn_of_gaps()
    return found


def _own_names(a: object, b: object) -> tuple[str, str]:
    """The models' names in the metadata of both feature sets, where both have one."""
    first, second = (
        model.metadata.get("model") if isinstance(model, FeatureSet) else None for model in (a, b)
    )
    if isinstance(first, str) and isinstance(second, str) and first != second:
        return first, second
    return "first", "second"


def compare_pair(
    tables: LayerTables,
    models: tuple[str, str],
    drift: tuple[Table, Table],
    provenance: Provenance,
    tell: Listener,
) -> LayerComparison:
    """Compare the layers of two models out of several, beside chance."""
    rows, columns = (tables.numbers[name] for name in models)
    tell(0, 0, f"Comparing {len(rows)} x {len(columns)} layers")
    found = tables.beside_chance(
        rows, columns, provenance.n_permutations, provenance.random_state, tell
    )
    larger = tables.measure.direction == "similarity"
    return LayerComparison(
        provenance=provenance,
        models=models,
        layers=(tables.layers[models[0]], tables.layers[models[1]]),
        values=found.values,
        chance=found.chance,
        chance_std=found.chance_std,
        extreme_null=most_alike(found.null, (1, 2), larger=larger)
        if len(found.null)
        else np.empty(0),
        drift=drift,
    )
