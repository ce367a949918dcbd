"""Long jobs that are killed at random moments, or whose disk becomes full, and are run again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from tests.generators import full_disk, killed_runs

from relspace import NormalizedCut, open_features
from relspace.features.store.reading import is_store, read_header

pytestmark = pytest.mark.slow
#: Killed with every change; the rest before a release.
ALWAYS = ("transform-zarr", "overwrite-npy", "extract")


def run(command: Sequence[str]) -> Any:
    """Run a script with one thread, and return what it prints last, read as JSON."""
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=1200, env={**os.environ, **one_thread}
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def written(folder: Path) -> dict[str, np.ndarray]:
    """What a job left: the rows of its outputs and fitted states."""
    found = {}
    for path in sorted(folder.rglob("*.zarr")):
        root = zarr.open_group(path, mode="r")
        assert np.asarray(root["ledger"][...]).all()
        if is_store(path):
            found |= stored(path)
        else:
            found[path.name] = np.asarray(root["rows"][...])
    for path in folder.glob("out.npy"):
        found[path.name] = np.load(path)
    for name in killed_runs.WHOLE_FILES.values():
        if (folder / name).exists():
            found[name] = np.frombuffer((folder / name).read_bytes(), np.uint8)
    for path in folder.rglob("cut.safetensors"):
        cut = NormalizedCut.load(path)
        found["rotation"], found["vectors"] = cut.rotation_.numpy(), cut.vectors_.numpy()
    return found


def stored(path: Path) -> dict[str, np.ndarray]:
    """What a feature store holds, and why items were skipped."""
    fs, (root, header) = open_features(path), read_header(path)
    assert fs.contents is not None
    return {
        **{layer: np.asarray(fs[layer]) for layer in fs.layers},
        "status": np.asarray(root["status"][...]),
        "boxes": np.asarray(root["boxes"][...]),
        "skipped": np.array(sorted(header["skipped"].items())),
        "contents": np.array(fs.contents.digests),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, np.ndarray]]:
    """What an uninterrupted run of a job leaves."""

    @cache
    def whole(job: str) -> dict[str, np.ndarray]:
        folder = tmp_path_factory.mktemp(job)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        killed_runs.JOBS[job](folder)
        torch.set_num_threads(threads)
        return written(folder)

    return whole


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """The same outputs, to the bit, and nothing else."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(job, marks=[] if job in ALWAYS else pytest.mark.release)
        for job in killed_runs.JOBS
    ],
)
def test_runs_killed_at_random_moments_end_in_the_same_bits(
    job: str, whole: Callable[[str], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    n_kills = 40 if job == "extract" else 20
    counts = run([sys.executable, killed_runs.__file__, job, str(tmp_path), str(n_kills), "0"])
    assert counts["kills"] >= n_kills
    assert counts["halves"] == 0
    for number in range(counts["finished"]):
        same(written(tmp_path / str(number)), whole(job))


@pytest.mark.parametrize(
    ("job", "kib"),
    [
        pytest.param("transform-npy", 100, marks=pytest.mark.release),
        ("transform-zarr", 200),
        pytest.param("embed", 250, marks=pytest.mark.release),
        pytest.param("embed", 600, marks=pytest.mark.release),
        ("extract", 300),
    ],
)
def test_a_disk_that_becomes_full_leaves_what_is_gone_on_with(
    job: str, kib: int, whole: Callable[[str], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("a file system of one's own needs user namespaces")
    (tmp_path / "disk").mkdir()
    places = (str(tmp_path / "disk"), str(kib), str(tmp_path / "kept"))
    told = run(["unshare", "-rm", sys.executable, full_disk.__file__, job, *places])
    assert "No space left on device" in told["said"]
    assert told["n_files"] > 1
    same(written(tmp_path / "kept"), whole(job))
