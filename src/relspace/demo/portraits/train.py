"""Train the two networks: ``python -m relspace.demo.portraits.train`` makes what ships."""

from __future__ import annotations

import time
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from relspace.demo.portraits.drawing import PARTS, Portraits
from relspace.demo.portraits.networks import (
    CELLS,
    BoundaryNetwork,
    PartNetwork,
    PortraitNetwork,
    initial_network,
)

N_TRAIN = 2400
TRAIN_SEED = 1_000
VALIDATION_SEED = 900
STEPS = {"boundaries": 1400, "parts": 3000}
BATCH = {"boundaries": 12, "parts": 24}
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
POINTS = 24


def part_shares(parts: Tensor, cells: int) -> Tensor:
    """How much of each cell every part covers.

    Parameters
    ----------
    parts : ByteTensor of shape (n, side, side)
        The part of each pixel.
    cells : int
        Cells across and down the image.

    Returns
    -------
    tensor of shape (n, cells, cells, 7)
        Shares that sum to 1.
    """
    size = parts.shape[-1] // cells
    covered = functional.one_hot(parts.long(), len(PARTS)).permute(0, 3, 1, 2).float()
    return functional.avg_pool2d(covered, size).permute(0, 2, 3, 1)


def boundary_cells(parts: Tensor, cells: int) -> Tensor:
    """Where a boundary passes: cells with a pixel whose right or lower neighbour is another part.

    Parameters
    ----------
    parts : ByteTensor of shape (n, side, side)
        The part of each pixel.
    cells : int
        Cells across and down the image.

    Returns
    -------
    tensor of shape (n, cells, cells)
        1 where a boundary passes, else 0.
    """
    edge = torch.zeros(parts.shape)
    edge[:, :, :-1] += (parts[:, :, 1:] != parts[:, :, :-1]).float()
    edge[:, :-1] += (parts[:, 1:] != parts[:, :-1]).float()
    return functional.max_pool2d((edge > 0).float(), parts.shape[-1] // cells)


def varied(portraits: Portraits, generator: torch.Generator) -> Portraits:
    """Mirror half of the portraits, move each by up to 6 pixels, change its colours a little."""
    n, _, side, _ = portraits.images.shape
    start = torch.randint(0, 13, (2, n, 1), generator=generator)
    rows, columns = (start + torch.arange(side) - 6).clamp(0, side - 1).unbind()
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, side - 1 - columns, columns)
    at = (torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :])
    images = portraits.images.permute(0, 2, 3, 1)[at].permute(0, 3, 1, 2)
    gain = 1 + 0.15 * torch.randn(n, 3, 1, 1, generator=generator)
    return Portraits((images * gain).clamp(0, 1), portraits.parts[at])


def boundary_loss(network: BoundaryNetwork, batch: Portraits, generator: torch.Generator) -> Tensor:
    """Cross-entropy of boundaries, and of the regions around points, one region a point."""
    tokens = network.last(batch.images)
    truth = boundary_cells(batch.parts, network.grid * CELLS)
    edges = functional.binary_cross_entropy_with_logits(
        network.boundaries(tokens), truth, pos_weight=torch.tensor(3.0)
    )
    shares = part_shares(batch.parts, network.grid).flatten(1, 2)
    major = shares.argmax(-1)
    # Points are drawn so that small regions are pointed at as often as large ones.
    counts = functional.one_hot(major, len(PARTS)).sum(1)
    weight = 1 / counts.gather(1, major).float()
    points = torch.multinomial(weight, POINTS, replacement=True, generator=generator)
    same = shares.gather(2, major.gather(1, points)[:, None].expand(-1, shares.shape[1], -1))
    same = same.transpose(1, 2)
    scores = network.regions(tokens, points)
    inside, outside = same.sum(2, keepdim=True), (1 - same).sum(2, keepdim=True)
    losses = functional.binary_cross_entropy_with_logits(scores, same, reduction="none")
    # Inside and outside of a region count the same, however small it is.
    weights = same / inside.clamp_min(1) + (1 - same) / outside.clamp_min(1)
    return edges + (losses * weights).sum(2).mean()


def part_loss(network: PartNetwork, batch: Portraits, generator: torch.Generator) -> Tensor:
    """Cross-entropy of the parts of all cells; small parts weigh more."""
    scores = network.parts(network.last(batch.images))
    shares = part_shares(batch.parts, network.grid * CELLS)
    weight = torch.tensor([0.5, 1.0, 1.0, 2.0, 3.0, 3.0, 1.0])
    return -(functional.log_softmax(scores, -1) * shares * weight).sum(-1).mean()


def train(name: str, portraits: Portraits, *, seed: int, steps: int, batch: int) -> PortraitNetwork:
    """Train one network on portraits, the same one for the same seed.

    Parameters
    ----------
    name : str
        A key of :data:`relspace.demo.portraits.networks.NETWORKS`.
    portraits : Portraits
        What it learns from.
    seed : int
        Decides the first weights, the order of the portraits and how they are varied.
    steps, batch : int
        How many steps, over how many portraits each.

    Returns
    -------
    PortraitNetwork
        In evaluation mode.
    """
    network = initial_network(name, seed).train()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    t = time.time()
    for step in range(steps):
        items = torch.randint(len(portraits), (batch,), generator=generator)
        chosen = varied(Portraits(portraits.images[items], portraits.parts[items]), generator)
        if isinstance(network, BoundaryNetwork):
            loss = boundary_loss(network, chosen, generator)
        else:
            loss = part_loss(cast(PartNetwork, network), chosen, generator)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(name, step, float(loss.detach()), time.time() - t, flush=True)
    return network.eval()
