"""Similarity network fusion: one table of models from comparisons by several measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from relspace._core.arguments import check_count, check_positive, name_some
from relspace._core.result_tables import TabularResult
from relspace._core.text_tables import text_table
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError
from relspace.measures import Measure
from relspace.pictures.html import html_table
from relspace.similarity.arrangement import hierarchy
from relspace.similarity.models import ModelComparison
from relspace.similarity.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from relspace.pictures.theme import Theme

_FEWEST_MODELS = 4
_WITHOUT_A_TEST = (
    "not tested: the fused values of unrelated models are not known, and depend on how many models "
    "and neighbours there are. They rank pairs of these models; whether a pair is alike beyond "
    "chance is in each measure's p_values."
)


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class FusedComparison(TabularResult):
    """How similar models are by several measures together.

    The values rank pairs of these models. They have no level of chance: rows sum to about 1.5
    whether or not models are alike, so unrelated models are given the most alike ones among
    themselves, too.

    Attributes
    ----------
    models : tuple of str
        Names of the models, in the order of the rows.
    values : array of shape (n_models, n_models)
        The fused network, symmetric; compare only values off the diagonal, and with each other.
    measures : tuple of Measure
        What was fused.
    agreement : array of shape (n_measures,)
        Rank correlation of each measure's similarities of the pairs of models with the fused ones.
    n_neighbors, n_iterations : int
        How the network was fused.
    sharpness : float
        The same.
    """

    models: tuple[str, ...]
    values: Table
    measures: tuple[Measure, ...]
    agreement: Table
    n_neighbors: int
    n_iterations: int
    sharpness: float

    @property
    def merges(self) -> Table:
        """Hierarchy of the models: see :func:`relspace.similarity.arrangement.hierarchy`.

        The dissimilarity is the difference to the largest value of two models.
        """
        distances = _pairs_of(self.values).max() - self.values
        np.fill_diagonal(distances, 0.0)
        return hierarchy(distances)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "models": list(self.models),
            "values": self.values.tolist(),
            "measures": [{"measure": m.name, "parameters": m.parameters} for m in self.measures],
            "agreement": self.agreement.tolist(),
            "n_neighbors": self.n_neighbors,
            "n_iterations": self.n_iterations,
            "sharpness": self.sharpness,
            "merges": self.merges.tolist(),
            "chance": _WITHOUT_A_TEST,
        }

    @property
    def _columns(self) -> dict[str, list[Any]]:
        """One row for every two models."""
        rows, columns = np.triu_indices(len(self.models), 1)
        return {
            "first": [self.models[i] for i in rows],
            "second": [self.models[j] for j in columns],
            "value": self.values[rows, columns].tolist(),
        }

    @property
    def _title(self) -> str:
        return f"Fused similarity of {', '.join(measure.title for measure in self.measures)}"

    @property
    def _cells(self) -> list[list[str]]:
        """Rows of the table; the diagonal, which isn't compared, is left out."""
        return [
            [name, *("" if i == j else f"{value:.3f}" for j, value in enumerate(row))]
            for i, (name, row) in enumerate(zip(self.models, self.values, strict=True))
        ]

    def __repr__(self) -> str:
        agreed = ", ".join(
            f"{measure.name} {value:.2f}"
            for measure, value in zip(self.measures, self.agreement, strict=True)
        )
        table = text_table(["", *self.models], self._cells)
        return "\n".join([self._title, *table, f"rank correlation with {agreed}", _WITHOUT_A_TEST])

    def _repr_html_(self) -> str:
        """The fused values, which notebooks show."""
        return html_table(self._title, ["", *self.models], self._cells, note=_WITHOUT_A_TEST)

    def plot(
        self,
        *,
        ax: Axes | None = None,
        title: str | None = None,
        cmap: Any = None,
        theme: Theme | None = None,
    ) -> Axes:
        """Draw the fused values of every two models, and the models' hierarchy.

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
        from relspace.pictures.layer_plots import draw_fused_models
        from relspace.pictures.theme import LIGHT, Look

        shown = self.values.copy()
        np.fill_diagonal(shown, np.nan)
        look = Look(ax, title, cmap, theme or LIGHT)
        return draw_fused_models(self._title, self.models, shown, self.merges, look=look)


def fuse(
    comparisons: Sequence[ModelComparison],
    *,
    n_neighbors: int | None = None,
    n_iterations: int = 20,
    sharpness: float = 0.5,
) -> FusedComparison:
    r"""Fuse comparisons of the same models by several measures to one (Wang et al. 2014).

    Each measure's dissimilarities of models, :attr:`ModelComparison.model_distances`, become
    affinities with a width that follows the K nearest models,

    .. math:: W_{ij} = \varphi\bigl(d_{ij};\, \mu\,(\bar d_i + \bar d_j + d_{ij}) / 3\bigr),

    with the normal density :math:`\varphi` of that standard deviation. Rows are then divided by
    their sums (P), once more with all but the K largest set to 0 (S), and each measure's network is
    replaced, again and again, by the mean of the others seen through its own neighbours:

    .. math:: P^{(v)} \leftarrow S^{(v)} \, \overline{P^{(u)}}_{u \ne v} \, S^{(v)\top} + I

    The result is the mean of all, rows divided by their sums, made symmetric. Measures whose values
    depend on the order of the sets enter as the mean of both orders, as they are in
    ``ModelComparison``.

    Parameters
    ----------
    comparisons : sequence of ModelComparison
        By two or more measures, of the same models and as many items.
    n_neighbors : int, optional
        K, the model itself counted, from 2 to one less than the number of models; by default half
        of the models, 20 at most.
    n_iterations : int
        How often networks are updated.
    sharpness : float
        The factor mu of the widths; from 0.3 to 0.8 in the literature.

    Returns
    -------
    FusedComparison
        Values, how far each measure ranks pairs of models as they do, and a hierarchy.

    Raises
    ------
    InvalidInputError
        If there are fewer than 2 comparisons or 4 models, or values that are missing (NaN).
    ItemMismatchError
        If comparisons are of other models, or of other items.

    Examples
    --------
    >>> import numpy as np, relspace as rs
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(60, 8)), rng.normal(size=(60, 8))
    >>> sets = {"a": X, "b": X + 0.3 * rng.normal(size=X.shape),
    ...         "c": Y, "d": Y + 0.3 * rng.normal(size=Y.shape)}
    >>> models = {name: {"out": features} for name, features in sets.items()}
    >>> fused = rs.fuse([rs.compare_models(models, measure=m) for m in ("cka", "rsa")])
    >>> fused.values[0].round(2)
    array([1.03, 0.47, 0.  , 0.  ])
    """
    compared = _check_comparisons(comparisons)
    models = compared[0].models
    if n_neighbors is None:
        n_neighbors = min(20, max(2, round(len(models) / 2)))
    k = check_count(n_neighbors, "n_neighbors", at_least=2, at_most=len(models) - 1)
    n_iterations = check_count(n_iterations, "n_iterations")
    sharpness = check_positive(sharpness, "sharpness")
    distances = [one.model_distances for one in compared]
    values = _fuse([_affinities(one, k, sharpness) for one in distances], k, n_iterations)
    return FusedComparison(
        models=models,
        values=values,
        measures=tuple(one.measure for one in compared),
        agreement=np.array([_rank_correlation(-one, values) for one in distances]),
        n_neighbors=k,
        n_iterations=n_iterations,
        sharpness=sharpness,
    )


def _check_comparisons(comparisons: object) -> list[ModelComparison]:
    if isinstance(comparisons, str) or not isinstance(comparisons, Sequence):
        raise InvalidTypeError(
            f"comparisons is of type {type(comparisons).__name__}; it must be a list of what "
            "compare_models gives."
        )
    for one in comparisons:
        if not isinstance(one, ModelComparison):
            raise InvalidTypeError(
                f"comparisons holds a {type(one).__name__}; give what compare_models returns."
            )
    if len(comparisons) < 2:
        raise InvalidInputError(
            f"comparisons holds {len(comparisons)}; fusing needs those by two measures or more."
        )
    first = comparisons[0]
    if len(first.models) < _FEWEST_MODELS:
        raise InvalidInputError(
            f"there are {len(first.models)} models, {name_some(first.models)}; networks of fewer "
            f"than {_FEWEST_MODELS} have no neighbourhoods to be fused."
        )
    for one in comparisons[1:]:
        if one.models != first.models:
            raise ItemMismatchError(
                f"comparisons are of different models: {name_some(first.models)} and "
                f"{name_some(one.models)}; they must be the same, in one order."
            )
        if one.n_items != first.n_items or one.provenance.ids != first.provenance.ids:
            raise ItemMismatchError(
                f"comparisons are of different items ({first.n_items} and {one.n_items}); models "
                "must be compared on the same."
            )
    gaps = [one.measure.name for one in comparisons if np.isnan(one.model_distances).any()]
    if gaps:
        raise InvalidInputError(
            f"{name_some(gaps)} has no value for some pairs of models.",
            ways_out=["leave these models or this measure out"],
        )
    return list(comparisons)


def _affinities(distances: Table, k: int, sharpness: float) -> Table:
    """Affinities (n, n) whose width follows the mean distance to the k nearest others."""
    smallest = np.spacing(1.0)
    near = np.sort(distances, axis=1)[:, 1 : k + 1].mean(axis=1) + smallest
    width = (near[:, None] + near + distances) / 3
    # Models that are identical by a measure have no width.
    scale = sharpness * (np.where(width > smallest, width, 0.0) + smallest)
    found: Table = np.exp(-((distances / scale) ** 2) / 2) / (scale * np.sqrt(2 * np.pi))
    return found


def _fuse(affinities: Sequence[Table], k: int, n_iterations: int) -> Table:
    networks = [_symmetric(_row_shares(one)) for one in affinities]
    kept = [
        _row_shares(np.where(one >= np.sort(one, axis=1)[:, -k, None], one, 0.0))
        for one in networks
    ]
    itself = np.eye(len(networks[0]))
    for _ in range(n_iterations):
        total = np.sum(networks, axis=0)
        networks = [
            _symmetric(near @ (total - one) @ near.T / (len(networks) - 1) + itself)
            for near, one in zip(kept, networks, strict=True)
        ]
    return _symmetric(_row_shares(np.mean(networks, axis=0))) + itself / 2


def _row_shares(table: Table) -> Table:
    shares: Table = table / table.sum(axis=1, keepdims=True)
    return shares


def _symmetric(table: Table) -> Table:
    mean: Table = (table + table.T) / 2
    return mean


def _pairs_of(table: Table) -> Table:
    pairs: Table = table[np.triu_indices(len(table), 1)]
    return pairs


def _rank_correlation(similarities: Table, fused: Table) -> float:
    """Spearman's correlation over pairs of models; NaN where one has only ties."""
    from scipy.stats import rankdata

    first, second = (rankdata(_pairs_of(one)) for one in (similarities, fused))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
