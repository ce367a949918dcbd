"""Runs one job again and again, killed at random moments, until it is done.

Run as ``python killed_runs.py JOB FOLDER N_KILLS SEED``, where JOB is one of :data:`JOBS`; every
time that it is done it begins again in the next of the folders 0, 1, ... in FOLDER. Prints, as
JSON, how often a run was killed while it was working and how many were done. Children are forked
from a server that has imported everything and runs a single thread.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

N, D, CHUNK = 640, 16, 16
#: Besides this module, what children need, imported by the server once.
IMPORTED = ["relspace", "relspace.cli", "relspace.embedding", "relspace.features", "zarr"]
SECONDS = {"transform-zarr": (0.01, 0.12), "transform-npy": (0.01, 0.12), "embed": (0.02, 0.8)}


def features() -> np.ndarray:
    """What is transformed."""
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def transform(out: Path) -> None:
    """Begin the transform, or go on with it."""
    from relspace import Aligner
    from relspace.row_sources import GeneratedRows
    from relspace.streaming import Output

    X = features()

    def make(start: int, stop: int) -> np.ndarray:
        time.sleep(0.002)
        return X[start:stop]

    source = GeneratedRows((N, D), make, ids=tuple(range(N)))
    Aligner().fit(X[:64]).transform(source, out=Output(out, chunk_rows=CHUNK, resume="trust"))


def embed(folder: Path) -> None:
    """Embed and colour two sets by the command, or go on with it."""
    from relspace.cli import commands

    folder.mkdir(exist_ok=True)
    X = features()
    for name, rows in (("a", X), ("b", X[: N // 2, ::-1])):
        if not (folder / f"{name}.npy").exists():
            np.save(folder / f"new-{name}.npy", rows)
            (folder / f"new-{name}.npy").rename(folder / f"{name}.npy")
    sets = [str(folder / "a.npy"), str(folder / "b.npy")]
    options = ["--components", "3", "--landmarks", "40", "--memory-budget", "5KiB"]
    given = ["embed", *sets, "-o", str(folder / "out"), *options]
    if commands.main(given, standalone_mode=False):
        raise SystemExit("the command failed")


JOBS: dict[str, Callable[[Path], None]] = {
    "transform-zarr": lambda folder: transform(folder / "out.zarr"),
    "transform-npy": lambda folder: transform(folder / "out.npy"),
    "embed": embed,
}


def work(job: str, folder: Path, begun: Connection) -> None:
    """Do a job in a child, which says when it begins."""
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    folder.mkdir(exist_ok=True)
    begun.send(None)
    JOBS[job](folder)


def was_killed(job: str, folder: Path, seconds: float | None) -> bool:
    """Start a run and kill it after a while; False if it was done before."""
    server = multiprocessing.get_context("forkserver")
    told, begun = server.Pipe(duplex=False)
    child = server.Process(target=work, args=(job, folder, begun))
    child.start()
    told.recv()
    child.join(seconds)
    child.kill()
    child.join()
    if child.exitcode not in (0, -signal.SIGKILL):
        raise SystemExit(f"a run failed: {child.exitcode}")
    return child.exitcode != 0


def main() -> None:
    """Kill runs until there were enough, then let the last one finish."""
    job, place, n_kills, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    multiprocessing.get_context("forkserver").set_forkserver_preload(["__main__", *IMPORTED])
    moments = random.Random(seed)
    kills = finished = 0
    while kills < n_kills:
        if was_killed(job, place / str(finished), moments.uniform(*SECONDS[job])):
            kills += 1
        else:
            finished += 1
    was_killed(job, place / str(finished), None)
    print(json.dumps({"kills": kills, "finished": finished + 1}))


if __name__ == "__main__":
    # Before the server starts, whose libraries would start threads of their own.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    main()
