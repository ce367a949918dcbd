"""Memory: what is larger than it is made as it is read and written as it is made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "streams.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "at_least", "at_most"),
    # Bytes of features and results, and what may be taken of memory for a budget of 256 MiB.
    [
        ("embed", 1.0e9, 400e6),
        ("items", 4.8e9, 400e6),
        pytest.param("images", 2.3e9, 400e6, marks=pytest.mark.release),
        pytest.param("compare", 1.0e9, 400e6, marks=pytest.mark.release),
    ],
)
def test_what_is_larger_than_memory_takes_little_of_it(
    case: str, at_least: float, at_most: float
) -> None:
    command = [sys.executable, str(SCRIPT), "--case", case]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert ran.returncode == 0, ran.stderr
    measured = json.loads(ran.stdout)
    assert measured["bytes"] > at_least
    assert measured["peak_bytes"] < at_most, measured
    if "chance" in measured:
        assert measured["distance"] < 0.5 * measured["chance"]
