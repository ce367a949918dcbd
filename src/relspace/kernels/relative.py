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

#: In place of a landmark's number: the item is no landmark.
NO_LANDMARK = -1

# Of the mean variance of standardised columns, what is added to all before they are brought to 1:
# what varies less is mostly the landmarks' sampling noise.
_RIDGE = 0.1

#: What is done to landmark columns so that rows can be compared.
STANDARDIZATIONS = ("whiten", "half-whiten", "columns", "none")

#: Of the columns' variances along their principal axes, the power that is divided by.
_WHITENING = {"whiten": 0.5, "half-whiten": 0.25}

# Rows that are worked on from the features to the result while they are in a CPU's cache, and on a
# GPU at most.
_ROWS_IN_CACHE = 512
_ROWS_ON_DEVICE = 2**16


@dataclass(frozen=True)
class ColumnProfile:
    """What the landmarks' affinities to each other say of the columns.

    Attributes
    ----------
    mean : tensor of shape (m,)
        Of each landmark's affinities to the others: the profile that all rows share.
    deviation : tensor of shape (m,)
        Their standard deviation; infinite where they don't vary, so that the column counts for
        nothing.
    whitening : tensor of shape (m, m) or None
        Symmetric; decorrelates standardised columns, or halfway.
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

    and half of it has the exponent -1/4.

    Parameters
    ----------
    affinity : tensor of shape (m, m)
        Affinities of landmarks with a diagonal of 1.
    standardize : str
        One of :data:`STANDARDIZATIONS`.
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
    """Bytes that :func:`column_profile` adds at its peak: matrices of landmarks, in float64."""
    return n_landmarks**2 * (2 * dtype.itemsize + 6 * 8)


def projected_row(n_landmarks: int, width: int, dtype: torch.dtype) -> int:
    """Bytes of work on one row, from its features to the result, which is not counted."""
    return dtype.itemsize * (5 * width + 2 * n_landmarks)


def projected_rows(n: int, n_landmarks: int, width: int, dtype: torch.dtype) -> int:
    """Bytes that :func:`relative_rows` adds on a CPU at its peak, the result included."""
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
    """Describe tokens by their affinities to landmarks, from features to result a few at a time.

    On a CPU these are as many as stay in its cache, on a GPU as many as the budget holds. Tokens
    may have any type and lie anywhere: those few are brought to the landmarks' type and device.

    Parameters
    ----------
    X : tensor of shape (n, d)
        Tokens.
    normalization, frame, landmarks, profile
        What is fitted.
    scale : float
        1 / sigma^2 in units of the frame.
    own : LongTensor of shape (n,) or None
        As in :func:`standardize_rows`.
    how : str or None
        What is done to the affinities, see :func:`standardize_rows`; None leaves them.
    memory_budget : int, optional
        Bytes that working memory on a GPU may take; by default a quarter of what is free.
    first_row : int
        What an error counts rows from.

    Returns
    -------
    tensor of shape (n, m)
        On the landmarks' device.

    Raises
    ------
    NonFiniteError
        If tokens hold NaN or infinity.
    InvalidInputError
        If a token lies so far from the landmarks that floats can't square the distance.
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
    """Turn affinities, in place, into rows whose distances can be compared.

    The shared profile is subtracted, and columns are standardised and decorrelated, so that many
    landmarks which are alike count no more than one that stands alone; an item's affinity with
    itself, which is 1 whatever the features, is left out before it could be mixed with others, and
    its column after; then rows have mean 0 and norm 1, so that the squared distance of two rows is
    2 (1 - r) with their correlation r.

    Parameters
    ----------
    affinity : tensor of shape (n, m)
        Affinities to landmarks; overwritten.
    profile : ColumnProfile
        The landmarks' profile.
    own : LongTensor of shape (n,) or None
        Each item's own column, :data:`NO_LANDMARK` for items that are no landmarks.
    how : str
        "whiten", "half-whiten", "columns" (standardised only) or "none" (the profile is subtracted
        only).

    Returns
    -------
    tensor of shape (n, m)
        ``affinity``, overwritten.
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
    """What is done to centred columns: each divided, or left, and whether they are mixed then."""
    per_column = None if how == "none" else profile.deviation.reciprocal()
    return {"per_column": per_column, "whiten": how in _WHITENING}
