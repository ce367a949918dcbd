"""Affinity matrices: Gaussian kernels of Euclidean or cosine distance, scaled to a density."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from relspace._core.arguments import check_density
from relspace._core.arrays import refuse_non_finite
from relspace._core.matrices import Array, as_features, check_same_width
from relspace._core.memory import empty_matrix
from relspace._core.threads import on_one_core, side_by_side
from relspace.kernels.backend import backend, loops_for
from relspace.kernels.bandwidth import (
    DEFAULT_DENSITY,
    Bandwidth,
    check_enough_items,
    check_sigma,
    solve_all_pairs,
)
from relspace.kernels.compiled.strips import affinities_in_strips
from relspace.kernels.distances import (
    differentiable_squared_distances,
    fill_pairs,
    mirrored_part,
    off_diagonal,
    refuse_matrix,
)
from relspace.kernels.frame import Frame, place_sets, unit_vectors
from relspace.kernels.precision import full_precision, product
from relspace.kernels.scale import times_power_of_two
from relspace.kernels.tiles import LOG2_E, PairTiles

# Up to this many pairs one thread is faster than several.
_PAIRS_FOR_ONE_CORE = 640**2


def rbf_affinity(
    X: object,
    Y: object | None = None,
    *,
    sigma: float | torch.Tensor | Bandwidth | None = None,
    density: float = DEFAULT_DENSITY,
    zero_diagonal: bool = False,
) -> Array:
    r"""Gaussian affinity between items, its bandwidth solved so that the mean affinity is constant.

    .. math:: A_{ij} = \exp\left(-\frac{\lVert x_i - x_j \rVert^2}{2 \sigma^2}\right)

    Without ``sigma``, the bandwidth is the one at which the mean of A over distinct pairs is
    ``density``, met to 1e-6 of it. What comes out then does not change when the features are
    rotated, reflected, shifted or scaled. The gradient, where features ask for one, includes that
    of the solved bandwidth (implicit function theorem).

    Parameters
    ----------
    X : array-like of shape (n, d)
        Features; tensor, array or anything that turns into one.
    Y : array-like of shape (m, d), optional
        Features of other items in the same coordinates. ``X`` itself by default.
    sigma : float, 0-d tensor or Bandwidth, optional
        A given bandwidth, in units of the features. Solved by default.
    density : float
        The mean affinity between distinct items that is solved for; between X and Y all pairs
        count. Unused where ``sigma`` is given.
    zero_diagonal : bool
        Whether an item's affinity with itself is 0 instead of 1 (graphs without loops).

    Returns
    -------
    tensor or array of shape (n, n) or (n, m)
        Affinities in [0, 1], of the kind, float type and device of ``X``; exactly symmetric with a
        diagonal of exactly 1 for a set with itself.

    Raises
    ------
    BandwidthError
        If no bandwidth gives this density: constant features, too many coincident rows.
    InvalidInputError
        If the features are not finite matrices of one width, or an argument is out of range.
    MemoryBudgetError
        If the matrix would not fit into the free memory; nothing is allocated then.

    Examples
    --------
    >>> import torch
    >>> from relspace import rbf_affinity
    >>> X = torch.randn(100, 768, generator=torch.Generator().manual_seed(0))
    >>> A = rbf_affinity(X)
    >>> A.shape
    torch.Size([100, 100])
    >>> mean = (A.sum() - 100) / (100 * 99)
    >>> round(mean.item(), 5)
    0.05
    """
    return _affinity(X, Y, sigma, density, zero_diagonal, cosine=False)


def cosine_affinity(
    X: object,
    Y: object | None = None,
    *,
    sigma: float | torch.Tensor | Bandwidth | None = None,
    density: float = DEFAULT_DENSITY,
    zero_diagonal: bool = False,
) -> Array:
    r"""Gaussian affinity of the cosine distance, its bandwidth solved as in :func:`rbf_affinity`.

    .. math::
        A_{ij} = \exp\left(-\frac{(1 - \cos(x_i, x_j))^2}{2 \sigma^2}\right)

    It does not change when any single row is scaled, nor under rotation; unlike
    :func:`rbf_affinity` it does change under a shift.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Features without rows of zeros.
    Y : array-like of shape (m, d), optional
        Features of other items in the same coordinates. ``X`` itself by default.
    sigma : float, 0-d tensor or Bandwidth, optional
        A given bandwidth, in units of cosine distance. Solved by default.
    density : float
        The mean affinity between distinct items that is solved for.
    zero_diagonal : bool
        Whether an item's affinity with itself is 0 instead of 1.

    Returns
    -------
    tensor or array of shape (n, n) or (n, m)
        Affinities in [0, 1], of the kind, float type and device of ``X``.

    Raises
    ------
    BandwidthError
        If no bandwidth gives this density.
    InvalidInputError
        If the features are not finite matrices of one width, or a row is zero.
    MemoryBudgetError
        If the matrix would not fit into the free memory.

    Examples
    --------
    >>> import torch
    >>> from relspace import cosine_affinity
    >>> X = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> cosine_affinity(X, sigma=1.0)
    tensor([[1.0000, 1.0000, 0.6065],
            [1.0000, 1.0000, 0.6065],
            [0.6065, 0.6065, 1.0000]])
    """
    return _affinity(X, Y, sigma, density, zero_diagonal, cosine=True)


def _affinity(
    X: object,
    Y: object | None,
    sigma: float | torch.Tensor | Bandwidth | None,
    density: float,
    zero_diagonal: bool,
    *,
    cosine: bool,
) -> Array:
    given = as_features(X, "X", check_finite=False)
    x = given.tensor
    y = None if Y is None else as_features(Y, "Y").tensor.to(x)
    if y is not None:
        check_same_width(x, y, ("X", "Y"))
    bandwidth = None if sigma is None else check_sigma(sigma)
    c = check_density(density)
    if bandwidth is None:
        check_enough_items(x, y)
    wants_gradient = torch.is_grad_enabled() and any(
        isinstance(tensor, torch.Tensor) and tensor.requires_grad for tensor in (x, y, bandwidth)
    )
    matrices = matrices_of_gradient(bandwidth, cosine=cosine) if wants_gradient else 1
    refuse_matrix(x, y, "the affinity matrix", matrices)
    affinity = None
    plain = y is None and not cosine and not wants_gradient
    if plain and backend(x, whole_set=True) == "strips":
        with torch.no_grad():
            value = None if bandwidth is None else float(bandwidth)
            affinity, _ = affinities_in_strips(x, value, c) or (None, None)
    if affinity is None:
        refuse_non_finite(x, "X")
        if cosine:
            x = unit_vectors(x, "X")
            y = None if y is None else unit_vectors(y, "Y")
        affinity = _in_tiles(x, y, bandwidth, c, cosine=cosine, wants_gradient=wants_gradient)
    if zero_diagonal and y is None:
        affinity = affinity.fill_diagonal_(0.0) if not wants_gradient else off_diagonal(affinity)
    return given.restore(affinity)


def _in_tiles(
    X: torch.Tensor,
    Y: torch.Tensor | None,
    sigma: float | torch.Tensor | None,
    density: float,
    *,
    cosine: bool,
    wants_gradient: bool,
) -> torch.Tensor:
    if wants_gradient:
        return _differentiable(X, Y, sigma, density, cosine=cosine)

    def solve() -> torch.Tensor:
        return _in_place(X, Y, None if sigma is None else _number(sigma), density, cosine=cosine)

    if len(X) * len(X if Y is None else Y) <= _PAIRS_FOR_ONE_CORE:
        return on_one_core(solve, X.device)
    with torch.no_grad():
        return solve()


def _frame_of(X: torch.Tensor, Y: torch.Tensor | None, *, cosine: bool) -> Frame:
    return Frame(X.new_zeros(X.shape[1]), 1.0) if cosine else Frame.of(X, Y)


def _number(sigma: float | torch.Tensor) -> float:
    return float(sigma.detach() if isinstance(sigma, torch.Tensor) else sigma)


def _in_place(
    X: torch.Tensor, Y: torch.Tensor | None, sigma: float | None, density: float, *, cosine: bool
) -> torch.Tensor:
    """Compute distances in the memory of the result, and replace them by affinities in tiles."""
    frame = _frame_of(X, Y, cosine=cosine)
    out = empty_matrix(len(X), len(X if Y is None else Y), like=X)
    if sigma is not None:
        scale = frame.inverse_variance(sigma)
        clouds = place_sets(X, Y, frame, scale=scale, cosine=cosine)
        pairs = fill_pairs(*clouds, out=out, cosine=cosine)
    else:
        pairs, root = solve_all_pairs(X, Y, frame, density, cosine=cosine, out=out)
        scale = math.exp(-root.log_variance)
    _exponentiate(out, pairs, scale)
    return out


def _exponentiate(out: torch.Tensor, pairs: PairTiles, scale: float) -> None:
    # Beyond the largest float the diagonal's 0 would become 0 * inf.
    factor = min(scale * LOG2_E, torch.finfo(out.dtype).max)
    loops = loops_for(out)

    def make() -> Callable[[int], None]:
        own = loops(out)

        def exponentiate(number: int) -> None:
            rows, columns = pairs.slices[number]
            own.exponentiate(
                pairs.tiles[number],
                factor,
                out=out[rows, columns],
                mirrored=mirrored_part(out, pairs, number),
                on_diagonal=bool(pairs.n_self) and rows == columns,
            )

        return exponentiate

    side_by_side(make, range(len(pairs.tiles)), out.device)


def matrices_of_gradient(sigma: float | torch.Tensor | None, *, cosine: bool = False) -> int:
    """The number of matrices of the result's size that are held for the gradient, as measured."""
    # A bandwidth with a gradient is multiplied with every distance.
    of_sigma = 3 if sigma is None else 2 if isinstance(sigma, torch.Tensor) else 1
    return 6 + of_sigma + cosine


def _differentiable(
    X: torch.Tensor,
    Y: torch.Tensor | None,
    sigma: float | torch.Tensor | None,
    density: float,
    *,
    cosine: bool,
) -> torch.Tensor:
    """Affinities whose gradient goes through the solved bandwidth as well.

    One Newton step s - (rho(X, s) - c) / rho_s from the detached root s has the root's value, and
    by the implicit function theorem its derivative ds/dX = -rho_X / rho_s.
    """
    frame = _frame_of(X, Y, cosine=cosine)
    with torch.no_grad():
        if sigma is None:
            root = solve_all_pairs(X, Y, frame, density, cosine=cosine)[1]
            scale = math.exp(-root.log_variance)
        else:
            scale = frame.inverse_variance(_number(sigma))
        wide = place_sets(X, Y, frame, scale=scale, cosine=cosine)[0].points.dtype
    if wide != X.dtype:
        matrices = matrices_of_gradient(sigma, cosine=cosine)
        refuse_matrix(X, Y, "the affinity matrix", matrices, dtype=wide)
    given = X.dtype
    if wide == torch.float64:
        frame = frame.wide()
    X, Y = X.to(wide), None if Y is None else Y.to(wide)
    with full_precision():
        if cosine:
            x = unit_vectors(X, "X")
            y = x if Y is None else unit_vectors(Y, "Y")
            squared = (1 - product(x, y.T)).clamp_min(0.0).square()
            if Y is None:
                squared = off_diagonal((squared + squared.T) / 2)
        else:
            squared = differentiable_squared_distances(X, Y, frame)
    if isinstance(sigma, torch.Tensor):
        ratio = frame.unit / times_power_of_two(sigma, -frame.exponent)
        exponent = squared * (ratio.square() / 2)
    else:
        exponent = squared * min(scale / 2, torch.finfo(wide).max)
    if sigma is not None:
        return torch.exp(-exponent).to(given)
    n_self = 0 if Y is not None else X.shape[0]
    n_pairs = squared.numel() - n_self
    affinity = torch.exp(-exponent)
    reached = (affinity.sum() - n_self) / n_pairs
    slope = (affinity * exponent).sum().detach() / n_pairs
    shift = -(reached - density) / slope
    return torch.exp(-exponent * torch.exp(-shift)).to(given)
