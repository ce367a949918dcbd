"""The digits, their split, and the features that networks give of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from examples.digits.networks import DigitNetwork
from relspace.errors import MissingDependencyError

N_TRAIN = 1000
SPLIT_SEED = 0


@dataclass(frozen=True)
class Digits:
    """Grey values in [0, 1], (n, 8, 8), and the digit that was written, (n,)."""

    images: Tensor
    labels: Tensor

    def take(self, items: Tensor) -> Digits:
        """Some of the digits."""
        return Digits(self.images[items], self.labels[items])


def load_split() -> tuple[Digits, Digits]:
    """Load scikit-learn's 1,797 digits: 1,000 for training and 797 held out, always the same.

    Raises
    ------
    MissingDependencyError
        If scikit-learn isn't installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError(
            "the digits come with scikit-learn, which is not installed: "
            'pip install "relspace[demo]".'
        ) from error
    data = load_digits()
    images = torch.as_tensor(data.images, dtype=torch.float32) / 16
    digits = Digits(images, torch.as_tensor(data.target, dtype=torch.int64))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return digits.take(order[:N_TRAIN]), digits.take(order[N_TRAIN:])


def extract(network: DigitNetwork, images: Tensor) -> dict[str, Tensor]:
    """Features of every layer, without a gradient."""
    with torch.no_grad():
        return network.layers(images)


def accuracy(network: DigitNetwork, digits: Digits) -> float:
    """Share of digits that a network classifies rightly."""
    with torch.no_grad():
        right = network(digits.images).argmax(1) == digits.labels
    return float(right.double().mean())
