"""Squared distances between points."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from relspace._core.devices import CPU
from relspace._core.matrices import Array, Features, as_features, check_same_width
from relspace._core.memory import empty_matrix
from relspace._core.resources import Resources
from relspace._core.threads import side_by_side
from relspace.errors import InvalidInputError
from relspace.kernels.backend import loops_for
from relspace.kernels.frame import Cloud, Frame, place_sets
from relspace.kernels.precision import full_precision, product
from relspace.kernels.scale import exponent_of, scale_in_place, times_power_of_two
from relspace.kernels.tiles import (
    PairTiles,
    TorchLoops,
    projected_tiles,
    tile_side,
    tile_slices,
)

# Matrices of the result's size that are held for the gradient, as measured.
_MATRICES_OF_GRADIENT = 6


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
    matrices = _MATRICES_OF_GRADIENT if wants_gradient else 1
    refuse_matrix(x.tensor, y, "the matrix of distances", matrices)
    frame = Frame.of(x.tensor, y)
    # unit^2 = factor 2^exponent, with a factor between 1 and 4.
    exponent = 2 * exponent_of(frame.unit)
    factor = math.ldexp(frame.unit, -exponent // 2) ** 2
    exponent += 2 * frame.exponent
    with torch.no_grad():
        left, right = place_sets(x.tensor, y, frame)
    if wants_gradient:
        wide = left.points.dtype
        refuse_matrix(x.tensor, y, "the matrix of distances", matrices, dtype=wide)
        other = None if y is None else y.to(wide)
        with full_precision():
            squared = differentiable_squared_distances(x.tensor.to(wide), other, frame)
        return _in_own_units((squared * factor).to(x.tensor.dtype), exponent, x)
    with torch.no_grad():
        out = empty_matrix(len(x.tensor), len(x.tensor if y is None else y), like=x.tensor)
        pairs = fill_pairs(left, right, out=out)

        def scale(number: int) -> None:
            tile = pairs.tiles[number].abs_().mul_(2.0 * factor)
            mirrored = mirrored_part(out, pairs, number)
            if mirrored is not None:
                mirrored.copy_(tile.T)

        side_by_side(lambda: scale, range(len(pairs.tiles)), out.device)
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
    scale = times_power_of_two if squared.requires_grad else scale_in_place
    return given.restore(scale(squared, exponent))


def _in_tens(log2: float) -> str:
    """Write a power of two, however large, as a power of ten."""
    tens = log2 * math.log10(2)
    return f"{10 ** (tens % 1):.2g}e{math.floor(tens):+03d}"


def projected_matrix(
    n: int,
    m: int | None,
    width: int,
    dtype: torch.dtype,
    matrices: int = 1,
    device: torch.device = CPU,
) -> int:
    """Peak bytes of distances or affinities of n and m items, with the result; m None for one set.

    ``matrices`` is the number of matrices of the result's size; more than 1 for the gradient.
    """
    result = matrices * n * (n if m is None else m) * dtype.itemsize
    return result + projected_tiles(n, m, width, dtype, held=False, device=device)


def refuse_matrix(
    X: torch.Tensor,
    Y: torch.Tensor | None,
    what: str,
    matrices: int = 1,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Refuse a matrix of pairs that would not fit, see :func:`projected_matrix`."""
    n, m = len(X), None if Y is None else len(Y)
    with_gradient = f", with the {matrices} that its gradient takes," if matrices > 1 else ""
    Resources(device=X.device).require(
        projected_matrix(n, m, X.shape[1], dtype or X.dtype, matrices, X.device),
        f"{what} of shape ({n}, {n if m is None else m}){with_gradient}",
        "describe items by fewer landmarks, as align does with {landmarks=1024}",
    )


def fill_pairs(
    X: Cloud, Y: Cloud | None = None, *, out: torch.Tensor | None = None, cosine: bool = False
) -> PairTiles:
    """Compute minus half the squared (or cosine) distances in tiles, each pair of one set once.

    Tiles are views of ``out`` (n, m), if it is given, whose part below the diagonal is not written
    for a set with itself (``Y`` None).
    """
    other, n = X if Y is None else Y, len(X.points)
    side = tile_side(X.points.device, X.points)
    slices = list(tile_slices(n, None if Y is None else len(Y.points), side=side))
    loops = loops_for(X.points)

    def make() -> Callable[[tuple[slice, slice]], torch.Tensor]:
        fill = TorchLoops(X.points).half_squared_cosine if cosine else loops(X.points).half_squared

        def compute(at: tuple[slice, slice]) -> torch.Tensor:
            left, right = X.rows(at[0]), other.rows(at[1])
            shape = (len(left.points), len(right.points))
            tile = X.points.new_empty(shape) if out is None else out[at]
            if tile.dtype == X.points.dtype:
                fill(left, right, tile, on_diagonal=Y is None and at[0] == at[1])
                return tile
            wide = X.points.new_empty(shape)
            fill(left, right, wide, on_diagonal=Y is None and at[0] == at[1])
            return tile.copy_(wide)

        return compute

    with full_precision():
        tiles = side_by_side(make, slices, X.points.device)
    if Y is None:
        weights = [2 if rows != columns else 1 for rows, columns in slices]
        return PairTiles(tiles, weights, slices, n_pairs=n * (n - 1), n_self=n)
    return PairTiles(tiles, [1] * len(tiles), slices, n_pairs=n * len(Y.points), n_self=0)


def mirrored_part(out: torch.Tensor, pairs: PairTiles, number: int) -> torch.Tensor | None:
    """The transposed part of a tile in the matrix of a set with itself; None if there is none."""
    rows, columns = pairs.slices[number]
    return out[columns, rows] if pairs.n_self and rows != columns else None
