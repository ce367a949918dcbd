"""Do measures compare 50,000 items x 768 features in 2 GiB, exactly?

    python benchmarks/measures_memory.py

Every measure runs in a process of its own, whose peak resident memory counts all there is in it:
the interpreter, torch, both feature sets and the work. On fewer items the value is compared with
that of the same measure keeping whole matrices. Needs Linux, where the peak can be read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from _bars import Bar, add_check, conclude
from _measure import describe_machine, write_json

HERE = Path(__file__).resolve().parent
MEASURES = ("affinity", "rsa", "cka", "mutual_neighbors")
BAR_GIB = 2.0
CHECKED_ITEMS = 2000


def make_sets(n_items: int, n_features: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two seeded float32 sets of which the second sees the first through noise."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.arange(1, n_features + 1, dtype=torch.float32).rsqrt()
    X = torch.randn(n_items, n_features, generator=generator) * scales
    Y = torch.randn(n_items, n_features, generator=generator)
    return X, Y.mul_(scales).mul_(0.7).add_(X)


def serve(name: str, n_items: int, n_features: int) -> None:
    """Be the process of one measure: compare, and print what it took."""
    import relspace

    measure = relspace.measures.get(name)
    X, Y = make_sets(CHECKED_ITEMS, n_features)
    whole = measure(X, Y)
    factors = [measure.prepare(Z, memory_budget=1) for Z in (X, Y)]
    difference = abs(measure.from_factors(*factors) - whole)
    del X, Y, factors
    X, Y = make_sets(n_items, n_features)
    start = time.perf_counter()
    value = measure(X, Y)
    seconds = time.perf_counter() - start
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20
    print(
        json.dumps({"value": value, "seconds": seconds, "peak_gib": peak, "difference": difference})
    )


def measure_all(n_items: int, n_features: int) -> dict[str, Any]:
    """Run every measure in a process of its own."""
    results = {}
    for name in MEASURES:
        command = [sys.executable, str(HERE / "measures_memory.py"), "--serve", name]
        command += ["--items", str(n_items), "--features", str(n_features)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[name] = json.loads(done.stdout)
        row = results[name]
        print(
            f"{name:18s} {row['value']:8.4f} {row['seconds']:9.1f} {row['peak_gib']:9.2f} "
            f"{row['difference']:12.1e}",
            flush=True,
        )
    return results


def main() -> int:
    """Print the table and write it; with ``--check`` the exit status says if the bar was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--serve", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "measures_memory.json")
    add_check(parser)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.items, arguments.features)
        return 0
    print(f"{arguments.items} items x {arguments.features}, float32, two sets")
    print(f"{'measure':18s} {'value':>8s} {'seconds':>9s} {'peak GiB':>9s} {'difference':>12s}")
    results = measure_all(arguments.items, arguments.features)
    content = {
        "n_items": arguments.items,
        "n_features": arguments.features,
        "bar_gib": BAR_GIB,
        "machine": describe_machine(torch.get_num_threads()),
        "measures": results,
    }
    write_json(arguments.output, content)
    worst = max(row["peak_gib"] for row in results.values())
    return conclude([Bar("GiB of the largest peak", worst, BAR_GIB)], check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
