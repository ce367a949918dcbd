"""The contract of what is written in parts: bit-identical results, or a refusal, whatever happens.

A writer is described by a :class:`WriterCase`; add one to ``CASES`` and every test runs for it.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from tests.generators.fresh_process import run_fresh

import relspace as rs
from relspace.errors import InvalidInputError
from relspace.features.store.writing import FeatureStoreWriter
from relspace.rows import locks
from relspace.rows import output as row_writers
from relspace.rows.ledger import FileLedger, ZarrLedger
from relspace.rows.locks import StoreLockedError, WaitingWarning

N, D = 1000, 6
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
CHUNK = 100


class CutOffError(Exception):
    """What ends a run in the middle."""


@dataclass(frozen=True)
class WriterCase:
    """One kind of output that is written in parts.

    Attributes
    ----------
    place : callable
        ``place(folder)`` gives where the output goes.
    run : callable
        ``run(place, X, parameter, overwrite)`` writes it, or resumes it.
    read : callable
        ``read(place)`` gives all that was written, by name.
    stored_in : str
        "folder" or "file" on the disk, or "url".
    damage : callable
        ``damage(place)`` changes some values of a finished chunk behind the ledger's back.
    age : callable
        ``age(place)`` makes it of another version of its format.
    before_chunk : callable
        ``before_chunk(patched, call)`` has ``call(row)`` called with the first row of every chunk,
        before it is written.
    changed, aged : str
        What an error says of another input, and of another version.
    repairs : bool
        Whether chunks of a complete output that were changed are made again; else it is refused.
    """

    place: Callable[[Path], str]
    run: Callable[[str, np.ndarray, float, bool], None]
    read: Callable[[str], dict[str, np.ndarray]]
    stored_in: str
    damage: Callable[[str], None]
    age: Callable[[str], None]
    before_chunk: Callable[[pytest.MonkeyPatch, Callable[[int], None]], None]
    changed: str = r"different are source \(values\)"
    aged: str = r"version 1 of its format.* version 2"
    repairs: bool = False


def transform(place: str, values: np.ndarray, density: float, overwrite: bool) -> None:
    aligner = rs.Aligner(density=density).fit(X[:30])
    aligner.transform(values, out=rs.Output(place, chunk_rows=CHUNK, overwrite=overwrite))


def embed(place: str, values: np.ndarray, density: float, overwrite: bool) -> None:
    out = rs.Output(place, chunk_rows=CHUNK, overwrite=overwrite)
    # The graph knows the rows that are its nodes; these are the same in all inputs here.
    cut = rs.NormalizedCut(3, n_landmarks=30, density=density).fit(X[:200])
    cut.transform("features", values, out=out)


def extract(place: str, values: np.ndarray, density: float, overwrite: bool) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 2), torch.nn.Tanh())
    with torch.no_grad():
        network[0].weight.mul_(density)
    preprocessing = rs.Preprocessing(size=(2, 2))
    model = rs.ModuleModel(network, ["1"], layout="bchw", preprocessing=preprocessing)
    pixels = np.repeat(1 / (1 + np.exp(-values)), 2, axis=1).reshape(-1, 2, 2, 3)
    rs.extract(model, pixels, place, batch_size=CHUNK, overwrite=overwrite)


def _read_zarr(place: str) -> dict[str, np.ndarray]:
    return {"rows": np.asarray(zarr.open_group(place, mode="r")["rows"][...])}


def _damage_zarr(place: str) -> None:
    rows = zarr.open_group(place, mode="r+")["rows"]
    rows[CHUNK + 3, 1] = 7.0


def _age_zarr(place: str) -> None:
    root = zarr.open_group(place, mode="r+")
    root.attrs["relspace"] = {**dict(root.attrs)["relspace"], "format_version": 1}


def _damage_npy(place: str) -> None:
    path = Path(place)
    partial = path.with_name(f".{path.name}.partial")
    rows = np.lib.format.open_memmap(partial if partial.exists() else path, mode="r+")
    rows[CHUNK + 3, 1] = 7.0
    rows.flush()


def _age_npy(place: str) -> None:
    path = Path(place)
    progress = path.with_name(f".{path.name}.progress")
    progress.write_text(progress.read_text().replace('"format_version": 2', '"format_version": 1'))


def _before_rows(patched: pytest.MonkeyPatch, call: Callable[[int], None]) -> None:
    stored = row_writers._stored

    def calling(values: torch.Tensor, dtype: Any, first_row: int) -> np.ndarray:
        call(first_row)
        return stored(values, dtype, first_row)

    patched.setattr(row_writers, "_stored", calling)


def _read_store(place: str) -> dict[str, np.ndarray]:
    fs = rs.open_features(place)
    return {"rows": np.asarray(fs["1"]), "boxes": fs.grid.boxes.numpy()}


def _damage_store(place: str) -> None:
    zarr.open_group(place, mode="r+")["layers/1"][CHUNK + 3, 0, 0, 1] = 7.0


def _age_store(place: str) -> None:
    root = zarr.open_group(place, mode="r+")
    header = dict(root.attrs)["relspace"]
    root.attrs["relspace"] = {**header, "format_version": 1, "extraction": header.pop("job")}


def _before_features(patched: pytest.MonkeyPatch, call: Callable[[int], None]) -> None:
    write = FeatureStoreWriter.write

    def calling(self: FeatureStoreWriter, chunk: slice, *given: Any, **named: Any) -> str:
        call(chunk.start)
        return write(self, chunk, *given, **named)

    patched.setattr(FeatureStoreWriter, "write", calling)


_STORE = WriterCase(
    lambda folder: str(folder / "out.zarr"),
    extract,
    _read_store,
    "folder",
    _damage_store,
    _age_store,
    _before_features,
    changed="other items: 150 of 1000 have other content .*row 300",
    aged="format version 1, .* opened, not resumed",
    repairs=True,
)
_ZARR = WriterCase(
    lambda folder: str(folder / "out.zarr"),
    transform,
    _read_zarr,
    "folder",
    _damage_zarr,
    _age_zarr,
    _before_rows,
)
CASES = {
    "transform to .zarr": _ZARR,
    "transform to .npy": WriterCase(
        lambda folder: str(folder / "out.npy"),
        transform,
        lambda place: {"rows": np.load(place)},
        "file",
        _damage_npy,
        _age_npy,
        _before_rows,
    ),
    "transform to a URL": replace(
        _ZARR, place=lambda folder: f"memory:/{folder}/out.zarr", stored_in="url"
    ),
    "embed to .zarr": replace(_ZARR, run=embed),
    "extract to .zarr": _STORE,
    "extract to a URL": replace(
        _STORE, place=lambda folder: f"memory:/{folder}/out.zarr", stored_in="url"
    ),
}


@pytest.fixture(
    params=[
        # A thousand images take a second.
        pytest.param(
            name,
            marks={
                "extract to .zarr": [pytest.mark.slow],
                "extract to a URL": [pytest.mark.release],
            }.get(name, []),
        )
        for name in CASES
    ]
)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WriterCase:
    monkeypatch.setattr(locks, "_SECONDS_BETWEEN_RENEWALS", 0.05)
    monkeypatch.setattr(locks, "_SECONDS_BETWEEN_LOOKS", 0.05)
    return CASES[request.param]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """Let a run end when it has written so many chunks."""

    def arrange(after: int) -> pytest.MonkeyPatch:
        written = 0

        def wrapped(original: Callable[..., None]) -> Callable[..., None]:
            def finish(self: object, number: int, checksum: str) -> None:
                nonlocal written
                if written == after:
                    raise CutOffError
                written += 1
                original(self, number, checksum)

            return finish

        patched = pytest.MonkeyPatch()
        for ledger in (ZarrLedger, FileLedger):
            patched.setattr(ledger, "finish", wrapped(ledger.finish))
        return patched

    return arrange


def run(case: WriterCase, place: str, values: np.ndarray = X, **given: Any) -> None:
    case.run(place, values, given.get("parameter", 0.2), given.get("overwrite", False))


def expected(case: WriterCase, folder: Path, values: np.ndarray = X) -> dict[str, np.ndarray]:
    """What a run that nothing happened to writes."""
    (folder / "whole").mkdir(exist_ok=True)
    place = case.place(folder / "whole")
    run(case, place, values, overwrite=True)
    return case.read(place)


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """The same arrays to the bit."""
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_a_run_that_ended_in_the_middle_is_resumed_to_the_same_bits(
    case: WriterCase, after: int, interrupt: Callable[[int], Any], tmp_path: Path
) -> None:
    place = case.place(tmp_path)
    patched = interrupt(after)
    with pytest.raises(CutOffError):
        run(case, place)
    patched.undo()
    run(case, place)
    same(case.read(place), expected(case, tmp_path))


def test_two_runs_that_ended_leave_no_chunk_out(
    case: WriterCase, interrupt: Callable[[int], Any], tmp_path: Path
) -> None:
    """Two runs of one job that ended after the same chunk counted it as two."""
    place = case.place(tmp_path)
    for after in (1, 1, 2):
        patched = interrupt(after)
        with pytest.raises(CutOffError):
            run(case, place)
        patched.undo()
    run(case, place)
    same(case.read(place), expected(case, tmp_path))


def test_a_second_run_of_the_same_job_is_refused_while_the_first_writes(
    case: WriterCase, tmp_path: Path
) -> None:
    place = case.place(tmp_path)
    refused = []
    holder = f"process {os.getpid()} on" if case.stored_in == "url" else "another process"

    def second(first_row: int) -> None:
        if first_row == 3 * CHUNK:
            for given in ({}, {"overwrite": True, "parameter": 0.3}):
                waits = pytest.warns(WaitingWarning) if case.stored_in == "url" else nullcontext()
                refuses = pytest.raises(StoreLockedError, match=f"{holder}.* is writing .*: wait")
                with waits, refuses:
                    run(case, place, **given)
            refused.append(first_row)

    with pytest.MonkeyPatch.context() as patched:
        case.before_chunk(patched, second)
        run(case, place)
    assert refused
    same(case.read(place), expected(case, tmp_path))
    # The lock ended with the run.
    run(case, place)


@pytest.mark.parametrize("finished", [False, True])
def test_an_input_that_changed_is_refused_or_overwritten(
    case: WriterCase, finished: bool, interrupt: Callable[[int], Any], tmp_path: Path
) -> None:
    """Rows 300 to 449 of 1,000 lay between the rows that were looked at."""
    place = case.place(tmp_path)
    broken = X.copy()
    broken[300:450] = 0
    if finished:
        run(case, place, broken)
    else:
        patched = interrupt(6)
        with pytest.raises(CutOffError):
            run(case, place, broken)
        patched.undo()
    with pytest.raises(InvalidInputError, match=case.changed) as caught:
        run(case, place)
    assert "overwrite=True" in str(caught.value)
    assert "name another output" in str(caught.value)
    run(case, place, overwrite=True)
    same(case.read(place), expected(case, tmp_path))


def test_parameters_that_changed_are_refused_or_overwritten(
    case: WriterCase, tmp_path: Path
) -> None:
    place = case.place(tmp_path)
    run(case, place, parameter=0.3)
    with pytest.raises(InvalidInputError, match=r"another (job|extraction); different are"):
        run(case, place)
    run(case, place, overwrite=True)
    same(case.read(place), expected(case, tmp_path))


def test_another_version_of_the_format_is_refused_or_overwritten(
    case: WriterCase, interrupt: Callable[[int], Any], tmp_path: Path
) -> None:
    place = case.place(tmp_path)
    patched = interrupt(4)
    with pytest.raises(CutOffError):
        run(case, place)
    patched.undo()
    case.age(place)
    with pytest.raises(InvalidInputError, match=case.aged):
        run(case, place)
    run(case, place, overwrite=True)
    same(case.read(place), expected(case, tmp_path))


def test_a_damaged_chunk_is_written_again(
    case: WriterCase, interrupt: Callable[[int], Any], tmp_path: Path
) -> None:
    place = case.place(tmp_path)
    patched = interrupt(6)
    with pytest.raises(CutOffError):
        run(case, place)
    patched.undo()
    case.damage(place)
    run(case, place)
    same(case.read(place), expected(case, tmp_path))


def test_a_complete_output_that_was_changed_is_refused_or_overwritten(
    case: WriterCase, tmp_path: Path
) -> None:
    place = case.place(tmp_path)
    run(case, place)
    case.damage(place)
    if case.repairs:
        run(case, place)
        same(case.read(place), expected(case, tmp_path))
    elif case.stored_in != "url":
        with pytest.raises(InvalidInputError, match=r"changed after .* \(chunks 1\)"):
            run(case, place)
    run(case, place, overwrite=True)
    same(case.read(place), expected(case, tmp_path))


def test_what_is_done_is_found_done_and_nothing_is_written(
    case: WriterCase, tmp_path: Path
) -> None:
    place = case.place(tmp_path)
    run(case, place)
    with pytest.MonkeyPatch.context() as patched:
        case.before_chunk(patched, lambda row: pytest.fail("a chunk was made"))
        run(case, place)
    if case.stored_in != "url":
        # A copy has other times, so that its values are read.
        other = tmp_path / "other"
        ignored = shutil.ignore_patterns("other")
        shutil.copytree(tmp_path, other, ignore=ignored, copy_function=shutil.copyfile)
        for path in other.rglob("*"):
            os.utime(path, ns=(1, 1))
        run(case, case.place(other))
        same(case.read(case.place(other)), case.read(place))
    same(case.read(place), expected(case, tmp_path))


def test_a_full_disk_is_an_error_and_the_run_is_resumed_later(
    case: WriterCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = case.place(tmp_path)

    def full(self: object, number: int, checksum: str) -> None:
        if number == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finish[type(self)](self, number, checksum)

    finish = {ledger: ledger.finish for ledger in (ZarrLedger, FileLedger)}
    with monkeypatch.context() as patched:
        for ledger in finish:
            patched.setattr(ledger, "finish", full)
        with pytest.raises(OSError, match="No space left"):
            run(case, place)
    run(case, place)
    same(case.read(place), expected(case, tmp_path))


def test_what_is_overwritten_stays_until_the_new_is_whole(
    case: WriterCase, interrupt: Callable[[int], Any], tmp_path: Path
) -> None:
    if case.stored_in == "url":
        pytest.skip("a URL can't be renamed")
    place = case.place(tmp_path)
    run(case, place, parameter=0.3)
    old = case.read(place)
    patched = interrupt(4)
    with pytest.raises(CutOffError):
        run(case, place, overwrite=True)
    patched.undo()
    same(case.read(place), old)
    made: list[int] = []
    with pytest.MonkeyPatch.context() as counted:
        case.before_chunk(counted, made.append)
        run(case, place, overwrite=True)
    # The chunks that the run which was cut off had written are not made again.
    assert len(made) == N // CHUNK - 4
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {Path(place).name, f".{Path(place).name}.progress"}
    same(case.read(place), expected(case, tmp_path))


def test_a_replacement_that_was_given_up_or_cut_off_between_renames_leaves_the_old(
    case: WriterCase, interrupt: Callable[[int], Any], tmp_path: Path
) -> None:
    if case.stored_in != "folder":
        pytest.skip("files are replaced by one rename")
    place = Path(case.place(tmp_path))
    run(case, str(place), parameter=0.3)
    old = case.read(str(place))
    for cut_off in (False, True):
        patched = interrupt(9)
        with pytest.raises(CutOffError):
            run(case, str(place), overwrite=True)
        patched.undo()
        if cut_off:
            place.rename(place.with_name(f".{place.name}.old"))
        with pytest.MonkeyPatch.context() as counted:
            case.before_chunk(counted, lambda row: pytest.fail("a chunk was made"))
            run(case, str(place), parameter=0.3)
        same(case.read(str(place)), old)
        assert [path.name for path in tmp_path.iterdir()] == [place.name]


_READ_ONLY = """
    import subprocess, sys
    sys.path[:0] = {path!r}
    from tests.contracts import test_writer_contract as contract
    case = contract.CASES[{name!r}]
    folder = contract.Path({folder!r})
    for options in (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)]):
        subprocess.run(["mount", *options], check=True)
    before = case.read(case.place(folder / "done"))
    contract.run(case, case.place(folder / "done"))
    contract.same(case.read(case.place(folder / "done")), before)
    try:
        contract.run(case, case.place(folder))
    except OSError as error:
        print(error)
    else:
        raise SystemExit("it was written")
"""


@pytest.mark.slow
def test_in_a_folder_that_is_read_only_what_is_done_is_found_and_nothing_else_begun(
    case: WriterCase, tmp_path: Path
) -> None:
    if case.stored_in == "url":
        pytest.skip("a URL has no folder")
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("a file system of one's own needs user namespaces")
    done = tmp_path / "done"
    done.mkdir()
    run(case, case.place(done))
    script = _READ_ONLY.format(path=sys.path, name=_name_of(case), folder=str(tmp_path))
    command = ["unshare", "-rm", sys.executable, "-c", textwrap.dedent(script)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "Read-only file system" in ran.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done"]


_KILLED = """
    import os, signal
    from tests.contracts import test_writer_contract as contract
    def killed(first_row):
        if first_row == 5 * contract.CHUNK:
            os.kill(os.getpid(), signal.SIGKILL)
    case = contract.CASES[{name!r}]
    case.before_chunk(contract.pytest.MonkeyPatch(), killed)
    contract.run(case, {place!r})
"""


@pytest.mark.slow
def test_a_lock_ends_with_the_process_that_was_killed(case: WriterCase, tmp_path: Path) -> None:
    if case.stored_in == "url":
        pytest.skip("a memory:// URL is of one process")
    place = case.place(tmp_path)
    script = _KILLED.format(name=_name_of(case), place=place)
    ran = run_fresh(script)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    run(case, place)
    same(case.read(place), expected(case, tmp_path))


def _name_of(case: WriterCase) -> str:
    return next(name for name, one in CASES.items() if one is case)
