"""Compiled loops over tiles and rows: one pass through the cache for what torch does in several."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch

from relspace.kernels.compiled.library import LIBRARY
from relspace.kernels.tiles import Scratch

if TYPE_CHECKING:
    from relspace.kernels.frame import Cloud
    from relspace.kernels.relative import ColumnProfile


class CompiledLoops:
    """The methods of :class:`relspace.kernels.tiles.TorchLoops`, for float32 on the CPU."""

    def __init__(self, like: torch.Tensor) -> None:
        assert LIBRARY is not None
        self._library, self._scratch = LIBRARY, Scratch(like, "scratch")

    def half_squared(self, X: Cloud, Y: Cloud, out: torch.Tensor, *, on_diagonal: bool) -> None:
        products = torch.mm(X.points, Y.points.T, out=self._scratch.of(*out.shape))
        halves = (X.half_norms.data_ptr(), Y.half_norms.data_ptr())
        to = (out.data_ptr(), out.stride(0))
        self._library.subtract_norms(
            products.data_ptr(), *products.shape, *halves, *to, on_diagonal
        )

    def moments(
        self, tile: torch.Tensor, factor: float, *, without_diagonal: bool
    ) -> tuple[float, ...]:
        sums = (ctypes.c_double * 4)()
        period = tile.shape[-2] if without_diagonal else 0
        rows = tile if tile.ndim == 2 else tile.reshape(-1, tile.shape[-1])
        self._library.sum_moments(*_matrix(rows), factor, period, sums)
        return tuple(sums)

    def exponentiate(
        self,
        tile: torch.Tensor,
        factor: float,
        *,
        out: torch.Tensor,
        mirrored: torch.Tensor | None,
        on_diagonal: bool,
    ) -> None:
        to = (out.data_ptr(), out.stride(0))
        other = (None, 0) if mirrored is None else (mirrored.data_ptr(), mirrored.stride(0))
        self._library.exponentiate(*_matrix(tile), factor, *to, *other)

    def place(
        self,
        rows: torch.Tensor,
        origin: torch.Tensor,
        unit: float,
        *,
        points: torch.Tensor,
        half_norms: torch.Tensor,
    ) -> None:
        rows = rows if rows.stride(-1) == 1 else rows.contiguous()
        to = (points.data_ptr(), half_norms.data_ptr())
        self._library.place_rows(*_matrix(rows), origin.data_ptr(), 1 / unit, *to)

    def affinities(self, points: Cloud, landmarks: Cloud, factor: float, out: torch.Tensor) -> None:
        torch.mm(points.points, landmarks.points.T, out=out)
        self._describe(out, (points, landmarks, factor))

    def relative_rows(
        self,
        rows: torch.Tensor,
        profile: ColumnProfile,
        own: torch.Tensor | None,
        *,
        whiten: bool,
        per_column: torch.Tensor | None,
        pairs: tuple[Cloud, Cloud, float] | None = None,
    ) -> None:
        own = None if own is None else own.contiguous()
        if pairs is not None:
            torch.mm(pairs[0].points, pairs[1].points.T, out=rows)
        self._describe(rows, pairs, profile.mean, per_column, own, last=not whiten)
        if whiten:
            assert profile.whitening is not None
            rows.copy_(rows @ profile.whitening)
            self._describe(rows, own=own, last=True)

    def _describe(
        self,
        rows: torch.Tensor,
        pairs: tuple[Cloud, Cloud, float] | None = None,
        mean: torch.Tensor | None = None,
        per_column: torch.Tensor | None = None,
        own: torch.Tensor | None = None,
        *,
        last: bool = False,
    ) -> None:
        halves: tuple[int | None, int | None, float] = (None, None, 0.0)
        if pairs is not None:
            halves = (_address(pairs[0].half_norms), _address(pairs[1].half_norms), pairs[2])
        given = (_address(mean), _address(per_column), _address(own))
        self._library.describe_rows(*_matrix(rows), *halves, *given, last)


def _matrix(rows: torch.Tensor) -> tuple[int, int, int, int]:
    """The address, numbers of rows and columns, and stride of a matrix."""
    return rows.data_ptr(), rows.shape[0], rows.shape[1], rows.stride(0)


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
