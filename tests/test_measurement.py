"""The benchmarks' measuring, on calls whose answer is known."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from _measure import Ratio, Worker, interleave

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPT = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS)!r})
import time
import numpy as np
from _measure import serve

def allocate(copies):
    arrays = [np.ones(8_000_000) for _ in range(copies)]
    return arrays[0]

calls = {{
    "one": lambda: allocate(1),
    "three": lambda: allocate(3),
    "slow": lambda: (time.sleep(0.05), allocate(1))[1],
}}
serve(calls[sys.argv[2]], {{"numpy": np.__version__}}, lambda result: {{"mean": result.mean()}})
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "contestants.py"
    path.write_text(SCRIPT)
    return path


def test_ratio_is_taken_round_by_round() -> None:
    ratio = Ratio.of([1.0, 2.0, 6.0], [2.0, 2.0, 2.0])
    assert (ratio.median, ratio.low, ratio.high) == (1.0, 0.5, 3.0)
    assert Ratio(**ratio.to_dict()) == ratio
    assert str(ratio) == "1.00 (0.50 to 3.00)"


@pytest.mark.parametrize(("contestant", "copies"), [("one", 1), ("three", 3)])
def test_peak_counts_what_the_call_adds(script: Path, contestant: str, copies: int) -> None:
    with Worker(Path(sys.executable), script, contestant, {}) as worker:
        worker.seconds()
        answer = worker.peak()
    assert answer["mean"] == 1.0
    assert answer["result_bytes"] == 64_000_000
    assert answer["peak_bytes"] / answer["result_bytes"] == pytest.approx(copies, abs=0.1)


def test_contestants_are_timed_in_turns(script: Path) -> None:
    python = Path(sys.executable)
    with Worker(python, script, "one", {}) as fast, Worker(python, script, "slow", {}) as slow:
        times = interleave({"one": fast, "slow": slow}, rounds=3)
    assert [len(seconds) for seconds in times.values()] == [3, 3]
    assert min(times["slow"]) >= 0.05


def test_a_contestant_that_fails_is_named(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit, match="process of broken ended early"):
        Worker(Path(sys.executable), script, "broken", {})
