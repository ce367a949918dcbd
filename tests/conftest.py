"""Settings that every test shares: how hypothesis searches, threads, and which need a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from relspace._core.memory import limited_memory

# Derandomised, so that a failure is there again on the next run; no deadline, because the first
# call of a kernel also loads code.
settings.register_profile("relspace", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("relspace")

# Processes that run tests side by side, and those they start, share the cores: one thread each,
# unless the environment asks for another number, as the tests on other processors do.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))


@pytest.fixture
def assume_free() -> Iterator[Callable[..., None]]:
    """``assume_free(host, gpu)``: calls of the test take so many bytes for the free memory."""
    with ExitStack() as limits:
        yield lambda host, gpu=None: limits.enter_context(limited_memory(host, gpu))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of two worker processes; a test may kill one, which the cluster replaces."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        memory_limit="2GiB",
        dashboard_address=None,
        local_directory=str(tmp_path_factory.mktemp("dask")),
    )
    with cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A bucket of a server that speaks S3, on this machine."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        import s3fs

        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket"
        server.stop()


@pytest.fixture(params=["memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A URL below which a test may write, in memory and on that server."""
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count tests marked `release` as slow, and skip those marked `gpu` where there is none."""
    for item in items:
        if "release" in item.keywords:
            item.add_marker(pytest.mark.slow)
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
