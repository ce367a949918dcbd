"""What does an auto-scaled affinity matrix cost, beside other libraries and one matrix product?

Run by `make bench`, which builds the peers' environment; `--quick` for a short look.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from _bars import Bar, add_check, conclude
from _measure import Call, Ratio, Worker, describe_machine, interleave, serve, write_json

HERE = Path(__file__).resolve().parent
DENSITY = 0.05
OURS = "relspace"
RIVAL = "ncut-pytorch"
#: The most of the rival's time, by items and features; at other sizes it may be all of it.
TIME_LIMITS = {(8192, 768): 0.75}
#: The most of the result's bytes that a call may add to the process, by items and features.
PEAK_LIMITS = {(8192, 768): 1.3}


def make_features(n_items: int, n_features: int) -> torch.Tensor:
    """Return Gaussian features whose variances fall off, as a network's do; seeded."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.arange(1, n_features + 1, dtype=torch.float32).rsqrt()
    return torch.randn(n_items, n_features, generator=generator) * scales


def relspace_affinity(X: torch.Tensor, sigma: float) -> Call:
    """Ours: the bandwidth is solved for the density, then the affinity is taken."""
    import relspace

    return lambda: relspace.rbf_affinity(X, density=DENSITY)


def ncut_pytorch_affinity(X: torch.Tensor, sigma: float) -> Call:
    """The closest library: a bandwidth from a farthest-point sample, then the affinity."""
    from ncut_pytorch.utils.math import rbf_affinity
    from ncut_pytorch.utils.sigma import find_sigma

    return lambda: rbf_affinity(X, sigma=find_sigma(X, A_degree=DENSITY))


def sklearn_affinity(X: torch.Tensor, sigma: float) -> Call:
    """The same kernel at a bandwidth that is given, so without the search."""
    from sklearn.metrics.pairwise import rbf_kernel

    array = X.numpy()
    return lambda: rbf_kernel(array, gamma=0.5 / sigma**2)


def matrix_product(X: torch.Tensor, sigma: float) -> Call:
    """A floor: the one product that every method needs."""
    return lambda: torch.mm(X, X.T)


def matrix_product_exp(X: torch.Tensor, sigma: float) -> Call:
    """A floor: the product with the exponential in place, on rows short enough not to overflow."""
    scaled = X / X.norm(dim=1).max()
    return lambda: torch.mm(scaled, scaled.T).exp_()


# name -> (what it calls, whether it lives in the peers' environment, whose version counts)
CONTESTANTS: dict[str, tuple[Callable[[torch.Tensor, float], Call], bool, str]] = {
    OURS: (relspace_affinity, False, "relspace"),
    "ncut-pytorch": (ncut_pytorch_affinity, True, "ncut-pytorch"),
    "scikit-learn": (sklearn_affinity, True, "scikit-learn"),
    "torch.mm": (matrix_product, False, "torch"),
    "torch.mm, exp": (matrix_product_exp, False, "torch"),
}


def measure_density(result: Any) -> dict[str, float]:
    """Return the mean affinity over distinct pairs, which says what was solved."""
    A = torch.as_tensor(result)
    total = float(A.sum(dtype=torch.float64) - A.diagonal().sum(dtype=torch.float64))
    return {"density": total / (len(A) * (len(A) - 1))}


def serve_contestant(name: str, case: dict[str, Any]) -> None:
    """Be one contestant: prepare the call, run it on a few items, then wait for requests."""
    build, _, distribution = CONTESTANTS[name]
    build(make_features(64, case["n_features"]), case["sigma"])()
    call = build(make_features(case["n_items"], case["n_features"]), case["sigma"])
    versions = {name: importlib.metadata.version(name) for name in {distribution, "torch", "numpy"}}
    serve(call, versions, (lambda _: {}) if distribution == "torch" else measure_density)


def measure_case(n_items: int, n_features: int, rounds: int, peers: Path) -> dict[str, Any]:
    """Time all contestants in turns, then take each one's peak memory in a fresh process."""
    import relspace

    sigma = relspace.solve_bandwidth(make_features(n_items, n_features), density=DENSITY).sigma
    case = {"n_items": n_items, "n_features": n_features, "sigma": float(sigma)}

    def start(name: str) -> Worker:
        python = peers if CONTESTANTS[name][1] else Path(sys.executable)
        return Worker(python, HERE / "affinity.py", name, case)

    with ExitStack() as stack:
        workers = {name: stack.enter_context(start(name)) for name in CONTESTANTS}
        times = interleave(workers, rounds)
    contestants: dict[str, Any] = {}
    for name in CONTESTANTS:
        with start(name) as worker:
            contestants[name] = {
                "seconds": times[name],
                "ours_over_this": Ratio.of(times[OURS], times[name]).to_dict(),
                **worker.peak(),
                "versions": worker.versions,
            }
    return {**case, "contestants": contestants}


def print_case(case: dict[str, Any]) -> None:
    """Print one line per contestant."""
    for name, row in case["contestants"].items():
        ratio = "" if name == OURS else str(Ratio(**row["ours_over_this"]))
        density = f"{row['density']:.4f}" if "density" in row else ""
        print(
            f"{case['n_items']:>6} {case['n_features']:>5}  {name:<14}"
            f"{statistics.median(row['seconds']):>9.4f} s  {ratio:<22}"
            f"{row['peak_bytes'] / row['result_bytes']:>11.2f}  {density:>8}",
            flush=True,
        )


def bars_of(case: dict[str, Any]) -> list[Bar]:
    """Compare one case with what is demanded of the library; floors are shown, not demanded."""
    size = case["n_items"], case["n_features"]
    at = f"at n = {size[0]}, D = {size[1]}:"
    time = case["contestants"][RIVAL]["ours_over_this"]["median"]
    bars = [Bar(f"{at} time over {RIVAL}", time, TIME_LIMITS.get(size, 1.0))]
    if size in PEAK_LIMITS:
        ours = case["contestants"][OURS]
        over = ours["peak_bytes"] / ours["result_bytes"]
        bars.append(Bar(f"{at} peak over the result", over, PEAK_LIMITS[size]))
    return bars


def main() -> int:
    """Measure, print and write; with ``--check`` the exit status says if the bars were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".venv-peers/bin/python")
    parser.add_argument(
        "--items", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192, 16384]
    )
    parser.add_argument("--features", type=int, nargs="+", default=[64, 256, 768])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two small sizes, nothing written")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results/affinity.json")
    add_check(parser)
    parser.add_argument("--serve", nargs=2, metavar=("CONTESTANT", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()

    if options.serve:
        name, case = options.serve
        serve_contestant(name, json.loads(case))
        return 0
    if not options.peers.exists():
        parser.error(f"no peers' environment at {options.peers}: run `make bench`, which builds it")
    if options.quick:
        options.items, options.features, options.rounds = [512, 2048], [64, 768], 3

    machine = describe_machine(torch.get_num_threads())
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(
        "float32; seconds: median; ratio: relspace over this one, median (lowest to highest round)"
    )
    columns = f"{'time':>9}    {'ratio':<22}{'peak/result':>11}  {'density':>8}"
    print(f"{'n':>6} {'D':>5}  {'':<14}{columns}")
    cases = []
    for n_features in options.features:
        for n_items in options.items:
            cases.append(measure_case(n_items, n_features, options.rounds, options.peers))
            print_case(cases[-1])

    bars = [bar for case in cases for bar in bars_of(case)]
    if not options.quick:
        content = {"machine": machine, "dtype": "float32", "density": DENSITY}
        judged = [bar.to_dict() for bar in bars]
        write_json(options.output, {**content, "bars": judged, "cases": cases})
    return conclude(bars, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
