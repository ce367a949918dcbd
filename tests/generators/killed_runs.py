"""Runs one job again and again, killed at random moments, until it is done.

Run as ``python killed_runs.py JOB FOLDER N_KILLS SEED``, where JOB is one of :data:`JOBS`; every
time that it is done it begins again in the next of the folders 0, 1, ... in FOLDER. Prints, as
JSON, how often a run was killed while it was working, how many were done, and how many files of
:data:`WHOLE_FILES` were there after a kill and not whole. Children are forked from a server that
has imported everything and runs a single thread.
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
SECONDS = {
    "transform-zarr": (0.01, 0.12),
    "transform-npy": (0.01, 0.12),
    "transform-file": (0.01, 0.3),
    "overwrite-zarr": (0.01, 0.25),
    "overwrite-npy": (0.01, 0.25),
    "embed": (0.02, 0.8),
    "align": (0.01, 0.4),
    "report": (0.01, 1.5),
    "extract": (0.02, 0.8),
}


def features() -> np.ndarray:
    """What is transformed."""
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def transform(out: Path, scale: float = 1.0, *, overwrite: bool = False) -> None:
    """Begin the transform, or go on with it."""
    from relspace import Aligner
    from relspace.rows.output import Output
    from relspace.rows.source import GeneratedRows

    X = features() * np.float32(scale)

    def make(start: int, stop: int) -> np.ndarray:
        time.sleep(0.002)
        return X[start:stop]

    source = GeneratedRows((N, D), make, ids=tuple(range(N)))
    output = Output(out, chunk_rows=CHUNK, overwrite=overwrite, resume="trust")
    Aligner(density=0.1 if overwrite else 0.2).fit(X[:64]).transform(source, out=output)


def overwrite(out: Path) -> None:
    """Write an output of another job once, then overwrite it, or go on with that."""
    old = out.with_name("old")
    if not old.exists():
        transform(out, 2.0)
        old.touch()
    transform(out, overwrite=True)


def transform_file(folder: Path) -> None:
    """Transform a file, which is identified again in every run, by the command."""
    save_once(folder / "x.npy", features())
    save_once(folder / "y.npy", features()[:, ::-1])
    space = folder / "space.safetensors"
    if not space.exists():
        command("align", folder / "x.npy", folder / "y.npy", "-o", space, "--landmarks", 60)
    out = folder / "out.npy"
    command("transform", space, "x", folder / "x.npy", "-o", out, "--memory-budget", "40KiB")


def embed(folder: Path) -> None:
    """Embed and colour two sets by the command, or go on with it."""

    folder.mkdir(exist_ok=True)
    X = features()
    save_once(folder / "a.npy", X)
    save_once(folder / "b.npy", X[: N // 2, ::-1])
    sets = [folder / "a.npy", folder / "b.npy"]
    options = ["--components", 3, "--landmarks", 40, "--memory-budget", "5KiB"]
    command("embed", *sets, "-o", folder / "out", *options)


def align(folder: Path) -> None:
    """Align two files by the command; a space that is there is replaced."""
    save_once(folder / "a.npy", features())
    save_once(folder / "b.npy", features()[:, ::-1])
    sets = [folder / "a.npy", folder / "b.npy"]
    command("align", *sets, "-o", folder / "space.safetensors", "--landmarks", 200, "--force")


def report(folder: Path) -> None:
    """Write the page of a space by the command; a page that is there is replaced."""
    space = folder / "input.safetensors"
    if not space.exists():
        save_once(folder / "a.npy", features()[:120])
        save_once(folder / "b.npy", features()[:120, ::-1])
        sets = [folder / "a.npy", folder / "b.npy"]
        command("align", *sets, "-o", space, "--landmarks", 60)
    page = folder / "page.html"
    command("report", space, "-o", page, "--force", "--permutations", 99)


class SlowNetwork(torch.nn.Module):
    """A convolution that takes a while."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv2d(3, 8, 4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Convolve."""
        time.sleep(0.005)
        return self.convolution(images)


def extract(folder: Path) -> None:
    """Extract features of images of which some can't be read."""
    import warnings

    import relspace as rs

    images = list(np.random.default_rng(0).random((N // 2, 8, 8, 3)).astype(np.float32))
    for row in (3, 100, 101, 102, 103, 319):
        images[row][0, 0, 0] = 2.0
    preprocessing = rs.Preprocessing(size=(8, 8))
    model = rs.ModuleModel(
        SlowNetwork(), ["convolution"], layout="bchw", preprocessing=preprocessing
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rs.extract(model, images, folder / "features.zarr", batch_size=4, on_error="skip")


def save_once(path: Path, values: np.ndarray) -> None:
    """Save an array under its name when it is whole, if it isn't there."""
    if not path.exists():
        unfinished = path.with_name(f"new-{path.name}")
        np.save(unfinished, values)
        unfinished.rename(path)


def command(*given: object) -> None:
    """Run a command of relspace."""
    from relspace.cli import commands

    if commands.main([str(one) for one in given], standalone_mode=False):
        raise SystemExit("the command failed")


JOBS: dict[str, Callable[[Path], None]] = {
    "transform-zarr": lambda folder: transform(folder / "out.zarr"),
    "transform-npy": lambda folder: transform(folder / "out.npy"),
    "transform-file": transform_file,
    "overwrite-zarr": lambda folder: overwrite(folder / "out.zarr"),
    "overwrite-npy": lambda folder: overwrite(folder / "out.npy"),
    "embed": embed,
    "align": align,
    "report": report,
    "extract": extract,
}
#: Outputs that are there whole, or not at all, at any moment.
WHOLE_FILES = {"align": "space.safetensors", "report": "page.html"}


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
    # Each has its number of bytes when it is whole, which the first run that was done tells.
    sizes: list[int] = []
    while kills < n_kills:
        folder = place / str(finished)
        if was_killed(job, folder, moments.uniform(*SECONDS[job])):
            kills += 1
        else:
            finished += 1
        if job in WHOLE_FILES and (folder / WHOLE_FILES[job]).exists():
            sizes.append((folder / WHOLE_FILES[job]).stat().st_size)
    was_killed(job, place / str(finished), None)
    if job in WHOLE_FILES:
        sizes.append((place / str(finished) / WHOLE_FILES[job]).stat().st_size)
    halves = sum(size != sizes[-1] for size in sizes)
    print(json.dumps({"kills": kills, "finished": finished + 1, "halves": halves}))


if __name__ == "__main__":
    # Before the server starts, whose libraries would start threads of their own.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    main()
