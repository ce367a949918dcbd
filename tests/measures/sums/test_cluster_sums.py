"""Comparisons whose sums over items are tasks of a cluster of separate processes."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from distributed import Client

import relspace as rs
from relspace.cli import commands
from relspace.errors import NonFiniteError
from relspace.rows.formats.zarr import ZarrRows
from relspace.rows.source import GeneratedRows

N = 3000
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    import zarr

    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 6)) + 10
    for name, array in (("a", X), ("b", X @ rng.normal(size=(6, 9)) + rng.normal(size=(N, 9)))):
        zarr.create_array(folder / f"{name}.zarr", data=array, chunks=(250, array.shape[1]))
    # URLs, as of stores that machines share.
    return f"file://{folder}/a.zarr", f"file://{folder}/b.zarr"


@pytest.mark.parametrize("measure", ["cka", "pwcca", "procrustes", "linear_predictivity"])
def test_a_comparison_is_that_of_one_machine(
    client: Client, paths: tuple[str, str], measure: str
) -> None:
    shared = rs.compare(*paths, measure=measure, client=client, n_permutations=9)
    alone = rs.compare(*paths, measure=measure, n_permutations=9)
    assert shared.value == pytest.approx(alone.value, abs=1e-10)
    assert (shared.n_items, shared.null_by) == (N, "limit")


def test_layers_too(client: Client, paths: tuple[str, str]) -> None:
    a, b = {"x": paths[0], "y": paths[1]}, {"z": paths[1]}
    shared = rs.compare_layers(a, b, measure="cka", client=client)
    alone = rs.compare_layers(a, b, measure="cka")
    np.testing.assert_allclose(shared.values, alone.values, atol=1e-10)
    assert shared.null_by == "limit"


def test_several_models_too(client: Client, paths: tuple[str, str]) -> None:
    models = {"a": {"x": paths[0]}, "b": {"y": paths[1]}, "c": {"z": paths[0]}}
    shared = rs.compare_models(models, measure="cka", client=client, n_permutations=9)
    alone = rs.compare_models(models, measure="cka", n_permutations=9)
    np.testing.assert_allclose(shared.values, alone.values, atol=1e-10)
    assert (shared.null_by, alone.null_by) == ("limit", "permutations")


def test_intervals_too(client: Client, paths: tuple[str, str]) -> None:
    options = {"measure": "cka", "n_bootstraps": 50}
    shared = rs.compare(*paths, **options, client=client)
    alone = rs.compare(*paths, **options)
    assert shared.interval is not None
    assert alone.interval is not None
    assert shared.n_parts == 128
    assert np.ptp(shared.interval) == pytest.approx(np.ptp(alone.interval), rel=0.4)


def test_errors_come_back(client: Client) -> None:
    broken = torch.ones(100, 3).cumsum(0)
    broken[70, 1] = torch.inf
    with pytest.raises(NonFiniteError, match=r"X holds 1 NaN or infinite .*\(70, "):
        rs.compare(broken, torch.rand(100, 2), measure="cka", client=client)


def test_a_lost_worker_costs_only_its_parts(client: Client, paths: tuple[str, str]) -> None:
    rows = ZarrRows(paths[1])

    def slowly(start: int, stop: int) -> torch.Tensor:
        time.sleep(0.1)
        return rows.read(start, stop)

    slow = GeneratedRows(rows.shape, slowly, dtype=rows.dtype)
    processes = list(client.run(os.getpid).values())
    killer = threading.Timer(0.5, lambda: os.kill(processes[0], signal.SIGKILL))
    killer.start()
    shared = rs.compare(paths[0], slow, measure="cka", client=client)
    killer.join()
    assert shared.value == pytest.approx(rs.compare(*paths, measure="cka").value, abs=1e-10)


def test_layers_run_on_a_scheduler(client: Client, paths: tuple[str, str], tmp_path: Path) -> None:
    import h5py

    for name in ("m", "n"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for layer, path in zip("xy", paths, strict=True):
                file[layer] = ZarrRows(path).read(0, N).numpy()
    command = [
        "layers",
        str(tmp_path / "m.h5"),
        str(tmp_path / "n.h5"),
        "--measure",
        "cka",
        "--json",
    ]
    shared, alone = (
        json.loads(CliRunner().invoke(commands, one, catch_exceptions=False).stdout)
        for one in ([*command, "--scheduler", client.scheduler.address], command)
    )
    np.testing.assert_allclose(shared["values"], alone["values"], atol=1e-10)
    assert (shared["null_by"], alone["null_by"]) == ("limit", "permutations")


def test_the_command_runs_on_a_scheduler(client: Client, paths: tuple[str, str]) -> None:
    address = client.scheduler.address
    command = ["compare", *paths, "--measure", "cka", "--scheduler", address, "--json"]
    result = CliRunner().invoke(commands, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (one,) = json.loads(result.stdout)["comparisons"]
    assert one["value"] == pytest.approx(rs.compare(*paths, measure="cka").value, abs=1e-10)
    assert one["null_by"] == "limit"
