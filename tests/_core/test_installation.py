"""What is said of the installation: compiled kernels, and a package of the same import name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import relspace
from relspace._core import installation
from relspace.cli import commands

SOURCE = Path(relspace.__file__).parents[1]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A folder in which the metadata of ncut-pytorch lie."""
    about = tmp_path / "ncut_pytorch-3.2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ncut-pytorch\nVersion: 3.2.0\n")
    return tmp_path


def python(code: str, *, path: Path = SOURCE, options: tuple[str, ...] = ()) -> str:
    """What another interpreter prints that finds packages in a folder too."""
    before = f"import sys; sys.path[:0] = [{str(SOURCE)!r}, {str(path)!r}]\n"
    done = subprocess.run(
        [sys.executable, *options, "-c", before + code], capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def test_import_is_silent_without_warnings_torch_and_network() -> None:
    code = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import relspace; print('torch' in sys.modules)"
    )
    assert python(code, options=("-W", "error")) == "False\n"


def test_import_warns_of_the_package_with_the_same_import_name(other: Path) -> None:
    told = python("import relspace", path=other)
    assert "ConflictingPackageWarning: ncut-pytorch 3.2.0 and relspace are both installed" in told
    assert "pip uninstall ncut-pytorch" in told


def test_version_tells_of_the_package_with_the_same_import_name(
    other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "ncut-pytorch" not in CliRunner().invoke(commands, ["--version"]).output
    monkeypatch.syspath_prepend(other)
    told = CliRunner().invoke(commands, ["--version"]).output
    assert "ncut-pytorch 3.2.0 and relspace are both installed" in told


@pytest.mark.parametrize("state", ["in use", "switched off", "no compiler", "another version"])
def test_version_says_whether_compiled_kernels_are_used(
    state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not installation._LIBRARY.exists():
        pytest.skip("never compiled here")
    monkeypatch.setenv("RELSPACE_COMPILED", "0" if state == "switched off" else "1")
    if state == "no compiler":
        monkeypatch.setattr(installation, "_LIBRARY", tmp_path / "none.so")
    if state == "another version":
        monkeypatch.setattr(installation, "INTERFACE", installation.INTERFACE + 1)
    told = CliRunner().invoke(commands, ["--version"]).output
    assert told.startswith(f"relspace {relspace.__version__} (")
    assert state in told
