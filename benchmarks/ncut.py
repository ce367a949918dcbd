"""How long does the spectral embedding of a million tokens take, and how far is it from exact?

Run by `make bench-ncut`, which builds the peers' environment; `--quick` for a short look.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _bars import Bar, add_check, conclude
from _measure import describe_machine, write_json

HERE = Path(__file__).resolve().parent
OURS, PEER = "relspace", "ncut-pytorch"
N_COMPONENTS = 16
N_CLUSTERS = 40
DENSITY = 0.05
_ROWS = 20_000

Fit = Callable[[torch.Tensor, int, float], torch.Tensor]


def write_tokens(path: Path, n_items: int, n_features: int) -> None:
    """Write tokens to disk block by block: clusters of different weight, noise that falls off."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.arange(1, n_features + 1, dtype=torch.float32).rsqrt()
    centers = 1.5 * torch.randn(N_CLUSTERS, n_features, generator=generator) * scales
    weights = torch.arange(1, N_CLUSTERS + 1, dtype=torch.float32).rsqrt()
    out = np.lib.format.open_memmap(path, "w+", np.float32, (n_items, n_features))
    for start in range(0, n_items, _ROWS):
        n = min(_ROWS, n_items - start)
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, n_features, generator=generator) * scales
        out[start : start + n] = (centers[chosen] + noise).numpy()
    out.flush()


def fit_relspace(X: torch.Tensor, n_landmarks: int, sigma: float) -> torch.Tensor:
    """Ours; the bandwidth is solved for the density, so sigma is not looked at."""
    import relspace

    cut = relspace.NormalizedCut(N_COMPONENTS, density=DENSITY, n_landmarks=n_landmarks)
    found: torch.Tensor = cut.fit(X).embedding_["features"]
    return found


def fit_ncut_pytorch(X: torch.Tensor, n_landmarks: int, sigma: float) -> torch.Tensor:
    """The peer's class with the same number of nodes, for the graph and for what is extended."""
    # By name, because in this environment the import path is relspace's own and has no such class.
    cut = importlib.import_module("ncut_pytorch").Ncut(
        n_eig=N_COMPONENTS + 1,
        sigma=sigma,
        n_sample=n_landmarks,
        n_sample_max_ratio=1.0,
        n_sample2=n_landmarks,
    )
    found: torch.Tensor = cut.fit_transform(X)
    return found


CONTESTANTS: dict[str, tuple[Fit, bool]] = {
    OURS: (fit_relspace, False),
    PEER: (fit_ncut_pytorch, True),
}


class AnonymousMemory:
    """The most memory of its own that the process held; pages of mapped files don't count."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._before = self._now()
        self._most = self._before

    def __enter__(self) -> AnonymousMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def added(self) -> int:
        """Bytes over what was held at the start."""
        return self._most - self._before

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self._most = max(self._most, self._now())

    @staticmethod
    def _now() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("/proc/self/status has no RssAnon; memory is measured on Linux only")


def be_contestant(name: str, case: dict[str, Any]) -> None:
    """Embed the tokens once in this process; print time and memory, save the embedding."""
    fit = CONTESTANTS[name][0]
    torch.manual_seed(0)  # the peer samples with the global generator
    fit(torch.randn(9000, 8), 64, 1.0)  # loads code and starts threads
    X = torch.from_numpy(np.load(case["tokens"], mmap_mode="r+"))
    with AnonymousMemory() as memory:
        start = time.perf_counter()
        embedding = fit(X, case["n_landmarks"], case["sigma"])
        seconds = time.perf_counter() - start
    np.save(case["result"], embedding.numpy())
    print(
        json.dumps(
            {
                "seconds": seconds,
                "memory_bytes": memory.added,
                "version": importlib.metadata.version(name),
            }
        )
    )


def run_contestant(name: str, peers: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Run one contestant in a process of its own and return what it measured."""
    python = peers if CONTESTANTS[name][1] else Path(sys.executable)
    # -E: a PYTHONPATH could put this repository's ncut_pytorch before the peer's.
    command = [str(python), "-E", str(HERE / "ncut.py"), "--be", name, json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def exact_components(X: torch.Tensor, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors of the whole graph in float64, the constant one first, and degrees."""
    from scipy.sparse.linalg import eigsh

    points = X.double() - X.double().mean(0)
    squared = points.square().sum(1)
    W = (squared[:, None] + squared - 2 * points @ points.T).clamp_min_(0)
    W.mul_(-0.5 / sigma**2).exp_().fill_diagonal_(1.0)
    degrees = W.sum(1)
    root = degrees.sqrt()
    W.div_(root[:, None]).div_(root)
    values, vectors = eigsh(W.numpy(), k=N_COMPONENTS + 1, which="LA", v0=np.ones(len(W)))
    order = np.argsort(values)[::-1]
    return vectors[:, order], degrees.numpy()


def subspace_error(found: np.ndarray, exact: np.ndarray, degrees: np.ndarray) -> float:
    """Sine of the angles between what was found and the exact components, root mean square.

    Both are taken as components of D^{-1/2} W D^{-1/2}. An embedding may be these (as the peer's)
    or, divided by D^{1/2}, those of the random walk (as ours); the reading that comes nearer
    counts.
    """
    errors = []
    for reading in (found, found * np.sqrt(degrees)[:, None]):
        base, _ = np.linalg.qr(reading)
        cosines = np.linalg.svd(base.T @ exact, compute_uv=False).clip(0, 1)
        errors.append(float(np.sqrt(np.mean(1 - cosines**2))))
    return min(errors)


def measure_error(n_items: int, n_features: int, n_landmarks: int, peers: Path) -> dict[str, Any]:
    """Embed so few tokens that the whole graph can be solved, and compare with that."""
    import relspace

    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens.npy"
        write_tokens(tokens, n_items, n_features)
        X = torch.from_numpy(np.load(tokens))
        sigma = float(relspace.solve_bandwidth(X, density=DENSITY).sigma)
        exact, degrees = exact_components(X, sigma)
        row: dict[str, Any] = {
            "n_items": n_items,
            "n_features": n_features,
            "n_landmarks": n_landmarks,
        }
        for name in CONTESTANTS:
            result = Path(folder) / f"{name}.npy"
            case = {
                "tokens": str(tokens),
                "result": str(result),
                "n_landmarks": n_landmarks,
                "sigma": sigma,
            }
            measured = run_contestant(name, peers, case)
            found = np.load(result).astype(np.float64)
            if name == OURS:
                found = np.concatenate([np.ones((n_items, 1)), found], axis=1)
            row[name] = {**measured, "subspace_error": subspace_error(found, exact, degrees)}
    return row


def measure_time(n_items: int, n_features: int, n_landmarks: int, peers: Path) -> dict[str, Any]:
    """Embed tokens that lie on disk, each contestant once."""
    import relspace

    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens.npy"
        write_tokens(tokens, n_items, n_features)
        some = torch.from_numpy(np.load(tokens, mmap_mode="r")[:5000].copy())
        case = {
            "tokens": str(tokens),
            "result": str(Path(folder) / "result.npy"),
            "n_landmarks": n_landmarks,
            "sigma": float(relspace.solve_bandwidth(some, density=DENSITY).sigma),
        }
        row: dict[str, Any] = {
            "n_items": n_items,
            "n_features": n_features,
            "n_landmarks": n_landmarks,
        }
        for name in CONTESTANTS:
            row[name] = run_contestant(name, peers, case)
    return row


def print_row(row: dict[str, Any]) -> None:
    """Print one line for each contestant."""
    for name in CONTESTANTS:
        one = row[name]
        error = f"{one['subspace_error']:.4f}" if "subspace_error" in one else ""
        print(
            f"{row['n_items']:>9} {row['n_features']:>5} {row['n_landmarks']:>10}  {name:<14}"
            f"{one['seconds']:>9.1f} s {one['memory_bytes'] / 2**20:>9.0f} MiB  {error:>8}",
            flush=True,
        )


def main() -> int:
    """Measure, print and write; with ``--check`` the exit status says if the bars were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".venv-peers/bin/python")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--landmarks", type=int, nargs="+", default=[1024])
    parser.add_argument("--known", type=int, default=10_000, help="items of the exact solution")
    parser.add_argument("--quick", action="store_true", help="fewer items, nothing written")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results/ncut.json")
    add_check(parser)
    parser.add_argument("--be", nargs=2, metavar=("CONTESTANT", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()

    if options.be:
        be_contestant(options.be[0], json.loads(options.be[1]))
        return 0
    if not options.peers.exists():
        parser.error(f"no peers' environment at {options.peers}: `make bench` builds it")
    if options.quick:
        options.items = 50_000

    machine = describe_machine(torch.get_num_threads())
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(
        f"{'items':>9} {'width':>5} {'landmarks':>10}  {'':<14}{'time':>11} {'own memory':>13}  "
        f"{'error':>8}"
    )
    rows = []
    for n_landmarks in options.landmarks:
        for measure, n_items in ((measure_error, options.known), (measure_time, options.items)):
            rows.append(measure(n_items, options.features, n_landmarks, options.peers))
            print_row(rows[-1])
    asked = {"seconds": rows[1::2], "subspace_error": rows[::2]}
    bars = [
        Bar(f"{what} over {PEER}'s, {row['n_items']} items", row[OURS][what] / row[PEER][what], 1.0)
        for what, measured in asked.items()
        for row in measured
    ]
    if not options.quick:
        write_json(options.output, {"machine": machine, "density": DENSITY, "rows": rows})
    return conclude(bars, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
