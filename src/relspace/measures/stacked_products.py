"""Sums of products of many sets over the same items, from which any two of them are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from relspace._blocks import memory_budget_bytes, row_slices
from relspace.errors import MemoryBudgetError
from relspace.execution.cluster_work import sum_on_cluster
from relspace.measures.cross_products import (
    CrossProducts,
    principal,
    read_finite,
    refuse_constant_sums,
)
from relspace.row_sources import RowSource

Progress = Callable[[str], None]

_LARGEST_BLOCK_BYTES = 2**27
_COPIES_OF_BLOCK = 3
# Products, those of a permutation, their axes, and what finding these takes.
_COPIES_OF_PRODUCTS = 5


@dataclass(frozen=True, eq=False)
class StackedProducts:
    r"""Sums over items of the products of all features of several sets, centred, in float64.

    Attributes
    ----------
    n_items : int
        Items summed over.
    widths : tuple of int
        How many features each set has.
    products : tensor of shape (w, w)
        :math:`Z^\top Z` of the sets side by side, w the sum of the widths.
    squares : tensor of shape (n_sets, n_sets)
        Sums of :math:`|x_i|^2 |y_i|^2` for sets x and y.
    """

    n_items: int
    widths: tuple[int, ...]
    products: torch.Tensor
    squares: torch.Tensor

    def pair(self, first: int, second: int) -> CrossProducts:
        """The products of two of the sets, by their numbers."""
        ends = list(accumulate(self.widths))
        x, y = (slice(ends[k] - self.widths[k], ends[k]) for k in (first, second))
        return CrossProducts(
            self.n_items,
            self.products[x, x],
            self.products[y, y],
            self.products[x, y],
            float(self.squares[first, first]),
            float(self.squares[second, second]),
            float(self.squares[first, second]),
        )

    def permutations(
        self, n_first: int, n_draws: int, generator: torch.Generator
    ) -> Iterator[StackedProducts]:
        r"""What random permutations of the items of the first few sets make of the products.

        One permutation is drawn for all pairs of sets, from the normal distribution that is the
        limit for many items (Hoeffding 1951), see :meth:`CrossProducts.permutations`.

        Parameters
        ----------
        n_first : int
            How many sets are permuted, together, against the others.
        n_draws : int
            How many permutations.
        generator : torch.Generator
            What they are drawn from.
        """
        width, k = sum(self.widths[:n_first]), n_first
        x, y = _root(self.products[:width, :width]), _root(self.products[width:, width:])
        ends = [0, *accumulate(self.widths)]
        diagonal = self.products.diagonal()
        traces = torch.stack([diagonal[a:b].sum() for a, b in pairwise(ends)])
        squares = self.squares.clone()
        # The spread of this sum is smaller than that of the others by the root of the items.
        squares[:k, k:] = traces[:k, None] * traces[k:] / self.n_items
        squares[k:, :k] = squares[:k, k:].T
        products = self.products.clone()
        for _ in range(n_draws):
            noise = torch.randn(x.shape[1], y.shape[1], dtype=torch.float64, generator=generator)
            products[:width, width:] = x @ noise @ y.T / (self.n_items - 1) ** 0.5
            products[width:, :width] = products[:width, width:].T
            yield StackedProducts(self.n_items, self.widths, products, squares)


def sum_stacked_products(
    sources: Sequence[RowSource],
    names: Sequence[str],
    *,
    memory_budget: int | None = None,
    client: Any | None = None,
    progress: Progress | None = None,
) -> StackedProducts:
    """Sum the products of sets in two passes over their rows: for the means, and centred.

    Parameters
    ----------
    sources : sequence of RowSource
        Features of the same items in the same order.
    names : sequence of str
        What an error calls them.
    memory_budget : int, optional
        Bytes that sums and blocks of rows may take; on a cluster, in each worker.
    client : distributed.Client, optional
        A cluster whose workers sum parts of the rows; they must reach files by the same paths.
    progress : callable, optional
        Called with a line of text as rows are read.

    Raises
    ------
    MemoryBudgetError
        If the sums themselves, of w x w numbers, don't fit.
    NonFiniteError
        If a row holds NaN or infinity.
    InvalidInputError
        If a set is constant.
    """
    n, widths = sources[0].shape[0], tuple(source.shape[1] for source in sources)
    budget = memory_budget_bytes(memory_budget)
    held = 8 * _COPIES_OF_PRODUCTS * sum(widths) ** 2
    if held > budget:
        raise MemoryBudgetError(
            f"the products of {sum(widths)} features in all need {held / 2**30:.1f} GiB and "
            f"{budget / 2**30:.1f} GiB may be used; compare fewer layers at a time, or a part of "
            "the items by max_items=10_000."
        )
    room = min(budget - held, _LARGEST_BLOCK_BYTES)
    sums = _Sums(tuple(sources), tuple(names), max(1, room))

    def add_up(means: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        what = "means" if means is None else "products"

        def tell(done: int) -> None:
            if progress is not None:
                progress(f"Summing {what}: {done} of {n} rows")

        if client is None:
            return sums(0, n, means, tell)
        return sum_on_cluster(sums, n, means, client, tell)

    total, magnitudes = add_up(None)
    products, squares = add_up(total / n)
    squares_of, means_of = (
        torch.split(one, list(widths)) for one in (products.diagonal(), magnitudes / n)
    )
    for source, name, of_square, of_mean in zip(sources, names, squares_of, means_of, strict=True):
        refuse_constant_sums(of_square, of_mean, n, source.dtype, name)
    return StackedProducts(n, widths, products, squares)


class _Sums:
    """Sums over some rows: what a worker of a cluster is given once."""

    def __init__(self, sources: tuple[RowSource, ...], names: tuple[str, ...], budget: int) -> None:
        self._sources, self._names, self._budget = sources, names, budget

    def __call__(
        self,
        start: int,
        stop: int,
        means: torch.Tensor | None,
        tell: Callable[[int], None] = lambda done: None,
    ) -> tuple[torch.Tensor, ...]:
        """Return sums and sums of magnitudes, or of products and of squares where means are known.

        Magnitudes tell what a mean is rounded by.
        """
        widths = [source.shape[1] for source in self._sources]
        width, k = sum(widths), len(widths)
        shapes = [(width,), (width,)] if means is None else [(width, width), (k, k)]
        first, second = (torch.zeros(shape, dtype=torch.float64) for shape in shapes)
        for rows in row_slices(stop - start, 8 * _COPIES_OF_BLOCK * width, self._budget):
            values = self._read(start + rows.start, start + rows.stop)
            if means is None:
                first += values.sum(dim=0)
                second += values.abs().sum(dim=0)
            else:
                values -= means
                first.addmm_(values.T, values)
                lengths = torch.stack(
                    [part.square().sum(dim=1) for part in torch.split(values, widths, dim=1)]
                )
                second.addmm_(lengths, lengths.T)
            tell(rows.stop)
        return first, second

    def _read(self, start: int, stop: int) -> torch.Tensor:
        named = zip(self._sources, self._names, strict=True)
        return torch.cat([read_finite(one, start, stop, name) for one, name in named], dim=1)


def _root(products: torch.Tensor) -> torch.Tensor:
    """Columns whose products with themselves, summed, are these."""
    axes, sizes = principal(products)
    return axes * sizes
