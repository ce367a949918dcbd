"""What do 999 permutations cost, in comparisons?

    python benchmarks/measures_permutations.py

Factors of the two sets are computed once. Measures on pairs of items get all shifts of a ring of
items from Fourier transforms; the others are compared anew under each permutation, as every
library would.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import relspace
from _bars import Bar, add_check, conclude
from _measure import describe_machine, write_json

HERE = Path(__file__).resolve().parent
KERNEL_MEASURES = ("affinity", "cka", "cka_rbf", "rsa", "distance_correlation")
OTHERS = ("rsa_spearman", "mutual_neighbors")
BAR = 10.0
N_PERMUTATIONS = 999
ROUNDS = 5


def seconds_of(call: Callable[[], Any]) -> float:
    """Time a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(name: str, X: torch.Tensor, Y: torch.Tensor) -> dict[str, float]:
    """Time one comparison and one with permutations, in turns."""
    record = relspace.measures.get(name)
    record(X, Y)
    one, many = [], []
    for _ in range(ROUNDS):
        one.append(seconds_of(lambda: record(X, Y)))
        many.append(
            seconds_of(
                lambda: relspace.compare(X, Y, measure=record, n_permutations=N_PERMUTATIONS)
            )
        )
    ratios = [b / a for a, b in zip(one, many, strict=True)]
    return {
        "one_s": statistics.median(one),
        "with_permutations_s": statistics.median(many),
        "ratio": statistics.median(ratios),
    }


def main() -> int:
    """Print the table and write it; with ``--check`` the exit status says if the bar was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument(
        "--output", type=Path, default=HERE / "results" / "measures_permutations.json"
    )
    add_check(parser)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(arguments.items, 768, generator=generator)
    Y = torch.randn(arguments.items, 1024, generator=generator)
    print(f"{arguments.items} items, {N_PERMUTATIONS} permutations, median of {ROUNDS} rounds")
    print(f"{'measure':22s} {'one (s)':>8s} {'with permutations (s)':>22s} {'ratio':>6s}")
    rows = {}
    for name in (*KERNEL_MEASURES, *OTHERS):
        rows[name] = row = measure(name, X, Y)
        print(
            f"{name:22s} {row['one_s']:8.3f} {row['with_permutations_s']:22.3f} "
            f"{row['ratio']:6.1f}",
            flush=True,
        )
    content = {
        "n_items": arguments.items,
        "n_permutations": N_PERMUTATIONS,
        "bar": BAR,
        "machine": describe_machine(torch.get_num_threads()),
        "measures": rows,
    }
    write_json(arguments.output, content)
    worst = max(rows[name]["ratio"] for name in KERNEL_MEASURES)
    return conclude([Bar("comparisons, of kernel measures", worst, BAR)], check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
