"""Normalisation of tokens before the kernel: location, scale of channels or axes, norm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from relspace._core.arguments import check_choice
from relspace._core.matrices import smallest_exact
from relspace.errors import InvalidInputError
from relspace.kernels.frame import SAFE_EXPONENT, is_safe
from relspace.kernels.precision import full_precision
from relspace.kernels.scale import exponent_of, exponents_of, largest_magnitude, times_power_of_two

#: The power of each principal axis's deviation that partial whitening divides by.
_WHITENING = {"quarter-whiten": 0.25, "half-whiten": 0.5}

# An axis whose deviation is more than this many times the third largest is a massive activation
# (Sun et al. 2024) or an outlier; trained networks without them have 1 to 2.
_LOUD = 5.0
# Unless the kurtosis along it is below that of a uniform distribution: then tokens lie in groups.
# It is 3 for a normal distribution, and larger for a few outliers or a mostly silent channel.
_KURTOSIS_OF_GROUPS = 1.8

# The share of an item's squared length that the rounding of float32 axes may change. Values of
# measures then change by less than 1e-5.
_NEGLIGIBLE_SHARE = 3e-5

# The rounding of the centre that is allowed, relative to the largest difference from it.
_NEGLIGIBLE_REST = 1e-6

# Exponents of the largest magnitude between which features can be centred as they are: differences
# and sums over items don't overflow, and no relevant value becomes subnormal.
_SAFE_MAGNITUDES = {torch.float32: (-48, 120), torch.float64: (-900, 900)}

#: Normalisations of tokens before affinities are computed.
NORMALIZATIONS = (
    "none",
    "unit",
    "center",
    "center+unit",
    "zscore",
    "zscore+unit",
    "quarter-whiten",
    "quarter-whiten+unit",
    "half-whiten",
    "half-whiten+unit",
)


@dataclass(frozen=True)
class Normalization:
    """A fitted normalisation of tokens: a centre, a scale of channels or axes, unit norm.

    Attributes
    ----------
    center : tensor of shape (d,) or None
        Mean of the features it was fitted on.
    scale : tensor of shape (d,) or None
        Standard deviation of each channel; channels that don't vary have 1.
    axes : tensor of shape (d, k) or None
        The map onto partially whitened principal axes.
    unit : bool
        Whether tokens are brought to unit norm.
    exponent : int
        Tokens are multiplied by 2^-exponent first, which is 0 unless they are near the limits of
        their float type; the centre, the scale and the axes are of what comes out.
    rest : tensor of shape (d,) or None
        The rounding error of the centre, if it matters: with a large offset, the float type may not
        hold the mean of features that differ little.
    """

    center: torch.Tensor | None
    scale: torch.Tensor | None
    axes: torch.Tensor | None
    unit: bool
    exponent: int = 0
    rest: torch.Tensor | None = None

    def apply(self, X: torch.Tensor, *, first_row: int = 0) -> torch.Tensor:
        """Normalise tokens; one that equals the centre stays at 0.

        Parameters
        ----------
        X : tensor of shape (n, d)
            Tokens, in the float type that it was fitted in.
        first_row : int
            The number of the first row, for errors.
        """
        if self.unit and self.center is None:
            return _with_unit_norm(X, first_row)
        X = times_power_of_two(X, -self.exponent)
        if self.center is not None:
            X = X - self.center
        if self.rest is not None:
            X = X - self.rest
        if self.scale is not None:
            X = X / self.scale
        if self.axes is not None:
            with full_precision():
                X = X @ self.axes
        return _with_unit_norm(X) if self.unit else X


def _with_unit_norm(X: torch.Tensor, first_row: int | None = None) -> torch.Tensor:
    """Bring every row to unit norm, whatever its scale; rows of zeros stay.

    With ``first_row``, rows of numbers that have lost digits are refused; differences from a centre
    may be as small.
    """
    norms = torch.linalg.vector_norm(X, dim=1, keepdim=True)
    if all(map(is_safe, map(float, torch.aminmax(norms)))):
        return X.div(norms)
    largest = torch.linalg.vector_norm(X, ord=math.inf, dim=1, keepdim=True)
    smallest = smallest_exact(X.dtype)
    lost = ((largest > 0) & (largest < smallest)).flatten().nonzero().flatten()
    if first_row is not None and len(lost):
        raise InvalidInputError(
            f"row {first_row + int(lost[0])} holds no number above {smallest:.2g}, below which "
            f"{str(X.dtype).removeprefix('torch.')} loses digits, so that its direction is lost: "
            "remove it, or multiply the features by a large number while they have more digits."
        )
    X = times_power_of_two(X, -exponents_of(largest))
    norms = torch.linalg.vector_norm(X, dim=1, keepdim=True)
    return X.div(torch.where(norms > 0, norms, torch.ones_like(norms)))


def fit_normalization(X: torch.Tensor, method: str) -> Normalization:
    r"""Fit a normalisation to features.

    Partial whitening divides the coordinate along each principal axis by a power of its standard
    deviation,

    .. math:: \tilde x = (x - \bar x) \, V \operatorname{diag}(s_1^{-a}, \dots, s_k^{-a}),

    with a = 1/4 or 1/2; a = 1 would be whitening. A few loud directions then no longer decide
    alone what is near, and yet what comes out keeps its distances when features are rotated,
    reflected or shifted, and their ratios when they are scaled. One or two axes that vary more
    than 5 times as much as the third do are massive activations or outliers; they get the deviation
    of the third. Axes along which tokens lie in groups (a kurtosis below 1.8, that of a uniform
    distribution) are left as loud as they are.

    Parameters
    ----------
    X : tensor of shape (n, d)
        Features.
    method : str
        One of :data:`NORMALIZATIONS`.

    Returns
    -------
    Normalization
        Its method ``apply`` normalises any token of this model.

    Raises
    ------
    InvalidInputError
        If the method is unknown, or a channel that is standardised holds only numbers so small
        that they have lost digits.

    Examples
    --------
    >>> import torch
    >>> from relspace.kernels import fit_normalization
    >>> X = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    >>> fit_normalization(X, "center+unit").apply(X)
    tensor([[-1.,  0.],
            [ 1.,  0.]])
    """
    check_choice(method, "normalize", NORMALIZATIONS)
    step = method.removesuffix("+unit")
    unit = method.endswith("unit")
    if step in ("none", "unit"):
        return Normalization(None, None, None, unit)
    exponent = exponent_of(largest_magnitude(X))
    low, high = _SAFE_MAGNITUDES[X.dtype]
    exponent -= max(low, min(high, exponent))
    X = times_power_of_two(X, -exponent)
    wide = X.to(torch.float64)
    # Differences of near numbers are exact, whatever the offset; the mean of these is small.
    center = (wide[0] + (wide - wide[0]).mean(dim=0)).to(X.dtype)
    centered = wide - center
    rest = centered.mean(dim=0)
    counts = bool((rest.abs() > _NEGLIGIBLE_REST * centered.abs().amax(dim=0)).any())
    centered -= rest
    scale = axes = None
    if step == "zscore":
        scale = _deviations(X, centered)
    if step in _WHITENING:
        axes = whitening_axes(centered, _WHITENING[step]).to(X.dtype)
    return Normalization(center, scale, axes, unit, exponent, rest.to(X.dtype) if counts else None)


def projected_normalization(n: int, width: int, method: str, dtype: torch.dtype) -> int:
    """Peak bytes of :func:`fit_normalization`, most of them in float64."""
    step = method.removesuffix("+unit")
    if step in ("none", "unit"):
        return 0
    smaller = min(n, width)
    axes = 8 * (6 * smaller**2 + 2 * width * smaller) if step in _WHITENING else 0
    return n * width * (dtype.itemsize + 4 * 8) + axes


def _deviations(X: torch.Tensor, centered: torch.Tensor) -> torch.Tensor:
    """The standard deviation of every channel; 1 for those that don't vary."""
    largest, smallest = X.abs().amax(dim=0), smallest_exact(X.dtype)
    lost = ((largest > 0) & (largest < smallest)).nonzero().flatten()
    if len(lost):
        raise InvalidInputError(
            f"channel {int(lost[0])} holds no number above {smallest:.2g}, below which "
            f"{str(X.dtype).removeprefix('torch.')} loses digits: remove this channel, or multiply "
            "it by a large number while it has more digits."
        )
    exponents = exponents_of(centered.abs().amax(dim=0))
    squares = times_power_of_two(centered, -exponents).square()
    deviation = times_power_of_two(squares.mean(dim=0).sqrt(), exponents).to(X.dtype)
    # A deviation that is only rounding must not be amplified.
    floor = torch.finfo(X.dtype).eps * largest
    return torch.where(deviation > floor, deviation, torch.ones_like(deviation))


def normalize_by_own(X: torch.Tensor, method: str) -> torch.Tensor:
    """Normalise features by a fit to them; where axes are whitened, up to a rotation and a scale.

    Axes of float32 features are found in float32, in half the time, where that hardly changes
    distances.
    """
    step = method.removesuffix("+unit")
    if step not in _WHITENING:
        return fit_normalization(X, method).apply(X)
    wide = times_power_of_two(X, -exponent_of(largest_magnitude(X))).to(torch.float64)
    points = wide - wide[0]
    points -= points.mean(dim=0)
    with full_precision():
        rows = None
        if X.dtype == torch.float32:
            rows = _whitened_coarsely(points.float(), _WHITENING[step])
        if rows is None:
            rows = _whitened(points, _principal_axes(points, _WHITENING[step])).to(X.dtype)
    return _with_unit_norm(rows) if method.endswith("unit") else rows


def _whitened(points: torch.Tensor, found: _Axes) -> torch.Tensor:
    n, d = points.shape
    if d > n:
        return found.axes * (found.wanted * math.sqrt(n))
    return points @ (found.axes * (found.wanted / found.deviations))


def _whitened_coarsely(points: torch.Tensor, exponent: float) -> torch.Tensor | None:
    """Whiten in the points' own float type, unless rounding counts beside the nearest item.

    A variance is known to the rounding of the largest one. Summed over the axes, what this may
    change has to be negligible beside the squared length of every item.
    """
    found = _principal_axes(points, exponent)
    rows = _whitened(points, found)
    rounding = torch.finfo(points.dtype).eps * found.deviations.amax().square()
    unsure = found.wanted.square() @ (rounding / found.deviations.square()).clamp_max(1.0)
    nearest = torch.linalg.vector_norm(rows, dim=1).amin().square()
    return rows if bool(unsure <= _NEGLIGIBLE_SHARE * nearest) else None


def whitening_axes(points: torch.Tensor, exponent: float) -> torch.Tensor:
    """Principal axes (d, k) of centred points, each divided by a power of the deviation along it.

    The power is 0 for a rotation and 1 for whitening. Axes along which features vary only by
    rounding are left out. Points are in float64.
    """
    magnitude = exponent_of(largest_magnitude(points))
    if abs(magnitude) <= SAFE_EXPONENT:
        magnitude = 0
    points = times_power_of_two(points, -magnitude)
    found = _principal_axes(points, exponent)
    n, d = points.shape
    axes = found.axes
    if d > n:
        axes = points.T @ axes / (found.deviations * math.sqrt(n))
    return axes * (found.wanted / found.deviations * math.pow(2.0, -magnitude * exponent))


@dataclass(frozen=True)
class _Axes:
    """Principal axes (d, k), the deviations along them, and those that they are to have.

    Of more features than items, instead of the axes the items' coordinates (n, k) along them, of
    unit norm.
    """

    axes: torch.Tensor
    deviations: torch.Tensor
    wanted: torch.Tensor


def _principal_axes(points: torch.Tensor, exponent: float) -> _Axes:
    """Decompose centred points; axes along which they vary only by rounding are left out.

    In float32 these can't be told from quiet ones, and have the deviation of the rounding.
    """
    n, d = points.shape
    # The smaller one of the two products.
    small = points.T @ points if d <= n else points @ points.T
    variances, vectors = torch.linalg.eigh(small / n)
    rounding = torch.finfo(points.dtype).eps
    size = variances[-1].clamp_min(torch.finfo(points.dtype).tiny)
    if points.dtype == torch.float64:
        kept = variances > size * max(n, d) * rounding
        variances, vectors = variances[kept], vectors[:, kept]
    deviations = variances.clamp_min(size * rounding).sqrt()
    if not len(deviations):
        one = points.new_ones(1)
        return _Axes(points.new_zeros((min(n, d), 1)), one, one)
    third = deviations[-min(3, len(deviations))]
    is_loud = (deviations > _LOUD * third) & (len(deviations) > 3)
    if bool(is_loud.any()):
        # Of unit variance.
        scores = vectors[:, is_loud] * n**0.5
        if d <= n:
            scores = points @ vectors[:, is_loud] / deviations[is_loud]
        is_loud[is_loud.clone()] = scores.pow(4).mean(dim=0) >= _KURTOSIS_OF_GROUPS
    # An axis of deviation s gets the deviation s^(1 - exponent), a loud one that of the third.
    return _Axes(vectors, deviations, torch.where(is_loud, third, deviations).pow(1 - exponent))
