"""Peak memory of an affinity matrix, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_MEASURE = """
import torch
from relspace import rbf_affinity

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

X = torch.randn(4096, 64, generator=torch.Generator().manual_seed(0)).to(torch.{dtype})
rbf_affinity(X[:1500])
before = resident("VmRSS:")
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
A = rbf_affinity(X)
print((resident("VmHWM:") - before) / (A.numel() * A.element_size()))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak is reset through Linux's /proc"
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_peak_is_the_result_and_little_more(dtype: str) -> None:
    code = _MEASURE.format(dtype=dtype)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.9 < float(run.stdout) <= 1.3
