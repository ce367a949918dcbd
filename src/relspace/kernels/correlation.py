"""Correlations between relative features of two sets, and the rows that match by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from relspace._core.deprecation import warn_renamed
from relspace._core.memory import row_slices
from relspace._core.resources import Resources
from relspace._core.validation import Array
from relspace.kernels.precision import full_precision
from relspace.kernels.relative import NO_LANDMARK

_BLOCK_BYTES = 2**27


def correlation_blocks(
    A: torch.Tensor, B: torch.Tensor, own_a: torch.Tensor | None, own_b: torch.Tensor | None
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Correlate every row of A with every row of B, some rows of A at a time.

    Of each pair the columns in which either item is its own landmark are left out: rows are
    standardised (:func:`standardize_rows`), so what remains of sums and norms follows from the
    entry that is dropped.

    Parameters
    ----------
    A, B : tensor of shape (n_a, m) and (n_b, m)
        Standardised relative features over the same landmarks.
    own_a, own_b : LongTensor of shape (n_a,) and (n_b,), or None
        Each item's own column, :data:`NO_LANDMARK` or None for items that are no landmarks.

    Yields
    ------
    rows : slice
        Rows of A.
    correlation : tensor of shape (len(rows), n_b)
        Their correlations with all rows of B.
    """
    budget = Resources(device=A.device).for_blocks()
    if A.device.type == "cpu":
        # More rows at a time are no faster here.
        budget = min(budget, _BLOCK_BYTES)
    for rows in row_slices(A.shape[0], 6 * B.shape[0] * A.element_size(), budget):
        left = A[rows]
        with full_precision():
            products = left @ B.T
        if own_a is None and own_b is None:
            yield rows, products
            continue
        mine = _own(own_a, A.shape[0], A.device)[rows]
        theirs = _own(own_b, B.shape[0], A.device)
        dropped_left = _entries(left, theirs)
        dropped_right = _entries(B, mine).T
        yield (
            rows,
            _without_dropped(products, dropped_left, dropped_right, mine, theirs, A.shape[1]),
        )


@full_precision()
def correlation_of_pairs(
    A: torch.Tensor, B: torch.Tensor, own_a: torch.Tensor | None, own_b: torch.Tensor | None
) -> torch.Tensor:
    """Correlate row i of A with row i of B; otherwise as :func:`correlation_blocks`."""
    products = torch.einsum("ij,ij->i", A, B)
    if own_a is None and own_b is None:
        return products
    mine = _own(own_a, A.shape[0], A.device)
    theirs = _own(own_b, B.shape[0], A.device)
    dropped_left = A.gather(1, theirs.clamp_min(0)[:, None])[:, 0] * (theirs != NO_LANDMARK)
    dropped_right = B.gather(1, mine.clamp_min(0)[:, None])[:, 0] * (mine != NO_LANDMARK)
    columns = A.shape[1] - (mine != NO_LANDMARK).to(A.dtype) - (theirs != NO_LANDMARK).to(A.dtype)
    columns += ((mine == theirs) & (mine != NO_LANDMARK)).to(A.dtype)
    return _correlation(products, dropped_left, dropped_right, columns)


def _own(own: torch.Tensor | None, n_items: int, device: torch.device) -> torch.Tensor:
    if own is None:
        return torch.full((n_items,), NO_LANDMARK, device=device)
    return own.to(device)


def _entries(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return rows[:, columns.clamp_min(0)] * (columns != NO_LANDMARK)


def _without_dropped(
    products: torch.Tensor,
    dropped_left: torch.Tensor,
    dropped_right: torch.Tensor,
    mine: torch.Tensor,
    theirs: torch.Tensor,
    n_columns: int,
) -> torch.Tensor:
    is_mine, is_theirs = mine != NO_LANDMARK, theirs != NO_LANDMARK
    columns = n_columns - is_mine[:, None].to(products.dtype) - is_theirs.to(products.dtype)
    columns += ((mine[:, None] == theirs) & is_mine[:, None]).to(products.dtype)
    return _correlation(products, dropped_left, dropped_right, columns)


def _correlation(
    products: torch.Tensor, left: torch.Tensor, right: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Correlation of rows of mean 0 and norm 1 without the entries ``left`` and ``right``."""
    covariance = products - left * right / columns
    share = 1 + 1 / columns
    norms = (1 - share * left.square()).clamp_min(0.0) * (1 - share * right.square()).clamp_min(0.0)
    return covariance / norms.sqrt().clamp_min(torch.finfo(products.dtype).tiny)


@dataclass(frozen=True)
class Match:
    """The nearest items across two sets, and how often they are the right ones.

    Attributes
    ----------
    indices : tensor or array of shape (n, k)
        For every item of the first set, the nearest items of the second, nearest first.
    distances : tensor or array of shape (n, k)
        Their correlation distances 1 - r, from 0 to 2.
    accuracy : float
        How often the item itself is among its k nearest.
    chance : float
        How often it would be among k items drawn at random.
    n_neighbors : int
        How many items were looked for; k above.
    n_items : int
        How many items were matched.
    """

    indices: Array
    distances: Array
    accuracy: float
    chance: float
    n_neighbors: int
    n_items: int

    @property
    def k(self) -> int:
        """The old name of ``n_neighbors``."""
        warn_renamed("Match.k", "Match.n_neighbors")
        return self.n_neighbors

    def __repr__(self) -> str:
        return (
            f"Match(top-{self.n_neighbors} accuracy {self.accuracy:.3f}, chance {self.chance:.3f}, "
            f"{self.n_items} items)"
        )

    def to_dict(self) -> dict[str, float | int]:
        """The numbers without the items, ready for JSON."""
        return {
            "accuracy": self.accuracy,
            "chance": self.chance,
            "n_neighbors": self.n_neighbors,
            "n_items": self.n_items,
        }


def nearest_rows(
    A: torch.Tensor,
    B: torch.Tensor,
    k: int,
    own_a: torch.Tensor | None = None,
    own_b: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k rows of B that correlate most with each row of A.

    Returns
    -------
    indices : LongTensor of shape (n_a, k)
        Rows of B, nearest first.
    distances : tensor of shape (n_a, k)
        1 - r.
    """
    indices = torch.empty((A.shape[0], k), dtype=torch.long, device=A.device)
    distances = A.new_empty((A.shape[0], k))
    for rows, correlation in correlation_blocks(A, B, own_a, own_b):
        best = correlation.topk(k, dim=1)
        indices[rows], distances[rows] = best.indices, 1 - best.values
    return indices, distances
