"""The benchmark of GPUs: what it says where there is none, and that all of it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cuda

SCRIPT = Path(cuda.__file__)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_gpu_it_says_so() -> None:
    ran = _run()
    assert ran.returncode == cuda.NO_CUDA
    assert "no CUDA device" in ran.stderr
    assert not ran.stdout


def test_bars_are_of_the_worst() -> None:
    peaks = [{"memory_budget": 100, "peak_bytes": peak} for peak in (50, 120, 80)]
    transform, memory = cuda.bars_of({"over_bound": 1.1}, peaks)
    assert transform.met
    assert (memory.value, memory.met) == (1.2, False)


@pytest.mark.release
def test_all_of_it_runs_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "cuda.json"
    ran = _run("--device", "cpu", "-o", str(out))
    assert ran.returncode == 0, ran.stderr
    found = json.loads(out.read_text())
    assert [case["n_items"] for case in found["affinity"]] == list(cuda.QUICK.items)
    for case in found["affinity"]:
        assert {"relspace", "torch.mm", "torch.mm, TF32"} <= set(case["contestants"])
        ours = case["contestants"]["relspace"]
        assert ours["density"] == pytest.approx(cuda.DENSITY, rel=1e-4)
        assert ours["result_bytes"] == 4 * case["n_items"] ** 2
        assert case["contestants"]["torch.mm"]["teraflops"] > 0
    assert set(found["transform"]["seconds"]) == {
        *("with overlap", "without", "copies in", "product", "copies out")
    }
    assert [one["memory_budget"] for one in found["peaks"]] == list(cuda.QUICK.budgets)
    assert not found["bars"]


@pytest.mark.gpu
@pytest.mark.slow
def test_bars_are_met_on_a_gpu(tmp_path: Path) -> None:
    ran = _run("--quick", "-o", str(tmp_path / "cuda.json"))
    assert ran.returncode == 0, ran.stderr
    bars = json.loads((tmp_path / "cuda.json").read_text())["bars"]
    assert next(bar for bar in bars if "memory" in bar["what"])["met"]
