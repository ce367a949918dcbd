"""Correlations of rows whose landmarks lie in the same images: these columns are left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch

from relspace._core.memory import empty_matrix
from relspace._core.resources import Resources
from relspace.kernels.correlation import correlation_from_sums, projected_correlations
from relspace.kernels.precision import full_precision

# Fewer columns than this make no correlation.
_FEWEST_COLUMNS = 3


@dataclass(frozen=True)
class GroupedRows:
    """Rows in groups (tokens in images) over columns in the same groups (landmarks in images).

    Features change slowly within an image. A landmark near a token is therefore similar to it in
    every model, even a meaningless one, and shows where the token lies, not what it is. So the
    columns of both groups are left out when two rows are correlated. For different groups fewer
    columns are left, and correlations scatter more, so that nearest rows would mostly be of other
    groups; correlations are therefore scaled to the scatter within one group. If columns are
    decorrelated (mixed), a row's own group is left out before and after.

    ``rows`` (n, m) are relative features, ``groups`` (n,) and ``columns`` (m,) the group of each
    row and column, and ``sums`` and ``squares`` (n, n_groups) sums over the columns of each group.
    """

    rows: torch.Tensor
    groups: torch.Tensor
    columns: torch.Tensor
    sums: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of(
        cls,
        rows: torch.Tensor,
        groups: torch.Tensor,
        columns: torch.Tensor,
        n_groups: int,
        mixing: torch.Tensor | None = None,
    ) -> Self:
        """Decorrelate columns by a matrix ``mixing`` (m, m), if any, and sum over groups."""
        groups, columns = groups.to(rows.device), columns.to(rows.device)
        if mixing is not None:
            rows = _mixed(rows, groups, columns, mixing.to(rows))
        sums = rows.new_zeros((len(rows), n_groups)).index_add_(1, columns, rows)
        squares = torch.zeros_like(sums)
        row_bytes = rows.shape[1] * rows.element_size()
        for part in Resources(device=rows.device).blocks(len(rows), row_bytes):
            squares[part].index_add_(1, columns, rows[part].square())
        return cls(rows, groups, columns, sums, squares)

    def take(self, index: torch.Tensor) -> GroupedRows:
        """Some of the rows."""
        at = index.to(self.rows.device)
        return GroupedRows(
            self.rows[at], self.groups[at], self.columns, self.sums[at], self.squares[at]
        )

    def like(self, other: GroupedRows) -> GroupedRows:
        """The same rows in the float type and on the device of others."""
        kind, device = other.rows, other.rows.device
        return GroupedRows(
            self.rows.to(kind),
            self.groups.to(device),
            self.columns.to(device),
            self.sums.to(kind),
            self.squares.to(kind),
        )

    @property
    def n_columns(self) -> torch.Tensor:
        """How many columns each group has, as a tensor of shape (n_groups,)."""
        return torch.bincount(self.columns, minlength=self.sums.shape[1]).to(self.rows.dtype)


def grouped_correlation_blocks(
    A: GroupedRows, B: GroupedRows
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Correlate every row of A with every row of B without the columns of their groups.

    Rows of A are ordered by group; each block has rows of one group. Correlations over fewer than 3
    columns are 0.
    """
    of_group = [(B.groups == g).nonzero().flatten() for g in range(B.sums.shape[1])]
    columns_of = [(B.columns == g).nonzero().flatten() for g in range(B.sums.shape[1])]
    n_columns = A.n_columns
    resources = Resources(device=A.rows.device)
    of_row = projected_correlations(1, max(len(B.rows), 1), A.rows.dtype)
    for group in sorted(set(A.groups.tolist())):
        first, last = _extent(A.groups, group)
        for part in resources.blocks(last - first, of_row):
            rows = slice(first + part.start, first + part.stop)
            left = A.rows[rows].clone()
            left[:, columns_of[group]] = 0.0
            with full_precision():
                products = left @ B.rows.T
                for other, members in enumerate(of_group):
                    if other != group and len(members) and len(columns_of[other]):
                        inner = columns_of[other]
                        products[:, members] -= left[:, inner] @ B.rows[members][:, inner].T
            theirs = B.groups
            apart = (theirs != group).to(products.dtype)
            yield (
                rows,
                _correlation(
                    products,
                    _remaining(A.sums[rows], group)[:, None] - A.sums[rows][:, theirs] * apart,
                    _remaining(A.squares[rows], group)[:, None]
                    - A.squares[rows][:, theirs] * apart,
                    _left_of_pairs(B.sums, theirs, group),
                    _left_of_pairs(B.squares, theirs, group),
                    *_columns_left(n_columns, torch.full_like(theirs, group), theirs),
                ),
            )


def grouped_correlation_of_pairs(A: GroupedRows, B: GroupedRows) -> torch.Tensor:
    """Correlate row i of A with row i of B; otherwise as :func:`grouped_correlation_blocks`."""
    result = A.rows.new_empty(len(A.rows))
    n_columns = A.n_columns
    row_bytes = 6 * A.rows.shape[1] * A.rows.element_size()
    for part in Resources(device=A.rows.device).blocks(len(A.rows), row_bytes):
        mine, theirs = A.groups[part], B.groups[part]
        kept = (A.columns != mine[:, None]) & (A.columns != theirs[:, None])
        left, right = A.rows[part] * kept, B.rows[part] * kept
        result[part] = _correlation(
            (left * right).sum(dim=1),
            left.sum(dim=1),
            left.square().sum(dim=1),
            right.sum(dim=1),
            right.square().sum(dim=1),
            *_columns_left(n_columns, mine, theirs),
        )
    return result


def _mixed(
    rows: torch.Tensor, groups: torch.Tensor, columns: torch.Tensor, mixing: torch.Tensor
) -> torch.Tensor:
    n, m = rows.shape
    row_bytes = m * rows.element_size()
    resources = Resources(device=rows.device)
    resources.require(
        n * row_bytes,
        f"the decorrelated relative features of {n} tokens over {m} landmarks",
        "compare fewer images, or align with {standardize='columns'}",
    )
    mixed = empty_matrix(n, m, like=rows)
    for part in resources.blocks(n, 4 * row_bytes):
        own = columns == groups[part, None]
        with full_precision():
            torch.mm(rows[part].masked_fill(own, 0.0), mixing, out=mixed[part])
        mixed[part].masked_fill_(own, 0.0)
    return mixed


def _extent(groups: torch.Tensor, group: int) -> tuple[int, int]:
    members = (groups == group).nonzero().flatten()
    first, last = int(members[0]), int(members[-1]) + 1
    assert last - first == len(members), "rows are ordered by group"
    return first, last


def _remaining(sums: torch.Tensor, group: int) -> torch.Tensor:
    return sums.sum(dim=1) - sums[:, group]


def _left_of_pairs(sums: torch.Tensor, groups: torch.Tensor, group: int) -> torch.Tensor:
    own = sums.gather(1, groups[:, None])[:, 0]
    return _remaining(sums, group) - torch.where(groups == group, torch.zeros_like(own), own)


def _columns_left(
    n_columns: torch.Tensor, mine: torch.Tensor, theirs: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many columns are left of each pair, and how many a pair within one group has."""
    total = n_columns.sum()
    mine_left, theirs_left = total - n_columns[mine], total - n_columns[theirs]
    left = torch.where(mine == theirs, mine_left, mine_left - n_columns[theirs])
    return left, (mine_left * theirs_left).clamp_min(0.0).sqrt()


def _correlation(
    products: torch.Tensor,
    left: torch.Tensor,
    left_squares: torch.Tensor,
    right: torch.Tensor,
    right_squares: torch.Tensor,
    columns: torch.Tensor,
    within_group: torch.Tensor,
) -> torch.Tensor:
    """Correlation from sums over the columns that count, scaled to one scatter."""
    count = columns.clamp_min(1.0)
    correlation = (
        correlation_from_sums(products, left, left_squares, right, right_squares, count)
        * (count / within_group.clamp_min(1.0)).sqrt()
    )
    return torch.where(columns >= _FEWEST_COLUMNS, correlation, torch.zeros_like(correlation))
