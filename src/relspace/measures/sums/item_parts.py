"""Items in parts at random: folds that are held out, and parts that are resampled."""

from __future__ import annotations

import numpy as np
import torch

# Items that are assigned to parts together.
_RUN = 4096


class RandomParts:
    """Items in equal parts at random, computed for any rows without holding an array of all items.

    Items are assigned in runs of 4,096: the r-th of a run, in a random order of its own, goes to
    part r modulo the number of parts. With a multiple of the parts, each is divided.

    Examples
    --------
    >>> parts, twice = RandomParts(10, 5, 0), RandomParts(10, 10, 0)
    >>> parts(0, 10).bincount().tolist()
    [2, 2, 2, 2, 2]
    >>> bool((twice(3, 8) % 5 == parts(3, 8)).all())
    True
    """

    def __init__(self, n_items: int, n_parts: int, random_state: int) -> None:
        self.n_items, self.n_parts, self._seed = n_items, n_parts, random_state

    def finer(self, n_parts: int) -> RandomParts:
        """Divide the parts into more; ``n_parts`` is a multiple of their number."""
        return RandomParts(self.n_items, n_parts, self._seed)

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        """The part of each item from start to stop."""
        first = start // _RUN
        runs = [self._run(run) for run in range(first, -(-stop // _RUN))]
        return torch.cat(runs)[start - first * _RUN : stop - first * _RUN]

    def _run(self, number: int) -> torch.Tensor:
        size = min(_RUN, self.n_items - number * _RUN)
        order = np.random.default_rng([self._seed, number]).permutation(size)
        return torch.from_numpy(order % self.n_parts)


class PartsOfGroups:
    """Whole groups at random in parts of equally many; ``group_of`` (n_items,) numbers them."""

    def __init__(self, group_of: torch.Tensor, n_parts: int, random_state: int) -> None:
        self.n_items, self.n_parts = len(group_of), n_parts
        order = np.random.default_rng(random_state).permutation(int(group_of.max()) + 1)
        self._part_of = torch.from_numpy(order % n_parts)[group_of]

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        """The part of each item from start to stop."""
        return self._part_of[start:stop]


Parts = RandomParts | PartsOfGroups
