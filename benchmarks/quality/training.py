"""Training of the benchmark's networks, on digits that may be treated first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from examples.digits.descent import descend
from examples.digits.digits import Digits
from examples.digits.networks import IMAGE_SIDE, N_CLASSES, DigitNetwork
from quality.networks import initial_network

STEPS = 300
BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Treatment:
    """What is done to the digits that a network learns from.

    Attributes
    ----------
    n_train : int
        How many digits there are.
    random_labels : float
        Share of digits whose class is drawn at random, once and for all.
    shortcut : float or None
        Share of digits in which a bright pixel at the left or right edge tells the class; in the
        others, and in all digits that are looked at later, its place is drawn at random. None for
        no such pixel.
    noise : float
        Standard deviation of the noise that is added each time a digit is seen.
    """

    n_train: int = 1000
    random_labels: float = 0.0
    shortcut: float | None = None
    noise: float = 0.0

    def apply(self, digits: Digits) -> Digits:
        """Treat the digits that are learnt from."""
        generator = torch.Generator().manual_seed(0)
        images, labels = digits.images[: self.n_train], digits.labels[: self.n_train]
        drawn = torch.randint(0, N_CLASSES, labels.shape, generator=generator)
        is_random = torch.rand(len(labels), generator=generator) < self.random_labels
        labels = torch.where(is_random, drawn, labels)
        if self.shortcut is not None:
            tells = torch.rand(len(labels), generator=generator) < self.shortcut
            images = with_pixel(images, torch.where(tells, labels, drawn))
        return Digits(images, labels)

    def look_at(self, images: Tensor) -> Tensor:
        """Treat the images that features are taken of."""
        if self.shortcut is None:
            return images
        generator = torch.Generator().manual_seed(1)
        return with_pixel(images, torch.randint(0, N_CLASSES, (len(images),), generator=generator))


def with_pixel(images: Tensor, places: Tensor) -> Tensor:
    """Light one pixel of each image: 0 to 4 down the left edge, 5 to 9 down the right one."""
    marked = images.clone()
    rows, columns = places % 5 + 1, (places >= 5) * (IMAGE_SIDE - 1)
    marked[torch.arange(len(images)), rows, columns] = 1.0
    return marked


def train(
    build: Callable[[], DigitNetwork],
    digits: Digits,
    *,
    seed: int,
    treatment: Treatment | None = None,
    steps: int = STEPS,
) -> DigitNetwork:
    """Train one network, the same one for the same seed.

    Parameters
    ----------
    build : callable
        Makes the network.
    digits : Digits
        What it learns from, before treatment.
    seed : int
        Decides the first weights, the order of the digits and the noise.
    treatment : Treatment, optional
        What is done to the digits.
    steps : int
        How many batches it sees.

    Returns
    -------
    DigitNetwork
        In evaluation mode.
    """
    treatment = treatment or Treatment()
    treated = treatment.apply(digits)
    network = initial_network(build, seed)
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        items = torch.randint(0, len(treated.labels), (BATCH,), generator=generator)
        batch = treated.take(items)
        images = batch.images
        if treatment.noise:
            images = images + treatment.noise * torch.randn(images.shape, generator=generator)
        return functional.cross_entropy(network(images), batch.labels)

    return descend(network, loss, steps, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
