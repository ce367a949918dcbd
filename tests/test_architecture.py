"""The rules of the house that a reader would otherwise have to trust."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for top in ("src", "examples") for path in (ROOT / top).rglob("*.py"))

IMPORT_CORE = "import click, filelock, numpy, safetensors, safetensors.torch, torch"
IMPORT_EVERY_MODULE = """
import importlib, pkgutil
import ncut_pytorch, relspace
for package in (relspace, ncut_pytorch):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # What is compiled is loaded through ctypes and can't be imported.
        if not module.name.endswith(("__main__", "._fused")):
            importlib.import_module(module.name)
"""
PRINT_LOADED = """
import json, sys
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_by(statements: str) -> list[set[str]]:
    """The top-level modules of other packages that a new process has loaded at each print."""
    done = subprocess.run(
        [sys.executable, "-c", statements], capture_output=True, text=True, check=True, timeout=600
    )
    own = set(sys.stdlib_module_names) | {"relspace", "ncut_pytorch"}
    return [set(json.loads(line)) - own for line in done.stdout.splitlines()]


def test_imports_point_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT / "src"), *sys.path])
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS


def test_importing_loads_only_the_core() -> None:
    core, then = loaded_by(IMPORT_CORE + PRINT_LOADED + IMPORT_EVERY_MODULE + PRINT_LOADED)
    assert "torch" in core
    assert then == core


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_says_why_it_exists(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring is not None, "no docstring"
    first_line = docstring.splitlines()[0]
    assert first_line.endswith((".", "?")), f"not a sentence: {first_line!r}"
    assert len(first_line.split()) >= 4, f"not a sentence: {first_line!r}"


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for group in groups for line in group}
    page = (ROOT / "docs/dependencies.md").read_text()
    assert {name for name in names - {"relspace"} if f"| {name} |" not in page} == set()
