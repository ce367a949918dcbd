"""Locks on folders and files, also as an operating system has them that opens no folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import relspace
from relspace._core import files, platform
from relspace.rows import replacing
from relspace.rows.locks import PathLock, StoreLockedError

SOURCE = Path(relspace.__file__).parents[1]


@pytest.fixture(params=["opens folders", "as Windows"], autouse=True)
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system opens folders; what it can't do raises, as on Windows."""
    if request.param == "opens folders":
        return True
    monkeypatch.setattr(platform, "OPENS_FOLDERS", False)
    monkeypatch.setattr(platform, "RENAMES_OPEN_FILES", False)
    real_open, real_replace = os.open, Path.replace

    def open_file(path: str | Path, flags: int, *rest: int, **named: int) -> int:
        # The removal of trees opens folders too, on systems that can.
        if "dir_fd" not in named and Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, flags, *rest, **named)

    def replace(path: Path, target: Path) -> Path:
        held = {str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()}
        if str(path.absolute()) in held:
            raise PermissionError(13, "The process cannot access the file", str(path))
        return real_replace(path, target)

    monkeypatch.setattr(os, "open", open_file)
    if Path("/proc/self/fd").exists():
        monkeypatch.setattr(Path, "replace", replace)
    return False


def test_a_lock_is_had_once_and_again_after_its_release(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    first = PathLock(folder)
    with pytest.raises(StoreLockedError, match="another process is writing"):
        PathLock(folder)
    first.release()
    PathLock(folder).release()


def test_what_is_gone_can_not_be_locked(tmp_path: Path) -> None:
    with pytest.raises(StoreLockedError):
        PathLock(tmp_path / "gone")


def test_a_folder_that_gets_its_name_back_stays_locked(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    replacing._old_of(folder).mkdir()
    lock = replacing.lock_folder(folder)
    assert folder.is_dir()
    with pytest.raises(StoreLockedError):
        PathLock(folder)
    lock.release()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, system: bool) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
        "from pathlib import Path\n"
        "from relspace._core import platform\n"
        f"platform.OPENS_FOLDERS = {system}\n"
        "from relspace.rows.locks import PathLock\n"
        f"lock = PathLock(Path({str(folder)!r}))\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(StoreLockedError):
            PathLock(folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
        PathLock(folder).release()


def test_files_are_written_whole(tmp_path: Path) -> None:
    files.write_whole(tmp_path / "a.txt", "one")
    assert files.write_whole(tmp_path / "a.txt", "two").read_text() == "two"
    files.check_writable(tmp_path / "b.txt")
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["a.npy", "a.zarr"])
def test_outputs_are_written_and_replaced(name: str, tmp_path: Path) -> None:
    if name == "a.zarr":
        pytest.importorskip("zarr")
    X = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    aligner = relspace.Aligner().fit(X)
    for overwrite in (False, True):
        output = relspace.Output(tmp_path / name, overwrite=overwrite)
        rows = aligner.transform(X if overwrite else X[:20], out=output)
        assert rows.shape[0] == (30 if overwrite else 20)
