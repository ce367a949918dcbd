"""What does the way into a common space cost, beside the one matrix product that it needs?"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

import relspace
from _bars import Bar, add_check, conclude
from _measure import Call, Ratio, describe_machine, peak_bytes, write_json
from relspace._core.memory import chunk_slices, empty_matrix
from relspace._core.threads import side_by_side

HERE = Path(__file__).resolve().parent
BARS = (("time over the matrix product", 1.25), ("peak memory over the output's", 1.05))


def make_features(n_items: int, n_features: int) -> torch.Tensor:
    """Return Gaussian features whose variances fall off, as a network's do; seeded."""
    generator = torch.Generator().manual_seed(0)
    features = torch.empty(n_items, n_features).normal_(generator=generator)
    return features.mul_(torch.arange(1, n_features + 1, dtype=torch.float32).rsqrt())


def one_product() -> relspace.Aligner:
    """Return the settings of tokens on grids, which need no product but that with the landmarks.

    The defaults for items whiten tokens (D x D) and landmark columns (m x m): two products more.
    """
    return relspace.Aligner(density=0.05, normalize="center+unit", standardize="columns")


def product_in_blocks(X: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    """Return the product, made as a transform is: in blocks of rows, from the first to the last.

    What it takes longer than the product at once is the first touch of memory, which a virtual
    machine's host takes back where it lies free for seconds.
    """
    out = empty_matrix(len(X), landmarks.shape[1], like=X)

    def fill(rows: slice) -> None:
        torch.mm(X[rows], landmarks, out=out[rows])

    side_by_side(lambda: fill, chunk_slices(len(X), 512), X.device)
    return out


def seconds(call: Call) -> float:
    """Run the call once and return how long it took, without freeing its result."""
    start = time.perf_counter()
    result = call()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def main() -> int:
    """Measure, print and write; with ``--check`` the exit status says if the bars were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--landmarks", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results/transform.json")
    add_check(parser)
    options = parser.parse_args()

    machine = describe_machine(torch.get_num_threads())
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    X = make_features(options.items, options.features)
    aligner = one_product().fit(X[: options.landmarks])
    landmarks = aligner.landmarks_.T
    calls: dict[str, Call] = {
        "torch.mm": lambda: torch.mm(X, landmarks),
        "torch.mm, in blocks": lambda: product_in_blocks(X, landmarks),
        "relspace": lambda: aligner.transform(X),
    }
    aligner.transform(X[:1000])  # the first call also loads code and starts threads
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            times[name].append(seconds(call))
    ratio = Ratio.of(times["relspace"], times["torch.mm"])
    of_blocks = Ratio.of(times["relspace"], times["torch.mm, in blocks"])
    peak = peak_bytes(calls["relspace"])
    over = peak / (options.items * options.landmarks * X.element_size())
    print(f"n = {options.items}, D = {options.features}, m = {options.landmarks}, float32")
    for name, measured in times.items():
        print(f"  {name:<20} {statistics.median(measured):8.3f} s")
    print(f"time over the matrix product in blocks {of_blocks}")
    bars = [
        Bar(what, value, limit)
        for (what, limit), value in zip(BARS, (ratio.median, over), strict=True)
    ]
    write_json(
        options.output,
        {
            "machine": machine,
            "n_items": options.items,
            "n_features": options.features,
            "n_landmarks": options.landmarks,
            "seconds": times,
            "ratio": ratio.to_dict(),
            "ratio_of_blocks": of_blocks.to_dict(),
            "peak_bytes": peak,
            "bars": [bar.to_dict() for bar in bars],
        },
    )
    return conclude(bars, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
