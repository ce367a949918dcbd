"""Work on a cluster of separate processes: what is sent, what stops, what is lost."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from distributed import Client

import relspace as rs
from relspace.errors import ClusterError
from relspace.rows.cluster import (
    StoppedError,
    refuse_stopped,
    run_on_cluster,
    sum_on_cluster,
    writing,
)

pytestmark = pytest.mark.slow


class Large:
    """Something large, which leaves a trace of the processes that it is unpickled in."""

    def __init__(self, trace: Path) -> None:
        self.trace, self.content = trace, os.urandom(2**22)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with self.trace.open("a") as stream:
            stream.write(f"{os.getpid()}\n")


def length(held: Large, part: int) -> int:
    time.sleep(0.02)
    return len(held.content) + part


def test_each_worker_is_sent_it_once_and_the_scheduler_never(
    client: Client, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    scheduler = client.cluster.scheduler
    largest = 0
    with closing(run_on_cluster(length, Large(trace), range(30), client)) as results:
        found = set()
        for result in results:
            found.add(result)
            specs = [task.run_spec for task in scheduler.tasks.values()]
            largest = max(largest, *(len(pickle.dumps(spec)) for spec in specs if spec))
    assert found == {2**22 + part for part in range(30)}
    assert 0 < largest < 10_000
    workers = client.run(os.getpid).values()
    assert Counter(map(int, trace.read_text().split())) == dict.fromkeys(workers, 1)


def fail_or_write(folder: Path, part: int) -> None:
    (folder / f"{part}.begun").touch()
    if part == 0:
        # When another worker is within a write.
        while not (folder / "1.half").exists():
            time.sleep(0.01)
        raise OSError("the disk is full")
    with writing():
        (folder / f"{part}.half").touch()
        time.sleep(0.7)
        (folder / f"{part}.whole").touch()


def test_an_error_stops_all_and_nothing_is_written_after_it(client: Client, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the disk is full"):
        list(run_on_cluster(fail_or_write, tmp_path, range(20), client))
    then = sorted(path.name for path in tmp_path.iterdir())
    # What was within a write has come to its end; not all had begun when the error was told.
    half, whole = ([name[0] for name in then if name.endswith(end)] for end in ("half", "whole"))
    assert half == whole
    assert "1" in half
    assert len(half) < 19
    time.sleep(1.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == then
    # The workers are free for other work.
    assert sorted(run_on_cluster(length, Large(tmp_path / "trace"), range(2), client))


def wait_and_write(folder: Path, part: int) -> int:
    if part > 0:
        time.sleep(0.5)
        with writing():
            (folder / f"{part}.whole").touch()
    return part


def test_a_consumer_that_stops_stops_all(client: Client, tmp_path: Path) -> None:
    with closing(run_on_cluster(wait_and_write, tmp_path, range(20), client)) as results:
        assert next(results) == 0
    there = list(tmp_path.iterdir())
    time.sleep(1.2)
    assert list(tmp_path.iterdir()) == there
    assert len(there) < 19


def fail_early(start: int, stop: int, folder: torch.Tensor) -> tuple[torch.Tensor, ...]:
    place = Path(bytes(folder.tolist()).decode())
    if start > 0:
        raise ValueError(f"rows {start} to {stop} are damaged")
    for _ in range(2000):
        if (place / "told").exists():
            break
        time.sleep(0.01)
    else:
        (place / "never told").touch()
    return (torch.ones(1),)


def test_sums_do_not_wait_for_parts_before_the_one_that_failed(
    client: Client, tmp_path: Path
) -> None:
    folder = torch.tensor(list(str(tmp_path).encode()))
    with pytest.raises(ValueError, match="are damaged"):
        sum_on_cluster(fail_early, 80, folder, client, lambda done: None)
    (tmp_path / "told").touch()
    assert not (tmp_path / "never told").exists()


def slow_square(held: tuple[int, ...], part: int) -> int:
    time.sleep(0.1)
    return held[part] ** 2


def test_it_is_sent_again_where_all_workers_are_lost(client: Client) -> None:
    numbers = tuple(range(30))
    results = []
    for result in run_on_cluster(slow_square, numbers, numbers, client):
        results.append(result)
        if len(results) == 5:
            for process in client.run(os.getpid).values():
                os.kill(process, signal.SIGKILL)
    assert sorted(results) == [number**2 for number in numbers]


class FailingRows:
    """Rows of which those from the sixth chunk on can't be read, while others take long."""

    shape, dtype, ids = (400, 5), torch.float32, None

    def read(self, start: int, stop: int) -> torch.Tensor:
        if start == 100:
            raise OSError("the file is damaged")
        if stop - start == 20:
            time.sleep(0.3)
        return torch.from_numpy(np.random.default_rng(start).normal(size=(stop - start, 5))).float()


def test_no_chunk_of_an_output_is_written_after_the_error(client: Client, tmp_path: Path) -> None:
    aligner = rs.Aligner().fit(FailingRows().read(0, 30))
    out = rs.Output(tmp_path / "out.zarr", chunk_rows=20)
    with pytest.raises(OSError, match="the file is damaged"):
        aligner.transform(FailingRows(), out=out, client=client)
    done = np.asarray(zarr.open_group(out.path)["ledger"][...]) > 0
    files = sorted(Path(out.path).rglob("*"))
    time.sleep(1)
    np.testing.assert_array_equal(zarr.open_group(out.path)["ledger"][...] > 0, done)
    assert sorted(Path(out.path).rglob("*")) == files
    # Each chunk has two words of a checksum; one can't be read.
    assert 0 < done.sum() < 2 * 19


def test_outside_of_a_cluster_nothing_is_stopped() -> None:
    refuse_stopped()
    with writing():
        pass
    assert issubclass(StoppedError, Exception)


def die(held: None, part: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_that_ends_its_workers_is_an_error(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of the three that there are by default costs a new worker. One that is killed while it
    # starts is not followed by another, and then there are none.
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 1)
    monkeypatch.setattr("relspace.rows.cluster._SECONDS_TO_BEGIN", 5)
    told = r"one part of the work ended several|lost all its workers 4 times|no worker .* began"
    with pytest.raises(ClusterError, match=told):
        list(run_on_cluster(die, None, [0], client))
