"""Runs killed at random moments and started again: how many ended in the same bits, or were lost.

``python benchmarks/kills.py [--kills 20] [--seed 0] [JOB ...]`` kills every job of
``tests/generators/killed_runs.py`` so many times, lets the last run of each finish, and compares
all that was written, bit for bit, with what an undisturbed run writes. It prints a table, and exits
with 1 if something was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

# Of the tests, whose types aren't checked.
killed_runs: Any = import_module("tests.generators.killed_runs")
written: Any = import_module("tests.rows.test_interrupted_runs").written


def main() -> int:
    """Kill every job, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="*", default=list(killed_runs.JOBS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("job             killed  finished  same bits  halves  seconds")
    totals = np.zeros(4, dtype=int)
    for job in given.jobs:
        start = time.perf_counter()
        killed, finished, same, halves = killed_at_random(job, given.kills, given.seed)
        totals += (killed, finished, same, halves)
        seconds = time.perf_counter() - start
        print(f"{job:15} {killed:6} {finished:9} {same:10} {halves:7} {seconds:8.1f}", flush=True)
    killed, finished, same, halves = totals
    print(f"{'all':15} {killed:6} {finished:9} {same:10} {halves:7}")
    return int(same < finished or halves > 0)


def killed_at_random(job: str, n_kills: int, seed: int) -> tuple[int, int, int, int]:
    """Kill a job; return the numbers of kills, of finished runs, of same ones, and of halves."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    script = str(Path(killed_runs.__file__))
    with tempfile.TemporaryDirectory() as place:
        # No kill: the first run of all finishes.
        (Path(place) / "whole").mkdir()
        run(script, job, f"{place}/whole", 0, seed, environment)
        whole = written(Path(place) / "whole" / "0")
        (Path(place) / "killed").mkdir()
        counts = run(script, job, f"{place}/killed", n_kills, seed, environment)
        same = 0
        for number in range(counts["finished"]):
            found = written(Path(place) / "killed" / str(number))
            same += found.keys() == whole.keys() and all(
                np.array_equal(found[name], whole[name], equal_nan=whole[name].dtype.kind == "f")
                for name in whole
            )
    return counts["kills"], counts["finished"], same, counts["halves"]


def run(
    script: str, job: str, place: str, n_kills: int, seed: int, environment: dict[str, str]
) -> dict[str, int]:
    """Run the script that kills, and return its counts."""
    command = [sys.executable, script, job, place, str(n_kills), str(seed)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ran.returncode:
        raise SystemExit(f"{job}: {ran.stderr}")
    counts: dict[str, int] = json.loads(ran.stdout.splitlines()[-1])
    return counts


if __name__ == "__main__":
    raise SystemExit(main())
