"""The common space of tokens on grids: models that see the same images at their own resolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from relspace._archive import write_archive
from relspace._validation import Array, ItemId, as_item_indices, check_count
from relspace.aligned_set import AlignedSet
from relspace.common_space import FORMAT_VERSION, CommonSpace
from relspace.errors import InvalidInputError
from relspace.features import Places, TokenGrid, read_places, token_places
from relspace.kernels.grouped import (
    GroupedRows,
    grouped_correlation_blocks,
    grouped_correlation_of_pairs,
)
from relspace.kernels.relative import Match

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What a file of such a space says it holds.
SPATIAL_SPACE = "spatial space"
_SUMMARY_TOKENS = 5000
_CHANCE_ROUNDS = 10


class SpatialSpace(CommonSpace):
    """Tokens of several models over the same images, described by the same places.

    A mapping of names to relative features, one row for each token, image by image and row by row
    of the model's own grid (:meth:`grid`). Column j is the affinity to landmark j, a place in one
    of the images, read off each model's grid. Where rows of two models are compared, the landmarks
    in the images of both are left out (:class:`relspace.kernels.grouped.GroupedRows`).

    Attributes
    ----------
    names : tuple of str
        The sets.
    ids : tuple or None
        The images' ids; None where they were matched by position.
    places : Places
        The landmarks.
    parameters : dict
        What :func:`relspace.align` was given.

    Examples
    --------
    >>> import torch, relspace
    >>> from relspace.features import FeatureSet
    >>> maps = torch.randn(6, 8, 8, 5, generator=torch.Generator().manual_seed(0))
    >>> fine = FeatureSet.from_arrays({"maps": maps}, layout="bhwc")
    >>> space = relspace.align({"fine": fine, "coarse": fine.pool((4, 4))})
    >>> space
    SpatialSpace('fine' 8 x 8, 'coarse' 4 x 4: 6 images matched by position, 1024 landmarks)
    >>> space["coarse"].shape
    torch.Size([96, 1024])
    """

    def __init__(
        self,
        sets: Mapping[str, AlignedSet],
        *,
        grids: Mapping[str, TokenGrid],
        ids: tuple[ItemId, ...] | None,
        places: Places,
        parameters: Mapping[str, Any],
    ) -> None:
        super().__init__(sets, ids=ids, parameters=parameters)
        self._grids = dict(grids)
        self.places = places

    @property
    def n_images(self) -> int:
        """How many images the sets share."""
        return next(iter(self._grids.values())).n_images

    def grid(self, name: str) -> TokenGrid:
        """Where the tokens of one set lie."""
        self.aligned_set(name)
        return self._grids[name]

    def __repr__(self) -> str:
        sets = ", ".join(f"{name!r} {g.rows} x {g.columns}" for name, g in self._grids.items())
        return (
            f"SpatialSpace({sets}: {self.n_images} images matched by {self.matched_by}, "
            f"{len(self.places)} landmarks)"
        )

    def distances(self, a: str, b: str) -> Array:
        """Distance of every token of one set from what another set has at the same place.

        The other set is read at the token's centre by bilinear interpolation. The distance is
        1 - r, with r the correlation of the two rows without the landmarks of their image: 0 for
        the same relations, 1 for unrelated sets (chance), 2 at most.

        Parameters
        ----------
        a, b : str
            Two sets.

        Returns
        -------
        tensor or array of shape (n_a,)
            Distances; NaN for tokens at places that ``b`` did not see (its crop is smaller).
        """
        A, B, seen = self._at_same_places(a, b)
        relative = self.aligned_set(a).relative
        out = relative.new_full((len(relative),), torch.nan)
        out[seen] = 1 - grouped_correlation_of_pairs(A, B)
        return self.aligned_set(a).restore(out)

    def chance_distance(self, a: str, b: str, *, random_state: int = 0) -> float:
        """Mean distance of tokens that do not correspond, on a seeded sample of pairs.

        Parameters
        ----------
        a, b : str
            Two sets.
        random_state : int
            Seed of the sample: every token is paired with up to 10 of other images.

        Returns
        -------
        float
            What :meth:`distances` would be if tokens were assigned to places at random.
        """
        A, B, _ = self._at_same_places(a, b)
        generator = torch.Generator().manual_seed(random_state)
        total, count = 0.0, 0
        for _ in range(_CHANCE_ROUNDS):
            other = torch.randperm(len(A.rows), generator=generator).to(A.rows.device)
            apart = (A.groups != B.groups[other]).nonzero().flatten()
            found = 1 - grouped_correlation_of_pairs(A.take(apart), B.take(other[apart]))
            total, count = total + float(found.double().sum()), count + len(found)
        return total / count

    def match(self, a: str, b: str, k: int = 1, *, images: object = None) -> Match:
        """Find each token's nearest tokens across two sets.

        Parameters
        ----------
        a, b : str
            Two sets; tokens of ``a`` look for their nearest in ``b``.
        k : int
            How many nearest tokens.
        images : sequence of int, optional
            Match only the tokens of these images among themselves. All by default.

        Returns
        -------
        Match
            Indices of tokens of ``b``, distances, how often the token that covers the same place
            is among the k, and how often it would be by chance. Tokens at places that ``b`` did
            not see count neither way.

        Raises
        ------
        InvalidInputError
            If ``k`` is not below the number of tokens, or fewer than 3 images are matched.
        """
        chosen = self._tokens_of(images, a), self._tokens_of(images, b)
        n_queries, n_candidates = map(len, chosen)
        if check_count(k, "k") >= n_candidates:
            raise InvalidInputError(
                f"k is {k}; it must be below the number of tokens of {b}, {n_candidates}."
            )
        A, B = (
            self._grouped(name).take(tokens) for name, tokens in zip((a, b), chosen, strict=True)
        )
        B = B.like(A)
        indices = torch.empty((n_queries, k), dtype=torch.long, device=A.rows.device)
        distances = A.rows.new_empty((n_queries, k))
        for rows, correlation in grouped_correlation_blocks(A, B):
            best = correlation.topk(k, dim=1)
            indices[rows], distances[rows] = best.indices, 1 - best.values
        indices = chosen[1].to(indices.device)[indices]
        same, seen = self._covering(a, b)
        same, seen = same[chosen[0]], seen[chosen[0]]
        hits = (indices.cpu() == same[:, None]).any(dim=1)[seen]
        source = self.aligned_set(a)
        return Match(
            indices=indices.cpu().numpy() if source.is_array else indices,
            distances=source.restore(distances),
            accuracy=float(hits.double().mean()),
            chance=k / n_candidates,
            k=k,
            n_items=len(hits),
        )

    def plot(self, *, n_images: int = 6) -> Figure:
        """Draw images across and sets down, every token in a colour that means the same in all.

        Parameters
        ----------
        n_images : int
            How many images, the first ones.

        Returns
        -------
        Figure
            A matplotlib figure; ``figure.savefig(path)`` writes it.

        Raises
        ------
        MissingDependencyError
            If matplotlib isn't installed.
        """
        from relspace.embedding.plots import draw_panels, joint_colors

        n = min(check_count(n_images, "n_images"), self.n_images)
        colors = joint_colors(
            {
                name: self._standardized(name, None)[: n * grid.tokens_per_image]
                for name, grid in self._grids.items()
            }
        )
        shapes = {name: (n, grid.rows, grid.columns, 3) for name, grid in self._grids.items()}
        return draw_panels({name: one.reshape(shapes[name]) for name, one in colors.items()})

    def summary(self) -> dict[str, Any]:
        """The numbers of the space, ready for JSON.

        Of more than 5000 tokens a set, matching is measured on a seeded sample of images.

        Returns
        -------
        dict
            ``sets`` (per set: tokens, rows, columns, n_features, sigma, density), ``pairs`` (per
            pair, in both directions: match accuracy, its chance, mean distance, its chance),
            ``matched_by``, ``n_items`` (images), what an ``item`` is, ``n_landmarks`` and
            ``parameters``.
        """
        finest = max(grid.tokens_per_image for grid in self._grids.values())
        n_sampled = min(self.n_images, max(3, _SUMMARY_TOKENS // finest))
        order = torch.randperm(self.n_images, generator=torch.Generator().manual_seed(0))
        images = order[:n_sampled].sort().values
        return {
            "sets": self._set_summaries(),
            "pairs": self._pair_summaries(lambda a, b: self.match(a, b, images=images)),
            "matched_by": self.matched_by,
            "n_items": self.n_images,
            "item": "image",
            "n_landmarks": len(self.places),
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
        tensors, records = self._stored_sets()
        tensors |= {"places.images": self.places.images, "places.y": self.places.y}
        tensors |= {"places.x": self.places.x}
        for number, (record, grid) in enumerate(zip(records, self._grids.values(), strict=True)):
            record |= {"rows": grid.rows, "columns": grid.columns}
            tensors |= {f"{number}.boxes": grid.boxes, f"{number}.image_sizes": grid.image_sizes}
        metadata = {
            "format_version": FORMAT_VERSION,
            "sets": records,
            "ids": None if self.ids is None else list(self.ids),
            "parameters": self.parameters,
            "versions": {"torch": str(torch.__version__)},
        }
        return write_archive(path, SPATIAL_SPACE, tensors, metadata)

    def _correlation_blocks(self, a: str, b: str) -> Iterator[tuple[slice, torch.Tensor]]:
        A = self._grouped(a)
        return grouped_correlation_blocks(A, self._grouped(b).like(A))

    def _set_summaries(self) -> dict[str, dict[str, Any]]:
        sets = super()._set_summaries()
        for name, grid in self._grids.items():
            sets[name] |= {"rows": grid.rows, "columns": grid.columns}
        return sets

    def _grouped(self, name: str) -> GroupedRows:
        images = token_places(self.grid(name)).images
        rows = self._standardized(name, None)
        return GroupedRows.of(rows, images, self.places.images, self.n_images)

    def _at_same_places(self, a: str, b: str) -> tuple[GroupedRows, GroupedRows, torch.Tensor]:
        """Tokens of a at places that b saw too, b's rows at these places, and which they are."""
        places = token_places(self.grid(a))
        _, seen = self._covering(a, b)
        if not bool(seen.any()):
            raise InvalidInputError(f"{b} saw no place at which {a} has tokens.")
        where = seen.nonzero().flatten()
        A = self._grouped(a).take(where)
        rows = read_places(self._standardized(b, None), self.grid(b), places.select(where))
        B = GroupedRows.of(rows, places.images[where], self.places.images, self.n_images)
        return A, B.like(A), where.to(A.rows.device)

    def _covering(self, a: str, b: str) -> tuple[torch.Tensor, torch.Tensor]:
        """For every token of a, the token of b that covers its centre, and whether there is one."""
        places, grid = token_places(self.grid(a)), self.grid(b)
        box = grid.boxes[places.images]
        down = (places.y - box[:, 0]) / (box[:, 2] - box[:, 0])
        right = (places.x - box[:, 1]) / (box[:, 3] - box[:, 1])
        seen = (down >= 0) & (down <= 1) & (right >= 0) & (right <= 1)
        row = (down * grid.rows).long().clamp(0, grid.rows - 1)
        column = (right * grid.columns).long().clamp(0, grid.columns - 1)
        return places.images * grid.tokens_per_image + row * grid.columns + column, seen

    def _tokens_of(self, images: object, name: str) -> torch.Tensor:
        n = self.grid(name).tokens_per_image
        if images is None:
            chosen = torch.arange(self.n_images)
        else:
            chosen = as_item_indices(images, "images", self.n_images).sort().values
        if len(chosen) < 3:
            raise InvalidInputError(
                f"{len(chosen)} images are matched; it takes at least 3, because landmarks in the "
                "images of a pair of tokens are left out."
            )
        return (chosen[:, None] * n + torch.arange(n)).flatten()
