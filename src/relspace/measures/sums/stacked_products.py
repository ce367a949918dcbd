"""Sums of products of many sets over the same items, from which any two of them are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch

from relspace._core.memory import say_bytes
from relspace._core.progress import Listener
from relspace._core.resources import Resources
from relspace.errors import MemoryBudgetError, UndefinedValueError
from relspace.measures.sums.cross_products import CrossProducts, SetProducts, over_folds
from relspace.measures.sums.item_parts import Parts
from relspace.measures.sums.item_sums import ItemSums, sum_over_items
from relspace.rows.source import RowSource


@dataclass(frozen=True, eq=False)
class StackedProducts:
    """Several sets over the same items, side by side.

    ``whole`` are the products of all their features, w in all. ``squares`` (n_sets, n_sets) are the
    sums of |x_i|^2 |y_i|^2 for sets x and y. Each set is 2^exponent times as large as it is here.
    ``constant`` are the sets whose rows are all the same.
    """

    widths: tuple[int, ...]
    whole: SetProducts
    squares: torch.Tensor
    exponents: tuple[int, ...]
    constant: Mapping[int, UndefinedValueError]

    @property
    def products(self) -> torch.Tensor:
        """Z'Z (w, w) of the sets side by side, over all items."""
        return self.whole.products

    def pair(self, first: int, second: int) -> CrossProducts:
        """The products of two of the sets, by their numbers."""
        by_fold = self.whole.by_fold[:, self.columns([first]), self.columns([second])]
        squares = float(self.squares[first, second])
        return CrossProducts(self._sets[first], self._sets[second], by_fold, squares)

    def columns(self, sets: Sequence[int]) -> slice:
        """The columns of consecutive sets."""
        edges = [0, *accumulate(self.widths)]
        return slice(edges[sets[0]], edges[sets[-1] + 1])

    @cached_property
    def _sets(self) -> tuple[SetProducts, ...]:
        own = zip(self.squares.diagonal().tolist(), self.exponents, strict=True)
        return tuple(self.whole.columns(self.columns([k]), *one) for k, one in enumerate(own))

    def permutations(
        self, first: range, second: range, generator: torch.Generator
    ) -> Callable[[], PermutedProducts]:
        r"""Draw the products of sets with others under random permutations of the items.

        Over permutations, :math:`X^\top P Y` has mean 0 and covariance
        :math:`X^\top X \otimes Y^\top Y / (n - 1)`, and where items are many its distribution is
        normal (Hoeffding 1951), so no item is read again. Where there are folds, items are permuted
        within each of them, and the same holds for every fold. Each call of the function that is
        returned draws one permutation of the sets ``first``, for all pairs with those ``second``.
        """
        x, y = (self.whole.columns(self.columns(sets)) for sets in (first, second))
        roots_x = x.roots()
        roots_y = roots_x if second == first else y.roots()

        def draw() -> PermutedProducts:
            by_fold = x.sums.new_empty(len(x.sizes), x.sums.shape[1], y.sums.shape[1])
            # One fold at a time, for these are the largest matrices.
            for k, (out, size) in enumerate(zip(by_fold, x.sizes.tolist(), strict=True)):
                shape = roots_x[k].shape[1], roots_y[k].shape[1]
                noise = torch.randn(shape, dtype=torch.float64, generator=generator)
                torch.mm(roots_x[k] @ noise, roots_y[k].T, out=out)
                out.div_((size - 1) ** 0.5).addr_(x.sums[k], y.sums[k], alpha=1 / size)
            return PermutedProducts(self, first, second, by_fold)

        return draw


@dataclass(frozen=True, eq=False)
class PermutedProducts:
    """Products (n_folds, d, e) of the first sets, their items permuted, with the second ones."""

    stack: StackedProducts
    first: range
    second: range
    by_fold: torch.Tensor

    def pair(self, first: int, second: int) -> CrossProducts:
        """The products of one of the first sets with one of the second, by their numbers."""
        sets = self.stack.pair(first, second)
        by_fold = self.by_fold[
            :, self._columns(self.first, first), self._columns(self.second, second)
        ]
        # The spread of this sum is smaller than that of the others by the root of the items.
        squares = sets.x.trace * sets.y.trace / sets.n_items
        return CrossProducts(sets.x, sets.y, by_fold, squares)

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
        The names of the sets in errors.
    folds : Parts, optional
        Parts of the items that are summed separately.
    permuted : sequence of (range, range), optional
        Blocks of sets that will be compared under permutations, one block at a time: the numbers of
        the permuted sets and of the others. By default the first set with all others.
    copies_for_pair : int
        :attr:`Measure.copies_of_products`.
    memory_budget : int, optional
        Bytes that sums, the comparison and blocks of rows may take; on a cluster, in each worker.
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
        If the features of a set span more than floats can square.
    """
    widths = tuple(source.shape[1] for source in sources)
    budget = Resources.of(memory_budget).for_blocks()
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
    return centered_stack(sums)


def bytes_of_stack(
    widths: Sequence[int],
    n_folds: int,
    permuted: Sequence[tuple[range, range]],
    copies_for_pair: int,
) -> int:
    """Bytes of the products of sets, of their permutations, and of comparing any two."""
    known = sum(widths) + len(widths) + 1
    pair = copies_for_pair * sum(sorted(widths)[-2:]) ** 2
    of_block = 0
    for sets in permuted:
        first, second = (sum(widths[k] for k in one) for one in sets)
        # Permuted products of all items and of each fold, noise and temporaries.
        drawn = (4 + n_folds) * first * second
        # Roots of the products of each fold; the decomposition of the last takes copies.
        roots = max(1, n_folds) * (first**2 + second**2)
        of_block = max(of_block, roots + max(drawn + pair, 6 * max(first, second) ** 2))
    # Axes of every set; those without each fold, and products on them.
    axes = (1 + 3 * n_folds) * sum(width**2 for width in widths)
    return 8 * ((1 + n_folds) * known**2 + axes + of_block)


def centered_stack(of: ItemSums) -> StackedProducts:
    """Centre sums over items, one matrix for each fold, in place."""
    sums, widths = of.products, of.widths
    total, width = over_folds(sums), sum(widths)
    mean = total[-1, :width] / total[-1, -1]
    # Squared lengths about the mean, as linear combinations of the summed columns.
    lengths = torch.zeros(len(total), len(widths), dtype=torch.float64)
    for k, (a, b) in enumerate(pairwise([0, *accumulate(widths)])):
        lengths[a:b, k] = -2 * mean[a:b]
        lengths[width + k, k] = 1.0
        lengths[-1, k] = mean[a:b].square().sum()
    squares = lengths.T @ total @ lengths
    sizes = sums[:, -1, -1].clone()
    for one, n in zip(sums, sizes.tolist(), strict=True):
        own, products = one[-1, :width], one[:width, :width]
        products.addr_(own, mean, alpha=-1).addr_(mean, own, alpha=-1).addr_(mean, mean, alpha=n)
    about = sums[:, -1, :width] - sizes[:, None] * mean
    by_fold = sums[:, :width, :width]
    whole = SetProducts(sizes, about, by_fold, of.varying, float(squares.trace()))
    return StackedProducts(widths, whole, squares, of.exponents, of.constant)
