"""Half squared distances: centred, scaled to unit size, and computed in tiles that fit a cache."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch

from relspace._blocks import chunk_slices, empty_matrix, refuse_too_large
from relspace._parallel import side_by_side
from relspace._validation import Array, as_features, check_same_width
from relspace.errors import InvalidInputError
from relspace.kernels import fused
from relspace.kernels.precision import full_precision, product

# Location and size only keep numbers small, so a few rows tell enough of them.
_ROWS_FOR_LOCATION = 33
#: Of the error of 1e-4 that affinities may have, what rounding of the distances may take.
NEGLIGIBLE = 5e-5
_ROWS_IN_CACHE = 256
# Asking how much is free takes longer than filling so many bytes.
_ALWAYS_FIT = 2**24
_KEPT_BYTES = 2**23
_kept = threading.local()


@dataclass(frozen=True)
class Cloud:
    """Points brought to the origin and to unit size, with half their squared norms."""

    points: torch.Tensor
    half_norms: torch.Tensor

    def rows(self, index: slice | torch.Tensor) -> Cloud:
        """Take some of the points."""
        return Cloud(self.points[index], self.half_norms[index])


@dataclass(frozen=True)
class Frame:
    """Where a cloud's origin lies and how long its unit is, in the features' own coordinates.

    Differences between points are what a distance is made of; the origin only decides how much of
    them rounding eats. The coordinate-wise median is not pulled away by outliers as a mean is.
    """

    origin: torch.Tensor
    unit: float

    @staticmethod
    def of(X: torch.Tensor, Y: torch.Tensor | None = None) -> Frame:
        """Measure location and size on a few rows spread evenly over the features."""
        with torch.no_grad():
            some = [rows_for_location(Z).to(torch.float64) for Z in (X, Y) if Z is not None]
            rows = torch.cat(some)
            origin = some[-1].T.contiguous().kthvalue(some[-1].shape[0] // 2 + 1, dim=1).values
            unit = float(torch.linalg.vector_norm(rows - origin, dim=1).median())
            if unit == 0.0:
                everything = X if Y is None else torch.cat([X, Y])
                unit = float((everything.to(torch.float64) - origin).abs().max()) or 1.0
            return Frame(origin.to(X.dtype), unit)

    def place(self, X: torch.Tensor) -> Cloud:
        """Bring points into this frame, and to the float type of its origin."""
        points = empty_matrix(X.shape[0], X.shape[1], like=self.origin)
        half_norms = self.origin.new_empty(len(X))

        compiled = fused.suits(X) and self.origin.dtype == X.dtype

        def place(rows: slice) -> None:
            if compiled:
                to = {"points": points[rows], "half_norms": half_norms[rows]}
                fused.place_rows(X[rows], self.origin, self.unit, **to)
                return
            block = torch.sub(X[rows], self.origin, out=points[rows]).div_(self.unit)
            norms = torch.linalg.vector_norm(block, dim=1)
            torch.mul(norms, norms, out=half_norms[rows]).div_(2)

        step = _ROWS_IN_CACHE if X.device.type == "cpu" else max(1, len(X))
        blocks = chunk_slices(len(X), step)
        side_by_side(lambda: place, blocks, X.device)
        if X.dtype == torch.float64 and not bool(half_norms.isfinite().all()):
            raise InvalidInputError(
                f"the features span more than floats can square: some of {len(X)} rows lie "
                "beyond 1e153 times the typical distance; remove these outliers."
            )
        return Cloud(points, half_norms)

    def wide(self) -> Frame:
        """The same frame, whose points are in float64."""
        return Frame(self.origin.to(torch.float64), self.unit)


def rows_for_location(X: torch.Tensor) -> torch.Tensor:
    """A few rows spread evenly over the features, at most 33."""
    return X[:: max(1, -(-len(X) // _ROWS_FOR_LOCATION))]


def place_sets(
    X: torch.Tensor,
    Y: torch.Tensor | None,
    frame: Frame,
    *,
    scale: float = 1.0,
    cosine: bool = False,
) -> tuple[Cloud, Cloud | None]:
    """Bring one or two sets into a frame; into float64 where float32 is too coarse at this scale.

    ``scale`` is 1 / sigma^2 in units of the frame.
    """
    sets = [Z for Z in (X, Y) if Z is not None]
    if cosine:
        # Rounded again to unit norm in the frame's float type, which may be a wider one.
        clouds = [frame.place(unit_vectors(Z.to(frame.origin.dtype), "X")) for Z in sets]
    else:
        clouds = [frame.place(Z) for Z in sets]
    if too_coarse(clouds, scale, cosine=cosine):
        return place_sets(X, Y, frame.wide(), scale=scale, cosine=cosine)
    return clouds[0], None if Y is None else clouds[1]


def too_coarse(clouds: Sequence[Cloud | None], scale: float, *, cosine: bool = False) -> bool:
    """Whether rounding to float32 would change affinities by more than 1e-4.

    Rounding costs a squared distance epsilon times the squared norms of its points. A single far
    point is far from all others, whatever rounding does; two may be close to each other.
    """
    half_norms = torch.cat([cloud.half_norms for cloud in clouds if cloud is not None])
    if half_norms.dtype == torch.float64:
        return False
    epsilon = torch.finfo(half_norms.dtype).eps
    if cosine:
        return epsilon * math.sqrt(scale) > NEGLIGIBLE
    second = float(half_norms.topk(min(2, len(half_norms))).values[-1])
    return not 2 * epsilon * second * scale <= NEGLIGIBLE


def squared_norms(points: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean norm of every row, without a copy of the matrix."""
    norms: torch.Tensor = torch.linalg.vector_norm(points, dim=1)
    return norms.square()


def fill_half_squared(out: torch.Tensor, X: Cloud, Y: Cloud) -> None:
    """Write minus half the squared distance of each pair into ``out``, at most 0.

    -|x - y|^2 / 2 = x.y - |x|^2 / 2 - |y|^2 / 2, so that one product and one addition do.
    """
    torch.addmm(Y.half_norms.expand(out.shape), X.points, Y.points.T, beta=-1.0, alpha=1.0, out=out)
    out.sub_(X.half_norms[:, None]).clamp_max_(0.0)


def fill_half_squared_cosine(out: torch.Tensor, X: Cloud, Y: Cloud) -> None:
    """Write minus half the squared cosine distance, (1 - x.y)^2 / 2, of unit vectors."""
    torch.mm(X.points, Y.points.T, out=out)
    out.sub_(1.0).clamp_max_(0.0).square_().mul_(-0.5)


@dataclass(frozen=True)
class PairTiles:
    """Minus half the squared distances of pairs, in tiles.

    Attributes
    ----------
    tiles : list of tensor
        The values.
    weights : list of int
        How often a tile counts: 2 where it stands for its mirror image too.
    places : list of (slice, slice)
        Rows and columns of each tile in the whole matrix.
    n_pairs : int
        Pairs of distinct items, each order counted.
    n_self : int
        Pairs of an item with itself among the tiles.
    """

    tiles: list[torch.Tensor]
    weights: list[int]
    places: list[tuple[slice, slice]]
    n_pairs: int
    n_self: int


def make_symmetric(tile: torch.Tensor) -> torch.Tensor:
    """Average a tile on the diagonal, in place, with its mirror image: both differ by rounding."""
    return tile.add_(tile.T.contiguous()).mul_(0.5)


def tile_side(device: torch.device, points: torch.Tensor | None = None) -> int:
    """Rows and columns of a tile: what a CPU core's second cache holds, more on a GPU.

    Of a small matrix a part as large is on the diagonal, where half the work is for nothing, and
    that costs more than smaller tiles do where there are many features.
    """
    if device.type != "cpu":
        return 8192
    if points is None:
        return 512
    n, width = points.shape
    return 256 if n <= 1024 or (n <= 4096 and width >= 256) else 512


class Scratch:
    """Memory of one tile, used again and again so that it stays in the cache.

    Rows of a tile inside a large matrix lie far apart, by a power of two often enough, where a
    cache holds only a part of them; so tiles are worked on here and moved when they are done.
    Memory with a name is kept by its thread for the next call: new pages cost as much as the work.
    """

    def __init__(self, like: torch.Tensor, name: str | None = None) -> None:
        self._memory = like.new_empty(0)
        self._key = None if name is None else f"{name} {like.dtype} {like.device}"
        if self._key is not None:
            self._memory = getattr(_kept, self._key, self._memory)

    def of(self, *shape: int) -> torch.Tensor:
        """A contiguous tile; what it held before is gone."""
        size = math.prod(shape)
        if self._memory.numel() < size:
            # In inference mode it would be of no use outside.
            with torch.inference_mode(False):
                self._memory = self._memory.new_empty(size)
            if self._key is not None and size * self._memory.element_size() <= _KEPT_BYTES:
                setattr(_kept, self._key, self._memory)
        return self._memory[:size].view(shape)


def tile_slices(n_rows: int, n_columns: int | None, *, side: int) -> Iterator[tuple[slice, slice]]:
    """Cut a matrix into tiles; a symmetric one (``n_columns`` None) from the diagonal on.

    Of a symmetric matrix the tile (i, j) with j > i stands for (j, i) too.
    """
    last = n_rows if n_columns is None else n_columns
    for top in range(0, n_rows, side):
        rows = slice(top, min(top + side, n_rows))
        for left in range(top if n_columns is None else 0, last, side):
            yield rows, slice(left, min(left + side, last))


def differentiable_squared_distances(
    X: torch.Tensor, Y: torch.Tensor | None, frame: Frame
) -> torch.Tensor:
    """Squared distances, in units of the frame, by operations that record their gradient."""
    x = (X - frame.origin) / frame.unit
    y = x if Y is None else (Y - frame.origin) / frame.unit
    squared = (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * product(x, y.T)).clamp_min(0.0)
    return squared if Y is not None else off_diagonal((squared + squared.T) / 2)


def off_diagonal(matrix: torch.Tensor) -> torch.Tensor:
    """The same matrix with zeros on its diagonal, by operations that record their gradient."""
    return matrix * (1 - torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device))


def squared_distances(X: object, Y: object | None = None) -> Array:
    r"""Squared Euclidean distances between the rows of one or two feature sets.

    .. math:: d_{ij}^2 = \lVert x_i - x_j \rVert^2

    Points are centred before anything is squared, so an offset costs no accuracy; the result is
    never negative, and a set's distances to itself are exactly symmetric with a zero diagonal.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Features; tensor, array or anything that turns into one.
    Y : array-like of shape (m, d), optional
        Features of other items in the same coordinates. ``X`` itself by default.

    Returns
    -------
    tensor or array of shape (n, n) or (n, m)
        Squared distances, of the kind, float type and device of ``X``.

    Raises
    ------
    InvalidInputError
        If the features are not finite matrices of one width.
    MemoryBudgetError
        If the result would not fit into the free memory.

    Examples
    --------
    >>> import torch
    >>> from relspace.kernels import squared_distances
    >>> squared_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor([[ 0., 25.],
            [25.,  0.]])
    """
    x = as_features(X, "X")
    y = None if Y is None else as_features(Y, "Y").tensor.to(x.tensor)
    if y is not None:
        check_same_width(x.tensor, y, ("X", "Y"))
    refuse_matrix(x.tensor, y, "the matrix of distances")
    frame = Frame.of(x.tensor, y)
    with torch.no_grad():
        left, right = place_sets(x.tensor, y, frame)
    if torch.is_grad_enabled() and (x.tensor.requires_grad or (y is not None and y.requires_grad)):
        wide = left.points.dtype
        other = None if y is None else y.to(wide)
        with full_precision():
            squared = differentiable_squared_distances(x.tensor.to(wide), other, frame)
        return x.restore((squared * frame.unit * frame.unit).to(x.tensor.dtype))
    with torch.no_grad():
        out = empty_matrix(len(x.tensor), len(x.tensor if y is None else y), like=x.tensor)
        pairs = fill_pairs(left, right, out=out)

        def scale(tile: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
            return torch.abs(tile, out=to).mul_(2.0 * frame.unit).mul_(frame.unit)

        finish_tiles(out, pairs, scale, symmetric=y is None)
        return x.restore(out)


def refuse_matrix(X: torch.Tensor, Y: torch.Tensor | None, what: str) -> None:
    """Refuse a matrix of X against Y or itself that would not fit into the free memory."""
    n, m = len(X), len(X if Y is None else Y)
    n_bytes = n * m * X.element_size()
    if n_bytes <= _ALWAYS_FIT:
        return
    refuse_too_large(
        n_bytes,
        f"{what} of shape ({n}, {m})",
        "describe items by fewer landmarks instead: align(..., landmarks=1024).",
        device=X.device,
    )


def fill_pairs(
    X: Cloud, Y: Cloud | None = None, *, out: torch.Tensor | None = None, cosine: bool = False
) -> PairTiles:
    """Compute minus half the squared distances tile by tile, of a set with itself once per pair.

    Parameters
    ----------
    X, Y : Cloud
        Points in one frame; ``Y`` None stands for ``X`` itself.
    out : tensor of shape (n, m), optional
        Where the tiles go, as views; tiles below the diagonal are left as they are.
        By default every tile gets memory of its own.
    cosine : bool
        Whether to take cosine distances of unit vectors instead of Euclidean ones.
    """
    fill = fill_half_squared_cosine if cosine else fill_half_squared
    n, other = X.points.shape[0], X if Y is None else Y
    m = other.points.shape[0]
    places = list(
        tile_slices(n, None if Y is None else m, side=tile_side(X.points.device, X.points))
    )

    def make() -> Callable[[tuple[slice, slice]], torch.Tensor]:
        scratch = Scratch(X.points, "distances")

        def compute(place: tuple[slice, slice]) -> torch.Tensor:
            left, right = X.rows(place[0]), other.rows(place[1])
            shape = (left.points.shape[0], right.points.shape[0])
            on_diagonal = Y is None and place[0] == place[1]
            if fused.suits(X.points) and not cosine:
                to = left.points.new_empty(shape) if out is None else out[place]
                products = torch.mm(left.points, right.points.T, out=scratch.of(*shape))
                halves = left.half_norms, right.half_norms
                fused.subtract_norms(products, *halves, to=to, on_diagonal=on_diagonal)
                return to
            block = left.points.new_empty(shape) if out is None else scratch.of(*shape)
            fill(block, left, right)
            if on_diagonal:
                make_symmetric(block).fill_diagonal_(0.0)
            return block if out is None else out[place].copy_(block)

        return compute

    with full_precision():
        tiles = side_by_side(make, places, X.points.device)
    weights = [2 if Y is None and rows != columns else 1 for rows, columns in places]
    if Y is None:
        return PairTiles(tiles, weights, places, n_pairs=n * (n - 1), n_self=n)
    return PairTiles(tiles, weights, places, n_pairs=n * m, n_self=0)


def finish_tiles(
    out: torch.Tensor,
    pairs: PairTiles,
    change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    symmetric: bool,
) -> list[float]:
    """Turn the distances in ``out`` into the result by a function, tile by tile, and mirror it.

    Parameters
    ----------
    out : tensor of shape (n, m)
        The matrix that the tiles are views of.
    pairs : PairTiles
        Its distances.
    change : callable
        ``change(tile, to)`` writes what becomes of a tile into ``to``, which is contiguous.
    symmetric : bool
        Whether tiles off the diagonal stand for their mirror images too.

    Returns
    -------
    list of float
        The sum of each tile, in float64 where the diagonal's ones would hide the rest.
    """

    def make() -> Callable[[int], float]:
        scratch, flipped = Scratch(out, "result"), Scratch(out, "flipped")

        def finish(number: int) -> float:
            tile, (rows, columns) = pairs.tiles[number], pairs.places[number]
            block = change(tile, scratch.of(*tile.shape))
            if symmetric and rows == columns:
                # The last numbers of a vectorised loop are rounded by another routine.
                make_symmetric(block)
            out[rows, columns] = block
            if symmetric and rows != columns:
                out[columns, rows] = flipped.of(*block.T.shape).copy_(block.T)
            return float(block.sum(dtype=torch.float64 if rows == columns else None))

        return finish

    return side_by_side(make, range(len(pairs.tiles)), out.device)


def unit_vectors(X: torch.Tensor, name: str) -> torch.Tensor:
    """Scale every row to unit norm; a row of zeros has no direction and is refused."""
    # Divided by the largest entry first, so that squares neither overflow nor vanish.
    largest = torch.linalg.vector_norm(X.detach(), ord=math.inf, dim=1, keepdim=True)
    zero = (largest == 0).flatten()
    if bool(zero.any()):
        places = ", ".join(str(row) for row in zero.nonzero().flatten()[:5].tolist())
        raise InvalidInputError(
            f"{name} has {int(zero.sum())} rows of zeros, first at {places}: they have no "
            "direction, so no cosine; remove them."
        )
    scaled = X / largest
    return cast("torch.Tensor", scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True))
