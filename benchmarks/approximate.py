"""What do approximate neighbours cost beside exact ones, and how many of them do they find?

    python benchmarks/approximate.py
    python benchmarks/approximate.py --items 100000 1000000 --exact-up-to 100000

Needs the extra `ann`. Items are Gaussian, the hardest case: neighbours are hardly nearer than
others, and cells hold no clusters. Exact answers beyond ``--exact-up-to`` are worked out from the
largest size that was timed, as they grow with the square of the items, and marked so.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

import relspace
from _measure import describe_machine, write_json

HERE = Path(__file__).resolve().parent
N_FEATURES = 64
N_SHARED = 8


def make_items(n_items: int, kind: str) -> torch.Tensor:
    """Items that fill all dimensions, or that lie near a curved surface of few, as features do."""
    generator = torch.Generator().manual_seed(0)
    if kind == "gaussian":
        return torch.randn(n_items, N_FEATURES, generator=generator)
    inner = torch.randn(n_items, N_SHARED, generator=generator)
    weights = torch.randn(N_SHARED, N_FEATURES, generator=generator)
    noise = torch.randn(n_items, N_FEATURES, generator=generator)
    return torch.tanh(inner @ weights / N_SHARED**0.5) + 0.05 * noise


def time_search(items: torch.Tensor, index: str) -> tuple[float, float | None]:
    """Seconds to find the neighbours of all items, and the recall."""
    measure = relspace.measures.get("mutual_neighbors", index=index)
    start = time.perf_counter()
    found = measure.prepare(items)
    return time.perf_counter() - start, measure.recall(found)


def main() -> int:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[20_000, 100_000, 1_000_000])
    parser.add_argument("--exact-up-to", type=int, default=100_000)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "approximate.json")
    arguments = parser.parse_args()
    machine = describe_machine(torch.get_num_threads())
    threads = machine["threads"]
    print(f"{machine['processor']}, {threads} threads, {N_FEATURES} features, k = 10")
    print(f"{'items':>9s}  {'kind':9s} {'exact (s)':>10s} {'approximate (s)':>16s} {'recall':>7s}")
    rows: list[dict[str, Any]] = []
    for kind in ("gaussian", "surface"):
        timed: tuple[int, float] | None = None
        for n_items in sorted(arguments.items):
            items = make_items(n_items, kind)
            is_timed = n_items <= arguments.exact_up_to or timed is None
            if is_timed:
                timed = (n_items, time_search(items, "exact")[0])
            assert timed is not None
            exact = timed[1] * (n_items / timed[0]) ** 2
            approximate, recall = time_search(items, "approximate")
            said = f"{exact:.1f}" if is_timed else f"~{exact:.0f}"
            print(
                f"{n_items:9d}  {kind:9s} {said:>10s} {approximate:16.1f} {recall:7.4f}", flush=True
            )
            rows.append(
                {
                    "n_items": n_items,
                    "kind": kind,
                    "exact_s": exact,
                    "exact_is_timed": is_timed,
                    "approximate_s": approximate,
                    "recall": recall,
                }
            )
    write_json(
        arguments.output, {"machine": machine, "n_features": N_FEATURES, "k": 10, "rows": rows}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
