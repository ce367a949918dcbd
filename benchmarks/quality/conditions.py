"""What is done to features before they are compared: outliers, few items, a loud channel, maps."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

#: How far outliers lie from the mean, in root mean square distances of the items.
OUTLIER_DISTANCE = 10.0
#: How much louder than it was a massive channel is.
MASSIVE = 100.0


def seeded(*numbers: int) -> torch.Generator:
    """A generator whose stream depends on all the numbers."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % (2**62)
    return torch.Generator().manual_seed(seed)


def root_mean_square_distance(X: Tensor) -> Tensor:
    """Root mean square distance of rows from their mean."""
    return (X - X.mean(0)).square().sum(1).mean().sqrt()


def with_outliers(X: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Move a share of the items in random directions, 10 root mean square distances far."""
    changed = X.clone()
    n = math.ceil(share * len(X))
    items = torch.randperm(len(X), generator=generator)[:n]
    directions = functional.normalize(torch.randn(n, X.shape[1], generator=generator).to(X))
    changed[items] += OUTLIER_DISTANCE * root_mean_square_distance(X) * directions
    return changed


def with_massive_channel(X: Tensor, generator: torch.Generator) -> Tensor:
    """Multiply one channel by 100, chosen among the half that vary most."""
    deviation = X.std(0)
    candidates = (deviation >= deviation.median()).nonzero().flatten()
    chosen = candidates[torch.randint(len(candidates), (1,), generator=generator)]
    changed = X.clone()
    changed[:, chosen] *= MASSIVE
    return changed


def rotated(X: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate the axes at random."""
    d = X.shape[1]
    rotation: Tensor = torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
    return X @ rotation.to(X)


def scaled_channels(X: Tensor, generator: torch.Generator) -> Tensor:
    """Scale every channel by its own factor, log-normal with deviation 1."""
    return X * torch.randn(X.shape[1], generator=generator).exp().to(X)


def through_random_layers(X: Tensor, depth: int, generator: torch.Generator) -> Tensor:
    """Send features through random fully connected layers with rectified units (He et al. 2015).

    They enter centred and of unit variance, so that the layers bend what they get.
    """
    width = max(X.shape[1], 64)
    units = (X - X.mean(0)) / X.std()
    for _ in range(depth):
        weight = torch.randn(units.shape[1], width, generator=generator)
        units = functional.relu(units @ (weight * math.sqrt(2 / units.shape[1])).to(X))
    return units


def with_noise(X: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of so many times the features' own root mean square deviation."""
    deviation = (X - X.mean(0)).square().mean().sqrt()
    return X + level * deviation * torch.randn(X.shape, generator=generator).to(X)


Transform = Callable[[Tensor, torch.Generator], Tensor]

#: What is done to one of two sets: its name, and the map.
TRANSFORMS: dict[str, Transform] = {
    "rotation": rotated,
    "scale": lambda X, generator: 7.0 * X,
    "shift": lambda X, generator: (
        X
        + 3
        * root_mean_square_distance(X)
        * functional.normalize(torch.randn(1, X.shape[1], generator=generator).to(X))
    ),
    "offset 10^4": lambda X, generator: X + 1e4 * X.std(),
    "anisotropic scaling": scaled_channels,
    "massive channel": with_massive_channel,
    "random MLP, depth 2": lambda X, generator: through_random_layers(X, 2, generator),
    "random MLP, depth 4": lambda X, generator: through_random_layers(X, 4, generator),
    "random MLP, depth 12": lambda X, generator: through_random_layers(X, 12, generator),
    "noise 0.5": lambda X, generator: with_noise(X, 0.5, generator),
    "1 % outliers": lambda X, generator: with_outliers(X, 0.01, generator),
    "5 % outliers": lambda X, generator: with_outliers(X, 0.05, generator),
}
