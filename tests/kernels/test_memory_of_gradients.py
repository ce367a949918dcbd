"""What is held for gradients, measured in processes of their own, against what is counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from relspace import cosine_affinity, rbf_affinity
from relspace.errors import MemoryBudgetError
from relspace.kernels import squared_distances

_MEASURE = """
import torch
from relspace import cosine_affinity, rbf_affinity
from relspace.kernels import distances

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

counted = []
distances.Resources.require = lambda self, n_bytes, *args: counted.append(n_bytes)
X = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0)).to(torch.{dtype})
Y = X.flip(0) + 1 if {two} else None
X.requires_grad_()
sigma = torch.tensor(3.0, dtype=X.dtype, requires_grad=True)
call = {call}
call(X[:300], None if Y is None else Y[:300]).sum().backward()
before = resident("VmRSS:")
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
call(X, Y).sum().backward()
print(resident("VmHWM:") - before, max(counted))
"""

CALLS = {
    "distances": "distances.squared_distances",
    "solved": "rbf_affinity",
    "given": "lambda X, Y: rbf_affinity(X, Y, sigma=3.0)",
    "bandwidth": "lambda X, Y: rbf_affinity(X, Y, sigma=sigma)",
    "cosine": "cosine_affinity",
    "cosine, given": "lambda X, Y: cosine_affinity(X, Y, sigma=0.5)",
}


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak is reset through Linux's /proc"
)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("dtype", "two"), [("float32", False), ("float64", True)])
def test_no_more_is_held_than_is_counted(call: str, dtype: str, two: bool) -> None:
    code = _MEASURE.format(dtype=dtype, two=two, call=CALLS[call])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    held, counted = map(int, run.stdout.split())
    assert 0.6 * counted < held <= counted


@pytest.mark.parametrize("function", [rbf_affinity, cosine_affinity, squared_distances])
def test_matrices_for_the_gradient_are_counted(function, assume_free: Callable[..., None]) -> None:
    X = torch.randn(2100, 4, generator=torch.Generator().manual_seed(0))
    # Room for one matrix, not for all that a gradient takes.
    assume_free(3 * 2100**2 * 4)
    assert function(X).shape == (2100, 2100)
    with pytest.raises(MemoryBudgetError, match=r"with the \d+ that its gradient takes"):
        function(X.requires_grad_())
