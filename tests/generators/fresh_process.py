"""Scripts in processes of their own, forked from a server that has imported torch and relspace.

Importing them takes seconds of every new interpreter. What is forked has run nothing else, so that
its memory, its threads and its state are those of a new one.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import textwrap
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

_IMPORTED = [
    "torch",
    "zarr",
    "relspace.cli",
    "relspace.measures",
    "relspace.space",
    "relspace.rows",
]


def run_fresh(script: str, *arguments: object) -> CompletedProcess[str]:
    """Run a script, which finds its arguments in ``sys.argv``."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(_IMPORTED)
    given = list(map(str, arguments))
    with TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("out", "err")]
        for path in said:
            path.touch()
        child = server.Process(target=_run, args=(textwrap.dedent(script), given, said))
        child.start()
        child.join()
        assert child.exitcode is not None
        return CompletedProcess(given, child.exitcode, *(path.read_text() for path in said))


def printed(script: str, *arguments: object) -> str:
    """What a script prints, which must come to its end."""
    done = run_fresh(script, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run(script: str, arguments: list[str], said: list[Path]) -> None:
    for descriptor, path in zip((1, 2), said, strict=True):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    sys.argv = ["script", *arguments]
    exec(compile(script, "script", "exec"), {"__name__": "__main__"})
