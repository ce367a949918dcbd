"""Points brought to the origin and to unit size, where float32 squares them safely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch

from relspace._blocks import chunk_slices, empty_matrix
from relspace._parallel import side_by_side
from relspace.errors import InvalidInputError, UndefinedValueError
from relspace.kernels import fused

# Location and size only keep numbers small, so a few rows tell enough of them.
_ROWS_FOR_LOCATION = 33
#: Of the error of 1e-4 that affinities may have, what rounding of the distances may take.
NEGLIGIBLE = 5e-5
_ROWS_IN_CACHE = 256


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
                fused.place_rows(
                    X[rows],
                    self.origin,
                    self.unit,
                    points=points[rows],
                    half_norms=half_norms[rows],
                )
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


def unit_vectors(X: torch.Tensor, name: str) -> torch.Tensor:
    """Scale every row to unit norm; a row of zeros has no direction and is refused."""
    # Divided by the largest entry first, so that squares neither overflow nor vanish.
    largest = torch.linalg.vector_norm(X.detach(), ord=math.inf, dim=1, keepdim=True)
    zero = (largest == 0).flatten()
    if bool(zero.any()):
        places = ", ".join(str(row) for row in zero.nonzero().flatten()[:5].tolist())
        raise UndefinedValueError(
            f"{name} has {int(zero.sum())} rows of zeros, first at {places}, among {len(X)} items: "
            "they have no direction, so no cosine; remove these items, or use a Euclidean "
            "distance or another measure."
        )
    scaled = X / largest
    return cast("torch.Tensor", scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True))
