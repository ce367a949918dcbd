"""Is the calibrated score right, and what does it cost beside `calibrated-similarity`?

    pip install calibrated-similarity
    python benchmarks/calibrated.py --check

The same comparisons, under the same permutations, by both packages in one run: their values must
be equal, and relspace must take at most a tenth of the time. Then Gaussian sets that have nothing
to do with each other, of many sizes and numbers of layers: their score must be 0 in at least
1 - alpha of cases. ``--peer FOLDER`` is where the package was installed with ``--target``.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

import relspace
from _bars import Bar, add_check, conclude
from _measure import describe_machine, write_json
from relspace.resampling import shift_families

HERE = Path(__file__).resolve().parent
ALPHA = 0.05
N_PERMUTATIONS = 200
#: Items, features, layers of each model, repetitions.
CASES = (
    (64, 64, 1, 400),
    (64, 8192, 1, 200),
    (256, 512, 1, 200),
    (1024, 64, 1, 100),
    (1024, 8192, 1, 40),
    (64, 64, 6, 200),
    (128, 1024, 12, 60),
    (64, 64, 24, 100),
    (256, 64, 24, 40),
)
#: Comparisons that are timed: items, features, layers of each model.
TIMED = ((256, 64, 1), (256, 512, 1), (1024, 512, 1), (128, 64, 4))
#: Standard errors of a share of cases by which it may miss the level.
_ERRORS = 3.0


def biased_cka(X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
    """Linear CKA as the example of the peer's documentation has it."""
    X, Y = X - X.mean(0), Y - Y.mean(0)
    left, right = X @ X.T, Y @ Y.T
    cka: torch.Tensor = (left * right).sum() / left.norm() / right.norm()
    return cka


def permutations_for(n_items: int) -> Iterator[torch.Tensor]:
    """The permutations of Y that relspace draws, for the peer's ``perm_fn``."""
    for family in shift_families(n_items, N_PERMUTATIONS):
        # relspace says which item of X meets each of Y.
        yield from family.inverse().permutations()


def draw(n_items: int, n_features: int, n_layers: int, seed: int) -> dict[str, torch.Tensor]:
    """Gaussian layers that have nothing to do with any other."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"layer {number}": torch.randn(n_items, n_features, generator=generator)
        for number in range(n_layers)
    }


def time_both(n_items: int, n_features: int, n_layers: int, rounds: int) -> dict[str, Any]:
    """Compare the same sets by both packages in turns; times, and how far apart values are."""
    calibrate_layers = import_module("calibrated_similarity").calibrate_layers

    # In float64, or the peer's sums over 1,024 x 1,024 pairs are off by 2e-5.
    a, b = (
        {name: layer.double() for name, layer in draw(n_items, n_features, n_layers, seed).items()}
        for seed in (1, 2)
    )
    b["layer 0"] = b["layer 0"] + a["layer 0"]
    ours_s, theirs_s = [], []
    difference = 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        found = relspace.compare_layers(
            a, b, measure="cka_biased", n_permutations=N_PERMUTATIONS, alpha=ALPHA
        )
        best = found.maximum
        ours = np.array([best.calibrated, best.p_value, found.threshold], dtype=np.float64)
        ours_s.append(time.perf_counter() - start)
        drawn = permutations_for(n_items)
        start = time.perf_counter()
        theirs = calibrate_layers(
            list(a.values()),
            list(b.values()),
            biased_cka,
            K=N_PERMUTATIONS,
            alpha=ALPHA,
            perm_fn=lambda n, device, drawn=drawn: next(drawn),
        )
        theirs_s.append(time.perf_counter() - start)
        difference = max(difference, float(np.abs(ours - np.array(theirs)).max()))
    return {
        "n_items": n_items,
        "n_features": n_features,
        "n_layers": n_layers,
        "ours_s": statistics.median(ours_s),
        "theirs_s": statistics.median(theirs_s),
        "ratio": statistics.median(o / t for o, t in zip(ours_s, theirs_s, strict=True)),
        "difference": difference,
    }


def share_at_0(
    n_items: int, n_features: int, n_layers: int, repetitions: int, measure: str
) -> dict[str, Any]:
    """How often unrelated sets score 0, by the maximum over their layers."""
    zeros = 0
    raw = []
    for repetition in range(repetitions):
        a, b = (
            draw(n_items, n_features, n_layers, 1_000_003 * side + repetition) for side in (1, 2)
        )
        found = relspace.compare_layers(
            a, b, measure=measure, n_permutations=99, random_state=repetition, alpha=ALPHA
        )
        zeros += found.maximum.calibrated == 0
        raw.append(found.maximum.value)
    return {
        "measure": measure,
        "n_items": n_items,
        "n_features": n_features,
        "n_layers": n_layers,
        "repetitions": repetitions,
        "share_at_0": zeros / repetitions,
        "mean_value": statistics.mean(raw),
    }


def most(count: int) -> float:
    """The share of so many unrelated cases that may be above 0: alpha, and errors of counting."""
    return ALPHA + _ERRORS * math.sqrt(ALPHA * (1 - ALPHA) / count)


def main() -> int:
    """Print both tables and write them; with ``--check`` the exit status says if bars were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, help="folder that holds calibrated_similarity")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the repetitions")
    parser.add_argument("--measures", default="cka_biased,affinity")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "calibrated.json")
    add_check(parser)
    arguments = parser.parse_args()
    if arguments.peer is not None:
        sys.path.insert(0, str(arguments.peer))
    machine = describe_machine(torch.get_num_threads())
    print(f"{machine['processor']}, {torch.get_num_threads()} threads")
    time_both(64, 16, 1, 1)
    timed = [time_both(*case, arguments.rounds) for case in TIMED]
    bars = []
    print(
        "items features layers  relspace (s)  calibrated-similarity (s)  ratio  largest difference"
    )
    for row in timed:
        print(
            f"{row['n_items']:5d} {row['n_features']:8d} {row['n_layers']:6d} "
            f"{row['ours_s']:13.4f} {row['theirs_s']:26.3f} {row['ratio']:6.3f} "
            f"{row['difference']:19.1e}",
            flush=True,
        )
        case = f"{row['n_items']} x {row['n_features']}, {row['n_layers']} layers"
        bars.append(Bar(f"time of {case} over the peer's", row["ratio"], 0.1))
        bars.append(Bar(f"difference of {case}, in 1e-5", row["difference"] / 1e-5, 1.0))
    rows = []
    print("measure     items features layers repetitions  score 0  mean raw value")
    for measure in arguments.measures.split(","):
        for n_items, n_features, n_layers, repetitions in CASES:
            count = max(1, round(repetitions * arguments.share))
            row = share_at_0(n_items, n_features, n_layers, count, measure)
            rows.append(row)
            print(
                f"{measure:11s} {n_items:5d} {n_features:8d} {n_layers:6d} {count:11d} "
                f"{row['share_at_0']:8.3f} {row['mean_value']:15.3f}",
                flush=True,
            )
    for measure in arguments.measures.split(","):
        own = [row for row in rows if row["measure"] == measure]
        total = sum(row["repetitions"] for row in own)
        above = 1 - sum(row["share_at_0"] * row["repetitions"] for row in own) / total
        bars.append(Bar(f"share above 0 of {total} cases by {measure}", above, most(total)))
        for row in own:
            limit = most(row["repetitions"])
            case = f"{row['n_items']} x {row['n_features']}, {row['n_layers']} layers"
            bars.append(Bar(f"share above 0, {measure}, {case}", 1 - row["share_at_0"], limit))
    write_json(arguments.output, {"machine": machine, "timed": timed, "unrelated": rows})
    return conclude(bars, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
