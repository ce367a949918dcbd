"""Train the study's two networks: ``python -m examples.digits.train`` makes their weights."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from examples.digits.descent import descend
from examples.digits.digits import N_TRAIN, SPLIT_SEED, Digits, accuracy, load_split
from examples.digits.networks import NETWORKS, DigitNetwork, initial_network
from examples.digits.weights import write_weights

EPOCHS = 60
BATCH = 50
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.01


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move each image by up to one pixel in each direction, at random."""
    n, side, _ = images.shape
    padded = functional.pad(images, (1, 1, 1, 1))
    start = torch.randint(0, 3, (2, n, 1), generator=generator)
    rows, columns = (start + torch.arange(side)).unbind()
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def train(name: str, digits: Digits, *, seed: int, epochs: int = EPOCHS) -> DigitNetwork:
    """Train one of ``NETWORKS``; the seed decides weights, the order of digits and shifts."""
    generator = torch.Generator().manual_seed(seed)

    def batches() -> Iterator[Digits]:
        for _ in range(epochs):
            order = torch.randperm(len(digits.labels), generator=generator)
            yield from map(digits.take, torch.split(order, BATCH))

    network, coming = initial_network(name, seed), batches()

    def loss() -> Tensor:
        batch = next(coming)
        return functional.cross_entropy(network(shift(batch.images, generator)), batch.labels)

    steps = epochs * -(-len(digits.labels) // BATCH)
    return descend(network, loss, steps, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)


def main() -> None:
    """Train both networks and write their weights."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(__file__).parent / "weights", help="folder"
    )
    output: Path = parser.parse_args().output
    # Sums over several threads depend on how many there are; one gives the same weights anywhere.
    torch.set_num_threads(1)
    digits, held_out = load_split()
    for name, about in NETWORKS.items():
        network = train(name, digits, seed=about.seed)
        record = {
            "title": about.title,
            "seed": about.seed,
            "split_seed": SPLIT_SEED,
            "n_train": N_TRAIN,
            "n_held_out": len(held_out.labels),
            "accuracy_train": accuracy(network, digits),
            "accuracy_held_out": accuracy(network, held_out),
            "epochs": EPOCHS,
            "batch": BATCH,
            "learning_rate": LEARNING_RATE,
            "weight_decay": WEIGHT_DECAY,
        }
        write_weights(output / f"{name}.safetensors", network, record)
        sys.stdout.write(
            f"{about.title}: {record['accuracy_held_out']:.3f} of {record['n_held_out']} held-out "
            "digits right\n"
        )


if __name__ == "__main__":
    main()
