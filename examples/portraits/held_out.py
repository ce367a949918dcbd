"""Held-out portraits: every layer's tokens at their own resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from examples.portraits.drawing import PARTS, SIDE, Portraits, draw_portraits, part_shares
from examples.portraits.networks import PortraitNetwork
from relspace.demo.retrieval import Patches
from relspace.features import FeatureSet, TokenGrid, token_centers, token_positions


@dataclass(frozen=True)
class HeldOut:
    """Portraits that no network has seen, with the tokens that each network has of them.

    Attributes
    ----------
    portraits : Portraits
        First those that landmarks lie in, then those that are asked for.
    n_landmark_images : int
        How many come first.
    features : dict of str to FeatureSet
        Every layer of each network.
    """

    portraits: Portraits
    n_landmark_images: int
    features: dict[str, FeatureSet]

    @property
    def landmark_images(self) -> range:
        """Positions of the portraits that landmarks lie in."""
        return range(self.n_landmark_images)

    @property
    def queried_images(self) -> range:
        """Positions of the portraits that are asked for."""
        return range(self.n_landmark_images, len(self.portraits))

    def grid(self, network: str, images: Sequence[int]) -> TokenGrid:
        """Where a network's tokens lie, the same in all its layers."""
        features = self.features[network]
        grid = features[features.layers[-1]].grid
        assert grid is not None
        return grid.select(torch.as_tensor(images))

    def patches(self, network: str) -> Patches:
        """The truth about a network's patches in the queried portraits."""
        grid = self.grid(network, self.queried_images)
        parts = self.portraits.parts[self.queried_images.start :]
        return Patches(
            token_positions(grid).images,
            part_shares(parts, grid.rows).flatten(0, 2).argmax(1),
            token_centers(grid).reshape(-1, 2).float(),
            PARTS,
        )

    def seen_by(self, networks: Mapping[str, PortraitNetwork]) -> HeldOut:
        """The same portraits as other networks see them."""
        features = {name: extract(one, self.portraits) for name, one in networks.items()}
        return HeldOut(self.portraits, self.n_landmark_images, features)

    def tokens(self, network: str, layer: str) -> Tensor:
        """A layer's tokens in the queried portraits."""
        return self.features[network].tokens(layer=layer, images=list(self.queried_images))


def extract(network: PortraitNetwork, portraits: Portraits) -> FeatureSet:
    """Tokens of every layer of a network, in place."""
    with torch.no_grad():
        parts = [network.layers(some) for some in torch.split(portraits.images, 16)]
    layers = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    ids = [f"portrait {number}" for number in range(len(portraits))]
    sizes = [(SIDE, SIDE)] * len(portraits)
    return FeatureSet.from_arrays(layers, layout="bhwc", ids=ids, image_sizes=sizes)


def hold_out(
    networks: Mapping[str, PortraitNetwork],
    n_landmark_images: int,
    n_queried_images: int,
    seed: int,
) -> HeldOut:
    """Draw portraits and let the networks look at them.

    Parameters
    ----------
    networks : mapping of str to PortraitNetwork
        The networks by name.
    n_landmark_images, n_queried_images : int
        How many portraits landmarks lie in, and how many are asked for.
    seed : int
        Seed of the portraits; those of training have other ones.
    """
    portraits = draw_portraits(n_landmark_images + n_queried_images, seed)
    return HeldOut(portraits, n_landmark_images, {}).seen_by(networks)
