"""Runs one transform again and again, killed at random moments, until it is done.

Run as ``python killed_runs.py OUT N_KILLS SEED``; prints, as JSON, how often a run was killed while
it was working and how many runs finished. The parent imports everything once and forks.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
import zarr  # noqa: F401 - so that children have it at once

from relspace import Aligner
from relspace.row_sources import GeneratedRows
from relspace.streaming import Output

N, D, CHUNK = 640, 16, 16


def features() -> np.ndarray:
    """What is transformed."""
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def run(aligner: Aligner, X: np.ndarray, out: Path) -> None:
    """Begin the transform, or go on with it."""

    def make(start: int, stop: int) -> np.ndarray:
        time.sleep(0.002)
        return X[start:stop]

    source = GeneratedRows((N, D), make, ids=tuple(range(N)))
    aligner.transform(source, out=Output(out, chunk_rows=CHUNK))


def was_killed(aligner: Aligner, X: np.ndarray, out: Path, seconds: float) -> bool:
    """Start a run and kill it after a while; False if it was done before."""
    child = os.fork()
    if child == 0:
        run(aligner, X, out)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"a run failed: {status}")
    return os.WIFSIGNALED(status)


def main() -> None:
    """Kill runs until there were enough, then let the last one finish."""
    place, n_kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    moments = random.Random(seed)
    X = features()
    aligner = Aligner().fit(X[:64])
    kills = finished = 0
    while kills < n_kills:
        out = place.with_stem(f"{place.stem}{finished}")
        if was_killed(aligner, X, out, moments.uniform(0.01, 0.12)):
            kills += 1
        else:
            finished += 1
    if os.fork() == 0:
        run(aligner, X, place.with_stem(f"{place.stem}{finished}"))
        os._exit(0)
    if os.wait()[1] != 0:
        raise SystemExit("the last run failed")
    print(json.dumps({"kills": kills, "finished": finished + 1}))


if __name__ == "__main__":
    main()
