"""Four families of small classifiers of digits, with every layer open."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.digits import weights
from examples.digits.networks import (
    IMAGE_SIDE,
    N_CLASSES,
    DigitNetwork,
    TransformerBlock,
    VisionTransformer,
    quadrants,
)


class PlainCNN(DigitNetwork):
    """3 x 3 convolutions in three stages, the side halved and the channels doubled between them.

    Parameters
    ----------
    per_stage : int
        Convolutions of a stage.
    channels : int
        Channels of the first stage.
    """

    def __init__(self, per_stage: int = 3, channels: int = 16) -> None:
        super().__init__()
        widths = [channels * 2**stage for stage in range(3) for _ in range(per_stage)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=1 + (before not in (1, after)), padding=1)
            for before, after in zip([1, *widths], widths, strict=False)
        )
        self.classifier = nn.Linear(widths[-1], N_CLASSES)

    def layers(self, images: Tensor) -> dict[str, Tensor]:
        """Features of the convolutions by quadrant, and their mean; see the base class."""
        features, maps = {}, images[:, None]
        for number, convolution in enumerate(self.convolutions, start=1):
            maps = functional.relu(convolution(maps))
            features[f"conv{number}"] = quadrants(maps)
        features["mean"] = maps.mean((2, 3))
        return features


class ResidualBlock(nn.Module):
    """Two normed 3 x 3 convolutions, added to what came in (He et al. 2016, pre-activation)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.first_norm = nn.GroupNorm(1, before)
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1)
        self.second_norm = nn.GroupNorm(1, after)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(before, after, 1, stride=2)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps to maps, of half the side where the channels change."""
        raised = self.first(functional.relu(self.first_norm(maps)))
        summed: Tensor = self.second(functional.relu(self.second_norm(raised)))
        summed = summed + self.shortcut(maps)
        return summed


class ResidualCNN(DigitNetwork):
    """A convolution and residual blocks in three stages.

    Parameters
    ----------
    per_stage : tuple of int
        Blocks of each stage.
    channels : int
        Channels of the first stage.
    """

    def __init__(self, per_stage: tuple[int, int, int] = (2, 3, 3), channels: int = 12) -> None:
        super().__init__()
        widths = [channels * 2**stage for stage, n in enumerate(per_stage) for _ in range(n)]
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            ResidualBlock(before, after)
            for before, after in zip([channels, *widths], widths, strict=False)
        )
        self.norm = nn.GroupNorm(1, widths[-1])
        self.classifier = nn.Linear(widths[-1], N_CLASSES)

    def layers(self, images: Tensor) -> dict[str, Tensor]:
        """Features of the stem and of the blocks by quadrant, and their mean; see the base."""
        maps = self.stem(images[:, None])
        features = {"stem": quadrants(maps)}
        for number, block in enumerate(self.blocks, start=1):
            maps = block(maps)
            features[f"block{number}"] = quadrants(maps)
        features["mean"] = functional.relu(self.norm(maps)).mean((2, 3))
        return features


class MLP(DigitNetwork):
    """Fully connected layers with rectified units.

    Parameters
    ----------
    depth : int
        Number of hidden layers.
    width : int
        Units of a layer.
    """

    def __init__(self, depth: int = 8, width: int = 96) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(
            nn.Linear(width if number else IMAGE_SIDE**2, width) for number in range(depth)
        )
        self.classifier = nn.Linear(width, N_CLASSES)

    def layers(self, images: Tensor) -> dict[str, Tensor]:
        """Features of the hidden layers; see the base class."""
        features, units = {}, images.flatten(1)
        for number, hidden in enumerate(self.hidden, start=1):
            units = functional.relu(hidden(units))
            features[f"hidden{number}"] = units
        return features


#: Families with at least 8 layers, by name.
FAMILIES: dict[str, Callable[[], DigitNetwork]] = {
    "plain CNN": PlainCNN,
    "residual CNN": ResidualCNN,
    "transformer": lambda: VisionTransformer(width=32, depth=8, heads=4),
    "MLP": MLP,
}

#: Shallow ones, of which many are trained.
SHALLOW: dict[str, Callable[[], DigitNetwork]] = {
    "plain CNN": lambda: PlainCNN(per_stage=1),
    "transformer": lambda: VisionTransformer(width=32, depth=2, heads=4),
    "MLP": lambda: MLP(depth=3),
}


def initial_network(build: Callable[[], DigitNetwork], seed: int) -> DigitNetwork:
    """Build a network with seeded random weights; no global random state is read.

    Weights are normal with variance 2 / fan-in (He et al. 2015), the last map of a residual
    branch with a tenth of that deviation; norms start as the identity, biases at zero.
    """

    def draw(weight: Tensor, fan_in: int, generator: torch.Generator) -> None:
        weight.normal_(0.0, math.sqrt(2 / fan_in), generator=generator)

    network = weights.initial_network(build, seed, draw)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, ResidualBlock):
                module.second.weight.mul_(0.1)
            elif isinstance(module, TransformerBlock):
                module.attention_output.weight.mul_(0.1)
                module.perceptron_output.weight.mul_(0.1)
    return network
