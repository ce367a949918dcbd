"""The demo's two networks, a convolutional one and a vision transformer, with every layer open."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.digits import weights
from examples.digits.weights import NetworkRecord

IMAGE_SIDE = 8
N_CLASSES = 10


def quadrants(maps: Tensor) -> Tensor:
    """Average maps of shape (n, channels, h, w) over the four quadrants: (n, 4 channels)."""
    return functional.adaptive_avg_pool2d(maps, 2).flatten(1)


class DigitNetwork(nn.Module):
    """A classifier of 8 x 8 digits that gives the features of all its layers.

    The last entry of :meth:`layers` is the penultimate layer: what the linear classifier reads.
    """

    classifier: nn.Linear

    def layers(self, images: Tensor) -> dict[str, Tensor]:
        """Features of every layer, (n, d), from input to output, for images of shape (n, 8, 8).

        Maps are averaged over the four quadrants of the image, so that a layer keeps some of where
        things are.
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Class scores, (n, 10)."""
        *_, penultimate = self.layers(images).values()
        scores: Tensor = self.classifier(penultimate)
        return scores


class ConvolutionalNetwork(DigitNetwork):
    """Three convolutions with 3 x 3 kernels and a hidden layer."""

    def __init__(self, channels: tuple[int, int, int] = (24, 48, 64), hidden: int = 96) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1)
            for before, after in zip((1, *channels), channels, strict=False)
        )
        side = IMAGE_SIDE // 4
        self.hidden = nn.Linear(channels[-1] * side**2, hidden)
        self.classifier = nn.Linear(hidden, N_CLASSES)

    def layers(self, images: Tensor) -> dict[str, Tensor]:
        """Features of the convolutions and of the hidden layer; see the base class."""
        features = {}
        maps = images[:, None]
        for number, convolution in enumerate(self.convolutions, start=1):
            if number > 1:
                maps = functional.max_pool2d(maps, 2)
            maps = functional.relu(convolution(maps))
            features[f"conv{number}"] = quadrants(maps)
        features["hidden"] = functional.relu(self.hidden(maps.flatten(1)))
        return features


class TransformerBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each on normed tokens and added to them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.perceptron_norm = nn.LayerNorm(width)
        self.perceptron_input = nn.Linear(width, 2 * width)
        self.perceptron_output = nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of shape (n, t, width) to tokens of the same shape."""
        n, t, width = tokens.shape
        query, key, value = (
            self.query_key_value(self.attention_norm(tokens))
            .view(n, t, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.attention_output(attended.transpose(1, 2).reshape(n, t, width))
        raised = functional.gelu(self.perceptron_input(self.perceptron_norm(tokens)))
        result: Tensor = tokens + self.perceptron_output(raised)
        return result


class VisionTransformer(DigitNetwork):
    """Transformer blocks over the 16 patches of 2 x 2 pixels (Dosovitskiy et al. 2021)."""

    patch_side = 2

    def __init__(self, width: int = 56, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.grid = IMAGE_SIDE // self.patch_side
        self.patches = nn.Linear(self.patch_side**2, width)
        self.places = nn.Parameter(torch.empty(self.grid**2, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, N_CLASSES)

    def layers(self, images: Tensor) -> dict[str, Tensor]:
        """Features of the patches, of the blocks and of the mean token; see the base class."""
        cut = functional.unfold(images[:, None], self.patch_side, stride=self.patch_side)
        tokens = self.patches(cut.transpose(1, 2)) + self.places
        features = {"patches": self._quadrants(tokens)}
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            features[f"block{number}"] = self._quadrants(tokens)
        features["mean token"] = self.norm(tokens).mean(1)
        return features

    def _quadrants(self, tokens: Tensor) -> Tensor:
        return quadrants(tokens.transpose(1, 2).view(len(tokens), -1, self.grid, self.grid))


NETWORKS: dict[str, NetworkRecord[DigitNetwork]] = {
    "cnn": NetworkRecord("Convolutional network", ConvolutionalNetwork, 1),
    "vit": NetworkRecord("Vision transformer", VisionTransformer, 2),
}


def initial_network(name: str, seed: int) -> DigitNetwork:
    """Build one of :data:`NETWORKS` with seeded random weights."""
    return weights.initial_network(NETWORKS[name].build, seed, weights.draw_uniform)


def load_network(name: str) -> tuple[DigitNetwork, dict[str, Any]]:
    """Load one of :data:`NETWORKS` as it ships, and how it was trained and what it reached."""
    return weights.shipped_network(NETWORKS[name].build, "examples.digits", name)
