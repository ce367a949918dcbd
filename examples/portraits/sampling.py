"""Seeded draws of what varies between portraits, one value for each portrait of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


class Sampler:
    """Draws values of shape (n, 1, 1) or colours of shape (n, 3, 1, 1) from one generator.

    Parameters
    ----------
    n : int
        Portraits in the batch.
    random_state : int
        Seed.
    """

    def __init__(self, n: int, random_state: int) -> None:
        self._n = n
        self._generator = torch.Generator().manual_seed(random_state)

    def uniform(self, low: float, high: float) -> Tensor:
        """Evenly between two values."""
        return low + (high - low) * torch.rand(self._n, 1, 1, generator=self._generator)

    def chance(self, probability: float) -> Tensor:
        """True with a probability."""
        return self.uniform(0.0, 1.0) < probability

    def sign(self) -> Tensor:
        """1 or -1."""
        return self.chance(0.5).float() * 2 - 1

    def choice(self, weights: Sequence[float]) -> Tensor:
        """A number from 0 on, with these probabilities."""
        drawn = torch.multinomial(
            torch.tensor(weights), self._n, replacement=True, generator=self._generator
        )
        return drawn[:, None, None]

    def color(self, low: float, high: float) -> Tensor:
        """Any colour with channels between two values."""
        drawn = torch.rand(self._n, 3, 1, 1, generator=self._generator)
        return low + (high - low) * drawn

    def tone(self, tones: Sequence[tuple[float, float, float]], spread: float) -> Tensor:
        """A mixture of two neighbouring tones of a list, and a little off."""
        palette = torch.tensor(tones)
        place = self.uniform(0.0, len(tones) - 1.001).flatten()
        below = place.floor().long()
        mixed = torch.lerp(palette[below], palette[below + 1], (place - below)[:, None])
        off = torch.randn(self._n, 3, generator=self._generator) * spread
        return (mixed + off).clamp(0.02, 0.98)[:, :, None, None]

    def tint(self, spread: float) -> Tensor:
        """A colour near white to multiply with."""
        return 1 + spread * torch.randn(self._n, 3, 1, 1, generator=self._generator)

    def noise(self, shape: torch.Size) -> Tensor:
        """Independent normal values."""
        return torch.randn(shape, generator=self._generator)

    def clouds(self, side: int, cells: int) -> Tensor:
        """Smooth noise of shape (n, side, side) around 0, so many cells across."""
        coarse = torch.randn(self._n, 1, cells, cells, generator=self._generator)
        fine = functional.interpolate(coarse, size=(side, side), mode="bicubic")
        return fine[:, 0]
