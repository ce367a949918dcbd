"""Landmarks: the items that all others are described by."""

from __future__ import annotations

import numpy as np
import torch

from relspace._core.arguments import check_count, check_random_state
from relspace._core.resources import Resources

# Up to this many items all of them are permuted, which takes 32 MiB.
_PERMUTED_ITEMS = 2**22
_INDEX_BYTES = 8


def choose_landmarks(n_items: int, n_landmarks: int, *, random_state: int = 0) -> torch.Tensor:
    """Choose landmarks at random, all items where there are no more than that.

    Uniform sampling keeps the density of the landmarks an unbiased estimate of the whole set's;
    a farthest-point sample picks outliers first.

    Parameters
    ----------
    n_items : int
        How many items there are.
    n_landmarks : int
        How many of them to choose.
    random_state : int
        Seed of the choice.

    Returns
    -------
    LongTensor of shape (min(n_items, n_landmarks),)
        Rows of the landmarks, in increasing order.

    Raises
    ------
    InvalidInputError
        If a count is below 1, or more than 64 bits hold.
    MemoryBudgetError
        If the landmarks would not fit into the free memory.

    Examples
    --------
    >>> from relspace import choose_landmarks
    >>> choose_landmarks(1000, 3)
    tensor([ 37,  44, 675])
    >>> choose_landmarks(4, 10)
    tensor([0, 1, 2, 3])
    """
    n = check_count(n_items, "n_items")
    m = check_count(n_landmarks, "n_landmarks")
    seed = check_random_state(random_state)
    needed = projected_landmarks(n, m)
    Resources().require(needed, f"choosing {min(n, m)} landmarks", "lower {n_landmarks}")
    if n <= m:
        return torch.arange(n)
    return draw_distinct(n, m, torch.Generator().manual_seed(seed))


def projected_landmarks(n_items: int, n_landmarks: int) -> int:
    """Peak bytes of :func:`choose_landmarks`."""
    if n_items <= n_landmarks:
        return _INDEX_BYTES * n_items
    if n_items <= max(_PERMUTED_ITEMS, 2 * n_landmarks):
        return _INDEX_BYTES * (n_items + 5 * n_landmarks)
    # Draws with repetitions, sorted ones, and distinct ones.
    return 16 * _INDEX_BYTES * n_landmarks


def draw_distinct(n_items: int, n_drawn: int, generator: torch.Generator) -> torch.Tensor:
    """Draw distinct items uniformly, in increasing order; all of them if there are no more."""
    if n_items <= max(_PERMUTED_ITEMS, 2 * n_drawn):
        return torch.randperm(n_items, generator=generator)[:n_drawn].sort().values
    # The first distinct ones of draws with repetitions: fewer than 1.4 draws each, because no more
    # than half of the items are drawn.
    drawn = torch.empty(0, dtype=torch.long)
    while True:
        more = torch.randint(n_items, (n_drawn,), generator=generator)
        drawn = torch.cat([drawn, more])
        different, first = np.unique(drawn.numpy(), return_index=True)
        if len(different) >= n_drawn:
            return torch.from_numpy(different[first.argsort()[:n_drawn]]).sort().values
