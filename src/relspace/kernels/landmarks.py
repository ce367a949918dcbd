"""Landmarks: the items that all others are described by."""

from __future__ import annotations

import torch

from relspace._validation import check_count, check_random_state


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
        If a count is below 1.

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
    if n <= m:
        return torch.arange(n)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=generator)[:m].sort().values
