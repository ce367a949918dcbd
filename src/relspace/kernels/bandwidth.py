"""Auto-scaling: the bandwidth at which a feature set's affinities have a given mean density."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch

from relspace._core.arguments import (
    check_count,
    check_density,
    check_fraction,
    check_positive,
    check_random_state,
)
from relspace._core.devices import CPU
from relspace._core.matrices import as_features, check_same_width
from relspace._core.resources import Resources
from relspace.errors import BandwidthError, InvalidInputError, SamplingWarning
from relspace.kernels.density import (
    Root,
    last_step,
    lowest_log_variance,
    pair_moments,
    sample_pairs,
    solve_root,
    starting_log_variance,
)
from relspace.kernels.distances import fill_pairs
from relspace.kernels.frame import Cloud, Frame, place_sets, too_coarse
from relspace.kernels.sampling import GROUP, Sampler, projected_sample
from relspace.kernels.tiles import PairTiles, projected_tiles

#: Mean affinity between distinct items that auto-scaling aims at.
DEFAULT_DENSITY = 0.05

#: Density reached counts as met within this relative error when every pair is counted.
EXACT_TOLERANCE = 1e-6

_FIRST_GROUPS = 128
_GROUPS_TO_REFUSE = 1024
_LARGEST_SAMPLE_BYTES = 2**29


@dataclass(frozen=True)
class Bandwidth:
    """A solved bandwidth and how it was reached.

    Attributes
    ----------
    sigma : float
        The bandwidth, in units of the features.
    density : float
        Mean affinity over the pairs that were counted, at this bandwidth.
    target : float
        The density asked for.
    standard_error : float
        Standard error of the density of the whole set; 0 when every pair was counted.
    n_pairs : int
        Pairs that were counted.
    n_items : int
        Items that these pairs were taken from.
    iterations : int
        Evaluations of the density.
    converged : bool
        Whether the density, and its standard error, are within the tolerance asked for.
    sampled : bool
        Whether the pairs are a random sample of all.
    """

    sigma: float
    density: float
    target: float
    standard_error: float
    n_pairs: int
    n_items: int
    iterations: int
    converged: bool
    sampled: bool = False

    def __float__(self) -> float:
        return self.sigma

    @property
    def exact(self) -> bool:
        """Whether every pair was counted."""
        return not self.sampled

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def check_sigma(sigma: object) -> float | torch.Tensor:
    """Refuse anything but a bandwidth above 0: a number, a Bandwidth or a 0-d tensor."""
    value = sigma.sigma if isinstance(sigma, Bandwidth) else check_positive(sigma, "sigma")
    return sigma if isinstance(sigma, torch.Tensor) else value


def solve_pairs(
    pairs: PairTiles,
    clouds: tuple[Cloud, Cloud | None],
    density: float,
    *,
    cosine: bool = False,
    start: float | None = None,
) -> Root:
    """Solve the bandwidth of pairs whose distances are known, in units of their frame."""
    half_norms = torch.cat([cloud.half_norms for cloud in clouds if cloud is not None])
    return solve_root(
        lambda scale: pair_moments(pairs, scale),
        density,
        start=starting_log_variance(half_norms, density) if start is None else start,
        lowest=lowest_log_variance(half_norms, cosine=cosine),
        last_step=last_step(half_norms.dtype),
    )


def solve_all_pairs(
    X: torch.Tensor,
    Y: torch.Tensor | None,
    frame: Frame,
    density: float,
    *,
    cosine: bool = False,
    out: torch.Tensor | None = None,
) -> tuple[PairTiles, Root]:
    """Compute all distances and solve their bandwidth, in float64 where float32 is too coarse."""
    clouds = place_sets(X, Y, frame, cosine=cosine)
    pairs = fill_pairs(*clouds, out=out, cosine=cosine)
    some, start = sample_pairs(pairs), None
    if some is not None:
        # Where the sample has no root, all pairs decide, from the usual start.
        with suppress(BandwidthError):
            start = solve_pairs(some, clouds, density, cosine=cosine).log_variance
    try:
        root = solve_pairs(pairs, clouds, density, cosine=cosine, start=start)
    except BandwidthError:
        # Rows may seem to coincide because of rounding; float64 decides.
        if clouds[0].points.dtype == torch.float64:
            raise
    else:
        if not too_coarse(clouds, math.exp(-root.log_variance), cosine=cosine):
            return pairs, root
    del clouds, pairs
    return solve_all_pairs(X, Y, frame.wide(), density, cosine=cosine, out=out)


def solve_bandwidth(
    X: object,
    Y: object | None = None,
    *,
    density: float = DEFAULT_DENSITY,
    tolerance: float = 0.005,
    max_items: int = 8192,
    random_state: int = 0,
) -> Bandwidth:
    r"""Solve the bandwidth at which the mean affinity of distinct items is ``density``.

    .. math::
        \rho(\sigma) = \frac{1}{n (n-1)} \sum_{i \neq j}
            \exp\left(-\frac{\lVert x_i - x_j \rVert^2}{2 \sigma^2}\right) = c

    Parameters
    ----------
    X : array-like of shape (n, d)
        Features of at least 3 items.
    Y : array-like of shape (m, d), optional
        Features of other items; the density is then the mean over all n m pairs.
    density : float
        The mean affinity c asked for, between 0 and 1.
    tolerance : float
        The standard error of the density that is allowed for sampled pairs, relative to it.
    max_items : int
        Every pair counts up to this many items (or as many pairs as these have); beyond, random
        groups of 64 items are drawn until the standard error is under the tolerance.
    random_state : int
        Seed of the sample.

    Returns
    -------
    Bandwidth
        The bandwidth, the density reached, its standard error, and how they were reached.

    Raises
    ------
    BandwidthError
        If the features are constant, or too many of their rows coincide.
    InvalidInputError
        If ``density`` is not between 0 and 1, there are fewer than 3 items, or the features hold
        NaN or infinity.
    MemoryBudgetError
        If the distances of all pairs that count would not fit.

    Warns
    -----
    SamplingWarning
        If the tolerance was not reached within the largest sample.

    Examples
    --------
    >>> import torch
    >>> from relspace import solve_bandwidth
    >>> features = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    >>> bandwidth = solve_bandwidth(features, density=0.1)
    >>> round(bandwidth.density, 6), bandwidth.n_pairs, bandwidth.standard_error
    (0.1, 19900, 0.0)
    """
    x, y = as_pair(X, Y)
    c = check_density(density)
    relative = check_fraction(tolerance, "tolerance")
    limit = check_count(max_items, "max_items", at_least=3)
    seed = check_random_state(random_state)
    m = None if y is None else len(y)
    Resources(device=x.device).require(
        projected_bandwidth(len(x), m, x.shape[1], x.dtype, max_items=limit, device=x.device),
        f"a bandwidth over all pairs of {len(x)} items",
        "lower {max_items}",
    )
    with torch.no_grad():
        frame = Frame.of(x, y)
        if len(x) * (m or len(x)) <= limit**2:
            pairs, root = solve_all_pairs(x, y, frame, c)
            reached = pair_moments(pairs, math.exp(-root.log_variance)).density
            sigma = frame.length(math.exp(root.log_variance / 2))
            return exact_bandwidth(root, reached, c, sigma=sigma, **count_pairs(pairs, x, y))
        return _solve_by_sampling(x, y, frame, c, relative, seed)


def projected_bandwidth(
    n: int,
    m: int | None,
    width: int,
    dtype: torch.dtype,
    *,
    max_items: int = 8192,
    device: torch.device = CPU,
) -> int:
    """Peak bytes of :func:`solve_bandwidth`; samples are limited to what fits."""
    if n * (m or n) <= max_items**2:
        return projected_tiles(n, m, width, dtype, held=True, device=device)
    first = _FIRST_GROUPS * GROUP**2 * dtype.itemsize
    return 3 * first + projected_sample(max(n, m or 0), width, dtype)


def as_pair(X: object, Y: object | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Check one or two feature sets for a bandwidth: of one width, with enough items."""
    x = as_features(X, "X").tensor
    if Y is None:
        check_enough_items(x, None)
        return x, None
    y = as_features(Y, "Y").tensor
    check_same_width(x, y, ("X", "Y"))
    return x, y.to(x)


def check_enough_items(X: torch.Tensor, Y: torch.Tensor | None) -> None:
    """Refuse to solve a bandwidth on fewer than 3 pairs of items."""
    if Y is None and X.shape[0] < 3:
        raise InvalidInputError(
            f"X has {X.shape[0]} items; a bandwidth is solved on at least 3: give more items, or "
            "give sigma."
        )


def count_pairs(pairs: PairTiles, X: torch.Tensor, Y: torch.Tensor | None) -> dict[str, int]:
    """How many pairs of how many items were counted."""
    if Y is None:
        return {"n_pairs": pairs.n_pairs // 2, "n_items": len(X)}
    return {"n_pairs": pairs.n_pairs, "n_items": len(X) + len(Y)}


def exact_bandwidth(
    root: Root, reached: float, density: float, *, sigma: float, n_pairs: int, n_items: int
) -> Bandwidth:
    """The result if every pair was counted; sigma in units of the features."""
    return Bandwidth(
        sigma=sigma,
        density=reached,
        target=density,
        standard_error=0.0,
        n_pairs=n_pairs,
        n_items=n_items,
        iterations=root.iterations,
        converged=abs(reached - density) <= EXACT_TOLERANCE * density,
    )


def _solve_by_sampling(
    X: torch.Tensor,
    Y: torch.Tensor | None,
    frame: Frame,
    density: float,
    tolerance: float,
    seed: int,
) -> Bandwidth:
    sampler = Sampler(X, Y, frame, seed)
    cloud = frame.place(X[: _FIRST_GROUPS * GROUP])
    wide = cloud.points.dtype == torch.float64
    room = Resources(device=X.device).for_blocks(at_most=_LARGEST_SAMPLE_BYTES)
    largest = max(_FIRST_GROUPS, room // (GROUP * GROUP * X.element_size()))
    n_groups, start, iterations = _FIRST_GROUPS, None, 0
    while True:
        sample = sampler.grow(n_groups)
        try:
            root = solve_pairs(sample.pairs, (cloud, None), density, start=start)
        except BandwidthError:
            if not wide:
                return _solve_by_sampling(X, Y, frame.wide(), density, tolerance, seed)
            # A few coincident rows can weigh too much in a small sample, not in a larger one.
            if n_groups >= min(largest, _GROUPS_TO_REFUSE):
                raise
            n_groups = min(largest, 8 * n_groups)
            continue
        scale = math.exp(-root.log_variance)
        if too_coarse([cloud], scale):
            return _solve_by_sampling(X, Y, frame.wide(), density, tolerance, seed)
        error = sample.standard_error(scale)
        iterations += root.iterations
        if error <= tolerance * density or n_groups == largest:
            break
        needed = math.ceil(1.1 * n_groups * (error / (tolerance * density)) ** 2)
        n_groups, start = min(largest, 8 * n_groups, max(n_groups + 1, needed)), root.log_variance
    if error > tolerance * density:
        warnings.warn(
            SamplingWarning(
                f"the density is known to a standard error of {error / density:.2%} of it from "
                f"{sample.pairs.n_pairs} sampled pairs, not to the {tolerance:.2%} asked for.",
                ways_out=["accept it by a larger {tolerance}", "ask for a larger {density}"],
            ),
            stacklevel=3,
        )
    return Bandwidth(
        sigma=frame.length(math.exp(root.log_variance / 2)),
        density=pair_moments(sample.pairs, scale).density,
        target=density,
        standard_error=error,
        n_pairs=sample.pairs.n_pairs if Y is not None else sample.pairs.n_pairs // 2,
        n_items=sample.n_items,
        iterations=iterations,
        converged=error <= tolerance * density,
        sampled=True,
    )
