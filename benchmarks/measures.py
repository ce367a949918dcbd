"""What does each measure cost beside linear CKA, and what do permutations cost?

    python benchmarks/measures.py

Measures take turns in one process, with one thread, and processor time is counted. Measures on
pairs of items get all shifts of a ring of items from Fourier transforms; the others are compared
anew under each permutation, as every library would.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import relspace
from _bars import Bar, add_check, conclude
from _measure import describe_machine, write_json

HERE = Path(__file__).resolve().parent
DEFAULT, REFERENCE = "affinity", "cka"
KERNEL_MEASURES = (DEFAULT, REFERENCE, "cka_rbf", "rsa", "distance_correlation")
OTHERS = ("rsa_spearman", "mutual_neighbors")
SHAPES = ((1000, 768), (1000, 4096))
#: The default number of permutations, and as many as p-values in print need.
USUAL, MANY = 99, 999
BAR_MANY, BAR_DEFAULT = 10.0, 3.0


def seconds_of(call: Callable[[], Any]) -> float:
    """Processor time of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def measure_all(n_items: int, width: int, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of one comparison and of those with permutations, by measure."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(n_items, width, generator=generator)
    Y = X + torch.randn(n_items, width, generator=generator)
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for name in (*KERNEL_MEASURES, *OTHERS):
        record = relspace.measures.get(name)
        calls[name, "one"] = partial(record, X, Y)
        for n in (USUAL, MANY):
            if name in KERNEL_MEASURES or n == USUAL:
                calls[name, str(n)] = partial(
                    relspace.compare, X, Y, measure=record, n_permutations=n
                )
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            times[key].append(seconds_of(call))
    found: dict[str, dict[str, float]] = {}
    for (name, column), taken in times.items():
        found.setdefault(name, {})[column] = statistics.median(taken)
    for row in found.values():
        row["over_reference"] = row[str(USUAL)] / found[REFERENCE][str(USUAL)]
        if str(MANY) in row:
            row["many_over_one"] = row[str(MANY)] / row["one"]
    return dict(sorted(found.items(), key=lambda item: item[1]["over_reference"]))


def main() -> int:
    """Print the tables and write them; with ``--check`` the exit status says if bars were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "measures.json")
    add_check(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tables, bars = {}, []
    for n_items, width in SHAPES:
        title = f"{n_items} x {width}"
        tables[title] = found = measure_all(n_items, width, arguments.rounds)
        print(f"\n{title}, seconds of one thread, median of {arguments.rounds} rounds")
        print(
            f"{'measure':22s} {'one':>7s} {f'{USUAL} permutations':>16s} "
            f"{f'{MANY} permutations':>17s} {'x linear CKA':>13s}"
        )
        for name, row in found.items():
            many = f"{row[str(MANY)]:17.3f}" if str(MANY) in row else " " * 17
            print(
                f"{name:22s} {row['one']:7.3f} {row[str(USUAL)]:16.3f} {many} "
                f"{row['over_reference']:13.1f}"
            )
        worst = max(row.get("many_over_one", 0.0) for row in found.values())
        bars.append(
            Bar(f"default measure over linear CKA, {title}", found[DEFAULT]["over_reference"],
                BAR_DEFAULT)
        )  # fmt: skip
        bars.append(Bar(f"{MANY} permutations, in comparisons, {title}", worst, BAR_MANY))
    write_json(arguments.output, {"machine": describe_machine(1), "tables": tables})
    return conclude(bars, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
