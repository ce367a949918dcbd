"""The benchmark of reading ahead: every way gives a row of numbers, from both kinds of source."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "reading_ahead.py"


@pytest.mark.release
def test_all_ways_run(tmp_path: Path) -> None:
    out = tmp_path / "reading.json"
    sizes = ("--items", "3000", "--features", "16", "--landmarks", "32", "--rounds", "1")
    command = [sys.executable, str(SCRIPT), *sizes, "--folder", str(tmp_path), "-o", str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(out.read_text())["rows"]
    assert len({(row["source"], row["bytes_per_second"], row["way"]) for row in rows}) == 12
    assert all(row["runs"][0]["processor_seconds"] > 0 for row in rows)
    assert [path.name for path in tmp_path.iterdir()] == ["reading.json"]
