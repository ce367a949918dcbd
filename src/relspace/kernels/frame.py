"""Frames: features are shifted and scaled to unit size, where float32 squares them safely."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch

from relspace._core.matrices import smallest_exact
from relspace._core.memory import chunk_slices, empty_matrix
from relspace._core.threads import side_by_side
from relspace.errors import InvalidInputError, UndefinedValueError
from relspace.kernels.backend import loops_for
from relspace.kernels.scale import exponent_of, largest_magnitude, times_power_of_two, to_unit_scale
from relspace.kernels.tiles import TorchLoops

# Location and size only keep numbers small, so that a few rows are enough to measure them.
_ROWS_FOR_LOCATION = 33
#: The error of affinities that rounding of distances may cause, of 1e-4 in all.
NEGLIGIBLE = 5e-5
_ROWS_IN_CACHE = 256
#: The error of the difference of two unit vectors, in roundings of 1.
ROUNDINGS_OF_UNIT_VECTORS = 8.0
#: Between 2^-48 and 2^48, products of four numbers do not over- or underflow in any float type.
SAFE_EXPONENT = 48


@dataclass(frozen=True)
class Cloud:
    """Points in the coordinates of a frame, with half their squared norms."""

    points: torch.Tensor
    half_norms: torch.Tensor

    def rows(self, index: slice | torch.Tensor) -> Cloud:
        """Take some of the points."""
        return Cloud(self.points[index], self.half_norms[index])


@dataclass(frozen=True)
class Frame:
    """The origin (d,) and the unit of a cloud, both of features times 2^-exponent.

    The origin does not change distances, but their rounding. It is the coordinate-wise median,
    which outliers do not shift as they shift a mean. The exponent is 0 unless the square of the
    unit could over- or underflow.
    """

    origin: torch.Tensor
    unit: float
    exponent: int = 0

    @staticmethod
    def of(X: torch.Tensor, Y: torch.Tensor | None = None) -> Frame:
        """Measure location and size on a few rows spread evenly over the features."""
        with torch.no_grad():
            some = [rows_for_location(Z).to(torch.float64) for Z in (X, Y) if Z is not None]
            rows = torch.cat(some)
            origin = some[-1].T.contiguous().kthvalue(some[-1].shape[0] // 2 + 1, dim=1).values
            unit = float(torch.linalg.vector_norm(rows - origin, dim=1).median())
            if is_safe(unit):
                return Frame(origin.to(X.dtype), unit)
            return Frame._of_any_scale(X, Y, rows, origin)

    @staticmethod
    def _of_any_scale(
        X: torch.Tensor, Y: torch.Tensor | None, rows: torch.Tensor, origin: torch.Tensor
    ) -> Frame:
        """The frame of sets whose rows for location have no size, or one that is not safe."""
        rows, shift = to_unit_scale(torch.cat([rows, origin[None]]))
        rows, origin = rows[:-1], rows[-1]
        apart, more = to_unit_scale(rows - origin)
        unit = math.ldexp(float(torch.linalg.vector_norm(apart, dim=1).median()), more)
        if unit == 0.0:
            sets = [Z.to(torch.float64) for Z in (X, Y) if Z is not None]
            largest = max(map(largest_magnitude, sets))
            if exponent_of(largest) > shift:
                origin = times_power_of_two(origin, shift - exponent_of(largest))
                shift = exponent_of(largest)
            unit = max(largest_magnitude(times_power_of_two(Z, -shift) - origin) for Z in sets)
        if unit == 0.0:
            return Frame(times_power_of_two(origin, shift).to(X.dtype), 1.0)
        exponent = shift + exponent_of(unit)
        smallest = smallest_exact(X.dtype)
        if exponent < exponent_of(smallest):
            raise InvalidInputError(
                f"the features differ by less than {smallest:.2g}, below which "
                f"{str(X.dtype).removeprefix('torch.')} loses digits: multiply them by a large "
                "number while they have more (float64), then convert."
            )
        if abs(exponent) <= SAFE_EXPONENT:
            exponent = 0
        origin = times_power_of_two(origin, shift - exponent)
        return Frame(origin.to(X.dtype), math.ldexp(unit, shift - exponent), exponent)

    def bring(self, X: torch.Tensor) -> torch.Tensor:
        """Convert features to the float type and scale of the origin; the gradient goes through."""
        return times_power_of_two(X.to(self.origin.dtype), -self.exponent) if self.exponent else X

    def inverse_variance(self, sigma: float) -> float:
        """1 / sigma^2 in units of the frame, of a bandwidth in units of the features."""
        try:
            ratio = math.ldexp(self.unit / sigma, self.exponent)
        except OverflowError:
            return math.inf
        return ratio * ratio

    def length(self, value: float) -> float:
        """Convert a length from units of the frame to those of the features."""
        try:
            found = math.ldexp(self.unit * value, self.exponent)
        except OverflowError:
            found = math.inf
        if value and not sys.float_info.min <= found <= sys.float_info.max:
            raise InvalidInputError(
                "the features lie so far apart, or so close together, that float64 can't hold "
                f"their bandwidth, about 2^{exponent_of(self.unit * value) + self.exponent}: "
                "multiply them by a power of two first, which changes no affinity."
            )
        return found

    def place(self, X: torch.Tensor, *, refuse_far: bool = True) -> Cloud:
        """Convert points (n, d) to coordinates of this frame, in the float type of its origin.

        Points whose squares overflow are refused, unless the caller does so and names their rows.
        """
        points = empty_matrix(X.shape[0], X.shape[1], like=self.origin)
        half_norms = self.origin.new_empty(len(X))
        kind = loops_for(self.origin) if X.dtype == self.origin.dtype else TorchLoops
        loops = kind(self.origin)

        def place(rows: slice) -> None:
            to = {"points": points[rows], "half_norms": half_norms[rows]}
            loops.place(self.bring(X[rows]), self.origin, self.unit, **to)

        step = _ROWS_IN_CACHE if X.device.type == "cpu" else max(1, len(X))
        side_by_side(lambda: place, chunk_slices(len(X), step), X.device)
        if refuse_far and X.dtype == torch.float64 and not bool(half_norms.isfinite().all()):
            raise InvalidInputError(
                f"the features span more than floats can square: some of {len(X)} rows lie "
                "beyond 1e153 times the typical distance; remove these outliers."
            )
        return Cloud(points, half_norms)

    def wide(self) -> Frame:
        """The same frame in float64."""
        return replace(self, origin=self.origin.to(torch.float64))


def is_safe(unit: float) -> bool:
    """Whether squares of a length are far from over- and underflow."""
    return 2.0**-SAFE_EXPONENT <= unit <= 2.0**SAFE_EXPONENT


def rows_for_location(X: torch.Tensor) -> torch.Tensor:
    """At most 33 rows, evenly spaced."""
    return X[:: max(1, -(-len(X) // _ROWS_FOR_LOCATION))]


def place_sets(
    X: torch.Tensor,
    Y: torch.Tensor | None,
    frame: Frame,
    *,
    scale: float = 1.0,
    cosine: bool = False,
) -> tuple[Cloud, Cloud | None]:
    """Convert one or two sets to a frame, in float64 if float32 is too coarse.

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

    The rounding error of a squared distance is epsilon times the squared norms of its points. A
    single far point does no harm, because it stays far from all others; two may be close together.
    """
    half_norms = torch.cat([cloud.half_norms for cloud in clouds if cloud is not None])
    if half_norms.dtype == torch.float64:
        return False
    epsilon = torch.finfo(half_norms.dtype).eps
    if cosine:
        return epsilon * math.sqrt(scale) > NEGLIGIBLE
    farthest = half_norms.topk(min(2, len(half_norms))).values.tolist()
    second = farthest[-1] if math.isfinite(farthest[0]) else math.inf
    return not 2 * epsilon * second * scale <= NEGLIGIBLE


def squared_norms(points: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean norm of every row, without a copy of the matrix."""
    norms: torch.Tensor = torch.linalg.vector_norm(points, dim=1)
    return norms.square()


def unit_vectors(X: torch.Tensor, name: str) -> torch.Tensor:
    """Scale every row to unit norm; a row of zeros has no direction and is refused."""
    # Divided by the largest entry first, so that squares neither overflow nor vanish.
    largest = torch.linalg.vector_norm(X.detach(), ord=math.inf, dim=1, keepdim=True)
    zero = (largest == 0).flatten()
    if bool(zero.any()):
        shown = ", ".join(str(row) for row in zero.nonzero().flatten()[:5].tolist())
        raise UndefinedValueError(
            f"{name} has {int(zero.sum())} rows of zeros, first at {shown}, among {len(X)} items: "
            "they have no direction, so no cosine; remove these items, or use a Euclidean "
            "distance or another measure."
        )
    smallest = smallest_exact(X.dtype)
    lost = (largest < smallest).flatten()
    if bool(lost.any()):
        raise InvalidInputError(
            f"{name} has {int(lost.sum())} rows of numbers below {smallest:.2g}, first at "
            f"{int(lost.nonzero()[0])}: there {str(X.dtype).removeprefix('torch.')} loses digits, "
            "and rows their direction; multiply the features by a large number before."
        )
    scaled = X / largest
    return cast("torch.Tensor", scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True))
