"""Density as a function of the bandwidth: its sums over pairs and the root of auto-scaling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from relspace._core.threads import side_by_side
from relspace.errors import BandwidthError
from relspace.kernels.backend import loops_for
from relspace.kernels.tiles import LOG2_E, PairTiles

_MAX_ITERATIONS = 100
_LONGEST_STEP = 4.0
# After a step shorter than this the error is its fourth power: 1e-8 and 1e-12, as measured on
# Gaussian features and features of networks.
_LAST_STEP = {torch.float32: 3e-2, torch.float64: 3e-3}
# With more pairs than the first number, about as many as the second give the start.
_MANY_PAIRS, _PAIRS_FOR_START = 2**20, 2**17
_TILES_FOR_START = 16
_FEW_PAIRS = 2**18
# Below this multiple of the rounding of a squared distance, affinities are rounding errors.
_ROUNDINGS = 16.0


@dataclass(frozen=True)
class Moments:
    """Sums over pairs of A, A u, A u^2 and A u^3, where A = exp(-u) is the affinity of a pair."""

    affinity: float
    first: float
    second: float
    third: float
    n_pairs: int

    @property
    def density(self) -> float:
        """Mean affinity."""
        return self.affinity / self.n_pairs


def pair_moments(pairs: PairTiles, scale: float) -> Moments:
    """Sum affinities over pairs of distinct items, for 1 / sigma^2 in units of the frame."""
    # exp2 costs a third of exp.
    factor = scale * LOG2_E
    loops = loops_for(pairs.tiles[0])

    def make() -> Callable[[int], tuple[float, ...]]:
        own = loops(pairs.tiles[0])

        def moments(number: int) -> tuple[float, ...]:
            weight = pairs.weights[number]
            # An item's affinity with itself does not count.
            on_diagonal = bool(pairs.n_self) and weight == 1
            sums = own.moments(pairs.tiles[number], factor, without_diagonal=on_diagonal)
            return tuple(weight * m / (-LOG2_E) ** k for k, m in enumerate(sums))

        return moments

    numbers = range(len(pairs.tiles))
    if pairs.n_values <= _FEW_PAIRS:
        # Threads would take longer to start.
        per_tile = list(map(make(), numbers))
    else:
        per_tile = side_by_side(make, numbers, pairs.tiles[0].device)
    zeroth, first, second, third = (math.fsum(column) for column in zip(*per_tile, strict=True))
    return Moments(zeroth, first, second, third, pairs.n_pairs)


def sample_pairs(pairs: PairTiles) -> PairTiles | None:
    """Take some rows of some tiles for the start of the iteration; None if there are few pairs.

    Rows are taken at odd distances, because features may have a periodic order.
    """
    if pairs.n_values <= _MANY_PAIRS:
        return None
    every = -(-len(pairs.tiles) // _TILES_FOR_START)
    tiles, weights = pairs.tiles[::every], pairs.weights[::every]
    step = sum(tile.numel() for tile in tiles) // _PAIRS_FOR_START | 1
    parts: dict[int, list[torch.Tensor]] = {}
    n_pairs = 0
    for number, (tile, weight) in enumerate(zip(tiles, weights, strict=True)):
        height, width = tile.shape
        first = 7 * number % min(step, height)
        rows = tile[first::step].flatten()
        n_pairs += weight * len(rows)
        if pairs.n_self and weight == 1:
            own = rows[first :: step + width]
            own.fill_(-torch.inf)
            n_pairs -= len(own)
        parts.setdefault(weight, []).append(rows)
    rows_of_weights = [torch.cat(rows)[None] for rows in parts.values()]
    return PairTiles(rows_of_weights, list(parts), [], n_pairs=n_pairs, n_self=0)


@dataclass(frozen=True)
class Root:
    """The solution: s = log sigma^2 in units of the frame."""

    log_variance: float
    iterations: int


def solve_root(
    moments: Callable[[float], Moments],
    density: float,
    *,
    start: float,
    lowest: float,
    last_step: float,
) -> Root:
    r"""Solve rho(s) = density for s = log sigma^2 by steps of third order, else by bisection.

    The iteration (Householder 1970, of order 3) is for f(s) = log rho(s) - log density, which is
    nearly linear even where rho changes by orders of magnitude. With u = d^2 / (2 sigma^2),
    dA/ds = A u and du/ds = -u give, for :math:`m_k = \sum A u^k / \sum A`,

    .. math::
        f' = m_1, \qquad f'' = m_2 - m_1 - m_1^2, \qquad
        f''' = m_3 - 2 m_2 - m_1 m_2 - (1 + 2 m_1) f''.

    ``moments(1 / sigma^2)`` gives the sums over pairs. Below ``lowest`` affinities are rounding
    errors, and a root is refused. A step shorter than ``last_step`` is the last one.
    """
    low, high = -math.inf, math.inf
    position = max(start, lowest)
    for iteration in range(1, _MAX_ITERATIONS + 1):
        sums = moments(math.exp(-position))
        offset = math.log(sums.density / density) if sums.affinity > 0 else -math.inf
        if offset > 0:
            high = min(high, position)
        else:
            low = max(low, position)
        if high <= lowest:
            raise _unreachable(density, sums.density)
        step = _next_step(sums, offset)
        if abs(step) <= last_step:
            return Root(position + step, iteration)
        proposed = position + max(-_LONGEST_STEP, min(_LONGEST_STEP, step))
        if not low < proposed < high:
            proposed = (low + high) / 2
        position = max(proposed, lowest)
        if high - low <= 1e-14 * max(1.0, abs(position)):
            # The density jumps over the target between two neighbouring floats.
            return Root(position, iteration)
    raise BandwidthError(
        f"no bandwidth found for density {density} in {_MAX_ITERATIONS} iterations; "
        "ask for another density."
    )


def _next_step(sums: Moments, offset: float) -> float:
    if not sums.affinity > 0 or not sums.first > 0:
        return -_LONGEST_STEP if offset > 0 else _LONGEST_STEP
    slope, second, third = (m / sums.affinity for m in (sums.first, sums.second, sums.third))
    curvature = second - slope - slope**2
    change = third - 2 * second - slope * second - (1 + 2 * slope) * curvature
    numerator = 6 * slope**2 - 3 * offset * curvature
    denominator = 6 * slope**3 - 6 * offset * slope * curvature + offset**2 * change
    if numerator > 0 and denominator > 0:
        return -offset * numerator / denominator
    return -offset / slope


def _unreachable(density: float, floor: float) -> BandwidthError:
    if floor >= 1.0 - 1e-6:
        return BandwidthError(
            "the features are constant: all rows are the same to within rounding, so every "
            f"affinity is 1 and a density of {density} does not exist; check where these features "
            "come from."
        )
    return BandwidthError(
        f"the features can't have density {density}: {floor:.1%} of their pairs are rows that "
        "coincide to within rounding; remove duplicate rows or ask for a larger density."
    )


def lowest_log_variance(half_norms: torch.Tensor, *, cosine: bool = False) -> float:
    """The bandwidth, as log sigma^2, below which squared distances are rounding errors."""
    epsilon = torch.finfo(half_norms.dtype).eps
    if cosine:
        # The distance is rounded before it is squared.
        return 2 * math.log(_ROUNDINGS * epsilon)
    typical = float(half_norms.median()) or float(half_norms.max()) or 1.0
    return math.log(_ROUNDINGS * epsilon * typical)


def starting_log_variance(half_norms: torch.Tensor, density: float) -> float:
    """The bandwidth, as log sigma^2, if all distances were equal to the typical one."""
    typical = float(half_norms.median()) or float(half_norms.max()) or 1.0
    return math.log(2 * typical / math.log(1 / density))


def last_step(dtype: torch.dtype) -> float:
    """The length of a step after which the iteration has converged, for a float type."""
    return _LAST_STEP[dtype]
