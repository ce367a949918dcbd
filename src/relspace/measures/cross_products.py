"""Sums of products over items, which some measures need no more than: they stream over any number.

Two features' covariances hold d x d, e x e and d x e numbers, however many items there are. Linear
CKA, the CCAs and Procrustes distances are functions of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from relspace._blocks import memory_budget_bytes, row_slices
from relspace.errors import InvalidInputError, NonFiniteError
from relspace.row_sources import RowSource

Progress = Callable[[str], None]

_LARGEST_BLOCK_BYTES = 2**27
_COPIES_OF_BLOCK = 4


@dataclass(frozen=True)
class CrossProducts:
    """Sums over items of products of two sets' centred features, in float64.

    Attributes
    ----------
    n_items : int
        Items summed over.
    of_x, of_y, of_both : tensor of shape (d, d), (e, e) and (d, e)
        :math:`X^\\top X`, :math:`Y^\\top Y` and :math:`X^\\top Y`.
    squares_x, squares_y, squares_both : float
        Sums of :math:`|x_i|^4`, :math:`|y_i|^4` and :math:`|x_i|^2 |y_i|^2`, which the estimators
        without the diagonal take away.
    """

    n_items: int
    of_x: torch.Tensor
    of_y: torch.Tensor
    of_both: torch.Tensor
    squares_x: float
    squares_y: float
    squares_both: float

    def swapped(self) -> CrossProducts:
        """The same with the sets in the other order."""
        return CrossProducts(
            self.n_items,
            self.of_y,
            self.of_x,
            self.of_both.T,
            self.squares_y,
            self.squares_x,
            self.squares_both,
        )

    def equivalent_items(self) -> tuple[torch.Tensor, torch.Tensor]:
        r"""A few items with the same products: what is a function of products can't tell them.

        With :math:`X^\top X = V_X D_X^2 V_X^\top`, likewise of Y, and
        :math:`C = D_X^{-1} V_X^\top X^\top Y V_Y D_Y^{-1}`, whose singular values are the
        canonical correlations,

        .. math::
            \tilde X = H \begin{pmatrix} D_X V_X^\top \\ 0 \end{pmatrix}, \qquad
            \tilde Y = H \begin{pmatrix} C \\ (I - C^\top C)^{1/2} \end{pmatrix} D_Y V_Y^\top

        where the columns of H are orthonormal and have mean 0.

        Returns
        -------
        tensors of shape (k, d) and (k, e)
            k is 1 more than the dimensions that both sets span.
        """
        (axes_x, sizes_x), (axes_y, sizes_y) = principal(self.of_x), principal(self.of_y)
        ranks = len(sizes_x), len(sizes_y)
        if sum(ranks) > self.n_items - 1:
            raise InvalidInputError(
                f"the sets have {ranks[0]} and {ranks[1]} dimensions and {self.n_items} items, too "
                "few to be compared by sums over them: compare them in memory, by a larger "
                "memory_budget."
            )
        coupling = (axes_x.T @ self.of_both @ axes_y) / sizes_x[:, None] / sizes_y
        left, correlations, right = torch.linalg.svd(coupling, full_matrices=True)
        correlations = correlations.clamp_max(1.0)
        coupling = (left[:, : len(correlations)] * correlations) @ right[: len(correlations)]
        rest = torch.ones_like(sizes_y)
        rest[: len(correlations)] = (1 - correlations.square()).sqrt()
        own = (right.T * rest) @ right
        x = torch.cat([torch.diag(sizes_x), sizes_x.new_zeros(ranks[1], ranks[0])]) @ axes_x.T
        y = (torch.cat([coupling, own]) * sizes_y) @ axes_y.T
        return _with_mean_zero(x), _with_mean_zero(y)

    def permutations(self, n_draws: int, generator: torch.Generator) -> Iterator[CrossProducts]:
        r"""Draw what random permutations of the items make of the products of both sets.

        Over permutations, :math:`X^\top P Y` has mean 0 and covariance
        :math:`X^\top X \otimes Y^\top Y / (n - 1)`, and where items are many its distribution is
        normal (Hoeffding 1951): no item need be read again.
        """
        (axes_x, sizes_x), (axes_y, sizes_y) = principal(self.of_x), principal(self.of_y)
        # The spread of this sum is smaller than that of the others by the root of the items.
        squares = float(self.of_x.trace() * self.of_y.trace()) / self.n_items
        for _ in range(n_draws):
            noise = torch.randn(
                len(sizes_x), len(sizes_y), dtype=torch.float64, generator=generator
            )
            both = (axes_x * sizes_x) @ noise @ (axes_y * sizes_y).T
            yield replace(self, of_both=both / (self.n_items - 1) ** 0.5, squares_both=squares)


def sum_cross_products(
    x: RowSource,
    y: RowSource,
    *,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> CrossProducts:
    """Sum the products of two sets in two passes over their rows: for the means, and centred.

    Parameters
    ----------
    x, y : RowSource
        Features of the same items in the same order, of shape (n, d) and (n, e).
    memory_budget : int, optional
        Bytes that blocks of rows may take.
    progress : callable, optional
        Called with a line of text as rows are read.

    Raises
    ------
    InvalidInputError
        If a row holds NaN or infinity, or a set is constant.
    """
    n, widths = x.shape[0], (x.shape[1], y.shape[1])
    budget = min(memory_budget_bytes(memory_budget), _LARGEST_BLOCK_BYTES)
    blocks = list(row_slices(n, 8 * _COPIES_OF_BLOCK * sum(widths), budget))
    means = [torch.zeros(width, dtype=torch.float64) for width in widths]
    largest = [torch.zeros(width, dtype=torch.float64) for width in widths]
    for number, rows in enumerate(blocks, start=1):
        for k, (source, name) in enumerate(((x, "X"), (y, "Y"))):
            values = read_finite(source, rows.start, rows.stop, name)
            means[k] += values.sum(dim=0)
            largest[k] = torch.maximum(largest[k], values.abs().amax(dim=0))
        _tell(progress, "means", number, len(blocks))
    means = [total / n for total in means]
    sums = [torch.zeros(a, b, dtype=torch.float64) for a, b in _shapes(*widths)]
    squares = torch.zeros(3, dtype=torch.float64)
    for number, rows in enumerate(blocks, start=1):
        u = read_finite(x, rows.start, rows.stop, "X") - means[0]
        v = read_finite(y, rows.start, rows.stop, "Y") - means[1]
        for total, (left, right) in zip(sums, ((u, u), (v, v), (u, v)), strict=True):
            total.addmm_(left.T, right)
        of_u, of_v = u.square().sum(dim=1), v.square().sum(dim=1)
        squares += torch.stack([of_u @ of_u, of_v @ of_v, of_u @ of_v])
        _tell(progress, "products", number, len(blocks))
    for name, total, top, source in (("X", sums[0], largest[0], x), ("Y", sums[1], largest[1], y)):
        refuse_constant_sums(total.diagonal(), top, n, source.dtype, name)
    of_x, of_y, of_both = sums
    squares_x, squares_y, squares_both = squares.tolist()
    return CrossProducts(n, of_x, of_y, of_both, squares_x, squares_y, squares_both)


def _shapes(d: int, e: int) -> tuple[tuple[int, int], ...]:
    return (d, d), (e, e), (d, e)


def read_finite(source: RowSource, start: int, stop: int, name: str) -> torch.Tensor:
    """Read some rows in float64, and refuse NaN and infinity.

    Raises
    ------
    NonFiniteError
        If a row holds some; it names the first.
    """
    values = source.read(start, stop).to("cpu", torch.float64)
    finite = values.isfinite().all(dim=1)
    if not bool(finite.all()):
        raise NonFiniteError(
            f"{name} holds NaN or infinity, first in row {start + int((~finite).nonzero()[0])}: "
            "remove these items from all sets, or check where these features come from."
        )
    return values


def refuse_constant_sums(
    squares: torch.Tensor, magnitudes: torch.Tensor, n_items: int, dtype: torch.dtype, name: str
) -> None:
    """Refuse a set whose rows are all the same to within rounding, by sums over them.

    Parameters
    ----------
    squares : tensor of shape (d,)
        Sums of squares of the centred features.
    magnitudes : tensor of shape (d,)
        How large features are, which tells what they are rounded by.
    n_items : int
        Items summed over.
    dtype : torch.dtype
        The type that features were rounded to.
    name : str
        What an error calls the set.

    Raises
    ------
    InvalidInputError
        If it is constant.
    """
    exact = dtype if dtype.is_floating_point else torch.float64
    rounding = 4 * torch.finfo(exact).eps * magnitudes
    if bool((squares <= n_items * rounding.square()).all()):
        raise InvalidInputError(
            f"{name} is constant: all its rows are the same to within rounding, so there is "
            "nothing to compare; check where these features come from."
        )


def _tell(progress: Progress | None, what: str, done: int, total: int) -> None:
    if progress is not None:
        progress(f"Summing {what}: block {done} of {total}")


def principal(products: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Axes and sizes of the directions that products of rounded features can tell from none."""
    values, axes = torch.linalg.eigh(products)
    keep = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    return axes[:, keep].flip(1), values[keep].flip(0).sqrt()


def _with_mean_zero(X: torch.Tensor) -> torch.Tensor:
    """Map k rows to k + 1 whose mean is 0, with the same products: Helmert's matrix times them."""
    k = torch.arange(1, len(X) + 1, dtype=X.dtype, device=X.device)
    helmert = torch.tril(torch.ones(len(X), len(X) + 1, dtype=X.dtype, device=X.device))
    helmert[torch.arange(len(X)), torch.arange(1, len(X) + 1)] = -k
    return (helmert / (k * (k + 1)).sqrt()[:, None]).T @ X
