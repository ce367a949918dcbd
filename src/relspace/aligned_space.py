"""The common space: relative features of several sets, their distances, and their file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from relspace._archive import read_archive, write_archive
from relspace._blocks import refuse_too_large
from relspace._validation import (
    Array,
    ItemId,
    as_item_indices,
    check_count,
    name_some,
)
from relspace.aligned_set import AlignedSet
from relspace.aligner import Aligner
from relspace.errors import FileFormatError, InvalidInputError, UnknownNameError
from relspace.kernels.relative import (
    NO_LANDMARK,
    Match,
    correlation_blocks,
    correlation_of_pairs,
    nearest_rows,
)

_KIND = "aligned space"
_FORMAT_VERSION = 1
_SUMMARY_ITEMS = 5000
_CHANCE_ROUNDS = 10


class AlignedSpace(Mapping[str, Array]):
    """Feature sets in one common space, made by :func:`relspace.align` or :func:`load_space`.

    A mapping of names to relative features. Row i is the same item in every set, column j the
    affinity to the same landmark. An item's affinity with itself says nothing of its features:
    these entries are 0 in standardised rows, and every distance leaves them out, pair by pair.

    Attributes
    ----------
    names : tuple of str
        The sets.
    ids : tuple or None
        The items' ids; None where rows were matched by position.
    landmarks : LongTensor of shape (m,)
        The items that are landmarks.
    parameters : dict
        What :func:`relspace.align` was given: density, normalize, standardize, random_state.

    Examples
    --------
    >>> import torch, relspace
    >>> X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    >>> space = relspace.align({"a": X, "b": 3 * X.flip(1) + 1})
    >>> space
    AlignedSpace('a', 'b': 60 items matched by position, 60 landmarks)
    >>> space.match("a", "b").accuracy
    1.0
    >>> space["a"].shape
    torch.Size([60, 60])
    """

    def __init__(
        self,
        sets: Mapping[str, AlignedSet],
        *,
        ids: tuple[ItemId, ...] | None,
        landmarks: torch.Tensor,
        parameters: Mapping[str, Any],
    ) -> None:
        self._sets = dict(sets)
        self.ids = ids
        self.landmarks = landmarks
        self.parameters = dict(parameters)
        self._own = torch.full((self.n_items,), NO_LANDMARK)
        self._own[landmarks] = torch.arange(len(landmarks))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sets."""
        return tuple(self._sets)

    @property
    def n_items(self) -> int:
        """How many items the sets share."""
        return len(next(iter(self._sets.values())).relative)

    @property
    def matched_by(self) -> str:
        """How rows of different sets were matched: "ids" or "position"."""
        return "position" if self.ids is None else "ids"

    def __getitem__(self, name: str) -> Array:
        chosen = self.aligned_set(name)
        return chosen.restore(chosen.relative)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sets)

    def __len__(self) -> int:
        return len(self._sets)

    def __repr__(self) -> str:
        return (
            f"AlignedSpace({', '.join(map(repr, self.names))}: {self.n_items} items matched by "
            f"{self.matched_by}, {len(self.landmarks)} landmarks)"
        )

    def aligned_set(self, name: str) -> AlignedSet:
        """One set with its fitted aligner.

        Raises
        ------
        UnknownNameError
            If there is no set of this name.
        """
        if name not in self._sets:
            raise UnknownNameError(
                f"no set is called {name!r}; this space holds {name_some(self.names)}."
            )
        return self._sets[name]

    def aligner(self, name: str) -> Aligner:
        """The fitted aligner of one set."""
        return self.aligned_set(name).aligner

    def transform(self, name: str, X: object) -> Array:
        """Bring new items of a known set into the space.

        Parameters
        ----------
        name : str
            The set whose model they come from.
        X : array-like of shape (n, d)
            Their features; none of them is taken for a landmark.

        Returns
        -------
        tensor or array of shape (n, m)
            Their relative features, of the kind, float type and device of ``X``.
        """
        return self.aligner(name).transform(X)

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
        A, B = self._comparable(a, b)
        return self.aligned_set(a).restore(1 - correlation_of_pairs(A, B, self._own, self._own))

    def chance_distance(self, a: str, b: str, *, random_state: int = 0) -> float:
        """Mean distance of items that do not correspond, on a seeded sample of pairs.

        Parameters
        ----------
        a, b : str
            Two sets.
        random_state : int
            Seed of the sample: every item is paired with 10 others.

        Returns
        -------
        float
            What :meth:`distances` would be if rows were assigned to items at random.
        """
        A, B = self._comparable(a, b)
        n = self.n_items
        generator = torch.Generator().manual_seed(random_state)
        total = 0.0
        rounds = min(_CHANCE_ROUNDS, n - 1)
        # Turning one random circle by different steps pairs no item with itself, nor twice.
        circle = torch.randperm(n, generator=generator)
        steps = torch.randperm(n - 1, generator=generator)[:rounds] + 1
        for step in steps.tolist():
            other = torch.empty_like(circle)
            other[circle] = circle.roll(step)
            correlation = correlation_of_pairs(A, B[other], self._own, self._own[other])
            total += float((1 - correlation).mean())
        return total / rounds

    def pairwise(self, a: str, b: str) -> Array:
        """Distances of all items of one set from all items of another, computed in blocks.

        Parameters
        ----------
        a, b : str
            Two sets.

        Returns
        -------
        tensor or array of shape (n, n)
            Distances 1 - r, of the kind and float type of set ``a``; see :meth:`distances`.

        Raises
        ------
        MemoryBudgetError
            If the result would not fit into the free memory; :meth:`pairwise_blocks` gives it in
            parts then.
        """
        relative = self.aligned_set(a).relative
        refuse_too_large(
            self.n_items**2 * relative.element_size(),
            f"the matrix of distances of {self.n_items} items",
            "take it in parts: pairwise_blocks(a, b).",
            device=relative.device,
        )
        out = relative.new_empty((self.n_items, self.n_items))
        for rows, block in self.pairwise_blocks(a, b):
            out[rows] = block
        return self.aligned_set(a).restore(out)

    def pairwise_blocks(self, a: str, b: str) -> Iterator[tuple[slice, torch.Tensor]]:
        """The distances of :meth:`pairwise`, some rows at a time.

        Yields
        ------
        rows : slice
            Items of set ``a``.
        distances : tensor of shape (len(rows), n)
            Their distances from all items of set ``b``.
        """
        A, B = self._comparable(a, b)
        for rows, correlation in correlation_blocks(A, B, self._own, self._own):
            yield rows, 1 - correlation

    def match(self, a: str, b: str, k: int = 1, *, items: object = None) -> Match:
        """Find each item's nearest items across two sets.

        Parameters
        ----------
        a, b : str
            Two sets; items of ``a`` look for their nearest in ``b``.
        k : int
            How many nearest items.
        items : sequence of int, optional
            Match only these items among themselves, held-out ones for example. All by default.

        Returns
        -------
        Match
            Indices, distances, top-k accuracy and its chance level.

        Raises
        ------
        InvalidInputError
            If ``k`` is not below the number of items.
        """
        (A, B), own = self._comparable(a, b), self._own
        chosen = None if items is None else as_item_indices(items, "items", self.n_items)
        if chosen is not None:
            A, B, own = A[chosen], B[chosen], own[chosen]
        n = len(A)
        check_count(k, "k")
        if k >= n:
            raise InvalidInputError(f"k is {k}; it must be below the number of items, {n}.")
        indices, distances = nearest_rows(A, B, k, own, own)
        hits = (indices == torch.arange(n, device=indices.device)[:, None]).any(dim=1)
        if chosen is not None:
            indices = chosen.to(indices.device)[indices]
        source = self.aligned_set(a)
        return Match(
            indices=indices.cpu().numpy() if source.is_array else indices,
            distances=source.restore(distances),
            accuracy=float(hits.double().mean()),
            chance=k / n,
            k=k,
            n_items=n,
        )

    def summary(self) -> dict[str, Any]:
        """The numbers of the space, ready for JSON.

        Of more than 5000 items, matching is measured on a seeded sample of 5000.

        Returns
        -------
        dict
            ``sets`` (per set: n_items, n_features, sigma, density), ``pairs`` (per pair, in both
            directions: match accuracy, its chance, mean distance, its chance), ``matched_by``,
            ``n_landmarks`` and ``parameters``.
        """
        generator = torch.Generator().manual_seed(0)
        items = torch.randperm(self.n_items, generator=generator)[:_SUMMARY_ITEMS].sort().values
        sets = {
            name: {
                "n_items": self.n_items,
                "n_features": one.aligner.n_features_in_,
                "sigma": one.aligner.bandwidth_.sigma,
                "density": one.aligner.bandwidth_.density,
            }
            for name, one in self._sets.items()
        }
        pairs = []
        for a, b in itertools.permutations(self.names, 2):
            match = self.match(a, b, items=items)
            pairs.append(
                {
                    "from": a,
                    "to": b,
                    "match_accuracy": match.accuracy,
                    "match_chance": match.chance,
                    "n_items_matched": match.n_items,
                    "distance": float(torch.as_tensor(self.distances(a, b)).double().mean()),
                    "distance_chance": self.chance_distance(a, b),
                }
            )
        return {
            "sets": sets,
            "pairs": pairs,
            "matched_by": self.matched_by,
            "n_items": self.n_items,
            "n_landmarks": len(self.landmarks),
            "parameters": self.parameters,
        }

    def save(self, path: str | Path) -> Path:
        """Write the space into one safetensors file, whole or not at all.

        Parameters
        ----------
        path : str or Path
            The file; one that exists is replaced.

        Returns
        -------
        Path
            The file.
        """
        tensors = {"landmarks": self.landmarks}
        sets = []
        for number, (name, one) in enumerate(self._sets.items()):
            tensors |= {f"{number}.{key}": tensor for key, tensor in one.tensors().items()}
            sets.append({"name": name, **one.record()})
        metadata = {
            "format_version": _FORMAT_VERSION,
            "sets": sets,
            "ids": None if self.ids is None else list(self.ids),
            "parameters": self.parameters,
            "versions": {"torch": str(torch.__version__)},
        }
        return write_archive(path, _KIND, tensors, metadata)

    def _comparable(self, a: str, b: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of two sets, of one type on one device, whose products are correlations."""
        A = self._standardized(a)
        return A, self._standardized(b).to(A)

    def _standardized(self, name: str) -> torch.Tensor:
        chosen = self.aligned_set(name)
        if chosen.aligner.standardize:
            return chosen.relative
        return chosen.aligner.standardize_in_place(
            chosen.relative.clone(), self._own, deviation=False
        )


def load_space(path: str | Path) -> AlignedSpace:
    """Read a space that :meth:`AlignedSpace.save` wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    AlignedSpace
        The same space, to the bit, on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If it is damaged, holds something else, or comes from a later version.

    Examples
    --------
    >>> import tempfile, torch, relspace
    >>> X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = relspace.align({"a": X, "b": -X}).save(folder + "/space.safetensors")
    ...     relspace.load_space(file)
    AlignedSpace('a', 'b': 20 items matched by position, 20 landmarks)
    """
    tensors, metadata = read_archive(path, _KIND)
    if metadata["format_version"] > _FORMAT_VERSION:
        raise FileFormatError(
            f"{path} has format version {metadata['format_version']}; this relspace reads up to "
            f"{_FORMAT_VERSION}: install a newer one."
        )
    sets = {}
    for number, record in enumerate(metadata["sets"]):
        prefix = f"{number}."
        own = {k.removeprefix(prefix): one for k, one in tensors.items() if k.startswith(prefix)}
        sets[record["name"]] = AlignedSet.restored(own, record)
    ids = None if metadata["ids"] is None else tuple(metadata["ids"])
    return AlignedSpace(
        sets, ids=ids, landmarks=tensors["landmarks"], parameters=metadata["parameters"]
    )
