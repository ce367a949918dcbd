"""Runs one of the jobs of killed_runs.py on a disk that becomes full, then on a larger one.

Run as ``unshare -rm python full_disk.py JOB DISK KIB KEPT``; DISK, an empty folder, is where a
file system of so many KiB is mounted, which nobody else sees, and the result is copied to KEPT.
Prints, as JSON, what the first run said and how many files it left.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

import killed_runs


def mount(disk: str, options: str) -> None:
    """Mount the file system, or change its size."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)


def main() -> None:
    """Run until the disk is full, and again when it is larger."""
    job, disk, kib, kept = sys.argv[1:]
    torch.set_num_threads(1)
    mount(disk, f"size={kib}k")
    folder = Path(disk) / "run"
    folder.mkdir()
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            killed_runs.JOBS[job](folder)
        except (OSError, SystemExit) as error:
            print(error, file=said)
        n_files = sum(path.is_file() for path in folder.rglob("*"))
        mount(disk, f"remount,size={64 * 1024}k")
        killed_runs.JOBS[job](folder)
    shutil.copytree(folder, kept)
    print(json.dumps({"said": said.getvalue(), "n_files": n_files}))


if __name__ == "__main__":
    main()
