"""Symmetric matrices over pairs of items: centred, compared by their inner product, in tiles.

Most measures are the cosine of two such matrices. They differ in the entries and in the centring.
The tiles of a matrix that does not fit the memory budget are recomputed whenever they are needed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from relspace._core.arguments import check_choice
from relspace._core.memory import row_slices
from relspace._core.threads import on_one_core, side_by_side
from relspace.errors import MemoryBudgetError, UndefinedValueError
from relspace.kernels.frame import Cloud
from relspace.kernels.precision import full_precision
from relspace.kernels.tiles import Scratch, tile_side, tile_slices
from relspace.measures._measure import WIDE_FEATURES_LOOK_ALIKE, Measure, Range
from relspace.resampling import Permutations, ShiftFamily

Centering = Literal["none", "mean", "unbiased", "double"]
Index = slice | torch.Tensor

_ROWS_FOR_MEAN = 256
# Diagonals of all matrices that are transformed together fit a core's cache.
_BYTES_FOR_SPECTRA = 2**22
_LOTS_TOGETHER = 16


@dataclass(frozen=True)
class PairEntries:
    """Points of the items, and what writes the entries of the pairs of two clouds into a matrix.

    ``with_itself`` is the entry of an item with itself, which rounding must not change; None where
    it differs between items.
    """

    points: Cloud
    fill: Callable[[torch.Tensor, Cloud, Cloud], object]
    with_itself: float | None = None

    def tile(
        self,
        rows: Index,
        columns: Index,
        out: torch.Tensor | None = None,
        *,
        on_diagonal: bool = False,
    ) -> torch.Tensor:
        """The entries of some rows and columns, the same items if ``on_diagonal``."""
        x, y = self.points.rows(rows), self.points.rows(columns)
        if out is None:
            out = x.points.new_empty((len(x.points), len(y.points)))
        with full_precision():
            self.fill(out, x, y)
        if on_diagonal and self.with_itself is not None:
            out.fill_diagonal_(self.with_itself)
        return out


@dataclass(frozen=True)
class PairMatrix:
    """A centred symmetric matrix over pairs of items.

    The centred matrix is ``kept`` (n, n) where it fits the memory budget. Otherwise its tiles are
    computed from ``entries``, less ``offset[i] + offset[j]``. ``has_diagonal`` says whether pairs
    of an item with itself count. ``squared_norm`` is the sum of the squared centred entries,
    ``total`` and ``trace`` their sums over pairs of distinct items and over the diagonal.
    """

    entries: PairEntries | None
    kept: torch.Tensor | None
    offset: torch.Tensor
    has_diagonal: bool
    squared_norm: float
    total: float
    trace: float

    def __len__(self) -> int:
        return len(self.offset)

    def copy_tile(
        self, out: torch.Tensor, rows: Index, columns: Index, *, on_diagonal: bool
    ) -> None:
        """Write some rows and columns of the centred matrix into ``out``."""
        if self.kept is not None:
            chosen = rows if isinstance(rows, slice) else rows[:, None]
            out.copy_(self.kept[chosen, columns])
            return
        assert self.entries is not None
        if out.dtype == self.offset.dtype:
            tile = self.entries.tile(rows, columns, out, on_diagonal=on_diagonal)
        else:
            tile = self.entries.tile(rows, columns, on_diagonal=on_diagonal)
        tile.sub_(self.offset[rows][:, None]).sub_(self.offset[columns])
        if on_diagonal and not self.has_diagonal:
            tile.fill_diagonal_(0.0)
        if tile is not out:
            out.copy_(tile)


@dataclass(frozen=True)
class _SumsOfTile:
    rows: torch.Tensor
    columns: torch.Tensor
    squares: float
    trace: float


def pair_matrix(
    entries: PairEntries, centering: Centering, name: str, memory_budget: int
) -> PairMatrix:
    """Centre a matrix over pairs, and keep it if it fits the memory budget.

    ``"mean"`` subtracts the mean over distinct pairs. ``"unbiased"`` is the U-centring of Székely
    and Rizzo (2014), whose inner products are the unbiased estimator of HSIC (Song et al. 2012) up
    to a factor. ``"double"`` subtracts the means of rows and columns, and is the only one that
    counts pairs of an item with itself. ``"none"`` leaves the matrix as it is.
    """
    points = entries.points.points
    n, dtype, device = len(points), points.dtype, points.device
    has_diagonal = centering == "double"
    kept = None
    if n * n * points.element_size() <= memory_budget:
        kept = points.new_empty((n, n))
    # Sums of values around 0 lose nothing to rounding; the exact mean follows from them.
    provisional = 0.0 if centering == "none" else _typical_entry(entries)
    tiles = list(tile_slices(n, None, side=tile_side(device)))

    def make() -> Callable[[tuple[slice, slice]], _SumsOfTile]:
        scratch = Scratch(entries.points.points)

        def work(slices: tuple[slice, slice]) -> _SumsOfTile:
            rows, columns = slices
            out = scratch.of(rows.stop - rows.start, columns.stop - columns.start)
            tile = entries.tile(rows, columns, out, on_diagonal=rows == columns)
            tile.sub_(provisional)
            trace = 0.0
            if rows == columns and has_diagonal:
                trace = float(tile.diagonal().sum(dtype=torch.float64))
            elif rows == columns:
                tile.fill_diagonal_(0.0)
            if kept is not None:
                kept[rows, columns] = tile
                if rows != columns:
                    kept[columns, rows] = tile.T
            flat = tile.flatten()
            return _SumsOfTile(
                tile.sum(dim=1).double(), tile.sum(dim=0).double(), float(flat @ flat), trace
            )

        return work

    sums = side_by_side(make, tiles, device)
    row_sums = torch.zeros(n, dtype=torch.float64, device=device)
    squares = trace = 0.0
    for (rows, columns), of_tile in zip(tiles, sums, strict=True):
        row_sums[rows] += of_tile.rows
        if rows != columns:
            row_sums[columns] += of_tile.columns
        squares += (1 if rows == columns else 2) * of_tile.squares
        trace += of_tile.trace
    offset, squared_norm = _center(row_sums, squares, centering)
    scale = squares + n * n * provisional**2
    if not squared_norm > (16 * torch.finfo(dtype).eps) ** 2 * scale:
        raise nothing_to_compare(name)
    if kept is not None:
        kept.sub_(offset.to(dtype)[:, None]).sub_(offset.to(dtype))
        if not has_diagonal:
            kept.fill_diagonal_(0.0)
    n_pairs = n * n if has_diagonal else n * (n - 1)
    shift = 2 * float(offset.sum())
    total = float(row_sums.sum()) - n_pairs / n * shift
    trace = trace - shift if has_diagonal else 0.0
    return PairMatrix(
        entries=entries if kept is None else None,
        kept=kept,
        offset=(offset + provisional / 2).to(dtype),
        has_diagonal=has_diagonal,
        squared_norm=squared_norm,
        total=total - trace,
        trace=trace,
    )


def nothing_to_compare(name: str) -> UndefinedValueError:
    """The error that all pairs of items of a set are equally alike."""
    return UndefinedValueError(
        f"all pairs of items of {name} are equally alike to within rounding, so there is no "
        "structure to compare; give other items or features."
    )


def kept_pair_matrix(matrix: torch.Tensor, name: str) -> PairMatrix:
    """Wrap a matrix that is centred already, with zeros on its diagonal."""
    squared_norm = float(matrix.square().sum(dtype=torch.float64))
    if squared_norm == 0.0:
        raise nothing_to_compare(name)
    total = float(matrix.sum(dtype=torch.float64))
    offset = matrix.new_zeros(len(matrix))
    return PairMatrix(None, matrix, offset, False, squared_norm, total, 0.0)


def _typical_entry(entries: PairEntries) -> float:
    """Mean entry over the pairs of a few items spread evenly."""
    n = len(entries.points.points)
    some = slice(None, None, max(1, -(-n // _ROWS_FOR_MEAN)))
    tile = entries.tile(some, some).fill_diagonal_(0.0)
    return float(tile.sum(dtype=torch.float64)) / (len(tile) * (len(tile) - 1))


def _center(
    row_sums: torch.Tensor, squares: float, centering: Centering
) -> tuple[torch.Tensor, float]:
    """Offsets of rows, and the squared norm that is left when they are subtracted."""
    n, total = len(row_sums), float(row_sums.sum())
    if centering == "none":
        return torch.zeros_like(row_sums), squares
    if centering == "mean":
        mean = total / (n * (n - 1))
        return torch.full_like(row_sums, mean / 2), squares - total * mean
    of_rows = float(row_sums.square().sum())
    if centering == "double":
        offset = row_sums / n - total / (2 * n * n)
        return offset, squares - 2 * of_rows / n + (total / n) ** 2
    offset = row_sums / (n - 2) - total / (2 * (n - 1) * (n - 2))
    return offset, squares - 2 * of_rows / (n - 2) + total**2 / ((n - 1) * (n - 2))


@full_precision()
def inner_products(
    A: Sequence[PairMatrix], B: Sequence[PairMatrix], permutation: torch.Tensor | None = None
) -> torch.Tensor:
    """Inner products (len(A), len(B)) of matrices, rows and columns of A permuted, in float64."""
    n, device = len(A[0]), A[0].offset.device
    dtype = torch.promote_types(A[0].offset.dtype, B[0].offset.dtype)

    def make() -> Callable[[tuple[slice, slice]], torch.Tensor]:
        of_left, of_right = (Scratch(A[0].offset.to(dtype)) for _ in range(2))

        def work(slices: tuple[slice, slice]) -> torch.Tensor:
            rows, columns = slices
            on_diagonal = rows == columns
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            theirs = of_right.of(len(B), *shape)
            for out, b in zip(theirs, B, strict=True):
                b.copy_tile(out, rows, columns, on_diagonal=on_diagonal)
            taken: tuple[Index, Index] = slices
            if permutation is not None:
                taken = (permutation[rows], permutation[columns])
            ours = of_left.of(*shape)
            products = []
            for a in A:
                a.copy_tile(ours, *taken, on_diagonal=on_diagonal)
                products.append(theirs.flatten(1) @ ours.flatten())
            return torch.stack(products).double() * (1 if on_diagonal else 2)

        return work

    tiles = list(tile_slices(n, None, side=tile_side(device)))

    def sums() -> torch.Tensor:
        return torch.stack(side_by_side(make, tiles, device)).sum(dim=0)

    return on_one_core(sums, device) if len(tiles) == 1 else sums()


def shifted_inner_products(
    A: Sequence[PairMatrix], B: Sequence[PairMatrix], family: ShiftFamily
) -> torch.Tensor:
    r"""Inner products under every permutation of a family, by Fourier transforms of the diagonals.

    Along the ring, the diagonals :math:`a_\delta(k) = A_{k, k+\delta}` of the matrices are
    sequences that a shift of the items shifts, so all shifts together are a cross-correlation:

    .. math:: \langle A_s, B \rangle = \sum_\delta \sum_k a_\delta(k + s) \, b_\delta(k)

    at the cost of n/2 transforms of length n for each matrix: both matrices are symmetric, so the
    diagonals delta and -delta contribute the same. The result is (n_permutations, len(A), len(B)).
    """
    n, device = len(A[0]), A[0].offset.device
    order, relabelled = family.order.to(device), family.relabelled.to(device)
    numbers = torch.arange(n, device=device)

    def of_gaps(lot: slice) -> torch.Tensor:
        gaps = numbers[lot]
        far = (numbers + gaps[:, None]) % n
        weight = torch.full((len(gaps), 1), 2.0, device=device)
        weight[(gaps == 0) | (2 * gaps == n)] = 1.0
        left = [torch.fft.rfft(_diagonals(a, relabelled, far)) for a in A]
        right = [torch.fft.rfft(_diagonals(b, order, far)).conj() * weight for b in B]
        products = [(a * b).sum(dim=0) for a in left for b in right]
        return torch.stack(products).to(torch.complex128).view(len(A), len(B), -1)

    lots = list(row_slices(n // 2 + 1, 8 * n * (len(A) + len(B)), _BYTES_FOR_SPECTRA))

    def of_all_shifts() -> torch.Tensor:
        shape = (len(A), len(B), n // 2 + 1)
        spectrum = torch.zeros(shape, dtype=torch.complex128, device=device)
        for start in range(0, len(lots), _LOTS_TOGETHER):
            some = lots[start : start + _LOTS_TOGETHER]
            for of_lot in side_by_side(lambda: of_gaps, some, device):
                spectrum += of_lot
        values: torch.Tensor = torch.fft.irfft(spectrum, n=n)
        return values

    values = on_one_core(of_all_shifts, device) if len(lots) == 1 else of_all_shifts()
    return values[:, :, family.shifts.to(device)].permute(2, 0, 1)


def _diagonals(matrix: PairMatrix, order: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
    assert matrix.kept is not None
    # One flat gather, twice as fast as indexing by two tensors.
    flat = order * len(order)
    return matrix.kept.flatten()[flat + order[far]]


@dataclass(frozen=True, kw_only=True, repr=False)
class InnerProductMeasure(Measure):
    """A measure that is the normalised inner product of two centred matrices over pairs."""

    def _size(self, x: PairMatrix, y: PairMatrix) -> float:
        """What inner products are divided by."""
        return float((x.squared_norm * y.squared_norm) ** 0.5)

    def from_factors(
        self, x: PairMatrix, y: PairMatrix, permutation: torch.Tensor | None = None
    ) -> float:
        return float(self.table([x], [y], permutation))

    def table(
        self,
        x: Sequence[PairMatrix],
        y: Sequence[PairMatrix],
        permutation: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return self._normalized(inner_products(x, y, permutation).cpu(), x, y)

    def null_table(
        self,
        x: Sequence[PairMatrix],
        y: Sequence[PairMatrix],
        family: Permutations,
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> torch.Tensor:
        if not isinstance(family, ShiftFamily) or any(one.kept is None for one in (*x, *y)):
            return super().null_table(x, y, family, on_progress=on_progress)
        values = self._normalized(shifted_inner_products(x, y, family).cpu(), x, y)
        if on_progress is not None:
            on_progress(len(values))
        return values

    def pooled(self, factors: Sequence[Any]) -> PairMatrix | None:
        whole = [one.kept for one in factors if isinstance(one, PairMatrix)]
        matrices = [one for one in whole if one is not None]
        if len(matrices) < len(factors):
            raise MemoryBudgetError(
                f"the mean of {len(factors)} sets needs their matrices over pairs of "
                f"{len(factors[0])} items as a whole, which don't fit into memory.",
                ways_out=[
                    "compare a random part of the items by {max_items}",
                    "leave the ceiling out: {ceiling=False}",
                ],
            )
        mean = torch.zeros_like(matrices[0], dtype=torch.float64)
        for matrix, of in zip(matrices, factors, strict=True):
            mean += matrix.to(torch.float64) / (of.squared_norm**0.5 * len(factors))
        has_diagonal: bool = factors[0].has_diagonal
        trace = float(mean.trace()) if has_diagonal else 0.0
        return PairMatrix(
            entries=None,
            kept=mean,
            offset=mean.new_zeros(len(mean)),
            has_diagonal=has_diagonal,
            squared_norm=float(mean.square().sum()),
            total=float(mean.sum()) - trace,
            trace=trace,
        )

    def expected_by_chance(self, x: PairMatrix, y: PairMatrix) -> float:
        n = len(x)
        # Over all permutations every pair meets every other one equally often.
        mean = x.total * y.total / (n * (n - 1)) + x.trace * y.trace / n
        return mean / self._size(x, y)

    def _normalized(
        self, products: torch.Tensor, x: Sequence[PairMatrix], y: Sequence[PairMatrix]
    ) -> torch.Tensor:
        sizes = torch.tensor([[self._size(a, b) for b in y] for a in x], dtype=torch.float64)
        # Rounding may bring a set compared with itself a little above 1.
        return (products / sizes).clamp(*self.range)


@dataclass(frozen=True, kw_only=True, repr=False)
class PairMeasure(InnerProductMeasure):
    """The same of matrices whose entries are made in tiles, of two items each."""

    @property
    @abstractmethod
    def _centering(self) -> Centering:
        """How the matrices are centred."""

    @abstractmethod
    def _entries(self, X: torch.Tensor, name: str) -> PairEntries:
        """The matrix over pairs of the items of one set, before centring."""

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> PairMatrix:
        return pair_matrix(self._entries(X, name), self._centering, name, memory_budget)


@dataclass(frozen=True, kw_only=True, repr=False)
class EstimatedMeasure(PairMeasure):
    """A measure of pairs with an unbiased and a biased estimator.

    Attributes
    ----------
    estimator : "unbiased" or "biased"
        With the unbiased one unrelated features give 0 on average; with the biased one more, up to
        1 where features are many and items few.
    """

    estimator: Literal["unbiased", "biased"] = "unbiased"

    def __post_init__(self) -> None:
        check_choice(self.estimator, "estimator", ("unbiased", "biased"))

    @property
    def range(self) -> Range:
        return (-1.0, 1.0) if self.estimator == "unbiased" else (0.0, 1.0)

    @property
    def chance(self) -> str:
        return "0" if self.estimator == "unbiased" else WIDE_FEATURES_LOOK_ALIKE

    @property
    def _centering(self) -> Centering:
        return "unbiased" if self.estimator == "unbiased" else "double"
