"""What does a comparison of layers cost beside a process that holds a core?

    python benchmarks/neighbour.py

Torch uses two threads on two cores. Operations that both share wait, after each, for a thread that
isn't running; work that is cut into parts of its own for each core never waits.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import relspace
from _bars import Bar, add_check, conclude
from _measure import Ratio, describe_machine, write_json

HERE = Path(__file__).resolve().parent
BAR = 3.0
N_CORES = 2
N_LAYERS = 6
N_PERMUTATIONS = 99


@contextmanager
def neighbour() -> Iterator[None]:
    """Run a process that does nothing but hold a core."""
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.1)
        yield
    finally:
        spinning.kill()
        spinning.wait()


def make_layers(n_items: int, n_features: int, seed: int) -> dict[str, torch.Tensor]:
    """Layers of a random network over the same items, whatever the seed of its weights."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n_items, n_features, generator=generator)
    generator.manual_seed(seed)
    layers = {}
    for number in range(N_LAYERS):
        weights = torch.randn(n_features, n_features, generator=generator) / n_features**0.5
        features = torch.tanh(1.5 * features @ weights)
        layers[f"layer {number + 1}"] = features
    return layers


def seconds_of(name: str, a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Time one comparison of all layers."""
    start = time.perf_counter()
    relspace.compare_layers(a, b, measure=name, n_permutations=N_PERMUTATIONS)
    return time.perf_counter() - start


def measure(
    name: str, a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], rounds: int, most: float
) -> dict[str, Any]:
    """Time a measure alone and beside a neighbour, in turns; slow ones in fewer rounds."""
    small = {layer: features[:32] for layer, features in a.items()}
    seconds_of(name if name not in ("cca", "svcca", "pwcca") else "cka", small, small)
    alone: list[float] = []
    beside: list[float] = []
    while len(alone) < rounds and (not alone or sum(alone) + sum(beside) < most):
        alone.append(seconds_of(name, a, b))
        with neighbour():
            beside.append(seconds_of(name, a, b))
    return {
        "alone_s": statistics.median(alone),
        "beside_s": statistics.median(beside),
        "rounds": len(alone),
        "ratio": Ratio.of(beside, alone).to_dict(),
    }


def main() -> int:
    """Print the table and write it; with ``--check`` the exit status says if the bar was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=490)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most-seconds", type=float, default=60.0, help="for each measure")
    parser.add_argument("--measures", help="names, separated by commas; all by default")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "neighbour.json")
    add_check(parser)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:N_CORES]
    if len(cores) < N_CORES:
        raise SystemExit(f"this needs {N_CORES} cores, and there is {len(cores)}")
    # What is started inherits them, so that a neighbour is one on a larger machine too.
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(N_CORES)
    a, b = (make_layers(arguments.items, arguments.features, seed) for seed in (1, 2))
    names = list(relspace.measures.names())
    if arguments.measures:
        names = arguments.measures.split(",")
    machine = describe_machine(N_CORES)
    print(
        f"{machine['processor']}, {N_CORES} cores and threads, {N_LAYERS} x {N_LAYERS} layers, "
        f"{arguments.items} items, {N_PERMUTATIONS} permutations"
    )
    print(f"{'measure':22s} {'alone (s)':>10s} {'beside one (s)':>15s}  ratio")
    rows = {}
    for name in names:
        rows[name] = row = measure(name, a, b, arguments.rounds, arguments.most_seconds)
        print(
            f"{name:22s} {row['alone_s']:10.2f} {row['beside_s']:15.2f}  {Ratio(**row['ratio'])}",
            flush=True,
        )
    content = {
        "machine": machine,
        "n_items": arguments.items,
        "n_features": arguments.features,
        "n_layers": N_LAYERS,
        "n_permutations": N_PERMUTATIONS,
        "bar": BAR,
        "measures": rows,
    }
    write_json(arguments.output, content)
    bars = [Bar(f"ratio of {name}", row["ratio"]["median"], BAR) for name, row in rows.items()]
    return conclude(bars, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
