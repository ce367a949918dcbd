"""How much memory do spaces, embeddings, colours and comparisons take that are larger than it?

    python benchmarks/streams.py

Features are generated as they are read, and every case runs in a process of its own, which has
done the same on a few rows before. What is counted is the most memory that it took over what it
held then. `--case NAME --size N` runs one case in this process and prints its numbers as JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from _measure import describe_machine, peak_of_process, reset_peak_memory, write_json
from relspace.features.layer import ItemSource

HERE = Path(__file__).resolve().parent
BUDGET = 2**28
N_LANDMARKS = 512
N_WAVES = 6

Numbers = dict[str, float]


def waves(start: int, stop: int, width: int) -> NDArray[np.float32]:
    """Rows that are the same wherever a block begins, and no two alike."""
    phase = np.arange(start, stop, dtype=np.float64)[:, None] * np.sqrt(np.arange(2, width + 2))
    return np.sin(phase).astype(np.float32)


def embed(n: int, folder: Path) -> Numbers:
    """Embed n tokens of 256 features by 1024 nodes in 8 components, colour them, write both."""
    import relspace as rs
    from relspace.rows.source import GeneratedRows

    width, n_components = 256, 8
    mixing = np.random.default_rng(9).normal(size=(8, width)).astype(np.float32)
    tokens = GeneratedRows((n, width), lambda i, j: np.tanh(waves(i, j, 8) @ mixing))
    cut = rs.NormalizedCut(n_components, n_landmarks=1024).fit(
        tokens, out=rs.Output(folder / f"cut-{n}.zarr", memory_budget=BUDGET), memory_budget=BUDGET
    )
    rs.colors(cut, out=folder / f"colors-{n}.zarr", memory_budget=BUDGET)
    return {"bytes": 4.0 * n * (width + n_components + 3)}


def align_items(n: int, folder: Path) -> Numbers:
    """Align two sets of n items, of 64 and 128 features, and take all their distances."""
    import relspace as rs
    from relspace.rows.source import GeneratedRows

    width = 64
    mixing = np.random.default_rng(9).normal(size=(width, 2 * width)).astype(np.float32) / 8
    sets = {
        "a": GeneratedRows((n, width), lambda i, j: waves(i, j, width)),
        "b": GeneratedRows((n, 2 * width), lambda i, j: waves(i, j, width) @ mixing),
    }
    space = rs.align(sets, landmarks=N_LANDMARKS, memory_budget=2**20)
    return {
        "distance": float(torch.as_tensor(space.distances("a", "b")).mean()),
        "chance": space.chance_distance("a", "b"),
        "bytes": 4.0 * n * (3 * width + 2 * N_LANDMARKS),
    }


class Pictures(ItemSource):
    """Features of images at a grid's own resolution, made when they are read."""

    def __init__(self, n_images: int, size: int, width: int) -> None:
        self.shape = (n_images, size, size, width)
        self.dtype = torch.float32
        generator = torch.Generator().manual_seed(width)
        self._weights = torch.randn(N_WAVES, width, generator=generator)

    def read_items(self, items: slice | torch.Tensor) -> torch.Tensor:
        """Make the features of some images."""
        made = []
        for i in torch.arange(self.shape[0])[items].tolist():
            picture = torch.randn(1, N_WAVES, 5, 5, generator=torch.Generator().manual_seed(i))
            maps = torch.nn.functional.interpolate(picture, self.shape[1:3], mode="bilinear")
            made.append(torch.tanh(maps[0].permute(1, 2, 0) @ self._weights))
        return torch.stack(made)


def align_images(n: int, folder: Path) -> Numbers:
    """Align the tokens of n images, 16 x 16 x 256 and 12 x 12 x 128, compare, write one set's."""
    import relspace as rs
    from relspace.features import TokenGrid
    from relspace.features.layer import LayerFeatures

    sets = {}
    for name, size, width in (("fine", 16, 256), ("coarse", 12, 128)):
        grid = TokenGrid.whole(size, size, n_images=n)
        layer = LayerFeatures("last", Pictures(n, size, width), grid, None)
        sets[name] = rs.FeatureSet({"last": layer})
    space = rs.align(sets, landmarks=N_LANDMARKS, memory_budget=2**20)
    out = rs.Output(folder / f"fine-{n}.zarr", memory_budget=BUDGET)
    space.transform("fine", sets["fine"], out=out)
    return {
        "distance": float(torch.as_tensor(space.distances("coarse", "fine")).mean()),
        "chance": space.chance_distance("coarse", "fine"),
        "bytes": 4.0 * sum(len(fs["last"]) * (fs["last"].shape[1] + 512) for fs in sets.values()),
    }


def compare_sets(n: int, folder: Path) -> Numbers:
    """Compare n items of 256 and 384 features: CKA with its interval, linear predictivity."""
    import relspace as rs
    from relspace.rows.source import GeneratedRows

    mixing = np.random.default_rng(9).normal(size=(2, 64, 384)).astype(np.float32) / 8

    def features(own: NDArray[Any]) -> GeneratedRows:
        return GeneratedRows((n, own.shape[1]), lambda i, j: np.tanh(waves(i, j, 64) @ own))

    X, Y = features(mixing[0, :, :256]), features(mixing[1])
    settings: dict[str, Any] = {"memory_budget": BUDGET, "n_permutations": 9}
    cka = rs.compare(X, Y, measure="cka", n_bootstraps=99, **settings)
    predicted = rs.compare(X, Y, measure="linear_predictivity", **settings)
    assert n < 10_000 or (cka.interval is not None and predicted.null_by == "limit")
    return {
        "cka": cka.value,
        "low": cka.interval[0] if cka.interval else float("nan"),
        "high": cka.interval[1] if cka.interval else float("nan"),
        "n_parts": float(cka.n_parts or 0),
        "linear_predictivity": predicted.value,
        "bytes": 4.0 * n * (256 + 384),
    }


#: What is run, on how many rows or images before, and on how many then.
CASES: dict[str, tuple[Callable[[int, Path], Numbers], int, int]] = {
    "embed": (embed, 2000, 1_000_000),
    "items": (align_items, 2000, 1_000_000),
    "images": (align_images, 10, 2000),
    "compare": (compare_sets, 2000, 400_000),
}


def measure(name: str, size: int) -> dict[str, Any]:
    """Run one case in this process; its numbers, seconds and peak memory."""
    case, few, _ = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        case(few, Path(folder))
        before = reset_peak_memory()
        start = time.perf_counter()
        numbers = case(size, Path(folder))
        seconds = time.perf_counter() - start
        peak = peak_of_process() - before
    return {"case": name, "size": size, **numbers, "seconds": seconds, "peak_bytes": peak}


def main() -> int:
    """Measure all cases, print a table and write it; or be the process of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=list(CASES), help="run one, and print JSON")
    parser.add_argument("--size", type=int, help="rows or images of that case")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results/streams.json")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.size or CASES[options.case][2])))
        return 0
    machine = describe_machine(torch.get_num_threads())
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    rows = []
    for name, (case, _, _) in CASES.items():
        command = [sys.executable, str(HERE / "streams.py"), "--case", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr}")
        row = json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
        what = (case.__doc__ or name).replace(" n ", f" {row['size']:,} ")
        print(
            f"{what}\n    {row['bytes'] / 2**30:.2f} GiB of rows, {row['seconds']:.0f} s, "
            f"peak {row['peak_bytes'] / 2**20:.0f} MiB",
            flush=True,
        )
    write_json(options.output, {"machine": machine, "memory_budget": BUDGET, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
