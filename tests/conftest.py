"""Settings that every test shares: how hypothesis searches, threads, and which need a GPU."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

# Derandomised, so that a failure is there again on the next run; no deadline, because the first
# call of a kernel also loads code.
settings.register_profile("relspace", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("relspace")

# Processes that run tests side by side, and those they start, share the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
