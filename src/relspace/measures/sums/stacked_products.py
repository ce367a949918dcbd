"""Sums of products of many sets over the same items, from which any two of them are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch

from relspace._core.memory import memory_budget_bytes, say_bytes
from relspace._core.progress import Listener
from relspace.errors import MemoryBudgetError
from relspace.measures.sums.cross_products import CrossProducts, SetProducts
from relspace.measures.sums.folded_products import FoldedSet, Folds
from relspace.measures.sums.item_parts import Parts
from relspace.measures.sums.item_sums import sum_over_items
from relspace.rows.source import RowSource


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
    folds : FoldedSet or None
        The products by folds, where there are some.
    """

    n_items: int
    widths: tuple[int, ...]
    products: torch.Tensor
    squares: torch.Tensor
    folds: FoldedSet | None = None

    def pair(self, first: int, second: int) -> CrossProducts:
        """The products of two of the sets, by their numbers."""
        x, y = self.columns([first]), self.columns([second])
        folds = None
        if self.folds is not None:
            of_x, of_y = self._folded_sets[first], self._folded_sets[second]
            folds = Folds(of_x, of_y, self.folds.products[:, x, y])
        return CrossProducts(
            self.n_items,
            self._sets[first],
            self._sets[second],
            self.products[x, y],
            float(self.squares[first, second]),
            folds,
        )

    def columns(self, sets: Sequence[int]) -> slice:
        """Where the features of consecutive sets lie."""
        edges = [0, *accumulate(self.widths)]
        return slice(edges[sets[0]], edges[sets[-1] + 1])

    @cached_property
    def _sets(self) -> tuple[SetProducts, ...]:
        slices = [self.columns([k]) for k in range(len(self.widths))]
        squares = self.squares.diagonal().tolist()
        return tuple(
            SetProducts(self.products[one, one], own)
            for one, own in zip(slices, squares, strict=True)
        )

    @cached_property
    def _folded_sets(self) -> tuple[FoldedSet, ...]:
        assert self.folds is not None
        return tuple(self.folds.columns(self.columns([k])) for k in range(len(self.widths)))

    def permutations(
        self, first: range, second: range, generator: torch.Generator
    ) -> Callable[[], PermutedProducts]:
        r"""Draw what random permutations of the items make of the products of sets with others.

        Over permutations, :math:`X^\top P Y` has mean 0 and covariance
        :math:`X^\top X \otimes Y^\top Y / (n - 1)`, and where items are many its distribution is
        normal (Hoeffding 1951): no item need be read again. One permutation is drawn for all pairs.
        Where there are folds, items are permuted within each of them: this holds of every fold.

        Parameters
        ----------
        first, second : range
            Numbers of the sets that are permuted, together, and of those they are paired with.
        generator : torch.Generator
            What they are drawn from.

        Returns
        -------
        callable
            Draws one permutation.
        """
        # Without folds all items are one, about whose mean sums are 0.
        folds = self.folds or FoldedSet(
            self.products.new_tensor([self.n_items]),
            self.products.new_zeros(1, len(self.products)),
            self.products[None],
        )
        x, y = (folds.columns(self.columns(sets)) for sets in (first, second))
        roots_x = x.roots()
        roots_y = roots_x if second == first else y.roots()

        def draw() -> PermutedProducts:
            by_fold = x.sums.new_empty(len(folds.sizes), x.sums.shape[1], y.sums.shape[1])
            # One fold after the other, for these are the largest matrices there are.
            for k, (out, size) in enumerate(zip(by_fold, folds.sizes.tolist(), strict=True)):
                shape = roots_x[k].shape[1], roots_y[k].shape[1]
                noise = torch.randn(shape, dtype=torch.float64, generator=generator)
                torch.mm(roots_x[k] @ noise, roots_y[k].T, out=out)
                out.div_((size - 1) ** 0.5).addr_(x.sums[k], y.sums[k], alpha=1 / size)
            both = by_fold[0] if len(by_fold) == 1 else by_fold.sum(dim=0)
            return PermutedProducts(
                self, first, second, both, None if self.folds is None else by_fold
            )

        return draw


@dataclass(frozen=True, eq=False)
class PermutedProducts:
    """Products of some sets with others whose items are permuted.

    Attributes
    ----------
    stack : StackedProducts
        The sets.
    first, second : range
        Their numbers.
    both : tensor of shape (d, e)
        Products of all features of the first sets with all those of the second.
    by_fold : tensor of shape (n_folds, d, e) or None
        The same by folds, where there are some: items are permuted within them.
    """

    stack: StackedProducts
    first: range
    second: range
    both: torch.Tensor
    by_fold: torch.Tensor | None

    def pair(self, first: int, second: int) -> CrossProducts:
        """The products of one of the first sets with one of the second, by their numbers."""
        sets = self.stack.pair(first, second)
        x, y = self._columns(self.first, first), self._columns(self.second, second)
        traces = sets.x.trace, sets.y.trace
        folds = sets.folds
        if folds is not None and self.by_fold is not None:
            folds = replace(folds, both=self.by_fold[:, x, y])
        return replace(
            sets,
            both=self.both[x, y],
            # The spread of this sum is smaller than that of the others by the root of the items.
            squares=traces[0] * traces[1] / sets.n_items,
            folds=folds,
        )

    def _columns(self, sets: range, one: int) -> slice:
        own, before = self.stack.columns([one]), self.stack.columns(sets).start
        return slice(own.start - before, own.stop - before)


def sum_stacked_products(
    sources: Sequence[RowSource],
    names: Sequence[str],
    *,
    folds: Parts | None = None,
    permuted: Sequence[tuple[range, range]] | None = None,
    copies_for_pair: int = 0,
    memory_budget: int | None = None,
    client: Any | None = None,
    progress: Listener | None = None,
) -> StackedProducts:
    """Sum the products of sets in one pass over their rows.

    Parameters
    ----------
    sources : sequence of RowSource
        Features of the same items in the same order.
    names : sequence of str
        What an error calls them.
    folds : Parts, optional
        Parts of the items that are summed apart.
    permuted : sequence of (range, range), optional
        Numbers of the sets that will be permuted, together, and of those they are paired with, one
        such block after the other; by default the first set, against all others.
    copies_for_pair : int
        What comparing two of the sets takes, see :attr:`Measure.copies_of_products`.
    memory_budget : int, optional
        Bytes that sums, what is made of them and blocks of rows may take; on a cluster, in each
        worker.
    client : distributed.Client, optional
        A cluster whose workers sum parts of the rows; they must reach files by the same paths.
    progress : callable, optional
        Told ``(done, total, text)`` as rows are read.

    Raises
    ------
    MemoryBudgetError
        If the sums themselves, of w x w numbers, don't fit.
    NonFiniteError
        If a row holds NaN or infinity.
    InvalidInputError
        If a set is constant.
    """
    widths = tuple(source.shape[1] for source in sources)
    budget = memory_budget_bytes(memory_budget)
    held = bytes_of_stack(
        widths,
        0 if folds is None else folds.n_parts,
        permuted or [(range(1), range(1, len(widths)))],
        copies_for_pair,
    )
    if held > budget:
        raise MemoryBudgetError(
            f"the products of {sum(widths)} features in all, and what is made of them, need "
            f"{say_bytes(held)} and {say_bytes(budget)} may be used.",
            ways_out=[
                "compare fewer layers at a time",
                "raise {memory_budget}",
                "compare a part of the items by {max_items=10_000}",
            ],
        )
    sums = sum_over_items(
        sources, names, folds, block_bytes=budget - held, client=client, progress=progress
    )
    return centered_stack(sums, widths)


def bytes_of_stack(
    widths: Sequence[int],
    n_folds: int,
    permuted: Sequence[tuple[range, range]],
    copies_for_pair: int,
) -> int:
    """What the products of sets take, with their permutations and what any two are compared by."""
    known = sum(widths) + len(widths) + 1
    pair = copies_for_pair * sum(sorted(widths)[-2:]) ** 2
    of_block = 0
    for sets in permuted:
        first, second = (sum(widths[k] for k in one) for one in sets)
        # Permuted products, noise and steps between them, for all items and for each fold.
        drawn = (4 + n_folds) * first * second
        # Roots of the products, by fold; finding the axes of the last takes copies.
        roots = max(1, n_folds) * (first**2 + second**2)
        of_block = max(of_block, roots + max(drawn + pair, 6 * max(first, second) ** 2))
    # Axes of every set; those without each fold, and products on them.
    axes = (1 + 3 * n_folds) * sum(width**2 for width in widths)
    return 8 * ((1 + n_folds) * known**2 + axes + of_block)


def centered_stack(sums: torch.Tensor, widths: tuple[int, ...]) -> StackedProducts:
    """Move sums over items, by folds where there are several, to the mean; they are overwritten."""
    total = sums[0] if len(sums) == 1 else sums.sum(dim=0)
    width, n = sum(widths), float(total[-1, -1])
    mean = total[-1, :width] / n
    # The squared lengths about the mean, as a function of what was summed.
    lengths = torch.zeros(len(total), len(widths), dtype=torch.float64)
    edges = [0, *accumulate(widths)]
    for k, (a, b) in enumerate(pairwise(edges)):
        lengths[a:b, k] = -2 * mean[a:b]
        lengths[width + k, k] = 1.0
        lengths[-1, k] = mean[a:b].square().sum()
    squares = lengths.T @ total @ lengths
    folds = None
    if len(sums) > 1:
        sizes = sums[:, -1, -1].clone()
        for one in sums:
            _move(one[:width, :width], one[-1, :width], mean, float(one[-1, -1]))
        by_fold = sums[:, -1, :width] - sizes[:, None] * mean
        folds = FoldedSet(sizes, by_fold, sums[:, :width, :width])
    products = total[:width, :width]
    _move(products, total[-1, :width], mean, n)
    return StackedProducts(round(n), widths, products, squares, folds)


def _move(products: torch.Tensor, sums: torch.Tensor, mean: torch.Tensor, n: float) -> None:
    """Take the products of some items about another mean."""
    products.addr_(sums, mean, alpha=-1).addr_(mean, sums, alpha=-1).addr_(mean, mean, alpha=n)
