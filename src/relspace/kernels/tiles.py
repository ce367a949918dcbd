"""Matrices of pairs in tiles that fit a cache, and loops over tiles in torch operations."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from relspace.kernels.frame import Cloud
    from relspace.kernels.relative import ColumnProfile

#: exp(x) = 2^(x LOG2_E).
LOG2_E = math.log2(math.e)

# A power of 2 that is 0 in every float type.
_UNDERFLOW = -1e4
_KEPT_BYTES = 2**23
_kept = threading.local()


def fill_half_squared(out: torch.Tensor, X: Cloud, Y: Cloud) -> None:
    """Write minus half the squared distances, x.y - |x|^2 / 2 - |y|^2 / 2, at most 0."""
    torch.addmm(Y.half_norms.expand(out.shape), X.points, Y.points.T, beta=-1.0, alpha=1.0, out=out)
    out.sub_(X.half_norms[:, None]).clamp_max_(0.0)


@dataclass(frozen=True)
class PairTiles:
    """Minus half the squared distances of pairs, in tiles.

    A tile of weight 2 counts for its transpose too. ``slices`` are the rows and columns of each
    tile in the whole matrix, ``n_pairs`` the ordered pairs of distinct items, and ``n_self`` the
    pairs of an item with itself.
    """

    tiles: list[torch.Tensor]
    weights: list[int]
    slices: list[tuple[slice, slice]]
    n_pairs: int
    n_self: int

    @property
    def n_values(self) -> int:
        """How many values the tiles hold."""
        return sum(tile.numel() for tile in self.tiles)


def projected_tiles(
    n: int, m: int | None, width: int, dtype: torch.dtype, *, held: bool, device: torch.device
) -> int:
    """Bytes of two clouds, the scratch memory of all threads, and the tiles if they are held."""
    n_threads = torch.get_num_threads() if device.type == "cpu" else 1
    side = min(512 if device.type == "cpu" else 8192, max(n, m or n))
    # Of a set with itself, tiles below the diagonal are not computed.
    n_held = 0 if not held else n * m if m is not None else n * (n + side) // 2
    points = (n + (m or 0)) * (width + 1)
    return dtype.itemsize * (n_held + points + 3 * n_threads * side**2)


def tile_side(device: torch.device, points: torch.Tensor | None = None) -> int:
    """Rows and columns of a tile: as many as fit a core's L2 cache, more on a GPU.

    On the diagonal half of a tile is wasted; for small matrices smaller tiles are faster.
    """
    if device.type != "cpu":
        return 8192
    if points is None:
        return 512
    n, width = points.shape
    return 256 if n <= 1024 or (n <= 4096 and width >= 256) else 512


def tile_slices(n_rows: int, n_columns: int | None, *, side: int) -> Iterator[tuple[slice, slice]]:
    """Cut a matrix into tiles; a symmetric one (``n_columns`` None) from the diagonal on."""
    last = n_rows if n_columns is None else n_columns
    for top in range(0, n_rows, side):
        rows = slice(top, min(top + side, n_rows))
        for left in range(top if n_columns is None else 0, last, side):
            yield rows, slice(left, min(left + side, last))


class Scratch:
    """Memory of one tile, which is reused so that it stays in the cache.

    Rows of a tile of a large matrix are far apart, often by a power of two, so that a cache holds
    only some of them; tiles are therefore computed here and copied. Memory with a name is kept by
    its thread for the next call, because new pages take as long as the work itself.
    """

    def __init__(self, like: torch.Tensor, name: str | None = None) -> None:
        self._memory = like.new_empty(0)
        self._key = None if name is None else f"{name} {like.dtype} {like.device}"
        if self._key is not None:
            self._memory = vars(_kept).get(self._key, self._memory)

    def of(self, *shape: int) -> torch.Tensor:
        """A contiguous tile with undefined values."""
        size = math.prod(shape)
        if self._memory.numel() < size:
            # A tensor made in inference mode could not be reused outside of it.
            with torch.inference_mode(False):
                self._memory = self._memory.new_empty(size)
            if self._key is not None and size * self._memory.element_size() <= _KEPT_BYTES:
                vars(_kept)[self._key] = self._memory
        return self._memory[:size].view(shape)


class TorchLoops:
    """Loops over tiles and rows for any float type and device; an object for each thread.

    :class:`relspace.kernels.compiled.loops.CompiledLoops` does the same in fewer passes, and
    :func:`relspace.kernels.backend.loops_for` chooses.
    """

    def __init__(self, like: torch.Tensor) -> None:
        self._scratch, self._other = Scratch(like, "scratch"), Scratch(like, "other")

    def half_squared(self, X: Cloud, Y: Cloud, out: torch.Tensor, *, on_diagonal: bool) -> None:
        """Write minus half the squared distance of each pair; of one set, symmetric with zeros."""
        block = out if out.is_contiguous() else self._scratch.of(*out.shape)
        fill_half_squared(block, X, Y)
        self._finish(block, out, on_diagonal)

    def half_squared_cosine(
        self, X: Cloud, Y: Cloud, out: torch.Tensor, *, on_diagonal: bool
    ) -> None:
        """Write minus half the squared cosine distance, (1 - x.y)^2 / 2, of unit vectors."""
        block = out if out.is_contiguous() else self._scratch.of(*out.shape)
        torch.mm(X.points, Y.points.T, out=block)
        block.sub_(1.0).clamp_max_(0.0).square_().mul_(-0.5)
        self._finish(block, out, on_diagonal)

    def _finish(self, block: torch.Tensor, out: torch.Tensor, on_diagonal: bool) -> None:
        if on_diagonal:
            _make_symmetric(block).fill_diagonal_(0.0)
        if block is not out:
            out.copy_(block)

    def moments(
        self, tile: torch.Tensor, factor: float, *, without_diagonal: bool
    ) -> tuple[float, ...]:
        """Sum 2^e e^k for k = 0 to 3 over e = factor * tile, without the diagonal if asked for."""
        exponent = torch.mul(tile, factor, out=self._scratch.of(*tile.shape))
        # Where a power underflows to 0 its exponent may be infinite; their product must be 0.
        exponent.clamp_min_(_UNDERFLOW)
        if without_diagonal:
            exponent.diagonal(dim1=-2, dim2=-1).fill_(_UNDERFLOW)
        power = torch.exp2(exponent, out=self._other.of(*tile.shape))
        sums = [float(power.sum())]
        for k in range(3):
            if k:
                power.mul_(exponent)
            sums.append(float(torch.dot(power.view(-1), exponent.view(-1))))
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
        """Write 2^(factor * tile) to ``out``, which may be the tile, and its transpose too."""
        block = torch.mul(tile, factor, out=self._scratch.of(*tile.shape)).exp2_()
        if on_diagonal:
            # A vectorised loop rounds its last numbers in another way.
            _make_symmetric(block)
        out.copy_(block)
        if mirrored is not None:
            mirrored.copy_(self._other.of(*block.T.shape).copy_(block.T))

    def place(
        self,
        rows: torch.Tensor,
        origin: torch.Tensor,
        unit: float,
        *,
        points: torch.Tensor,
        half_norms: torch.Tensor,
    ) -> None:
        """Write (row - origin) / unit, and half its squared norm."""
        torch.sub(rows, origin, out=points).div_(unit)
        norms = torch.linalg.vector_norm(points, dim=1)
        torch.mul(norms, norms, out=half_norms).div_(2)

    def affinities(self, points: Cloud, landmarks: Cloud, factor: float, out: torch.Tensor) -> None:
        """Write 2^(-factor |x - l|^2 / 2) of each point and landmark."""
        fill_half_squared(out, points, landmarks)
        out.mul_(factor).exp2_()

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
        """Turn affinities into relative rows, in place, see :func:`standardize_rows`.

        With ``pairs``, the arguments of :meth:`affinities`, these are computed first.
        """
        if pairs is not None:
            self.affinities(*pairs, rows)
        rows.sub_(profile.mean)
        if per_column is not None:
            rows.mul_(per_column)
        used = rows.new_full((len(rows), 1), rows.shape[1])
        own_entry = None
        if own is not None:
            item = (own >= 0).nonzero().flatten()
            own_entry = (item, own[item])
            rows[own_entry] = 0.0
            used[item] -= 1
        if whiten:
            assert profile.whitening is not None
            rows.copy_(rows @ profile.whitening)
            if own_entry is not None:
                rows[own_entry] = 0.0
        rows.sub_(rows.sum(dim=1, keepdim=True) / used)
        if own_entry is not None:
            rows[own_entry] = 0.0
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        rows.div_(torch.where(norms > 0, norms, torch.ones_like(norms)))


def _make_symmetric(tile: torch.Tensor) -> torch.Tensor:
    """Average a tile, in place, with its transpose, which differs by rounding."""
    return tile.add_(tile.T.clone(memory_format=torch.contiguous_format)).mul_(0.5)
