"""Correlations between relative features of two sets, and the rows that match by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from relspace._core.deprecation import warn_renamed
from relspace._core.items import ItemId
from relspace._core.matrices import Array
from relspace._core.resources import Resources
from relspace._core.result_tables import TabularResult
from relspace.kernels.precision import full_precision
from relspace.kernels.relative import NO_LANDMARK

# More rows at a time are no faster on a CPU.
_BLOCK_BYTES = 2**27


def correlation_from_sums(
    products: torch.Tensor,
    left: torch.Tensor,
    left_squares: torch.Tensor,
    right: torch.Tensor,
    right_squares: torch.Tensor,
    n_columns: torch.Tensor,
) -> torch.Tensor:
    r"""Correlate rows a and b over the columns that count, from sums over these alone.

    .. math::
        r = \frac{\sum a b - \sum a \sum b / n}
                 {\sqrt{\sum a^2 - (\sum a)^2 / n} \sqrt{\sum b^2 - (\sum b)^2 / n}}
    """
    covariance = (left * right).div_(n_columns).neg_().add_(products)
    spreads = [
        sums.square().div_(n_columns).neg_().add_(squares).clamp_min_(0.0).sqrt_()
        for sums, squares in ((left, left_squares), (right, right_squares))
    ]
    spread = spreads[0].mul_(spreads[1]).clamp_min_(torch.finfo(products.dtype).tiny)
    return covariance.div_(spread)


def projected_correlations(n_a: int, n_b: int, dtype: torch.dtype) -> int:
    """Bytes of the correlations of n_a rows with n_b others."""
    return 12 * n_a * n_b * dtype.itemsize


#: Nearest rows whose mean correlation says how much of a hub a row is.
N_HUB_NEIGHBORS = 10
Blocks = Callable[[], Iterator[tuple[slice, torch.Tensor]]]


def mean_of_nearest(blocks: Blocks) -> torch.Tensor:
    """Mean correlation (n_b,) of every row of B with its 10 nearest rows of A.

    A hub is near to everything. Twice the correlation less this, and less the same of the row of A,
    is cross-domain similarity local scaling (CSLS; Conneau et al. 2018, ICLR).
    """
    nearest: torch.Tensor | None = None
    for _, correlation in blocks():
        known = correlation if nearest is None else torch.cat([nearest, correlation])
        nearest = known.topk(min(N_HUB_NEIGHBORS, len(known)), dim=0).values
    assert nearest is not None
    return nearest.mean(dim=0)


def correlation_blocks(
    A: torch.Tensor,
    B: torch.Tensor,
    own_a: torch.Tensor | None,
    own_b: torch.Tensor | None,
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Correlate every row of A with every row of B, some rows of A at a time.

    Of each pair the columns in which either item is its own landmark are left out. Since rows are
    standardised (:func:`standardize_rows`), sums and norms follow from the entries left out.

    Parameters
    ----------
    A, B : tensor of shape (n_a, m) and (n_b, m)
        Standardised relative features over the same landmarks.
    own_a, own_b : LongTensor of shape (n_a,) and (n_b,), or None
        Each item's own column, :data:`NO_LANDMARK` or None for items that are not landmarks.

    Yields
    ------
    rows : slice
        Rows of A.
    correlation : tensor of shape (len(rows), n_b)
        Their correlations with all rows of B.
    """
    resources = Resources(device=A.device)
    at_most = _BLOCK_BYTES if A.device.type == "cpu" else None
    of_row = projected_correlations(1, len(B), A.dtype)
    mine, theirs = _own_columns(own_a, A), _own_columns(own_b, B)
    for rows in resources.blocks(len(A), of_row, at_most=at_most):
        with full_precision():
            products = A[rows] @ B.T
        if own_a is None and own_b is None:
            yield rows, products
        else:
            left, right = _entries(A[rows], theirs), _entries(B, mine[rows]).T
            yield rows, _without(products, left, right, mine[rows, None], theirs, A.shape[1])


@full_precision()
def correlation_of_pairs(
    A: torch.Tensor, B: torch.Tensor, own_a: torch.Tensor | None, own_b: torch.Tensor | None
) -> torch.Tensor:
    """Correlate row i of A with row i of B; otherwise as :func:`correlation_blocks`."""
    products = torch.einsum("ij,ij->i", A, B)
    if own_a is None and own_b is None:
        return products
    mine, theirs = _own_columns(own_a, A), _own_columns(own_b, B)
    left = A.gather(1, theirs.clamp_min(0)[:, None])[:, 0] * (theirs != NO_LANDMARK)
    right = B.gather(1, mine.clamp_min(0)[:, None])[:, 0] * (mine != NO_LANDMARK)
    return _without(products, left, right, mine, theirs, A.shape[1])


def _own_columns(own: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
    if own is None:
        return torch.full((len(rows),), NO_LANDMARK, device=rows.device)
    return own.to(rows.device)


def _entries(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return rows[:, columns.clamp_min(0)].mul_(columns != NO_LANDMARK)


def _without(
    products: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    mine: torch.Tensor,
    theirs: torch.Tensor,
    n_columns: int,
) -> torch.Tensor:
    """Correlate rows of mean 0 and norm 1 without both items' own columns.

    A row is 0 in its own column; ``left`` and ``right`` are the entries in the other's.
    """
    is_mine, is_theirs = mine != NO_LANDMARK, theirs != NO_LANDMARK
    columns = (is_mine & (mine == theirs)).to(products.dtype).add_(n_columns)
    columns.sub_(is_mine.to(products.dtype)).sub_(is_theirs.to(products.dtype))
    # Sums of the rest are the negative of the entries, whose sign cancels.
    squares = (left.square().neg_().add_(1.0), right.square().neg_().add_(1.0))
    return correlation_from_sums(products, left, squares[0], right, squares[1], columns)


@dataclass(frozen=True)
class Match(TabularResult):
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
    rows, right : LongTensor of shape (n,)
        Row numbers of the items that were matched, from 0, and of the right answer to each in the
        second set; -1 where there is none.
    ids : tuple or None
        Ids of the items, or of the images that tokens are of.
    tokens_per_image : (int, int) or None
        For tokens on grids: how many rows each image has in the two sets.
    """

    indices: Array
    distances: Array
    accuracy: float
    chance: float
    n_neighbors: int
    n_items: int
    rows: torch.Tensor
    right: torch.Tensor
    ids: tuple[ItemId, ...] | None
    tokens_per_image: tuple[int, int] | None

    @property
    def _columns(self) -> dict[str, list[Any]]:
        """One row for each item and neighbour; items without ids are numbered from 0."""
        k = self.n_neighbors
        item = self.rows.repeat_interleave(k)
        right = self.right.repeat_interleave(k)
        nearest = torch.as_tensor(self.indices).cpu().flatten()
        if self.tokens_per_image is None:
            columns = {"item": self._named(item), "nearest": self._named(nearest)}
        else:
            n, m = self.tokens_per_image
            columns = {
                "image": self._named(item // n),
                "token": (item % n).tolist(),
                "nearest_image": self._named(nearest // m),
                "nearest_token": (nearest % m).tolist(),
            }
        is_right = zip((nearest == right).tolist(), right.tolist(), strict=True)
        return columns | {
            "rank": list(range(1, k + 1)) * len(self.rows),
            "distance": torch.as_tensor(self.distances).cpu().flatten().tolist(),
            "is_right": [None if answer < 0 else one for one, answer in is_right],
        }

    def _named(self, rows: torch.Tensor) -> list[ItemId]:
        numbers: list[ItemId] = rows.tolist()
        return numbers if self.ids is None else [self.ids[int(one)] for one in numbers]

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
