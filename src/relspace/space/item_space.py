"""The common space of sets of the same items: their distances, their matches, their file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch

from relspace._core.arguments import check_count, check_random_state
from relspace._core.deprecation import renamed_parameters
from relspace._core.items import ItemId, as_item_indices
from relspace._core.matrices import Array
from relspace._core.resources import Resources
from relspace.errors import FileFormatError, InvalidInputError
from relspace.kernels.correlation import Match, correlation_blocks, correlation_of_pairs
from relspace.kernels.landmarks import draw_distinct
from relspace.kernels.relative import NO_LANDMARK
from relspace.space.aligned_set import AlignedSet
from relspace.space.base import CommonSpace, restored_ids, restored_sets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SUMMARY_ITEMS = 5000
_CHANCE_ROUNDS = 10
# Copies of the rows of a set when they are compared.
_COPIES = 8
_BYTES_AT_A_TIME = 2**28


class ItemSpace(CommonSpace):
    """Feature sets in one common space, made by :func:`relspace.align` or :func:`load_space`.

    A mapping of names to relative features. Row i is the same item in every set, column j the
    affinity to the same landmark. An item's affinity with itself says nothing of its features:
    these entries are 0 in standardised rows, and every distance leaves them out, pair by pair.

    Attributes
    ----------
    landmarks : LongTensor of shape (m,)
        The items that are landmarks, beside what :class:`relspace.CommonSpace` has.

    Examples
    --------
    >>> import torch, relspace
    >>> X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    >>> space = relspace.align({"a": X, "b": 3 * X.flip(1) + 1})
    >>> space
    ItemSpace('a', 'b': 60 items matched by position, 60 landmarks)
    >>> space.match("a", "b").accuracy
    1.0
    >>> space["a"].shape
    torch.Size([60, 60])
    """

    _kind, _item = "aligned space", "item"

    def __init__(
        self,
        sets: Mapping[str, AlignedSet],
        *,
        ids: tuple[ItemId, ...] | None,
        landmarks: torch.Tensor,
        parameters: Mapping[str, Any],
    ) -> None:
        super().__init__(sets, ids=ids, parameters=parameters)
        self.landmarks = landmarks
        self._own = torch.full((self.n_items,), NO_LANDMARK)
        self._own[landmarks] = torch.arange(len(landmarks))

    @property
    def n_items(self) -> int:
        """How many items the sets share."""
        return int(next(iter(self._sets.values())).rows.shape[0])

    def __repr__(self) -> str:
        return (
            f"ItemSpace({', '.join(map(repr, self.names))}: {self.n_items} items matched by "
            f"{self.matched_by}{self._of_given}, {len(self.landmarks)} landmarks)"
        )

    def distances(self, a: str, b: str) -> Array:
        """Distance of every item's row in one set from its row in another.

        The distance is 1 - r, with r the correlation of the two rows after the profile that all
        rows share is removed: 0 for the same relations, 1 for unrelated sets (chance), 2 at most.

        Parameters
        ----------
        a, b : str
            Two sets.

        Returns
        -------
        tensor or array of shape (n,)
            Distances, of the kind and float type of set ``a``.
        """
        parts = []
        row_bytes = _COPIES * len(self.landmarks) * self.rows(a).dtype.itemsize
        for part in Resources().blocks(self.n_items, row_bytes, at_most=_BYTES_AT_A_TIME):
            A, B = self._comparable(a, b, torch.arange(part.start, part.stop))
            own = self._own[part]
            parts.append(1 - correlation_of_pairs(A, B, own, own))
        return self.aligned_set(a).restore(torch.cat(parts))

    def chance_distance(self, a: str, b: str, *, random_state: int = 0) -> float:
        """Mean distance of items that do not correspond, see :class:`relspace.CommonSpace`.

        Every item is paired with 10 others. Where rows are not held, the items are 5000 at random.
        """
        generator = torch.Generator().manual_seed(check_random_state(random_state))
        items = None
        if not self._holds(a, b):
            items = draw_distinct(self.n_items, _SUMMARY_ITEMS, generator)
        A, B = self._comparable(a, b, items)
        own = self._own if items is None else self._own[items]
        n = len(A)
        total = 0.0
        rounds = min(_CHANCE_ROUNDS, n - 1)
        # Shifting one random order by different steps pairs no item with itself, nor two twice.
        order = torch.randperm(n, generator=generator)
        steps = torch.randperm(n - 1, generator=generator)[:rounds] + 1
        for step in steps.tolist():
            other = torch.empty_like(order)
            other[order] = order.roll(step)
            correlation = correlation_of_pairs(A, B[other], own, own[other])
            total += float((1 - correlation).mean())
        return total / rounds

    def _correlation_blocks(self, a: str, b: str) -> Iterator[tuple[slice, torch.Tensor]]:
        A, B = self._comparable(a, b, None)
        return correlation_blocks(A, B, self._own, self._own)

    @renamed_parameters(k="n_neighbors")
    def match(
        self,
        a: str,
        b: str,
        n_neighbors: int = 1,
        *,
        hubness: Literal["none", "csls"] = "none",
        items: object = None,
    ) -> Match:
        """Find each item's nearest items across two sets.

        Parameters
        ----------
        a, b : str
            Two sets; items of ``a`` look for their nearest in ``b``.
        n_neighbors : int
            How many nearest items.
        hubness : "none" or "csls"
            Whether candidates that are near to everything (hubs) are set back: by cross-domain
            similarity local scaling (Conneau et al. 2018), their correlation counts less half the
            mean of their 10 highest with the items that are matched. Distances stay as they are.
        items : sequence of int, optional
            Match only these items among themselves, held-out ones for example. All by default.

        Returns
        -------
        Match
            Indices, distances, top-k accuracy and its chance level.

        Raises
        ------
        InvalidInputError
            If ``n_neighbors`` is not below the number of items.
        """
        if items is None:
            chosen, own = torch.arange(self.n_items), self._own
        else:
            chosen = as_item_indices(items, "items", self.n_items)
            own = self._own[chosen]
        A, B = self._comparable(a, b, None if items is None else chosen)
        blocks = partial(correlation_blocks, A, B, own, own)
        return self._match(a, n_neighbors, blocks, hubness, chosen, chosen, chosen)

    def plot(
        self,
        *,
        n_items: int = 600,
        labels: Sequence[object] | None = None,
        color: object = None,
        ax: Axes | None = None,
        title: str | None = None,
        cmap: Any = None,
    ) -> Axes:
        """Draw items as points of a plane, in colours that mean the same in all sets.

        Parameters
        ----------
        n_items : int
            How many items, a seeded sample where there are more.
        labels : sequence of length n_items of the space, optional
            A class for each item, such as the digit that it shows: items of one class have one
            colour, which the legend names.
        color : array of shape (n,) or (n, 3), optional
            A number for each item, or its colour, instead of joint colours.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        title : str, optional
            The title; by default it names the sets.
        cmap : str or matplotlib.colors.Colormap, optional
            Colours of the numbers in ``color``.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn into; ``axes.figure.savefig(path)`` writes the figure.

        Raises
        ------
        InvalidInputError
            If there isn't one label or colour for each item, or both are given.
        MissingDependencyError
            If matplotlib isn't installed.
        """
        from relspace.embedding.joint_colors import joint_colors
        from relspace.kernels.axes import principal_plane
        from relspace.pictures.space_plots import draw_items
        from relspace.pictures.theme import Look

        if labels is not None and color is not None:
            raise InvalidInputError("labels and color both say what items look like: give one.")
        generator = torch.Generator().manual_seed(0)
        items = draw_distinct(self.n_items, check_count(n_items, "n_items"), generator)
        rows = {name: self._rows_of(name, items) for name in self.names}
        classes: list[str] = []
        colors: Any
        if labels is not None:
            given = [str(one) for one in self._one_each(labels, "labels")]
            classes = sorted(set(given), key=lambda one: (len(one), one))
            colors = np.array([classes.index(given[i]) for i in items.tolist()])
        elif color is not None:
            colors = np.asarray(self._one_each(color, "color"), dtype=float)[items.numpy()]
        else:
            colors = joint_colors(rows)
        look = Look(ax, title, cmap)
        return draw_items(principal_plane(rows), colors, classes=classes, look=look)

    def _one_each(self, given: Any, name: str) -> Any:
        """What is given for each item, refused where there are more or fewer."""
        if len(given) != self.n_items:
            raise InvalidInputError(
                f"{name} has {len(given)} entries and the space {self.n_items} items; give one for "
                "each item, in the order of the space."
            )
        return given

    @property
    def _n_shared(self) -> int:
        return self.n_items

    def _match_of_some(self, a: str, b: str) -> Match:
        generator = torch.Generator().manual_seed(0)
        items = draw_distinct(self.n_items, _SUMMARY_ITEMS, generator)
        return self.match(a, b, items=items)

    def _stored(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors, metadata = super()._stored()
        return {"landmarks": self.landmarks, **tensors}, metadata

    @classmethod
    def _restored(cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> Self:
        landmarks = tensors["landmarks"]
        sets = restored_sets(tensors, metadata, len(landmarks))
        counts = {name: int(one.rows.shape[0]) for name, one in sets.items()}
        n_items = next(iter(counts.values()))
        if set(counts.values()) != {n_items}:
            raise FileFormatError(f"its sets have different numbers of items: {counts}.")
        landmarks = as_item_indices(landmarks, "landmarks", n_items)
        ids = restored_ids(metadata, n_items)
        return cls(sets, ids=ids, landmarks=landmarks, parameters=metadata["parameters"])

    def _comparable(
        self, a: str, b: str, items: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of some items, or of all, of one type on one device; their products correlate."""
        A = self._rows_of(a, items)
        return A, self._rows_of(b, items).to(A)

    def _rows_of(self, name: str, items: torch.Tensor | None) -> torch.Tensor:
        if items is None or len(items) == self.n_items:
            rows = self._standardized(name, self._own)
            return rows if items is None else rows[items]
        aligner, made = self.aligner(name), self.aligned_set(name).rows
        rows = made[items] if isinstance(made, torch.Tensor) else made.read_at(items)
        if aligner.standardize == "none":
            rows = aligner.standardize_in_place(rows, self._own[items])
        return rows
