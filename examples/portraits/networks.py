"""Two small networks that look at portraits in different ways, with every layer open."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.digits import weights
from examples.digits.networks import TransformerBlock
from examples.digits.weights import NetworkRecord
from examples.portraits.drawing import PARTS, SIDE

#: Each token predicts for this many cells across and down its patch.
CELLS = 2


class PortraitNetwork(nn.Module):
    """A network over a grid of square patches that gives the tokens of all its layers.

    Attributes
    ----------
    stride : int
        Side of a patch in pixels.
    """

    stride: int

    @property
    def grid(self) -> int:
        """Tokens across and down."""
        return SIDE // self.stride

    def layers(self, images: Tensor) -> dict[str, Tensor]:
        """Tokens of every layer, from input to output.

        Parameters
        ----------
        images : tensor of shape (n, 3, 96, 96)
            sRGB in [0, 1].

        Returns
        -------
        dict of str to tensor of shape (n, grid, grid, width)
            Tokens by layer, in place.
        """
        raise NotImplementedError

    def last(self, images: Tensor) -> Tensor:
        """Tokens of the last layer."""
        *_, tokens = self.layers(images).values()
        return tokens


class ConvolutionalBlock(nn.Module):
    """A wide convolution for each channel and a perceptron for each place, added to what came in.

    Liu et al. (2022), A ConvNet for the 2020s, CVPR.
    """

    def __init__(self, width: int, side: int = 5) -> None:
        super().__init__()
        self.around = nn.Conv2d(width, width, side, padding=side // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.perceptron_input = nn.Linear(width, 3 * width)
        self.perceptron_output = nn.Linear(3 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of shape (n, h, w, width) to tokens of the same shape."""
        seen = self.around(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        raised = functional.gelu(self.perceptron_input(self.norm(seen)))
        result: Tensor = tokens + self.perceptron_output(raised)
        return result


class BoundaryNetwork(PortraitNetwork):
    """A convolutional network that learns where regions end, and which places share a region.

    As with Segment Anything (Kirillov et al. 2023), what a region is called is never said: it
    predicts boundaries, and for a place that is pointed at the region around it. As there, a
    decoder of three blocks lies between the encoder, whose layers are the features, and the masks.

    Parameters
    ----------
    width : int
        Channels of a token.
    depth : int
        Number of blocks of the encoder.
    """

    stride = 4

    def __init__(self, width: int = 64, depth: int = 5) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 7, stride=self.stride, padding=3)
        self.blocks = nn.ModuleList(ConvolutionalBlock(width) for _ in range(depth))
        self.decoder = nn.Sequential(*(ConvolutionalBlock(width) for _ in range(3)))
        self.norm = nn.LayerNorm(width)
        self.boundary = nn.Linear(width, CELLS**2)
        self.pointed = nn.Linear(width, 32)
        self.region = nn.Linear(width, 33)

    def layers(self, images: Tensor) -> dict[str, Tensor]:
        """Tokens of the patches and of the blocks; see the base class."""
        tokens = self.patches(images * 2 - 1).permute(0, 2, 3, 1)
        features = {"patches": tokens}
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            features[f"block{number}"] = tokens
        return features

    def decoded(self, images: Tensor) -> Tensor:
        """What the decoder makes of the last layer, (n, grid, grid, width)."""
        tokens: Tensor = self.norm(self.decoder(self.last(images)))
        return tokens

    def boundaries(self, tokens: Tensor) -> Tensor:
        """Scores of a boundary, (n, grid * CELLS, grid * CELLS), from decoded tokens."""
        return spread_cells(self.boundary(tokens))[..., 0]

    def regions(self, tokens: Tensor, points: Tensor) -> Tensor:
        """Scores of lying in the region pointed at.

        Parameters
        ----------
        tokens : tensor of shape (n, grid, grid, width)
            Decoded ones.
        points : LongTensor of shape (n, p)
            Tokens pointed at, by number.

        Returns
        -------
        tensor of shape (n, p, grid * grid)
            One score for each point and each token.
        """
        flat = tokens.flatten(1, 2)
        chosen = flat.gather(1, points[..., None].expand(-1, -1, flat.shape[2]))
        other = self.region(flat)
        asked = self.pointed(chosen) / math.sqrt(32)
        scores: Tensor = asked @ other[..., :-1].transpose(1, 2) + other[..., -1][:, None]
        return scores


class PartNetwork(PortraitNetwork):
    """A vision transformer (Dosovitskiy et al. 2021) that learns what every part is called.

    As with DINO (Caron et al. 2021), a head lies between its layers and what it is asked: here a
    block and a perceptron.

    Parameters
    ----------
    width : int
        Channels of a token.
    depth : int
        Number of blocks.
    heads : int
        Attention heads of a block.
    """

    stride = 8

    def __init__(self, width: int = 96, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Linear(3 * self.stride**2, width)
        self.places = nn.Parameter(torch.empty(self.grid**2, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.head = TransformerBlock(width, heads)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, 2 * width)
        self.part = nn.Linear(2 * width, CELLS**2 * len(PARTS))

    def layers(self, images: Tensor) -> dict[str, Tensor]:
        """Tokens of the patches and of the blocks; see the base class."""
        cut = functional.unfold(images * 2 - 1, self.stride, stride=self.stride)
        tokens = self.patches(cut.transpose(1, 2)) + self.places
        features = {"patches": self._in_place(tokens)}
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            features[f"block{number}"] = self._in_place(tokens)
        return features

    def parts(self, images: Tensor) -> Tensor:
        """Scores of each part, (n, grid * CELLS, grid * CELLS, 7)."""
        tokens = self.last(images)
        headed = self._in_place(self.head(tokens.flatten(1, 2)))
        raised = functional.gelu(self.hidden(self.norm(headed)))
        return spread_cells(self.part(raised))

    def _in_place(self, tokens: Tensor) -> Tensor:
        return tokens.view(len(tokens), self.grid, self.grid, -1)


def spread_cells(tokens: Tensor) -> Tensor:
    """Lay the cells that each token predicts for out as one map.

    Parameters
    ----------
    tokens : tensor of shape (n, h, w, CELLS * CELLS * k)
        Values of the cells, row by row.

    Returns
    -------
    tensor of shape (n, h * CELLS, w * CELLS, k)
        The map.
    """
    n, h, w, _ = tokens.shape
    cells = tokens.view(n, h, w, CELLS, CELLS, -1).permute(0, 1, 3, 2, 4, 5)
    return cells.reshape(n, h * CELLS, w * CELLS, -1)


NETWORKS: dict[str, NetworkRecord[PortraitNetwork]] = {
    "boundaries": NetworkRecord("Boundary network", BoundaryNetwork, 1),
    "parts": NetworkRecord("Part network", PartNetwork, 2),
}


def draw_normal(weight: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Draw a weight from the normal distribution of variance 1 / fan-in."""
    weight.normal_(0.0, 1 / math.sqrt(fan_in), generator=generator)


def initial_network(name: str, seed: int) -> PortraitNetwork:
    """Build one of :data:`NETWORKS` with seeded random weights."""
    return weights.initial_network(NETWORKS[name].build, seed, draw_normal)


def load_network(name: str) -> tuple[PortraitNetwork, dict[str, Any]]:
    """Load one of :data:`NETWORKS` as it ships, and how it was trained and what it reached."""
    return weights.shipped_network(NETWORKS[name].build, "examples.portraits", name)
