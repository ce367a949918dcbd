"""Base of common spaces: sets by name, transformation of new rows, and distances."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from relspace._core.arguments import check_choice, check_count, name_some
from relspace._core.devices import choose_device
from relspace._core.items import ItemId, as_ids
from relspace._core.matrices import Array
from relspace._core.progress import Progress
from relspace._core.resources import Resources
from relspace.errors import FileFormatError, InvalidInputError, UnknownNameError
from relspace.features import FeatureSet
from relspace.kernels.correlation import Blocks, Match, mean_of_nearest
from relspace.pictures.html import html_table
from relspace.rows.fitted import FittedMaps, OpenedSet, apply_map
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.output import Output
from relspace.rows.row_map import RowMap
from relspace.rows.source import RowSource
from relspace.space.aligned_set import AlignedSet
from relspace.space.aligner import Aligner
from relspace.space.translator import Translator


class CommonSpace(FittedMaps, Mapping[str, Array]):
    """Feature sets described by their affinities to the same landmarks.

    A mapping of names to relative features; column j is the affinity to the same landmark in every
    set. :class:`relspace.ItemSpace` holds sets of the same items, and
    :class:`relspace.TokenSpace` sets of tokens that lie on grids of their own.

    Attributes
    ----------
    names : tuple of str
        The sets.
    ids : tuple or None
        Ids of the items or images; None where they were matched by position.
    parameters : dict
        How the sets were aligned: density, normalize, standardize, random_state, the layers of
        feature sets, and how many rows each set had where only the shared items were kept.
    """

    def __init__(
        self,
        sets: Mapping[str, AlignedSet],
        *,
        ids: tuple[ItemId, ...] | None,
        parameters: Mapping[str, Any],
    ) -> None:
        self._sets = dict(sets)
        self.ids = ids
        self.parameters = dict(parameters)
        self._translators: dict[tuple[object, ...], Translator] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sets."""
        return tuple(self._sets)

    @property
    def matched_by(self) -> str:
        """How items of different sets were matched: "ids" or "position"."""
        return "position" if self.ids is None else "ids"

    @property
    def _of_given(self) -> str:
        """How many rows the sets had, where only the shared ones were kept."""
        given = self.parameters.get("n_given")
        if given is None:
            return ""
        return f" (of {', '.join(f'{n} in {name!r}' for name, n in given.items())})"

    def __getitem__(self, name: str) -> Array:
        chosen = self.aligned_set(name)
        return chosen.restore(chosen.relative)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sets)

    def __len__(self) -> int:
        return len(self._sets)

    def _repr_html_(self) -> str:
        """A table of the sets, which notebooks show."""
        sets = self._set_summaries()
        grid = any("rows" in one for one in sets.values())
        rows = [
            [
                name,
                *(one[key] for key in ("n_items", "n_features", "sigma", "density")),
                *([f"{one['rows']} x {one['columns']}"] if grid else []),
            ]
            for name, one in sets.items()
        ]
        columns = ["", "rows", "features", "sigma", "density", *(["grid"] if grid else [])]
        return html_table(type(self).__name__, columns, rows, note=repr(self))

    def aligned_set(self, name: str) -> AlignedSet:
        """One set with its fitted aligner.

        Raises
        ------
        UnknownNameError
            If there is no set of this name.
        """
        if not isinstance(name, str) or name not in self._sets:
            raise UnknownNameError(
                f"no set is called {name!r}; this space holds {name_some(self.names)}."
            )
        return self._sets[name]

    def rows(self, name: str) -> RowSource:
        """The relative features of one set as a source of rows, which may be computed lazily."""
        rows = self.aligned_set(name).rows
        return ArrayRows(rows) if isinstance(rows, torch.Tensor) else rows

    def open_set(self, name: str) -> OpenedSet:
        """The rows of one set, and the kind of their results."""
        rows = self.rows(name)
        return OpenedSet(rows, self.aligned_set(name).is_array, rows.dtype)

    def aligner(self, name: str) -> Aligner:
        """The fitted aligner of one set."""
        return self.aligned_set(name).aligner

    def _row_map_of(self, name: str, memory_budget: int | None = None) -> RowMap:
        return self.aligner(name)._row_map(memory_budget)

    def _given_of(self, name: str, X: object) -> object:
        if isinstance(X, FeatureSet):
            return X[self.parameters.get("layers", {}).get(name, X.layers[-1])]
        return X

    def to(self, device: str | torch.device) -> Self:
        """The same space on another device, see :meth:`relspace.Aligner.to`.

        Rows that are computed lazily are not moved.
        """
        where = choose_device(device)
        moved = copy(self)
        moved._translators = {}
        moved._sets = {name: one.to(where) for name, one in self._sets.items()}
        return moved

    def translator(
        self, a: str, b: str, method: str = "auto", *, n_neighbors: int = 10, random_state: int = 0
    ) -> Translator:
        """Fit a translator from one set's features to another's, on their landmarks.

        Parameters
        ----------
        a, b : str
            Two sets: features of ``a`` are translated to what ``b`` would have.
        method, n_neighbors, random_state
            As for :class:`relspace.Translator`.

        Returns
        -------
        Translator
            Fitted on the landmarks' features; its ``score_`` says how well it does on landmarks
            that were held out. For the same arguments the same object.

        Raises
        ------
        InvalidInputError
            If there are fewer than 10 landmarks, or the space was saved before landmarks'
            features were kept.
        """
        asked = (a, b, method, n_neighbors, random_state)
        if asked not in self._translators:
            pair = [self.aligned_set(name).features for name in (a, b)]
            if pair[0] is None or pair[1] is None:
                raise InvalidInputError(
                    "this space was saved by a version that did not keep the landmarks' features, "
                    "which translators are fitted on; align the feature sets again."
                )
            chosen = Translator(method, n_neighbors=n_neighbors, random_state=random_state)
            fitted = chosen.fit(*pair)
            fitted.feature_names_in_ = self.aligner(a).feature_names_in_
            self._translators[asked] = fitted
        return self._translators[asked]

    def translate(
        self,
        a: str,
        b: str,
        X: object,
        method: str = "auto",
        *,
        out: str | Path | Output | None = None,
        memory_budget: int | None = None,
        client: Any = None,
        progress: Progress = None,
    ) -> Array | RowSource:
        """Predict the features that set ``b`` would have of items seen by ``a``.

        Parameters
        ----------
        a, b : str
            Two sets.
        X : array-like of shape (n, d), path, list of shards, source of rows, or Dask array
            Features of new items by the model of ``a``.
        method : str
            As for :class:`relspace.Translator`; :meth:`translator` says how well each does.
        out, memory_budget, client, progress
            As for :meth:`relspace.Aligner.transform`.

        Returns
        -------
        tensor or array of shape (n, e), or RowSource
            Features as of ``b``, of the kind and float type of ``X``.

        Examples
        --------
        >>> import torch, relspace
        >>> X = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
        >>> Y = X @ torch.randn(6, 9, generator=torch.Generator().manual_seed(1)) + 5
        >>> space = relspace.align({"old": X[:150], "new": Y[:150]})
        >>> translated = space.translate("old", "new", X[150:])
        >>> bool((translated - Y[150:]).abs().max() < 1e-3)
        True
        """
        return apply_map(
            self.translator(a, b, method)._row_map(memory_budget),
            self._given_of(a, X),
            out=out,
            memory_budget=memory_budget,
            client=client,
            progress=progress,
        )

    def pairwise(self, a: str, b: str) -> Array:
        """Distances of all rows of one set from all rows of another, computed in blocks.

        Parameters
        ----------
        a, b : str
            Two sets.

        Returns
        -------
        tensor or array of shape (n_a, n_b)
            Distances 1 - r, of the kind and float type of set ``a``; see :meth:`distances`.

        Raises
        ------
        MemoryBudgetError
            If the result would not fit into the free memory; :meth:`pairwise_blocks` gives it in
            parts then.
        """
        first, second = self.aligned_set(a).relative, self.aligned_set(b).relative
        Resources(device=first.device).require(
            len(first) * len(second) * first.element_size(),
            f"the matrix of distances of {len(first)} from {len(second)} rows",
            "take it in parts: pairwise_blocks(a, b)",
        )
        out = first.new_empty((len(first), len(second)))
        for rows, block in self.pairwise_blocks(a, b):
            out[rows] = block
        return self.aligned_set(a).restore(out)

    def pairwise_blocks(self, a: str, b: str) -> Iterator[tuple[slice, torch.Tensor]]:
        """The distances of :meth:`pairwise` from all rows of ``b``, for some rows of ``a`` each."""
        for rows, correlation in self._correlation_blocks(a, b):
            yield rows, 1 - correlation

    def summary(self) -> dict[str, Any]:
        """The numbers of the space, ready for JSON.

        For sets of more than 5000 items or tokens, matching is measured on a seeded sample.

        Returns
        -------
        dict
            ``sets`` (per set: n_items, n_features, sigma, density; for tokens on grids rows and
            columns too), ``pairs`` (per pair, in both directions: match accuracy, its chance, mean
            distance, its chance), ``matched_by``, ``n_items`` (items or images), what an ``item``
            is, ``n_landmarks`` and ``parameters``.
        """
        return {
            "sets": self._set_summaries(),
            "pairs": self._pair_summaries(),
            "matched_by": self.matched_by,
            "n_items": self._n_shared,
            "item": self._item,
            "n_landmarks": next(iter(self._sets.values())).aligner.n_landmarks,
            "parameters": self.parameters,
        }

    #: The name of the unit that its sets share: "item" or "image".
    _item: ClassVar[str]
    # The deviation of a column that doesn't vary.
    _may_be_infinite: ClassVar = ("profile_deviation",)

    @property
    @abstractmethod
    def _n_shared(self) -> int:
        """How many items or images the sets share."""

    @abstractmethod
    def _match_of_some(self, a: str, b: str) -> Match:
        """Nearest rows across two sets, on a seeded sample where there are many."""

    @abstractmethod
    def distances(self, a: str, b: str) -> Array:
        """Distance of every row of one set from the same item, or position, in another."""

    @abstractmethod
    def chance_distance(self, a: str, b: str, *, random_state: int = 0) -> float:
        """Mean distance of rows that do not correspond, on a sample of pairs with this seed.

        It is what :meth:`distances` would be on average if rows were assigned at random.
        """

    @abstractmethod
    def _correlation_blocks(self, a: str, b: str) -> Iterator[tuple[slice, torch.Tensor]]:
        """Correlations of all rows of ``a`` with all of ``b``, some rows at a time."""

    def _match(
        self,
        a: str,
        n_neighbors: int,
        blocks: Blocks,
        hubness: str,
        rows: torch.Tensor,
        right: torch.Tensor,
        candidates: torch.Tensor,
        counted: torch.Tensor | None = None,
        tokens_per_image: tuple[int, int] | None = None,
    ) -> Match:
        """The nearest candidates of every query, by blocks of correlations.

        ``rows`` are the queries, ``right`` is the correct candidate of each, and ``counted`` are
        those that count for the accuracy.
        """
        check_count(n_neighbors, "n_neighbors", at_most=len(candidates) - 1)
        check_choice(hubness, "hubness", ("none", "csls"))
        # Of a query's own hubness every candidate would lose the same.
        of_hubs = mean_of_nearest(blocks) / 2 if hubness == "csls" else 0.0
        nearest, correlations = [], []
        for _, correlation in blocks():
            found = (correlation - of_hubs).topk(n_neighbors, dim=1).indices
            nearest.append(found)
            correlations.append(correlation.gather(1, found))
        indices, distances = torch.cat(nearest), 1 - torch.cat(correlations)
        indices = candidates.to(indices.device)[indices]
        hits = (indices.cpu() == right[:, None]).any(dim=1)
        hits = hits if counted is None else hits[counted]
        source = self.aligned_set(a)
        return Match(
            indices=indices.cpu().numpy() if source.is_array else indices,
            distances=source.restore(distances),
            accuracy=float(hits.double().mean()),
            chance=n_neighbors / len(candidates),
            n_neighbors=n_neighbors,
            n_items=len(hits),
            rows=rows,
            right=right if counted is None else right.where(counted, -1),
            ids=self.ids,
            tokens_per_image=tokens_per_image,
        )

    def _holds(self, *names: str) -> bool:
        """Whether the rows of these sets are in memory."""
        return all(isinstance(self.aligned_set(name).rows, torch.Tensor) for name in names)

    def _standardized(self, name: str, own: torch.Tensor | None) -> torch.Tensor:
        """Standardised rows, whose products are correlations."""
        chosen = self.aligned_set(name)
        if chosen.aligner.standardize != "none":
            return chosen.relative
        return chosen.aligner.standardize_in_place(chosen.relative.clone(), own)

    def _set_summaries(self) -> dict[str, dict[str, Any]]:
        return {
            name: {
                "n_items": int(one.rows.shape[0]),
                "n_features": one.aligner.n_features_in_,
                "sigma": one.aligner.bandwidth_.sigma,
                "density": one.aligner.bandwidth_.density,
            }
            for name, one in self._sets.items()
        }

    def _pair_summaries(self) -> list[dict[str, Any]]:
        """Matches and distances of every pair in both directions, with their chance levels."""
        pairs = []
        for a, b in itertools.permutations(self.names, 2):
            found = self._match_of_some(a, b)
            # Tokens outside the crop of the other set have no distance.
            distance = torch.as_tensor(self.distances(a, b)).double().nanmean()
            pairs.append(
                {
                    "from": a,
                    "to": b,
                    "match_accuracy": found.accuracy,
                    "match_chance": found.chance,
                    "n_items_matched": found.n_items,
                    "distance": float(distance),
                    "distance_chance": self.chance_distance(a, b),
                }
            )
        return pairs

    def _read_from(self) -> Iterable[str | Path]:
        return [one for name in self for one in self.rows(name).locations()]

    def _stored(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors: dict[str, torch.Tensor] = {}
        records = []
        for number, (name, one) in enumerate(self._sets.items()):
            own, record = one.stored()
            tensors |= {f"{number}.{key}": tensor for key, tensor in own.items()}
            records.append({"name": name, **record})
        return tensors, {
            "sets": records,
            "ids": None if self.ids is None else list(self.ids),
            "parameters": self.parameters,
            "versions": {"torch": str(torch.__version__)},
        }


def restored_sets(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any], n_landmarks: int
) -> dict[str, AlignedSet]:
    """Restore the sets of a space from a file's tensors and metadata, which must fit together."""
    records, parameters = metadata["sets"], metadata["parameters"]
    if not isinstance(parameters, dict) or not isinstance(parameters.get("layers", {}), dict):
        raise FileFormatError("its parameters, or the layers among them, are no JSON object.")
    sets: dict[str, AlignedSet] = {}
    numbers = {name.partition(".")[0] for name in tensors if name[0].isdigit()}
    if numbers != set(map(str, range(len(records)))):
        raise FileFormatError(f"it lists {len(records)} sets and holds tensors of {len(numbers)}.")
    for number, record in enumerate(records):
        prefix = f"{number}."
        own = {k.removeprefix(prefix): one for k, one in tensors.items() if k.startswith(prefix)}
        restored = AlignedSet.restored(own, record)
        if record["name"] in sets:
            raise FileFormatError(f"two sets are called {record['name']!r}.")
        sets[record["name"]] = restored
    found = {one.aligner.n_landmarks for one in sets.values()}
    if found != {n_landmarks}:
        raise FileFormatError(
            f"it lists {n_landmarks} landmarks, and its sets have {sorted(found) or 'none'}."
        )
    return sets


def restored_ids(metadata: Mapping[str, Any], n_items: int) -> tuple[ItemId, ...] | None:
    """Restore the ids of a space from a file's metadata."""
    ids = metadata["ids"]
    return None if ids is None else as_ids(ids, "the space", n_items)
