"""How do cost and memory of streamed transforms grow with the tokens, the features, the landmarks?

Rows are generated block by block and results are dropped, so that no disk is measured. `--quick`
for a short look; `--device cuda` computes there.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from _bars import Bar, add_check, conclude
from _measure import describe_machine, peak_of_process, reset_peak_memory, write_json
from relspace._core.memory import chunk_slices
from relspace.rows.source import GeneratedRows, RowSource
from relspace.rows.transform import bytes_per_row, write_rows
from relspace.space.aligner import RelativeRows
from transform import one_product

HERE = Path(__file__).resolve().parent
BUDGET = 2**30
LARGEST_PEAK = 2 * 2**30
CORPUS = 10**9
STORED_BYTES = 2  # float16
# What a reader's own provider asks may be given instead: dollars.
PRICE_OF_CORE_HOUR, PRICE_OF_TERABYTE_MONTH = 0.04, 23.0


@dataclass(frozen=True)
class Run:
    """One streamed transform: its size, and what it took."""

    n_items: int
    n_features: int
    n_landmarks: int
    seconds: float
    product_seconds: float
    peak_bytes: int
    process_bytes: int


class Dropped:
    """An output that keeps a checksum only."""

    def __init__(self, source: RowSource, chunk_rows: int) -> None:
        self.source, self.chunk_rows, self.checksum = source, chunk_rows, 0.0

    def missing(self) -> list[slice]:
        """All chunks."""
        return chunk_slices(self.source.shape[0], self.chunk_rows)

    def write(self, rows: slice, values: torch.Tensor) -> None:
        """Look at a few values, so that the work is done."""
        self.checksum += float(values[-1].sum())

    def finish(self) -> RowSource:
        """There is no output; return what it was made from."""
        return self.source


def generated(n_items: int, n_features: int) -> GeneratedRows:
    """Float16 rows, as stores hold them, out of one block that is read in another order each time.

    Making normal numbers would cost as much as what is measured.
    """
    generator = torch.Generator().manual_seed(0)
    scales = torch.arange(1, n_features + 1, dtype=torch.float32).rsqrt()
    base = (torch.randn(2**15, n_features, generator=generator) * scales).half()

    def make(start: int, stop: int) -> torch.Tensor:
        first = start % (2**14)
        return base[first : first + (stop - start)].clone()

    return GeneratedRows((n_items, n_features), make, dtype=torch.float16)


def measure(n_items: int, n_features: int, n_landmarks: int, device: str) -> Run:
    """Transform generated rows with a fixed memory budget, beside the product they need."""
    source = generated(n_items, n_features)
    landmarks = source.read(0, n_landmarks).float().to(device)
    aligner = one_product().fit(landmarks)

    compute = RelativeRows(aligner)
    chunk_rows = min(2**13, n_items, BUDGET // bytes_per_row(source, n_landmarks))
    compute(source.read(0, min(n_items, 1024)), 0)  # loads code, starts threads
    before = reset_peak_memory()
    start = time.perf_counter()
    write_rows(source, compute, Dropped(source, chunk_rows), device=aligner.device)
    seconds = time.perf_counter() - start
    peak = peak_of_process()
    block, right = source.read(0, chunk_rows).float().to(device), aligner.landmarks_.T
    product = math.inf
    for _ in range(5):
        start = time.perf_counter()
        float(torch.mm(block, right)[0, 0])
        product = min(product, time.perf_counter() - start)
    whole = product * n_items / chunk_rows
    return Run(n_items, n_features, n_landmarks, seconds, whole, peak - before, peak)


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The slope of a line through the logarithms: 1 where cost grows in proportion."""
    x = torch.tensor([math.log(size) for size in sizes])
    y = torch.tensor([math.log(value) for value in values])
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def corpus_costs(run: Run, cores: int, prices: tuple[float, float]) -> list[tuple[str, str]]:
    """What 10^9 tokens cost, from the time that a run took."""
    core_hours = run.seconds / run.n_items * CORPUS * cores / 3600
    read = CORPUS * run.n_features * STORED_BYTES / 1e12
    written = CORPUS * run.n_landmarks * STORED_BYTES / 1e12
    hours_of_64 = core_hours / 64
    return [
        ("features, float16", f"{read:.2f} TB"),
        ("relative features, float16, before compression", f"{written:.2f} TB"),
        ("operations, 2 n m D", f"{2 * CORPUS * run.n_landmarks * run.n_features:.2e}"),
        ("core-hours", f"{core_hours:.1f}"),
        ("hours of 64 cores", f"{hours_of_64:.2f}"),
        ("network these need", f"{(read + written) * 1e3 / hours_of_64 / 3600:.2f} GB/s"),
        ("computation", f"${core_hours * prices[0]:.2f}"),
        ("storage of both, per month", f"${(read + written) * prices[1]:.0f}"),
    ]


def plot(sweeps: dict[str, list[Run]], path: Path) -> None:
    """Draw seconds and peak memory of each sweep."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(sweeps), figsize=(4 * len(sweeps), 6), squeeze=False)
    for column, (name, runs) in enumerate(sweeps.items()):
        sizes = [getattr(run, name) for run in runs]
        top, bottom = axes[0][column], axes[1][column]
        top.loglog(sizes, [run.seconds for run in runs], "o-", label="transform")
        top.loglog(sizes, [run.product_seconds for run in runs], "s--", label="matrix product")
        bottom.semilogx(sizes, [run.process_bytes / 2**30 for run in runs], "o-")
        bottom.axhline(LARGEST_PEAK / 2**30, color="gray", linestyle=":")
        bottom.set(xlabel=name.replace("n_", ""), ylim=(0, None))
        if sizes[-1] < 100 * sizes[0]:
            for axis in (top, bottom):
                axis.set_xticks(sizes, [str(size) for size in sizes])
                axis.minorticks_off()
    axes[0][0].set_ylabel("seconds")
    axes[1][0].set_ylabel("peak of the process, GiB")
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> int:
    """Measure, print, plot and write; ``--check`` makes a missed bar of memory an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[10**k for k in range(3, 8)])
    parser.add_argument("--features", type=int, nargs="+", default=[64, 256, 768, 2048])
    parser.add_argument("--landmarks", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--core-hour", type=float, default=PRICE_OF_CORE_HOUR, help="dollars")
    parser.add_argument("--terabyte-month", type=float, default=PRICE_OF_TERABYTE_MONTH)
    parser.add_argument("--quick", action="store_true", help="up to 10^5 tokens, nothing written")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results/scaling.json")
    add_check(parser)
    options = parser.parse_args()
    if options.quick:
        options.items, options.features, options.landmarks = [1000, 10**5], [64, 768], [256, 1024]

    machine = describe_machine(torch.get_num_threads())
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"float16 in, {BUDGET / 2**30:.0f} GiB of memory budget, device {options.device}")
    print(f"{'n':>9} {'D':>5} {'m':>5} {'seconds':>9} {'x product':>10} {'peak, GiB':>10}")
    sizes: dict[str, list[tuple[int, int, int]]] = {
        "n_items": [(n, 768, 1024) for n in options.items],
        "n_features": [(10**5, width, 1024) for width in options.features],
        "n_landmarks": [(10**5, 768, m) for m in options.landmarks],
    }
    sweeps: dict[str, list[Run]] = {}
    for name, cases in sizes.items():
        sweeps[name] = []
        for case in cases:
            run = measure(*case, options.device)
            sweeps[name].append(run)
            print(
                f"{run.n_items:>9} {run.n_features:>5} {run.n_landmarks:>5} {run.seconds:>9.3f} "
                f"{run.seconds / run.product_seconds:>10.2f} {run.process_bytes / 2**30:>10.2f}",
                flush=True,
            )
    exponents: dict[str, Any] = {}
    for name, runs in sweeps.items():
        # Below 10^4 tokens a call's fixed cost counts.
        large = [run for run in runs if run.n_items >= 10**4] or runs
        if len(large) > 1:
            along = [getattr(run, name) for run in large]
            exponents[name] = exponent(along, [run.seconds for run in large])
            print(f"seconds grow with {name.replace('n_', '')} to the {exponents[name]:.2f}")
    largest = max(sweeps["n_items"], key=lambda run: run.n_items)
    peak = Bar(
        f"GiB of the process at n = {largest.n_items}",
        largest.process_bytes / 2**30,
        LARGEST_PEAK / 2**30,
    )
    costs = corpus_costs(
        largest, torch.get_num_threads(), (options.core_hour, options.terabyte_month)
    )
    print(f"\n10^9 tokens of {largest.n_features} over {largest.n_landmarks} landmarks:")
    for what, value in costs:
        print(f"  {what:<48} {value}")
    if not options.quick:
        content = {name: [asdict(run) for run in runs] for name, runs in sweeps.items()}
        whole = {"machine": machine, "sweeps": content, "exponents": exponents, "corpus": costs}
        write_json(options.output, whole)
        plot(sweeps, options.output.with_suffix(".png"))
    return conclude([peak], check=options.check)


if __name__ == "__main__":
    sys.exit(main())
