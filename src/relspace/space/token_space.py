"""The common space of tokens on grids: models that see the same images at their own resolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

import torch

from relspace._core.arguments import check_count, check_random_state
from relspace._core.deprecation import renamed_parameters, warn_renamed
from relspace._core.items import ItemId, as_item_indices
from relspace._core.matrices import Array
from relspace._core.resources import Resources
from relspace.errors import FileFormatError, InvalidInputError
from relspace.features import Positions, TokenGrid, read_positions, token_positions
from relspace.features.layer import LayerFeatures, RowItems
from relspace.kernels.correlation import Match
from relspace.kernels.grouped import (
    GroupedRows,
    grouped_correlation_blocks,
    grouped_correlation_of_pairs,
)
from relspace.space.aligned_set import AlignedSet
from relspace.space.base import CommonSpace, restored_ids, restored_sets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PARTS_OF_LANDMARKS = ("images", "y", "x")
_SUMMARY_TOKENS = 5000
_CHANCE_ROUNDS = 10
# Rows are correlated over at least this many landmarks.
_FEWEST_LEFT = 3
# Copies of the rows of two sets when they are compared.
_COPIES = 8
_BYTES_AT_A_TIME = 2**28


class TokenSpace(CommonSpace):
    """Tokens of several models over the same images, described by the same landmarks.

    A mapping of names to relative features, one row for each token, image by image and row by row
    of the model's own grid (:meth:`grid`). Column j is the affinity to landmark j, a position on an
    image, read off each model's grid. Where rows of two models are compared, the landmarks
    in the images of both are left out, and columns are decorrelated then
    (:class:`relspace.kernels.grouped.GroupedRows`); the rows themselves keep them as they are.

    Attributes
    ----------
    landmarks : Positions
        The landmarks, beside what :class:`relspace.CommonSpace` has.

    Examples
    --------
    >>> import torch, relspace
    >>> from relspace.features import FeatureSet
    >>> maps = torch.randn(6, 8, 8, 5, generator=torch.Generator().manual_seed(0))
    >>> fine = FeatureSet.from_arrays({"maps": maps}, layout="bhwc")
    >>> space = relspace.align({"fine": fine, "coarse": fine.pool((4, 4))})
    >>> space
    TokenSpace('fine' 8 x 8, 'coarse' 4 x 4: 6 images matched by position, 1024 landmarks)
    >>> space["coarse"].shape
    torch.Size([96, 1024])
    """

    _kind, _item = "spatial space", "image"

    def __init__(
        self,
        sets: Mapping[str, AlignedSet],
        *,
        grids: Mapping[str, TokenGrid],
        ids: tuple[ItemId, ...] | None,
        landmarks: Positions,
        parameters: Mapping[str, Any],
    ) -> None:
        super().__init__(sets, ids=ids, parameters=parameters)
        self._grids = dict(grids)
        self.landmarks = landmarks

    @property
    def n_images(self) -> int:
        """How many images the sets share."""
        return next(iter(self._grids.values())).n_images

    def grid(self, name: str) -> TokenGrid:
        """The grid of the tokens of one set."""
        self.aligned_set(name)
        return self._grids[name]

    @property
    def places(self) -> Positions:
        """The old name of ``landmarks``."""
        warn_renamed("TokenSpace.places", "TokenSpace.landmarks")
        return self.landmarks

    def read_places(self, name: str, places: Positions) -> torch.Tensor:
        """Read a set's relative features: the old name of :meth:`read_positions`."""
        warn_renamed("TokenSpace.read_places", "TokenSpace.read_positions")
        return self.read_positions(name, places)

    def read_positions(self, name: str, positions: Positions) -> torch.Tensor:
        """Read a set's relative features, (n_positions, m), by bilinear interpolation."""
        return self._layer(name).read_positions(positions)

    def __repr__(self) -> str:
        sets = ", ".join(f"{name!r} {g.rows} x {g.columns}" for name, g in self._grids.items())
        return (
            f"TokenSpace({sets}: {self.n_images} images matched by {self.matched_by}"
            f"{self._of_given}, {len(self.landmarks)} landmarks)"
        )

    def distances(self, a: str, b: str) -> Array:
        """Distance of every token of one set from what another set has at the same position.

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
            Distances; NaN for tokens at positions that ``b`` did not see (its crop is smaller).
        """
        self._refuse_few_landmarks(torch.arange(self.n_images), n_left_out=1)
        parts = []
        for images in self._image_blocks(a, b):
            A, B, where = self._at_same_positions(a, b, images)
            n = len(images) * self.grid(a).tokens_per_image
            part = A.rows.new_full((n,), torch.nan)
            part[where] = 1 - grouped_correlation_of_pairs(A, B)
            parts.append(part)
        distances = torch.cat(parts)
        if bool(distances.isnan().all()):
            raise InvalidInputError(f"{b} saw no position at which {a} has tokens.")
        return self.aligned_set(a).restore(distances)

    def chance_distance(self, a: str, b: str, *, random_state: int = 0) -> float:
        """Mean distance of tokens that do not correspond, see :class:`relspace.CommonSpace`.

        Every token is paired with up to 10 of other images. Where rows are not held, the tokens are
        those of some images, 5000 or more.
        """
        seed = check_random_state(random_state)
        images = torch.arange(self.n_images) if self._holds(a, b) else self._some_images()
        self._refuse_few_landmarks(images, n_left_out=2)
        A, B, _ = self._at_same_positions(a, b, images)
        if not len(A.rows):
            raise InvalidInputError(f"{b} saw no position at which {a} has tokens.")
        generator = torch.Generator().manual_seed(seed)
        total, count = 0.0, 0
        for _ in range(_CHANCE_ROUNDS):
            other = torch.randperm(len(A.rows), generator=generator).to(A.rows.device)
            apart = (A.groups != B.groups[other]).nonzero().flatten()
            found = 1 - grouped_correlation_of_pairs(A.take(apart), B.take(other[apart]))
            total, count = total + float(found.double().sum()), count + len(found)
        if not count:
            raise InvalidInputError(
                f"{b} saw positions of one image only at which {a} has tokens; chance is measured "
                "on tokens of different images."
            )
        return total / count

    @renamed_parameters(k="n_neighbors")
    def match(
        self,
        a: str,
        b: str,
        n_neighbors: int = 1,
        *,
        hubness: Literal["none", "csls"] = "none",
        images: object = None,
    ) -> Match:
        """Find each token's nearest tokens across two sets.

        Parameters
        ----------
        a, b : str
            Two sets; tokens of ``a`` look for their nearest in ``b``.
        n_neighbors : int
            How many nearest tokens.
        hubness : "none" or "csls"
            Whether candidates that are near to everything (hubs) are set back: by cross-domain
            similarity local scaling (Conneau et al. 2018), their correlation counts less half the
            mean of their 10 highest with the tokens that are matched. Distances stay as they are.
        images : sequence of int, optional
            Match only the tokens of these images among themselves. All by default.

        Returns
        -------
        Match
            Indices of tokens of ``b``, distances, how often the token that covers the same position
            is among the nearest, and how often it would be by chance. Tokens at positions that
            ``b`` did not see are not counted.

        Raises
        ------
        InvalidInputError
            If ``n_neighbors`` is not below the number of tokens, or there are fewer than 3 images.
        """
        at = self._chosen_images(images)
        A = self._grouped(a, at)
        blocks = partial(grouped_correlation_blocks, A, self._grouped(b, at).like(A))
        right, seen = self._covering(a, b, at)
        return self._match(
            a,
            n_neighbors,
            blocks,
            hubness,
            self._tokens_of(at, a),
            right,
            self._tokens_of(at, b),
            seen,
            (self.grid(a).tokens_per_image, self.grid(b).tokens_per_image),
        )

    def plot(self, *, n_images: int = 6, ax: Axes | None = None, title: str | None = None) -> Axes:
        """Draw images across and sets down, every token in a colour that means the same in all.

        Parameters
        ----------
        n_images : int
            How many images, the first ones.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        title : str, optional
            The title; by default it names the sets.

        Returns
        -------
        matplotlib.axes.Axes
            What holds the panels; ``axes.figure.savefig(path)`` writes the figure.

        Raises
        ------
        MissingDependencyError
            If matplotlib isn't installed.
        """
        from relspace.embedding.joint_colors import joint_colors
        from relspace.pictures.space_plots import draw_panels
        from relspace.pictures.theme import Look

        n = min(check_count(n_images, "n_images"), self.n_images)
        colors = joint_colors({name: self._rows_of(name, torch.arange(n)) for name in self.names})
        shapes = {name: (n, grid.rows, grid.columns, 3) for name, grid in self._grids.items()}
        maps = {name: one.reshape(shapes[name]) for name, one in colors.items()}
        return draw_panels(maps, look=Look(ax, title))

    @property
    def _n_shared(self) -> int:
        return self.n_images

    def _match_of_some(self, a: str, b: str) -> Match:
        return self.match(a, b, images=self._some_images())

    def _stored(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors, metadata = super()._stored()
        for part in _PARTS_OF_LANDMARKS:
            tensors[f"places.{part}"] = vars(self.landmarks)[part]
        grids = self._grids.values()
        for number, (record, grid) in enumerate(zip(metadata["sets"], grids, strict=True)):
            record |= {"rows": grid.rows, "columns": grid.columns}
            tensors |= {f"{number}.boxes": grid.boxes, f"{number}.image_sizes": grid.image_sizes}
        return tensors, metadata

    @classmethod
    def _restored(cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> Self:
        parameters = metadata["parameters"]
        landmarks = Positions(*(tensors[f"places.{part}"] for part in _PARTS_OF_LANDMARKS))
        sets = restored_sets(tensors, metadata, len(landmarks))
        grids = {
            record["name"]: TokenGrid(
                record["rows"],
                record["columns"],
                tensors[f"{number}.boxes"],
                tensors[f"{number}.image_sizes"],
            )
            for number, record in enumerate(metadata["sets"])
        }
        n_images = next(iter(grids.values())).n_images
        is_mixed = parameters.get("standardize") in ("whiten", "half-whiten")
        for name, grid in grids.items():
            n_tokens, found = grid.n_images * grid.tokens_per_image, int(sets[name].rows.shape[0])
            if grid.n_images != n_images or n_tokens != found:
                raise FileFormatError(
                    f"set {name!r} has {found} tokens, and its grid {n_tokens} on {grid.n_images} "
                    f"images; the space has {n_images}."
                )
            has_columns = sets[name].aligner.standardize == "columns"
            if is_mixed and has_columns and sets[name].mixing is None:
                raise FileFormatError(f"the tensor 'mixing' of set {name!r} is missing.")
        as_item_indices(torch.unique(landmarks.images), "places.images", n_images)
        ids = restored_ids(metadata, n_images)
        return cls(sets, grids=grids, ids=ids, landmarks=landmarks, parameters=parameters)

    def _correlation_blocks(self, a: str, b: str) -> Iterator[tuple[slice, torch.Tensor]]:
        self._refuse_few_landmarks(torch.arange(self.n_images), n_left_out=2)
        A = self._grouped(a, None)
        return grouped_correlation_blocks(A, self._grouped(b, None).like(A))

    def _set_summaries(self) -> dict[str, dict[str, Any]]:
        sets = super()._set_summaries()
        for name, grid in self._grids.items():
            sets[name] |= {"rows": grid.rows, "columns": grid.columns}
        return sets

    def _some_images(self) -> torch.Tensor:
        """Random images with about 5000 tokens; all if there are fewer."""
        finest = max(grid.tokens_per_image for grid in self._grids.values())
        n_sampled = min(self.n_images, max(3, _SUMMARY_TOKENS // finest))
        order = torch.randperm(self.n_images, generator=torch.Generator().manual_seed(0))
        return order[:n_sampled].sort().values

    def _image_blocks(self, a: str, b: str) -> Iterator[torch.Tensor]:
        """Numbers of images, as many at a time as have rows of some 256 MB."""
        n_tokens = sum(self.grid(name).tokens_per_image for name in (a, b))
        image_bytes = _COPIES * n_tokens * len(self.landmarks) * self.rows(a).dtype.itemsize
        for part in Resources().blocks(self.n_images, image_bytes, at_most=_BYTES_AT_A_TIME):
            yield torch.arange(part.start, part.stop)

    def _rows_of(self, name: str, images: torch.Tensor | None) -> torch.Tensor:
        """Rows of the tokens of some images, or of all, whose products are correlations."""
        if images is None or len(images) == self.n_images:
            return self._standardized(name, None)
        grid, aligner = self.grid(name), self.aligner(name)
        Resources().require(
            len(images) * grid.tokens_per_image * len(self.landmarks) * 4,
            f"the relative features of {len(images)} images",
            "take fewer images",
        )
        rows = self._layer(name).tokens(images)
        if aligner.standardize == "none":
            rows = aligner.standardize_in_place(rows.clone(), None)
        return rows

    def _grouped(self, name: str, images: torch.Tensor | None) -> GroupedRows:
        """Rows of some images' tokens, these numbered from 0; all other images are one group."""
        chosen = torch.arange(self.n_images) if images is None else images
        rows = self._rows_of(name, images)
        groups = torch.arange(len(chosen)).repeat_interleave(self.grid(name).tokens_per_image)
        return GroupedRows.of(rows, groups, *self._numbered(chosen), self.aligned_set(name).mixing)

    def _numbered(self, images: torch.Tensor) -> tuple[torch.Tensor, int]:
        """The group of each landmark, and how many groups there are."""
        number = torch.full((self.n_images,), len(images))
        number[images] = torch.arange(len(images))
        return number[self.landmarks.images], len(images) + 1

    def _at_same_positions(
        self, a: str, b: str, images: torch.Tensor
    ) -> tuple[GroupedRows, GroupedRows, torch.Tensor]:
        """Tokens of a in some images where b saw them too, b's rows there, and which they are."""
        positions = token_positions(self.grid(a).select(images))
        where = self._covering(a, b, images)[1].nonzero().flatten()
        A = self._grouped(a, images).take(where)
        grid = self.grid(b).select(images)
        rows = read_positions(self._rows_of(b, images), grid, positions.select(where))
        mixing = self.aligned_set(b).mixing
        B = GroupedRows.of(rows, positions.images[where], *self._numbered(images), mixing)
        return A, B.like(A), where.to(A.rows.device)

    def _covering(self, a: str, b: str, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For a's tokens of some images, b's token that covers the centre, and if there is one."""
        positions, grid = token_positions(self.grid(a).select(images)), self.grid(b)
        image = images[positions.images]
        box = grid.boxes[image]
        down = (positions.y - box[:, 0]) / (box[:, 2] - box[:, 0])
        right = (positions.x - box[:, 1]) / (box[:, 3] - box[:, 1])
        seen = (down >= 0) & (down <= 1) & (right >= 0) & (right <= 1)
        row = (down * grid.rows).long().clamp(0, grid.rows - 1)
        column = (right * grid.columns).long().clamp(0, grid.columns - 1)
        return image * grid.tokens_per_image + row * grid.columns + column, seen

    def _chosen_images(self, images: object) -> torch.Tensor:
        if images is None:
            chosen = torch.arange(self.n_images)
        else:
            chosen = as_item_indices(images, "images", self.n_images).sort().values
        if len(chosen) < 3:
            raise InvalidInputError(
                f"{len(chosen)} images are matched; it takes at least 3, because landmarks in the "
                "images of a pair of tokens are left out."
            )
        self._refuse_few_landmarks(chosen, n_left_out=2)
        return chosen

    def _refuse_few_landmarks(self, images: torch.Tensor, *, n_left_out: int) -> None:
        """Refuse images without which too few landmarks are left to compare rows over."""
        in_image = torch.bincount(self.landmarks.images, minlength=self.n_images)[images]
        most = int(in_image.sort(descending=True).values[:n_left_out].sum())
        if n_left_out > 1 and len(images) < n_left_out:
            raise InvalidInputError(
                f"tokens of {len(images)} image are compared with those of another; it takes at "
                "least 3 images, because landmarks in the images of both are left out."
            )
        if len(self.landmarks) - most < _FEWEST_LEFT:
            raise InvalidInputError(
                f"of {len(self.landmarks)} landmarks in {int((in_image > 0).sum())} images, "
                f"{len(self.landmarks) - most} are left where those in the tokens' own images are "
                f"left out, and comparing takes {_FEWEST_LEFT}: align {n_left_out + 1} images or "
                "more, with landmarks in all of them."
            )

    def _tokens_of(self, images: torch.Tensor, name: str) -> torch.Tensor:
        n = self.grid(name).tokens_per_image
        return (images[:, None] * n + torch.arange(n)).flatten()

    def _layer(self, name: str) -> LayerFeatures:
        """Rows by image, whether they are held, made as they are read, or stored."""
        rows, grid = self.rows(name), self.grid(name)
        if isinstance(rows, LayerFeatures):
            return rows
        return LayerFeatures(name, RowItems(rows, grid), grid, None)
