"""Dask: lazy arrays, a cluster of separate processes, and workers that are lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from distributed import Client, get_client

import relspace as rs
from relspace.cli import commands
from relspace.errors import InvalidInputError
from relspace.features import scan
from relspace.rows.dask import connect, map_rows, rows_as_array
from relspace.rows.output import Output
from relspace.space.aligner import RelativeRows

N, D, M = 600, 10, 50
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


@pytest.fixture
def space() -> rs.ItemSpace:
    space = rs.align({"a": X, "b": -X @ np.diag(np.arange(1, D + 1)).astype("f4")}, landmarks=M)
    assert isinstance(space, rs.ItemSpace)
    return space


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("chunks", [(100, D), (170, 4), (N, D)])
def test_a_dask_array_gives_a_lazy_one(
    space: rs.ItemSpace, scheduler: str, chunks: tuple[int, int]
) -> None:
    lazy = space.transform("a", da.from_array(X, chunks=chunks))
    assert isinstance(lazy, da.Array)
    assert lazy.shape == (N, M)
    assert lazy.dtype == np.float32
    assert lazy.chunks[0] == da.from_array(X, chunks=chunks).chunks[0]
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_allclose(lazy.compute(), space.transform("a", X), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int16"])
def test_types_are_kept(space: rs.ItemSpace, dtype: str) -> None:
    values = (10 * X).astype(dtype)
    lazy = space.transform("a", da.from_array(values, chunks=(200, D)))
    assert lazy.dtype == ("float32" if dtype == "int16" else dtype)
    assert lazy.compute().dtype == lazy.dtype


def test_own_columns_go_with_their_rows(space: rs.ItemSpace) -> None:
    own = torch.full((N,), -1)
    own[space.landmarks] = torch.arange(M)
    array = da.from_array(X, chunks=(130, D))
    lazy: Any = RelativeRows(space.aligner("a"), own).row_map().lazily(array)
    np.testing.assert_allclose(lazy.compute(), space["a"], atol=1e-6)


def test_what_is_fitted_is_in_the_graph_once() -> None:
    class Counted:
        pickled = 0

        def __call__(self, rows: torch.Tensor, own: object) -> torch.Tensor:
            return rows

        def __reduce__(self):
            Counted.pickled += 1
            return Counted, ()

    lazy = map_rows(da.from_array(X, chunks=(50, D)), Counted(), D)
    states = [one for one in dict(lazy.__dask_graph__()).values() if "Counted" in repr(one)]
    assert len(states) == 1


def test_another_width_is_refused_before_anything_runs(space: rs.ItemSpace) -> None:
    with pytest.raises(InvalidInputError, match="X has 4 features"):
        space.transform("a", da.from_array(X[:, :4], chunks=(100, 4)))


def test_align_takes_dask_arrays(space: rs.ItemSpace) -> None:
    lazy = da.from_array(X, chunks=(90, 7))
    again = rs.align({"a": lazy, "b": lazy}, landmarks=M)
    np.testing.assert_allclose(again["a"], space["a"], atol=1e-6)


def test_no_scheduler_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relspace.rows.dask._SECONDS_TO_CONNECT", 0.5)
    with pytest.raises(InvalidInputError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1"):
        connect("tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    "address", ["", "nowhere", "tcp://", "http://host:80", "tcp://127.0.0.1:1"]
)
def test_a_failed_connection_leaves_no_default_client(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr("relspace.rows.dask._SECONDS_TO_CONNECT", 0.5)
    with pytest.raises(InvalidInputError, match="no Dask scheduler answers") as raised:
        connect(address)
    # The traceback holds the frames, and so a client that failed: it must not be Dask's default.
    assert raised.tb is not None
    with pytest.raises(ValueError, match="No global client"):
        get_client()
    np.testing.assert_array_equal(da.from_array(X, chunks=(90, 7)).compute(), X)


@pytest.mark.slow
def test_workers_give_what_one_machine_gives(
    client: Client, space: rs.ItemSpace, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", X)
    expected = space.transform("a", X)
    lazy = space.transform("a", rows_as_array(scan(tmp_path / "x.npy"), 70))
    np.testing.assert_allclose(lazy.compute(), expected, atol=1e-6)
    assert set(client.run(torch.get_num_threads).values()) == {1}
    alone = space.transform(
        "a", tmp_path / "x.npy", out=Output(tmp_path / "alone.zarr", chunk_rows=64)
    )
    together = space.transform(
        "a", tmp_path / "x.npy", out=Output(tmp_path / "t.zarr", chunk_rows=64), client=client
    )
    np.testing.assert_allclose(together.read(0, N), alone.read(0, N), atol=1e-6)


@pytest.mark.slow
def test_workers_embed_and_color_as_one_machine_does(client: Client, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    cut = rs.NormalizedCut(4, n_landmarks=200).fit(X)
    coloring = rs.Coloring().fit(cut)
    out = Output(tmp_path / "fit.zarr", chunk_rows=130)
    fitted = rs.NormalizedCut(4, n_landmarks=200).fit(tmp_path / "x.npy", out=out, client=client)
    expected = torch.as_tensor(cut["features"])
    torch.testing.assert_close(fitted["features"].read(0, N), expected, atol=1e-5, rtol=1e-5)
    out = Output(tmp_path / "cut.zarr", chunk_rows=130)
    embedding = cut.transform("features", tmp_path / "x.npy", out=out, client=client)
    torch.testing.assert_close(embedding.read(0, N), expected, atol=1e-5, rtol=1e-5)
    out = Output(tmp_path / "rgb.zarr", chunk_rows=130)
    rgb = coloring.transform(tmp_path / "cut.zarr", out=out, client=client)
    np.testing.assert_allclose(rgb.read(0, N), coloring.colors_["features"], atol=1e-4)


class SlowRows:
    """Rows of a file that take their time, and leave a trace in which process they were read."""

    def __init__(self, path: str, trace: str) -> None:
        self.path, self.trace = path, trace
        self.shape, self.dtype, self.ids = (N, D), torch.float32, None

    def read(self, start: int, stop: int) -> torch.Tensor:
        with Path(self.trace).open("a") as stream:
            stream.write(f"{start} {os.getpid()}\n")
        time.sleep(0.1)
        return torch.from_numpy(np.load(self.path)[start:stop])


@pytest.mark.slow
def test_a_lost_worker_costs_its_chunks_only(
    client: Client, space: rs.ItemSpace, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", X)
    trace = tmp_path / "trace"
    source = SlowRows(str(tmp_path / "x.npy"), str(trace))
    victims = list(client.run(os.getpid).values())

    def kill_one() -> None:
        while not trace.exists() or len(trace.read_text().splitlines()) < 12:
            time.sleep(0.02)
        os.kill(victims[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    out = Output(tmp_path / "out.zarr", chunk_rows=20)
    result = space.transform("a", source, out=out, client=client)
    killer.join()
    np.testing.assert_allclose(result.read(0, N), space.transform("a", X), atol=1e-6)
    reads = [line.split() for line in trace.read_text().splitlines()]
    # This process reads for the fingerprint. Chunks made twice are those that the lost one had.
    made = Counter(start for start, process in reads if int(process) != os.getpid())
    assert len(made) == N // 20
    again = {start for start, times in made.items() if times > 1}
    assert again <= {start for start, process in reads if int(process) == victims[0]}
    assert sum(made.values()) < 2 * len(made)
    assert victims[0] not in client.run(os.getpid).values()


@pytest.mark.slow
def test_command_line_runs_on_a_cluster(
    client: Client, space: rs.ItemSpace, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", X)
    space.save(tmp_path / "space.safetensors")
    address = client.scheduler.address
    arguments = ["transform", str(tmp_path / "space.safetensors"), "a", str(tmp_path / "x.npy")]
    out = str(tmp_path / "out.zarr")
    ran = CliRunner().invoke(commands, [*arguments, "-o", out, "--scheduler", address])
    assert ran.exit_code == 0, ran.output
    assert f"{N} rows over {M} landmarks saved to {out}" in ran.output
    np.testing.assert_allclose(scan(out).read(0, N), space.transform("a", X), atol=1e-6)
    np.save(tmp_path / "y.npy", X[:, ::-1])
    pair = [str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    both = str(tmp_path / "both.safetensors")
    options = ["-o", both, "--landmarks", str(M), "--scheduler", address]
    ran = CliRunner().invoke(commands, ["align", *pair, *options])
    assert ran.exit_code == 0, ran.output
    expected = rs.align({"x": X, "y": X[:, ::-1]}, landmarks=M)
    np.testing.assert_allclose(rs.load_space(both)["y"], expected["y"], atol=1e-6)
    folders = [str(tmp_path / "alone"), str(tmp_path / "together")]
    for folder, more in zip(folders, ([], ["--scheduler", address]), strict=True):
        given = ["embed", *pair, "-o", folder, "--landmarks", "100", "--components", "3"]
        ran = CliRunner().invoke(commands, [*given, *more])
        assert ran.exit_code == 0, ran.output
    for name in ("x.zarr", "y-colors.zarr"):
        one, other = (scan(Path(folder) / name).read(0, N) for folder in folders)
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
