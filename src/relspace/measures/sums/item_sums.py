"""Sums over items of products of the features of several sets: one pass over their rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from relspace._core.arrays import refuse_non_finite
from relspace._core.matrices import smallest_exact
from relspace._core.memory import row_slices
from relspace._core.progress import Listener
from relspace.errors import InvalidInputError, UndefinedValueError
from relspace.kernels.scale import exponent_of, largest_magnitude, times_power_of_two
from relspace.measures.sums.item_parts import Parts
from relspace.rows.ahead import read_ahead
from relspace.rows.cluster import sum_on_cluster
from relspace.rows.source import RowSource

# Fourth powers of numbers up to 2^100 are far from the largest and the smallest float.
_SAFE_EXPONENT = 100
_LARGEST_BLOCK_BYTES = 2**27
_COPIES_OF_BLOCK = 4
_SAMPLES_FOR_CENTRE = 8
_ROWS_OF_SAMPLE = 32


@dataclass(frozen=True, eq=False)
class ItemSums:
    r"""Sums over the items of each part, in float64.

    ``products`` (n_parts, w + n_sets + 1, w + n_sets + 1) are those of :math:`z_i z_i^\top`, first
    the features of all sets, then their squared lengths, then 1; ``widths`` are those of the sets.
    Each set is 2^exponent times as large as it is here. ``varying`` (w,) are the features that
    differ between items by more than rounding, ``constant`` the numbers of the sets that have none,
    and why they have no values.
    """

    products: torch.Tensor
    widths: tuple[int, ...]
    exponents: tuple[int, ...]
    varying: torch.Tensor
    constant: dict[int, UndefinedValueError]


def sum_over_items(
    sources: Sequence[RowSource],
    names: Sequence[str],
    parts: Parts | None,
    *,
    block_bytes: int,
    client: Any | None = None,
    progress: Listener | None = None,
) -> ItemSums:
    r"""Sum the products of :math:`z_i = (x_i, |x_i|^2, 1)`, the features of all sets side by side.

    Features are taken about a centre near their mean, so that centring the sums loses no digits.
    Sets of very large or small numbers are divided by a power of two, so that products neither
    overflow nor underflow; measures don't depend on a set's scale.

    Parameters
    ----------
    sources : sequence of RowSource
        Features of the same items in the same order, w in all.
    names : sequence of str
        The names of the sets in errors.
    parts : Parts or None
        Which items are summed together; all of them by default.
    block_bytes : int
        Bytes that a block of rows may take.
    client : distributed.Client, optional
        A cluster whose workers sum parts of the rows; they must reach files by the same paths.
    progress : callable, optional
        Told ``(done, total, text)`` as rows are read.

    Returns
    -------
    ItemSums
        The sums; sets of very large or small numbers in units of their own.

    Raises
    ------
    NonFiniteError
        If a row holds NaN or infinity.
    InvalidInputError
        If the features of a set span more than floats can square.
    """
    n = sources[0].shape[0]
    some = [_some_rows(source) for source in sources]
    exponents = tuple(_exponent_of_unit(rows) for rows in some)
    centre = torch.cat(
        [
            times_power_of_two(rows, -exponent).mean(dim=0)
            for rows, exponent in zip(some, exponents, strict=True)
        ]
    )
    # The workers of a cluster have other parts to work on while they read.
    ahead = client is None and {source.lies_in for source in sources} == {"files"}
    room = min(block_bytes, _LARGEST_BLOCK_BYTES)
    sums = _Sums(tuple(sources), tuple(names), exponents, parts, room, ahead=ahead)

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, n, "Summing products of rows")

    if client is None:
        (total,) = sums(0, n, centre, tell)
    else:
        (total,) = sum_on_cluster(sums, n, centre, client, tell)
    for a, b in pairwise(_edges(sources)):
        total[:, b:, a:b] = total[:, a:b, b:].mT
    over_parts = total.sum(dim=0)
    _refuse_what_floats_do_not_hold(over_parts, exponents, sources, names)
    varying = _varying(over_parts, centre, sources)
    constant = {
        k: constant_features(names[k])
        for k, (a, b) in enumerate(pairwise(_edges(sources)[:-1]))
        if not bool(varying[a:b].any())
    }
    widths = tuple(source.shape[1] for source in sources)
    return ItemSums(total, widths, exponents, varying, constant)


class _Sums:
    """Sums over some rows; sent to the workers of a cluster once."""

    def __init__(
        self,
        sources: tuple[RowSource, ...],
        names: tuple[str, ...],
        exponents: tuple[int, ...],
        parts: Parts | None,
        block_bytes: int,
        *,
        ahead: bool,
    ) -> None:
        self._sources, self._names, self._ahead = sources, names, ahead
        self._exponents = exponents
        self._parts, self._block_bytes = parts, max(1, block_bytes)

    def __call__(
        self,
        start: int,
        stop: int,
        centre: torch.Tensor,
        tell: Callable[[int], None] = lambda done: None,
    ) -> tuple[torch.Tensor]:
        """Sum some rows by part: the blocks on the diagonal and above."""
        edges = _edges(self._sources)
        n_parts = 1 if self._parts is None else self._parts.n_parts
        sums = torch.zeros(n_parts, edges[-1], edges[-1], dtype=torch.float64)

        def read(rows: slice) -> torch.Tensor:
            return self._read(start + rows.start, start + rows.stop, centre)

        blocks = row_slices(stop - start, 8 * _COPIES_OF_BLOCK * edges[-1], self._block_bytes)
        with closing(read_ahead(read, blocks, ahead=self._ahead)) as known_of:
            for rows, known in known_of:
                by_part: Sequence[torch.Tensor] = [known]
                if self._parts is not None:
                    part_of = self._parts(start + rows.start, start + rows.stop)
                    by_part = _split(known, part_of, n_parts)
                for total, of_part in zip(sums, by_part, strict=True):
                    for a, b in pairwise(edges):
                        total[a:b, a:].addmm_(of_part[:, a:b].T, of_part[:, a:])
                tell(rows.stop)
        return (sums,)

    def _read(self, start: int, stop: int, centre: torch.Tensor) -> torch.Tensor:
        """Features of some items about the centre, their squared lengths, and 1."""
        edges = _edges(self._sources)
        known = torch.ones(stop - start, edges[-1], dtype=torch.float64)
        for k, (source, name) in enumerate(zip(self._sources, self._names, strict=True)):
            features = known[:, edges[k] : edges[k + 1]]
            rows = source.read(start, stop).to("cpu", torch.float64)
            refuse_non_finite(rows, name, first_row=start)
            features.copy_(times_power_of_two(rows, -self._exponents[k]))
            features -= centre[edges[k] : edges[k + 1]]
            known[:, len(centre) + k] = features.square().sum(dim=1)
        return known


def _edges(sources: Sequence[RowSource]) -> list[int]:
    """The first column of each set, that of the squared lengths, and the number of columns."""
    ends = [0, *accumulate(source.shape[1] for source in sources)]
    return [*ends, ends[-1] + len(sources) + 1]


def _split(known: torch.Tensor, part_of: torch.Tensor, n_parts: int) -> tuple[torch.Tensor, ...]:
    counts = part_of.bincount(minlength=n_parts).tolist()
    return torch.split(known[part_of.argsort(stable=True)], counts)


def _some_rows(source: RowSource) -> torch.Tensor:
    """Some rows at evenly spread positions, in float64."""
    n = source.shape[0]
    last = max(0, n - _ROWS_OF_SAMPLE)
    starts = sorted(
        {last * number // (_SAMPLES_FOR_CENTRE - 1) for number in range(_SAMPLES_FOR_CENTRE)}
    )
    read = [source.read(start, min(n, start + _ROWS_OF_SAMPLE)) for start in starts]
    # Rows that are not finite are refused later, the first of them first.
    return torch.cat(read).to("cpu", torch.float64).nan_to_num(0.0, 0.0, 0.0)


def _exponent_of_unit(rows: torch.Tensor) -> int:
    """The exponent of the power of two that rows are divided by, 0 for ordinary numbers."""
    exponent = exponent_of(largest_magnitude(rows))
    return exponent if abs(exponent) > _SAFE_EXPONENT else 0


def _refuse_what_floats_do_not_hold(
    sums: torch.Tensor, exponents: Sequence[int], sources: Sequence[RowSource], names: Sequence[str]
) -> None:
    """Refuse sets whose products overflow, or whose numbers are so small that they lose digits."""
    edges, n = _edges(sources), float(sums[-1, -1])
    for k, (source, name) in enumerate(zip(sources, names, strict=True)):
        squares = float(sums.diagonal()[edges[k] : edges[k + 1]].sum()) / n
        # Squared lengths are squared and summed too.
        if not bool(sums.diagonal()[edges[len(sources)] + k].isfinite()):
            raise InvalidInputError(
                f"the features of {name} span more than floats can square twice: some rows lie "
                "beyond 1e76 times others; remove these outliers."
            )
        if not source.dtype.is_floating_point or squares == 0.0:
            continue
        smallest = smallest_exact(source.dtype)
        size = exponents[k] + exponent_of(math.sqrt(squares))
        if max(exponents[k], size) < exponent_of(smallest):
            kind = str(source.dtype).removeprefix("torch.")
            raise InvalidInputError(
                f"the features of {name} are below {smallest:.2g}, where {kind} loses digits: "
                "multiply them by a large number while they have more of them, before they are "
                "converted."
            )


def _varying(
    sums: torch.Tensor, centre: torch.Tensor, sources: Sequence[RowSource]
) -> torch.Tensor:
    """The features (w,) that differ between items by more than rounding."""
    n, of_features = sums[-1, -1], sums[-1, : len(centre)]
    squares = sums.diagonal()[: len(centre)] - of_features.square() / n
    sizes = (centre + of_features / n).abs()
    dtypes = (one.dtype if one.dtype.is_floating_point else torch.float64 for one in sources)
    rounding = torch.cat(
        [
            4 * torch.finfo(dtype).eps * sizes[a:b]
            for dtype, (a, b) in zip(dtypes, pairwise(_edges(sources)[:-1]), strict=True)
        ]
    )
    return squares > n * rounding.square()


def constant_features(name: str) -> UndefinedValueError:
    """The error that all rows of a set are the same."""
    return UndefinedValueError(
        f"{name} is constant: all its rows are the same to within rounding, so there is "
        "nothing to compare; check where these features come from."
    )
