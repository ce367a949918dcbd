"""Relative features: rows of affinities to landmarks, standardised so that they compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from relspace._core.arrays import refuse_non_finite
from relspace._core.memory import chunk_slices, empty_matrix
from relspace._core.resources import Resources
from relspace._core.threads import side_by_side
from relspace.errors import InvalidInputError
from relspace.kernels.backend import loops_for
from relspace.kernels.frame import Cloud, Frame
from relspace.kernels.normalization import Normalization
from relspace.kernels.precision import full_precision
from relspace.kernels.tiles import LOG2_E

#: The column of an item that is not a landmark.
NO_LANDMARK = -1

# The ridge, relative to the mean variance of standardised columns: directions of smaller variance
# are mostly sampling noise of the landmarks.
_RIDGE = 0.1

#: What is done to landmark columns so that rows can be compared.
STANDARDIZATIONS = ("whiten", "half-whiten", "columns", "none")

#: The power of the variance along principal axes that columns are divided by.
_WHITENING = {"whiten": 0.5, "half-whiten": 0.25}

# Rows that are processed at a time: as many as fit a CPU's cache, and at most on a GPU.
_ROWS_IN_CACHE = 512
_ROWS_ON_DEVICE = 2**16


@dataclass(frozen=True)
class ColumnProfile:
    """Statistics of the columns, from the affinities of landmarks to each other.

    ``mean`` and ``deviation`` (m,) are of each landmark's affinities to the others; the deviation
    is infinite where they don't vary, so that the column is 0. ``whitening`` (m, m) is symmetric
    and decorrelates standardised columns, fully or halfway.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    whitening: torch.Tensor | None


def column_profile(affinity: torch.Tensor, *, standardize: str) -> ColumnProfile:
    r"""Measure the columns of the landmarks' own affinity matrix.

    With Z the columns standardised by their mean and deviation over the other landmarks, and
    C = Z^T Z / m, the whitening is

    .. math:: W = \left(C + \lambda I\right)^{-1/2}, \qquad
              \lambda = 0.1 \, \operatorname{tr}(C) / m,

    and half whitening has the exponent -1/4. ``affinity`` (m, m) has a diagonal of 1.
    """
    m = len(affinity)
    mean = (affinity.sum(dim=0) - 1) / (m - 1)
    squares = (affinity - mean).square().sum(dim=0) - (1 - mean).square()
    deviation = (squares.clamp_min(0.0) / (m - 1)).sqrt()
    smallest = torch.finfo(affinity.dtype).eps
    deviation = torch.where(deviation > smallest, deviation, torch.inf)
    if standardize not in _WHITENING:
        return ColumnProfile(mean, deviation, None)
    standard = ((affinity - mean) / deviation).to(torch.float64)
    variances, axes = torch.linalg.eigh(standard.T @ standard / m)
    ridge = (_RIDGE * variances.mean()).clamp_min(torch.finfo(torch.float64).tiny)
    powers = (variances.clamp_min(0.0) + ridge).pow(-_WHITENING[standardize])
    whitening = (axes * powers) @ axes.T
    return ColumnProfile(mean, deviation, whitening.to(affinity.dtype))


def projected_profile(n_landmarks: int, dtype: torch.dtype) -> int:
    """Peak bytes of :func:`column_profile`: matrices of landmarks in float64."""
    return n_landmarks**2 * (2 * dtype.itemsize + 6 * 8)


def projected_row(n_landmarks: int, width: int, dtype: torch.dtype) -> int:
    """Bytes of working memory for one row, without the result."""
    return dtype.itemsize * (5 * width + 2 * n_landmarks)


def projected_rows(n: int, n_landmarks: int, width: int, dtype: torch.dtype) -> int:
    """Peak bytes of :func:`relative_rows` on a CPU, with the result."""
    at_once = min(n, torch.get_num_threads() * _ROWS_IN_CACHE)
    result = n * n_landmarks * dtype.itemsize
    return result + at_once * projected_row(n_landmarks, width, dtype)


def relative_rows(
    X: torch.Tensor,
    normalization: Normalization,
    frame: Frame,
    landmarks: Cloud,
    profile: ColumnProfile,
    *,
    scale: float,
    own: torch.Tensor | None = None,
    how: str | None = None,
    memory_budget: int | None = None,
    first_row: int = 0,
) -> torch.Tensor:
    """Compute relative features of tokens X (n, d), from features to result a block at a time.

    A block fits the cache of a CPU, or the memory budget on a GPU. Tokens of any float type and
    device are converted block by block to those of the landmarks, which the result has. ``scale``
    is 1 / sigma^2 in units of the frame, ``own`` and ``how`` are as in :func:`standardize_rows`,
    where ``how`` None gives affinities, and ``first_row`` numbers the rows in errors.
    """
    n, m = len(X), len(landmarks.points)
    like = landmarks.points
    out = empty_matrix(n, m, like=like)
    step = _ROWS_IN_CACHE
    if out.device.type != "cpu":
        budget = Resources.of(memory_budget, device=out.device).for_blocks()
        step = budget // projected_row(m, X.shape[1], like.dtype)
        step = max(1, min(_ROWS_ON_DEVICE, step))

    loops = loops_for(out)(out)
    steps = {} if how is None else _steps(profile, how)

    def fill(rows: slice) -> None:
        first = first_row + rows.start
        tokens = normalization.apply(X[rows].to(like), first_row=first)
        points = frame.place(tokens, refuse_far=False)
        if not bool(points.half_norms.sum().isfinite()):
            refuse_non_finite(X[rows], "X", first_row=first)
            far = int((~points.half_norms.isfinite()).nonzero()[0])
            raise InvalidInputError(
                f"row {first + far} of X lies farther from the landmarks than floats can square "
                "in units of their distances; remove it, or fit on landmarks that are like it."
            )
        pairs = (points, landmarks, scale * LOG2_E)
        if how is None:
            loops.affinities(*pairs, out[rows])
            return
        mine = None if own is None else own[rows]
        loops.relative_rows(out[rows], profile, mine, **steps, pairs=pairs)

    with full_precision():
        side_by_side(lambda: fill, chunk_slices(n, step), out.device)
    return out


def standardize_rows(
    affinity: torch.Tensor, profile: ColumnProfile, own: torch.Tensor | None, *, how: str
) -> torch.Tensor:
    """Turn affinities (n, m), in place, into rows whose distances can be compared.

    The mean profile is subtracted, and columns are standardised and decorrelated, so that many
    similar landmarks count no more than a single one. The affinity of an item with itself is always
    1; its own column is therefore set to 0 before and after the columns are mixed. Finally rows get
    mean 0 and norm 1, so that the squared distance of two rows is 2 (1 - r), r their correlation.

    Parameters
    ----------
    own : LongTensor of shape (n,) or None
        Each item's own column, :data:`NO_LANDMARK` for items that are not landmarks.
    how : str
        "whiten", "half-whiten", "columns" (standardised only) or "none" (the profile is subtracted
        only).
    """
    loops = loops_for(affinity)(affinity)
    steps = _steps(profile, how)
    step = _ROWS_IN_CACHE if affinity.device.type == "cpu" else max(1, len(affinity))
    with full_precision():
        for rows in chunk_slices(len(affinity), step):
            mine = None if own is None else own[rows]
            loops.relative_rows(affinity[rows], profile, mine, **steps)
    return affinity


def _steps(profile: ColumnProfile, how: str) -> dict[str, Any]:
    """The factor of each centred column, if any, and whether columns are decorrelated."""
    per_column = None if how == "none" else profile.deviation.reciprocal()
    return {"per_column": per_column, "whiten": how in _WHITENING}
