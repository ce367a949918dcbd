"""Files that appear whole or not at all, and name the user's path where they can't."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from relspace._core.files import check_writable, write_whole

_KILLED = """
    import os, signal
    from pathlib import Path
    from relspace._core import files
    files.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
    files.write_whole(Path({path!r}), "half")
"""


def test_a_killed_run_leaves_the_old_file_and_nothing_after_the_next_one(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.txt", "old")
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(_KILLED).format(path=str(path))]
        )
        assert ran.returncode == -signal.SIGKILL
        assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    write_whole(path, "new")
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "new"


def test_files_written_by_several_threads_are_whole(tmp_path: Path) -> None:
    contents = {letter * 100_000 for letter in "abcdef"}
    threads = [
        threading.Thread(target=write_whole, args=(tmp_path / "a.txt", one)) for one in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() in contents


@pytest.mark.parametrize("path", ["/proc/a.txt", "/proc/new/a.txt", "file/a.txt", "folder"])
def test_errors_name_the_path_that_was_given(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="can't be written") as caught:
        write_whole(Path(path), "")
    assert caught.value.filename == path
    assert "unfinished" not in str(caught.value)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder"]


def test_what_can_be_written_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder" / "a.txt")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"can't be written .*'/proc/a\.txt'"):
        check_writable(Path("/proc/a.txt"))
