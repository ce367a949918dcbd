"""Positions on images, at which grids of any stride and crop meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from relspace._core.arguments import check_count, check_random_state, name_some
from relspace._core.resources import Resources
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError

# Positions on the edge of a box may lie slightly outside of it because of rounding.
_EDGE = 1e-9
# Bytes for one image: its size in int64, and its box in float64.
_SIZE_BYTES = 2 * 8 + 4 * 8


@dataclass(frozen=True, eq=False)
class TokenGrid:
    """Grids of tokens on images: rows x columns equal cells of a box in each image.

    Coordinates are those of the original image as it is looked at (after its EXIF orientation):
    y down, x to the right, in pixels; the pixel in row i covers i to i + 1. A box may reach
    beyond its image, where an image was padded, or cover only a part, where it was cropped.

    Attributes
    ----------
    rows, columns : int
        Shape of the grid.
    boxes : float64 tensor of shape (n_images, 4)
        Top, left, bottom and right of what the grid's cells cover.
    image_sizes : LongTensor of shape (n_images, 2)
        Height and width of the images; all 1 where coordinates are fractions of unknown sizes.

    Examples
    --------
    >>> grid = TokenGrid.whole(2, 2, image_sizes=[(100, 200)])
    >>> token_centers(grid)[0, 1, 0].tolist()
    [75.0, 50.0]
    """

    rows: int
    columns: int
    boxes: torch.Tensor
    image_sizes: torch.Tensor

    def __post_init__(self) -> None:
        check_count(self.rows, "rows")
        check_count(self.columns, "columns")
        n = self.boxes.shape[0]
        if self.boxes.shape != (n, 4) or self.image_sizes.shape != (n, 2):
            raise InvalidInputError(
                f"boxes have shape {tuple(self.boxes.shape)} and image_sizes "
                f"{tuple(self.image_sizes.shape)}; they must be (n_images, 4) and (n_images, 2)."
            )
        boxes = self.boxes.to(torch.float64)
        sound = torch.isfinite(boxes).all(dim=1) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        if not bool(sound.all()):
            raise InvalidInputError(
                f"the boxes of images {name_some((~sound).nonzero()[:, 0].tolist())} are empty or "
                "not finite; a box is (top, left, bottom, right) with top < bottom, left < right."
            )
        if bool((self.image_sizes < 1).any()):
            raise InvalidInputError("image_sizes must be at least 1 pixel in height and width.")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "image_sizes", self.image_sizes.to(torch.long))

    @classmethod
    def whole(
        cls, rows: int, columns: int, *, image_sizes: object = None, n_images: int | None = None
    ) -> Self:
        """Return the grid over whole images, each stretched to the model's input.

        Parameters
        ----------
        rows, columns : int
            Shape of the grid.
        image_sizes : array-like of shape (n_images, 2), optional
            Heights and widths in pixels. By default they are unknown, and coordinates are
            fractions of the image.
        n_images : int, optional
            How many images there are, where image_sizes doesn't tell.
        """
        if image_sizes is None:
            count = check_count(n_images, "n_images")
            Resources().require(_SIZE_BYTES * count, f"a grid of {count} images (n_images)")
            sizes = torch.ones(count, 2, dtype=torch.long)
        else:
            sizes = torch.as_tensor(image_sizes).to(torch.long)
        if sizes.ndim != 2 or sizes.shape[1] != 2:
            raise InvalidInputError(
                f"image_sizes has shape {tuple(sizes.shape)}; it must be (n_images, 2), height and "
                "width of each image."
            )
        return cls(rows, columns, torch.cat([torch.zeros_like(sizes), sizes], dim=1), sizes)

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.boxes.shape[0]

    @property
    def tokens_per_image(self) -> int:
        """Number of tokens of each image."""
        return self.rows * self.columns

    def __eq__(self, other: object) -> bool:
        """Whether two grids are the same cells of the same images."""
        if not isinstance(other, TokenGrid):
            return NotImplemented
        return (
            (self.rows, self.columns) == (other.rows, other.columns)
            and torch.equal(self.boxes, other.boxes)
            and torch.equal(self.image_sizes, other.image_sizes)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TokenGrid({self.rows} x {self.columns} tokens, {self.n_images} images)"

    def select(self, images: torch.Tensor | slice) -> TokenGrid:
        """Return the grid of some of the images, by their positions."""
        return TokenGrid(self.rows, self.columns, self.boxes[images], self.image_sizes[images])

    def resized(self, rows: int, columns: int) -> TokenGrid:
        """Return the grid that cuts the same boxes into other cells."""
        return TokenGrid(rows, columns, self.boxes, self.image_sizes)


@dataclass(frozen=True, eq=False)
class Positions:
    """Points of images, in pixels of the original images.

    Attributes
    ----------
    images : LongTensor of shape (n,)
        Positions of the images in the feature sets.
    y, x : float64 tensors of shape (n,)
        Distance of each point from the top and from the left edge.
    """

    images: torch.Tensor
    y: torch.Tensor
    x: torch.Tensor

    def __post_init__(self) -> None:
        images, y, x = (torch.as_tensor(one) for one in (self.images, self.y, self.x))
        if images.ndim != 1 or images.shape != y.shape or images.shape != x.shape:
            raise InvalidInputError(
                f"images, y and x have shapes {tuple(images.shape)}, {tuple(y.shape)} and "
                f"{tuple(x.shape)}; they must be lists of one length."
            )
        if images.is_floating_point():
            raise InvalidTypeError("images holds fractions; it must hold positions of images.")
        object.__setattr__(self, "images", images.to(torch.long))
        object.__setattr__(self, "y", y.to(torch.float64))
        object.__setattr__(self, "x", x.to(torch.float64))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Positions({len(self)} points in {len(torch.unique(self.images))} images)"

    def select(self, rows: torch.Tensor) -> Positions:
        """Return some of the positions, by position or by a mask."""
        return Positions(self.images[rows], self.y[rows], self.x[rows])


def token_centers(grid: TokenGrid) -> torch.Tensor:
    """Return the tokens' centres in the original images.

    Parameters
    ----------
    grid : TokenGrid
        The grid.

    Returns
    -------
    float64 tensor of shape (n_images, rows, columns, 2)
        y and x in pixels; reshaped to (-1, 2) it follows the order of tokens.

    Examples
    --------
    >>> token_centers(TokenGrid.whole(1, 2, image_sizes=[(4, 8)])).tolist()
    [[[[2.0, 2.0], [2.0, 6.0]]]]
    """
    low, high = grid.boxes[:, None, :2], grid.boxes[:, None, 2:]
    cells = torch.tensor([grid.rows, grid.columns], dtype=torch.float64)
    down, right = (
        torch.arange(count, dtype=torch.float64)[None] + 0.5 for count in (grid.rows, grid.columns)
    )
    step = (high - low) / cells
    y = low[..., 0] + down * step[..., 0]
    x = low[..., 1] + right * step[..., 1]
    shape = (grid.n_images, grid.rows, grid.columns)
    return torch.stack([y[:, :, None].expand(shape), x[:, None, :].expand(shape)], dim=-1)


def token_positions(grid: TokenGrid) -> Positions:
    """Return the tokens' centres as positions, in the order of tokens.

    Parameters
    ----------
    grid : TokenGrid
        The grid.

    Returns
    -------
    Positions
        n_images * rows * columns of them, image by image and row by row.

    Examples
    --------
    >>> len(token_positions(TokenGrid.whole(2, 3, n_images=4)))
    24
    """
    y, x = token_centers(grid).reshape(-1, 2).unbind(dim=1)
    images = torch.arange(grid.n_images).repeat_interleave(grid.tokens_per_image)
    return Positions(images, y, x)


def read_positions(tokens: torch.Tensor, grid: TokenGrid, positions: Positions) -> torch.Tensor:
    """Read features at positions off a grid of tokens by bilinear interpolation.

    Between the centres of the outermost tokens and the edge of the box features are constant. The
    result is differentiable with respect to the tokens.

    Parameters
    ----------
    tokens : tensor of shape (n_images * rows * columns, d), or (n_images, rows, columns, d)
        Features of the tokens, image by image and row by row.
    grid : TokenGrid
        The grid of the tokens.
    positions : Positions
        The positions to read at.

    Returns
    -------
    tensor of shape (n_positions, d)
        In float32, or float64 where the tokens are.

    Raises
    ------
    InvalidInputError
        If tokens and grid don't fit, or a position lies outside of what the grid saw.

    Examples
    --------
    >>> grid = TokenGrid.whole(2, 2, image_sizes=[(4, 4)])
    >>> tokens = torch.tensor([[0.0], [2.0], [4.0], [6.0]])
    >>> read_positions(tokens, grid, Positions([0, 0], [1.0, 2.0], [1.0, 2.0])).tolist()
    [[0.0], [3.0]]
    """
    rows = tokens.reshape(-1, tokens.shape[-1])
    if tokens.ndim < 2 or len(rows) != grid.n_images * grid.tokens_per_image:
        raise InvalidInputError(
            f"tokens have shape {tuple(tokens.shape)}; {grid} holds "
            f"{grid.n_images * grid.tokens_per_image} tokens."
        )
    _refuse_outside(grid, positions)
    box = grid.boxes[positions.images]
    down = (positions.y - box[:, 0]) / (box[:, 2] - box[:, 0]) * grid.rows - 0.5
    right = (positions.x - box[:, 1]) / (box[:, 3] - box[:, 1]) * grid.columns - 0.5
    top, above, below = _neighbors(down, grid.rows)
    left, before, after = _neighbors(right, grid.columns)
    first = positions.images * grid.tokens_per_image
    dtype = tokens.dtype if tokens.dtype == torch.float64 else torch.float32
    result: torch.Tensor | None = None
    for row, vertical in ((above, 1 - top), (below, top)):
        for column, horizontal in ((before, 1 - left), (after, left)):
            index = (first + row * grid.columns + column).to(rows.device)
            weight = (vertical * horizontal).to(rows.device, dtype)[:, None]
            part = rows[index].to(dtype) * weight
            result = part if result is None else result + part
    assert result is not None
    return result


def choose_positions(
    grids: TokenGrid | Sequence[TokenGrid] | Mapping[str, TokenGrid],
    n: int,
    *,
    random_state: int = 0,
) -> Positions:
    """Choose random positions that all grids cover.

    All images get the same number of positions, give or take one. Within an image they are uniform
    over the intersection of the grids' boxes, without the half cell at each edge where features
    can't be interpolated (unless nothing would be left).

    Parameters
    ----------
    grids : TokenGrid, or several in a sequence or mapping
        Grids over the same images.
    n : int
        How many positions.
    random_state : int
        Seed of the choice.

    Returns
    -------
    Positions
        n of them, by image.

    Raises
    ------
    ItemMismatchError
        If the grids don't lie over the same images.
    InvalidInputError
        If the grids of an image share no part of it.

    Examples
    --------
    >>> grids = [TokenGrid.whole(4, 4, n_images=3), TokenGrid.whole(7, 7, n_images=3)]
    >>> choose_positions(grids, 5).images.bincount().sort().values.tolist()
    [1, 2, 2]
    """
    several: list[TokenGrid]
    if isinstance(grids, TokenGrid):
        several = [grids]
    else:
        several = list(grids.values() if isinstance(grids, Mapping) else grids)
    if not several:
        raise InvalidInputError("grids is empty; give at least one grid.")
    n = check_count(n, "n")
    generator = torch.Generator().manual_seed(check_random_state(random_state))
    sizes = several[0].image_sizes
    for other in several[1:]:
        if not torch.equal(other.image_sizes, sizes):
            raise ItemMismatchError(
                f"the grids lie over different images ({other.n_images} and {len(sizes)}, or of "
                "different sizes): select the same images in the same order, and give image_sizes "
                "to sets made from arrays."
            )
    low = torch.zeros(len(sizes), 2, dtype=torch.float64)
    high = sizes.to(torch.float64)
    inner_low, inner_high = low, high
    for grid in several:
        half = (grid.boxes[:, 2:] - grid.boxes[:, :2]) / torch.tensor([grid.rows, grid.columns]) / 2
        low = torch.maximum(low, grid.boxes[:, :2])
        high = torch.minimum(high, grid.boxes[:, 2:])
        inner_low = torch.maximum(inner_low, grid.boxes[:, :2] + half)
        inner_high = torch.minimum(inner_high, grid.boxes[:, 2:] - half)
    # A grid of one row, or one that is mostly padding, has no two centres to interpolate between.
    has_inner = inner_low < inner_high
    low, high = torch.where(has_inner, inner_low, low), torch.where(has_inner, inner_high, high)
    empty = (high <= low).any(dim=1).nonzero()[:, 0].tolist()
    if empty:
        raise InvalidInputError(
            f"the grids share no part of the images {name_some(empty)}: their crops don't overlap."
        )
    rounds, left = divmod(n, len(sizes))
    extra = torch.randperm(len(sizes), generator=generator)[:left]
    images = torch.cat([torch.arange(len(sizes)).repeat(rounds), extra]).sort().values
    at = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    y, x = (low[images] + at * (high - low)[images]).unbind(dim=1)
    return Positions(images, y, x)


def _neighbors(position: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the fraction between two cells, and the two cells, of a position among cells."""
    position = position.clamp(0, n - 1)
    lower = position.floor().clamp(max=max(n - 2, 0))
    return position - lower, lower.long(), (lower + 1).clamp(max=n - 1).long()


def _refuse_outside(grid: TokenGrid, positions: Positions) -> None:
    unknown = (positions.images < 0) | (positions.images >= grid.n_images)
    if bool(unknown.any()):
        raise InvalidInputError(
            f"positions name images {name_some(positions.images[unknown].tolist())}; "
            f"there are {grid.n_images}."
        )
    box = grid.boxes[positions.images]
    at = torch.stack([positions.y, positions.x], dim=1)
    slack = (box[:, 2:] - box[:, :2]) * _EDGE
    inside = ((at >= box[:, :2] - slack) & (at <= box[:, 2:] + slack)).all(dim=1)
    if not bool(inside.all()):
        first = int((~inside).nonzero()[0])
        image, y, x = int(positions.images[first]), float(positions.y[first]), positions.x[first]
        raise InvalidInputError(
            f"{int((~inside).sum())} of {len(positions)} positions lie outside of what the grid "
            f"saw, the first at image {image}, y {y:.1f}, x {float(x):.1f}; choose_positions takes "
            "only what all grids saw."
        )
