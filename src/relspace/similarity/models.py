"""Comparison of all layers of several models: model x model x layer, and how they lie together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from relspace._core.arguments import check_fraction, check_random_state, check_resamples
from relspace._core.items import ItemId
from relspace._core.limits import DEFAULT_ALPHA, DEFAULT_PERMUTATIONS
from relspace._core.progress import Listener, Progress, as_listener
from relspace._core.result_tables import TabularResult
from relspace.errors import InvalidInputError, InvalidTypeError, UnknownNameError
from relspace.measures.symmetrized import symmetrized
from relspace.pictures.html import html_table
from relspace.similarity.arrangement import classical_scaling, dissimilarity, hierarchy
from relspace.similarity.inputs import MeasureLike, as_measure, open_models
from relspace.similarity.layers import BestMatch, LayerComparison, compare_pair
from relspace.similarity.record import Compared
from relspace.similarity.same_positions import at_same_positions
from relspace.similarity.tables import Table, most_alike, number_layers, plain_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from relspace.pictures.theme import Theme


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class ModelComparison(Compared, TabularResult):
    """How alike all layers of several models are.

    For a measure that is not symmetric, all values are means of both orders, which are then what
    is tested.

    Attributes
    ----------
    layers : mapping of str to tuple of str
        Layers by model, from input to output.
    within : mapping of str to array of shape (L, L)
        The table of each model's layers with each other.
    pairs : mapping of (str, str) to LayerComparison
        What was found of every two models; of both orders :meth:`pair` gives it.
    provenance : Provenance
        As in :class:`relspace.LayerComparison`.
    """

    layers: Mapping[str, tuple[str, ...]]
    within: Mapping[str, Table]
    pairs: Mapping[tuple[str, str], LayerComparison]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(self.layers)

    def pair(self, first: str, second: str) -> LayerComparison:
        """The comparison of two of the models, layer by layer.

        Raises
        ------
        UnknownNameError
            If they are no two of the models.
        """
        if (first, second) in self.pairs:
            return self.pairs[first, second]
        if (second, first) in self.pairs:
            return self.pairs[second, first].transposed
        raise UnknownNameError(
            f"there is no pair of {first!r} and {second!r}; name two of {', '.join(self.models)}."
        )

    def block(self, first: str, second: str) -> Table:
        """The table of the layers of two models, or of one."""
        return self.within[first] if first == second else self.pair(first, second).values

    def chance_block(self, first: str, second: str) -> Table:
        """The chance levels of the layers of two models; NaN of one, which isn't tested."""
        if first == second:
            return np.full_like(self.block(first, second), np.nan)
        return self.pair(first, second).chance

    @cached_property
    def values(self) -> Table:
        """The table (T, T) over all T layers of all models, model by model; NaN where undefined."""
        return np.block([[self.block(one, other) for other in self.models] for one in self.models])

    @cached_property
    def chance(self) -> Table:
        """Means (T, T) under permutation; NaN between layers of one model, which aren't tested."""
        table = np.full(self.values.shape, np.nan)
        for first, second in self.pairs:
            rows, columns = self._numbers[first], self._numbers[second]
            table[np.ix_(rows, columns)] = self.pairs[first, second].chance
            table[np.ix_(columns, rows)] = self.pairs[first, second].chance.T
        return table

    @cached_property
    def p_values(self) -> Table | None:
        """Of the most alike layers of two models, (n_models, n_models); NaN of one with itself.

        None where no permutations were asked for.
        """
        return self._of_most_alike(lambda match: match.p_value) if self.n_permutations else None

    @cached_property
    def calibrated(self) -> Table | None:
        """Scores of the most alike layers of two models, (n_models, n_models).

        See :attr:`relspace.LayerComparison.calibrated`; NaN of one with itself. None where no
        permutations were asked for; InvalidInputError where identical sets have no value, or where
        permutations are too few for ``alpha``.
        """
        if not self.n_permutations:
            return None
        for found in self.pairs.values():
            assert found.calibrated is not None
        return self._of_most_alike(lambda match: match.calibrated)

    def _of_most_alike(self, number: Callable[[BestMatch], float | None]) -> Table:
        """A number of the most alike layers of every two models."""
        table = np.full((len(self.models), len(self.models)), np.nan)
        for (first, second), found in self.pairs.items():
            i, j = self.models.index(first), self.models.index(second)
            one = number(found.maximum)
            table[i, j] = table[j, i] = np.nan if one is None else one
        return table

    @cached_property
    def best(self) -> dict[str, dict[str, Table]]:
        """Model x model x layer: each layer's value with the most alike layer of the second.

        Of a model with itself, with the most alike *other* layer; NaN where it has only one.
        """
        without_self = self.values.copy()
        np.fill_diagonal(without_self, np.nan)
        return {
            name: {
                other: most_alike(without_self[np.ix_(rows, columns)], 1, larger=self._larger)
                for other, columns in self._numbers.items()
            }
            for name, rows in self._numbers.items()
        }

    @cached_property
    def summary(self) -> Table:
        """Mean best match over the layers of both models, (n_models, n_models).

        Of a model with itself the measure's value of identical features.
        """
        table = np.full((len(self.models), len(self.models)), self.measure.identical)
        for (i, first), (j, second) in combinations(enumerate(self.models), 2):
            both = np.concatenate([self.best[first][second], self.best[second][first]])
            table[i, j] = table[j, i] = np.nanmean(both)
        return table

    @property
    def mean_chance(self) -> float:
        """Mean chance level of layers of different models."""
        return float(np.nanmean(self.chance))

    @property
    def _numbers(self) -> dict[str, range]:
        return number_layers(self.layers)

    @property
    def layer_distances(self) -> Table:
        """Dissimilarities of all layers of all models, see ``values``."""
        return dissimilarity(self.values, self.measure.direction, self.measure.identical)

    @property
    def scaling(self) -> tuple[Table, float]:
        """Points of all layers in a plane, and the share of the variance that it holds.

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
        points[kept], explained = classical_scaling(distances[np.ix_(kept, kept)])
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
        return self.provenance.to_dict() | {
            "layers": {name: list(layers) for name, layers in self.layers.items()},
            "values": plain_values(self.values),
            "chance": plain_values(self.chance),
            "best": {
                name: {other: plain_values(values) for other, values in of_one.items()}
                for name, of_one in self.best.items()
            },
            "summary": plain_values(self.summary),
            "p_values": plain_values(self.p_values),
            "calibrated": plain_values(self.calibrated) if self.is_calibrated else None,
            "scaling": {"points": plain_values(points), "explained": explained},
            "merges": self.merges.tolist(),
        }

    @property
    def _columns(self) -> dict[str, list[Any]]:
        """One row for each pair of layers of different models."""
        tables = [self.pair(*names)._columns for names in combinations(self.models, 2)]
        return {name: [one for table in tables for one in table[name]] for name in tables[0]}

    def __repr__(self) -> str:
        width = max(map(len, self.models))
        of = f"{self.measure.title}, {self.n_items} items, mean best match{self._said_of_recall}"
        lines = [f"ModelComparison({of})"]
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

    def plot(
        self,
        *,
        ax: Axes | None = None,
        title: str | None = None,
        cmap: Any = None,
        theme: Theme | None = None,
    ) -> Axes:
        """Draw the models' table and hierarchy, and all their layers in one plane.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where the table is drawn; by default in a new figure with more panels.
        title : str, optional
            The title; by default it names the table.
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
        from relspace.pictures.layer_plots import draw_model_comparison
        from relspace.pictures.theme import LIGHT, Look

        points, explained = self.scaling
        return draw_model_comparison(
            self.measure.title,
            self.models,
            self.summary,
            self.merges,
            {name: points[list(own)] for name, own in self._numbers.items()},
            explained,
            self.best,
            self.mean_chance,
            is_distance=self.measure.direction == "distance",
            look=Look(ax, title, cmap, theme or LIGHT),
        )


def compare_models(
    models: Mapping[str, object],
    *,
    measure: MeasureLike = "affinity",
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    n_permutations: int = DEFAULT_PERMUTATIONS,
    groups: object | None = None,
    random_state: int = 0,
    alpha: float = DEFAULT_ALPHA,
    max_items: int | None = None,
    memory_budget: int | str | None = None,
    client: Any | None = None,
    progress: Progress = None,
) -> ModelComparison:
    """Compare all layers of two or more models with each other.

    Parameters
    ----------
    models : mapping of str to (FeatureSet, or mapping of str to array-like of shape (n, d))
        Layers by model, over the same items; what is on disk and does not fit into memory is read
        in blocks, as by :func:`relspace.compare_layers`.
    measure, n_permutations, groups, random_state, alpha, max_items, memory_budget, client, progress
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
    # Values and their null distribution come from one statistic, which does not depend on the order
    # of the two models.
    statistic = symmetrized(record)
    seed = check_random_state(random_state)
    level = check_fraction(alpha, "alpha")
    count = check_resamples(n_permutations, "n_permutations", at_least=0)
    names = [str(name) for name in models]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"models have the names {', '.join(names)}; they must differ.")
    # Pairs are in the order of names, so that the order of the mapping changes no permutation.
    pairs = list(combinations(sorted(names), 2))
    given, ids, groups = at_same_positions(
        dict(zip(names, models.values(), strict=True)), ids, groups, max_items, seed, tell
    )
    tables = open_models(
        given,
        statistic,
        pairs,
        ids=ids,
        groups=groups,
        seed=seed,
        max_items=max_items,
        memory_budget=memory_budget,
        client=client,
        tell=tell,
        n_permutations=count,
    )
    within = {}
    for name, own in tables.numbers.items():
        of_one = tables.values(own, own)
        within[name] = (of_one + of_one.T) / 2
    drift = {name: values.diagonal(1) for name, values in within.items()}
    found = {
        (first, second): compare_pair(
            tables,
            (first, second),
            (drift[first], drift[second]),
            tables.provenance(record, count, seed, level, (first, second)),
            _of_pair(tell, f"{first} and {second}"),
        )
        for first, second in pairs
    }
    tables.warn_of_gaps()
    return ModelComparison(
        provenance=tables.provenance(record, count, seed, level),
        layers=tables.layers,
        within=within,
        pairs=found,
    )


def _of_pair(tell: Listener, models: str) -> Listener:
    """A listener that names the two models in its text."""
    return lambda done, total, text: tell(done, total, f"{models}: {text}")


@dataclass(frozen=True)
class ModelPair:
    """Two models: how alike their most alike layers are, and their last ones.

    p-values are corrected for all the pairs of layers of two models.
    """

    models: tuple[str, str]
    most_alike: BestMatch
    last: BestMatch

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "models": list(self.models),
            "most_alike": self.most_alike.to_dict(),
            "last": self.last.to_dict(),
        }


def pairs_of_models(compared: LayerComparison | ModelComparison) -> list[ModelPair]:
    """Summarise every two models of a comparison.

    Examples
    --------
    >>> import numpy as np, relspace as rs
    >>> X = np.random.default_rng(0).normal(size=(60, 8))
    >>> models = {"a": {"in": X, "out": X**2}, "b": {"in": 2 * X, "out": X**3}}
    >>> (pair,) = pairs_of_models(rs.compare_models(models, measure="cka", n_permutations=0))
    >>> pair.most_alike.layer, pair.most_alike.match, pair.last.layer, pair.last.match
    ('in', 'in', 'out', 'out')
    """
    if isinstance(compared, LayerComparison):
        pairs = [compared]
    else:
        pairs = [compared.pair(*names) for names in combinations(compared.models, 2)]
    return [ModelPair(one.models, one.maximum, one.last) for one in pairs]
