"""Train the two networks: ``python -m examples.portraits.train`` makes what ships."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from examples.digits.descent import descend
from examples.digits.weights import write_weights
from examples.portraits.drawing import PARTS, Portraits, draw_portraits, part_shares
from examples.portraits.networks import (
    CELLS,
    NETWORKS,
    BoundaryNetwork,
    PartNetwork,
    PortraitNetwork,
    initial_network,
)

N_TRAIN = 2400
N_VALIDATION = 100
# Portraits are drawn a hundred at a time, each hundred from a seed of its own. Of a seed 32 bits
# count, and these are far from those that a study is likely to have.
HUNDRED = 100
TRAIN_SEEDS = 3_000_000_000
VALIDATION_SEED = TRAIN_SEEDS - 1

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
POINTS = 24
# Small parts would count for little among all the cells.
PART_WEIGHTS = (0.5, 1.0, 1.0, 2.0, 3.0, 3.0, 1.0)


@dataclass(frozen=True)
class Schedule:
    """How long a network learns: so many steps, over so many portraits each."""

    steps: int
    batch: int


SCHEDULES = {"boundaries": Schedule(1200, 12), "parts": Schedule(1400, 24)}


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
    tokens = network.decoded(batch.images)
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


def part_loss(network: PartNetwork, batch: Portraits) -> Tensor:
    """Cross-entropy of the parts of all cells; small parts weigh more."""
    scores = network.parts(batch.images)
    shares = part_shares(batch.parts, network.grid * CELLS)
    weighted = shares * torch.tensor(PART_WEIGHTS)
    return -(functional.log_softmax(scores, -1) * weighted).sum(-1).mean()


def train(name: str, portraits: Portraits, *, seed: int, schedule: Schedule) -> PortraitNetwork:
    """Train one network on portraits, the same one for the same seed.

    Parameters
    ----------
    name : str
        A key of :data:`examples.portraits.networks.NETWORKS`.
    portraits : Portraits
        What it learns from.
    seed : int
        Decides the first weights, the order of the portraits and how they are varied.
    schedule : Schedule
        How long.

    Returns
    -------
    PortraitNetwork
        In evaluation mode.
    """
    network = initial_network(name, seed)
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        items = torch.randint(len(portraits), (schedule.batch,), generator=generator)
        return loss_of(network, varied(portraits.take(items), generator), generator)

    return descend(
        network,
        loss,
        schedule.steps,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        largest_gradient=1.0,
    )


def loss_of(network: PortraitNetwork, batch: Portraits, generator: torch.Generator) -> Tensor:
    """What a network is to make small."""
    if isinstance(network, BoundaryNetwork):
        return boundary_loss(network, batch, generator)
    assert isinstance(network, PartNetwork)
    return part_loss(network, batch)


def score(network: PortraitNetwork, portraits: Portraits) -> dict[str, float]:
    """How well a network does what it learned, on portraits that it has not seen.

    Returns
    -------
    dict
        Of the boundary network: ``boundary_precision``, ``boundary_recall``. Of the part network:
        ``part_recall``, the share of each part's cells that it names rightly, mean over parts.
    """
    cells = network.grid * CELLS
    with torch.no_grad():
        if isinstance(network, BoundaryNetwork):
            said = network.boundaries(network.decoded(portraits.images)) > 0
            truth = boundary_cells(portraits.parts, cells) > 0
            both = float((said & truth).sum())
            return {
                "boundary_precision": both / float(said.sum()),
                "boundary_recall": both / float(truth.sum()),
            }
        assert isinstance(network, PartNetwork)
        named = network.parts(portraits.images).argmax(-1)
    parts = part_shares(portraits.parts, cells).argmax(-1)
    right = [float((named[parts == part] == part).float().mean()) for part in range(len(PARTS))]
    return {"part_recall": sum(right) / len(right)}


def draw_training_portraits(n: int) -> Portraits:
    """Draw what the networks learn from, a hundred at a time."""
    several = [
        draw_portraits(min(HUNDRED, n - start), TRAIN_SEEDS + start)
        for start in range(0, n, HUNDRED)
    ]
    return Portraits(
        torch.cat([one.images for one in several]), torch.cat([one.parts for one in several])
    )


def main() -> None:
    """Train both networks and write their weights."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(__file__).parent / "weights", help="folder"
    )
    parser.add_argument("--only", choices=NETWORKS, help="train one of them")
    options = parser.parse_args()
    # Sums over several threads depend on how many there are; one gives the same weights anywhere.
    torch.set_num_threads(1)
    portraits = draw_training_portraits(N_TRAIN)
    validation = draw_portraits(N_VALIDATION, VALIDATION_SEED)
    for name in [options.only] if options.only else NETWORKS:
        about, schedule = NETWORKS[name], SCHEDULES[name]
        start = time.perf_counter()
        network = train(name, portraits, seed=about.seed, schedule=schedule)
        seconds = time.perf_counter() - start
        reached = score(network, validation)
        record = {
            "title": about.title,
            "seed": about.seed,
            "n_train": N_TRAIN,
            "n_validation": N_VALIDATION,
            **reached,
            **asdict(schedule),
            "learning_rate": LEARNING_RATE,
            "weight_decay": WEIGHT_DECAY,
        }
        write_weights(options.output / f"{name}.safetensors", network, record, torch.float16)
        scores = ", ".join(f"{key.replace('_', ' ')} {one:.3f}" for key, one in reached.items())
        sys.stdout.write(f"{about.title}: {scores}, {seconds:.0f} s\n")


if __name__ == "__main__":
    main()
