"""Half squared distances of points in a frame, computed in tiles that fit a cache."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from relspace._core.memory import empty_matrix
from relspace._core.resources import Resources
from relspace._core.threads import side_by_side
from relspace._core.validation import Array, Features, as_features, check_same_width
from relspace.errors import InvalidInputError
from relspace.kernels.compiled import fused
from relspace.kernels.frame import Cloud, Frame, place_sets
from relspace.kernels.precision import full_precision, product
from relspace.kernels.scale import exponent_of, times_power_of_two

_KEPT_BYTES = 2**23

#: Matrices of the result's size that squared distances hold with their gradient, as was measured.
MATRICES_OF_GRADIENT = 6
_kept = threading.local()


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
    x = (frame.bring(X) - frame.origin) / frame.unit
    y = x if Y is None else (frame.bring(Y) - frame.origin) / frame.unit
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
        If the features are not finite matrices of one width, or a squared distance is more than
        their float type holds, or all are less than it holds with all digits.
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
    wants_gradient = torch.is_grad_enabled() and (
        x.tensor.requires_grad or (y is not None and y.requires_grad)
    )
    held = MATRICES_OF_GRADIENT if wants_gradient else None
    refuse_matrix(x.tensor, y, "the matrix of distances", for_gradient=held)
    frame = Frame.of(x.tensor, y)
    # unit^2 = factor 2^exponent, with a factor between 1 and 4.
    exponent = 2 * exponent_of(frame.unit)
    factor = math.ldexp(frame.unit, -exponent // 2) ** 2
    exponent += 2 * frame.exponent
    with torch.no_grad():
        left, right = place_sets(x.tensor, y, frame)
    if wants_gradient:
        wide = left.points.dtype
        refuse_matrix(x.tensor, y, "the matrix of distances", for_gradient=held, dtype=wide)
        other = None if y is None else y.to(wide)
        with full_precision():
            squared = differentiable_squared_distances(x.tensor.to(wide), other, frame)
        return _in_own_units((squared * factor).to(x.tensor.dtype), exponent, x)
    with torch.no_grad():
        out = empty_matrix(len(x.tensor), len(x.tensor if y is None else y), like=x.tensor)
        pairs = fill_pairs(left, right, out=out)

        def scale(tile: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
            return torch.abs(tile, out=to).mul_(2.0 * factor)

        finish_tiles(out, pairs, scale, symmetric=y is None)
        return _in_own_units(out, exponent, x)


def _in_own_units(squared: torch.Tensor, exponent: int, given: Features) -> Array:
    """Squared distances times 2^exponent, in the features' own type where it can hold them."""
    dtype = given.dtype if given.dtype.is_floating_point else torch.float32
    limits = torch.finfo(dtype)
    row, column = divmod(int(squared.detach().argmax()), squared.shape[1])
    largest = float(squared.detach()[row, column])
    size = math.log2(largest) + exponent if largest else 0.0
    too = "large" if size >= math.log2(limits.max) else "small"
    if too == "large" or size < math.log2(limits.smallest_normal):
        rescale = f"{'divide' if too == 'large' else 'multiply'} the features by a constant first"
        wider = [] if dtype == torch.float64 else ["give X as float64"]
        raise InvalidInputError(
            f"the largest squared distance, in row {row} and column {column}, is about "
            f"{_in_tens(size)}, too {too} for {str(dtype).removeprefix('torch.')}.",
            ways_out=[*wider, rescale],
        )
    return given.restore(times_power_of_two(squared, exponent))


def _in_tens(log2: float) -> str:
    """A power of two, however large, as a power of ten for a message."""
    tens = log2 * math.log10(2)
    return f"{10 ** (tens % 1):.2g}e{math.floor(tens):+03d}"


def refuse_matrix(
    X: torch.Tensor,
    Y: torch.Tensor | None,
    what: str,
    *,
    for_gradient: int | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Refuse a matrix of X against Y or itself that would not fit into the free memory.

    Parameters
    ----------
    X, Y : tensor
        The sets.
    what : str
        What an error calls the matrix.
    for_gradient : int, optional
        How many matrices of this size are held until a gradient is taken, and while it is.
    dtype : torch.dtype, optional
        In which they are computed; that of ``X`` by default.
    """
    n, m = len(X), len(X if Y is None else Y)
    n_bytes = n * m * (dtype or X.dtype).itemsize * (for_gradient or 1)
    with_gradient = f", with the {for_gradient} that its gradient takes," if for_gradient else ""
    Resources(device=X.device).require(
        n_bytes,
        f"{what} of shape ({n}, {m}){with_gradient}",
        "describe items by fewer landmarks, as align does with {landmarks=1024}",
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
