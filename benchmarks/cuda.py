"""What do affinities and transforms cost on a GPU, beside other libraries and what bounds them?

Run by `make bench-cuda`. Without a CUDA device it says so and exits with status 3; `--device cpu`
runs the same on small sizes, which tries the script and measures nothing of interest.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from _bars import Bar, add_check, conclude
from _measure import (
    Call,
    Ratio,
    Worker,
    describe_machine,
    interleave,
    peak_of_process,
    reset_peak_memory,
    serve,
    write_json,
)
from affinity import DENSITY, make_features, matrix_product_exp, measure_density

HERE = Path(__file__).resolve().parent
OURS = "relspace"
NO_CUDA = 3
MIB = 2**20
#: Of the larger of the copies and the product, what a transform that overlaps them may take.
LARGEST_RATIO = 1.25


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    items: tuple[int, ...] = (2048, 8192, 32768)
    features: tuple[int, ...] = (64, 768)
    tokens: int = 1_000_000
    width: int = 768
    landmarks: int = 1024
    budgets: tuple[int, ...] = (256 * MIB, 1024 * MIB, 4096 * MIB)
    rounds: int = 5


QUICK = Sizes((256, 512), (32,), 20_000, 64, 128, (8 * MIB, 32 * MIB), 2)


def synchronize(device: str) -> None:
    """Wait for what the device was asked to do."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def relspace_affinity(X: torch.Tensor, sigma: float) -> Call:
    """Ours: the bandwidth is solved for the density, then the affinity is taken."""
    import relspace

    return lambda: relspace.rbf_affinity(X, density=DENSITY)


def ncut_pytorch_affinity(X: torch.Tensor, sigma: float) -> Call:
    """The closest library: a bandwidth from a farthest-point sample, then the affinity."""
    from ncut_pytorch.utils.math import rbf_affinity
    from ncut_pytorch.utils.sigma import find_sigma

    return lambda: rbf_affinity(X, sigma=find_sigma(X, A_degree=DENSITY))


def keops_row_sums(X: torch.Tensor, sigma: float) -> Call:
    """Sums of rows of the affinity at a given bandwidth, which KeOps takes without the matrix."""
    from pykeops.torch import LazyTensor

    rows, columns = LazyTensor(X[:, None, :]), LazyTensor(X[None, :, :])
    return lambda: (-((rows - columns) ** 2).sum(-1) / (2 * sigma**2)).exp().sum(1)


def product(X: torch.Tensor, sigma: float) -> Call:
    """The floor: the one product that every method needs, in full float32."""
    torch.set_float32_matmul_precision("highest")
    return lambda: torch.mm(X, X.T)


def product_tf32(X: torch.Tensor, sigma: float) -> Call:
    """The same with TF32, which rounds features to 10 bits."""
    torch.set_float32_matmul_precision("high")
    return lambda: torch.mm(X, X.T)


# name -> (what it calls, whether it lives in the peers' environment, whose version counts)
CONTESTANTS: dict[str, tuple[Callable[[torch.Tensor, float], Call], bool, str]] = {
    OURS: (relspace_affinity, False, "relspace"),
    "ncut-pytorch": (ncut_pytorch_affinity, True, "ncut-pytorch"),
    "KeOps, row sums": (keops_row_sums, False, "pykeops"),
    "torch.mm": (product, False, "torch"),
    "torch.mm, exp": (matrix_product_exp, False, "torch"),
    "torch.mm, TF32": (product_tf32, False, "torch"),
}


def serve_contestant(name: str, case: dict[str, Any]) -> None:
    """Be one contestant: prepare the call, run it on a few items, then wait for requests."""
    build, _, distribution = CONTESTANTS[name]
    device = case["device"]
    build(make_features(64, case["n_features"]).to(device), case["sigma"])()
    call = build(make_features(case["n_items"], case["n_features"]).to(device), case["sigma"])

    def timed() -> Any:
        result = call()
        synchronize(device)
        return result

    def describe(result: Any) -> dict[str, float]:
        described = measure_density(result) if name in (OURS, "ncut-pytorch") else {}
        if device != "cpu":
            described["device_peak_bytes"] = float(torch.cuda.max_memory_allocated(device))
        return described

    versions = {name: importlib.metadata.version(name) for name in {distribution, "torch"}}
    serve(timed, versions, describe)


def contestants_here(peers: Path) -> list[str]:
    """Those that are installed; KeOps is optional, and ncut-pytorch has an environment."""
    absent = {
        "ncut-pytorch": not peers.exists(),
        "KeOps, row sums": importlib.util.find_spec("pykeops") is None,
    }
    for name in [name for name, is_absent in absent.items() if is_absent]:
        print(f"{name} is not installed and left out")
    return [name for name in CONTESTANTS if not absent.get(name, False)]


def measure_affinity(
    n_items: int, n_features: int, device: str, rounds: int, names: list[str], peers: Path
) -> dict[str, Any]:
    """Time all contestants in turns, then take each one's peak memory in a fresh process."""
    import relspace

    sigma = relspace.solve_bandwidth(make_features(n_items, n_features), density=DENSITY).sigma
    case = {"n_items": n_items, "n_features": n_features, "sigma": sigma, "device": device}

    def start(name: str) -> Worker:
        python = peers if CONTESTANTS[name][1] else Path(sys.executable)
        return Worker(python, HERE / "cuda.py", name, case)

    with ExitStack() as stack:
        workers = {name: stack.enter_context(start(name)) for name in names}
        times = interleave(workers, rounds)
    operations = 2 * n_items**2 * n_features
    found: dict[str, Any] = {}
    for name in names:
        with start(name) as worker:
            worker.seconds()
            found[name] = {
                "seconds": times[name],
                "ours_over_this": Ratio.of(times[OURS], times[name]).to_dict(),
                "teraflops": operations / statistics.median(times[name]) / 1e12,
                **worker.peak(),
                "versions": worker.versions,
            }
    return {**case, "contestants": found}


def print_affinity(case: dict[str, Any]) -> None:
    """Print one line per contestant."""
    for name, row in case["contestants"].items():
        ratio = "" if name == OURS else str(Ratio(**row["ours_over_this"]))
        density = f"{row['density']:.4f}" if "density" in row else ""
        print(
            f"{case['n_items']:>6} {case['n_features']:>5}  {name:<16}"
            f"{1e3 * statistics.median(row['seconds']):>10.3f} ms  {ratio:<22}"
            f"{row['teraflops']:>9.2f}  {density:>8}",
            flush=True,
        )


@contextmanager
def without_overlap() -> Iterator[None]:
    """Copy block by block in the thread that computes, which waits for it."""
    import relspace.rows.transform as streaming
    from relspace._core.device_copies import DeviceCopies

    class InTurn(DeviceCopies):
        """Rows are brought by the computation itself, and results taken back before it goes on."""

        def fetch(self, result: torch.Tensor) -> Any:
            return super().fetch(result.cpu())

    switched: Any = streaming
    before = switched.copies_for
    switched.copies_for = lambda device: InTurn()
    try:
        yield
    finally:
        switched.copies_for = before


def seconds(call: Callable[[], object], device: str, rounds: int) -> list[float]:
    """Time a call a few times, after one that also loads code."""
    taken = []
    for _ in range(rounds + 1):
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        taken.append(time.perf_counter() - start)
    return taken[1:]


def measure_transform(sizes: Sizes, device: str) -> dict[str, Any]:
    """Transform tokens in host memory and drop the result, beside the parts that it is made of."""
    from relspace.rows.formats.memory import ArrayRows
    from relspace.rows.transform import rows_at_once, write_rows
    from relspace.space.aligner import RelativeRows
    from scaling import Dropped
    from transform import one_product

    X = make_features(sizes.tokens, sizes.width)
    aligner = one_product().fit(X[: sizes.landmarks]).to(device)
    source, compute = ArrayRows(X), RelativeRows(aligner)
    room = rows_at_once(source, sizes.landmarks, sizes.budgets[-1], aligner.device)
    rows = min(sizes.tokens, 2**15, room)
    dropped = Dropped(source, rows)

    def transform() -> None:
        write_rows(source, compute, dropped, device=aligner.device)

    def transform_in_turn() -> None:
        with without_overlap():
            transform()

    block = X[:rows].pin_memory() if device != "cpu" else X[:rows]
    there = block.to(device, copy=True)
    result = torch.mm(there, aligner.landmarks_.T)
    back = torch.empty(result.shape, pin_memory=device != "cpu")
    n_blocks = sizes.tokens / rows
    parts: dict[str, Callable[[], object]] = {
        "copies in": lambda: there.copy_(block, non_blocking=True),
        "product": lambda: torch.mm(there, aligner.landmarks_.T, out=result),
        "copies out": lambda: back.copy_(result, non_blocking=True),
    }
    taken = {
        "with overlap": statistics.median(seconds(transform, device, sizes.rounds)),
        "without": statistics.median(seconds(transform_in_turn, device, sizes.rounds)),
    }
    for name, part in parts.items():
        taken[name] = n_blocks * statistics.median(seconds(part, device, 3 * sizes.rounds))
    bound = max(taken[name] for name in parts)
    return {"block_rows": rows, "seconds": taken, "over_bound": taken["with overlap"] / bound}


def measure_peak(sizes: Sizes, device: str, budget: int) -> dict[str, int]:
    """The most memory that a transform takes on the device within a budget; on a CPU, of all."""
    import relspace

    X = make_features(sizes.tokens // 4, sizes.width)
    aligner = relspace.Aligner().fit(X[: sizes.landmarks]).to(device)
    shards = [X[: len(X) // 2], X[len(X) // 2 :]]
    held = 0
    aligner.transform([X[:1000]], memory_budget=budget)
    if device == "cpu":
        held = reset_peak_memory()
        result = aligner.transform(shards, memory_budget=budget)
        peak = peak_of_process() - held - result.nbytes
    else:
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        aligner.transform(shards, memory_budget=budget)
        peak = torch.cuda.max_memory_allocated(device) - held
    return {"memory_budget": budget, "peak_bytes": peak}


def bars_of(transform: dict[str, Any], peaks: list[dict[str, int]]) -> list[Bar]:
    """Compare what was measured with what is demanded."""
    of_memory = max(one["peak_bytes"] / one["memory_budget"] for one in peaks)
    asked = (
        ("transform over the larger of copies and product", transform["over_bound"], LARGEST_RATIO),
        ("device memory over the budget", of_memory, 1.0),
    )
    return [Bar(*one) for one in asked]


def main() -> int:
    """Measure, print and write; with ``--check`` the exit status says if bars were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".venv-peers/bin/python")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to try the script")
    parser.add_argument("--quick", action="store_true", help="small sizes; always so on a CPU")
    parser.add_argument("-o", "--output", type=Path, help="by default results/cuda.json on a GPU")
    add_check(parser)
    parser.add_argument("--serve", nargs=2, metavar=("CONTESTANT", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_contestant(options.serve[0], json.loads(options.serve[1]))
        return 0
    device: str = options.device
    on_gpu = device != "cpu"
    if on_gpu and not torch.cuda.is_available():
        print(
            "no CUDA device: torch finds none here, and nothing was measured "
            "(--device cpu tries the script on small sizes).",
            file=sys.stderr,
        )
        return NO_CUDA
    sizes = QUICK if options.quick or not on_gpu else Sizes()
    machine = describe_machine(torch.get_num_threads())
    machine["device"] = torch.cuda.get_device_name(device) if on_gpu else "cpu"
    print(", ".join(f"{key} {value}" for key, value in machine.items()))

    names = contestants_here(options.peers)
    print("Auto-scaled affinity, float32; ratio: relspace over this one; 2 n n D operations")
    columns = f"{'time':>10}     {'ratio':<22}{'TFLOP/s':>9}  {'density':>8}"
    print(f"{'n':>6} {'D':>5}  {'':<16}{columns}")
    cases = []
    for n_features in sizes.features:
        for n_items in sizes.items:
            case = measure_affinity(n_items, n_features, device, sizes.rounds, names, options.peers)
            cases.append(case)
            print_affinity(case)

    print(f"\n{sizes.tokens:,} x {sizes.width} from host memory to {sizes.landmarks} landmarks")
    transform = measure_transform(sizes, device)
    for name, taken in transform["seconds"].items():
        print(f"  {name:<14}{taken:9.4f} s")
    print(f"\n{'budget, MiB':>12} {'peak, MiB':>10}")
    peaks = [measure_peak(sizes, device, budget) for budget in sizes.budgets]
    for one in peaks:
        print(f"{one['memory_budget'] / MIB:>12.0f} {one['peak_bytes'] / MIB:>10.1f}")
    bars = bars_of(transform, peaks) if on_gpu else []
    output = options.output or (HERE / "results/cuda.json" if sizes is not QUICK else None)
    if output is not None:
        content = {"machine": machine, "density": DENSITY, "sizes": asdict(sizes)}
        content["bars"] = [bar.to_dict() for bar in bars]
        write_json(output, {**content, "affinity": cases, "transform": transform, "peaks": peaks})
    return conclude(bars, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
