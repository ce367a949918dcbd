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

IMPORT_CORE = "import click, numpy, safetensors, safetensors.torch, torch"
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


def third_party_after(statements: str) -> set[str]:
    """Return the top-level modules outside the standard library that a fresh process loads."""
    done = subprocess.run(
        [sys.executable, "-c", statements + "\n" + PRINT_LOADED],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    return loaded - set(sys.stdlib_module_names) - {"relspace", "ncut_pytorch"}


@pytest.fixture(scope="module")
def core() -> set[str]:
    return third_party_after(IMPORT_CORE)


def test_imports_point_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT / "src"), *sys.path])
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS


@pytest.mark.parametrize(
    "statements",
    ["import relspace", "import ncut_pytorch.utils.math", IMPORT_EVERY_MODULE],
    ids=["relspace", "ncut_pytorch", "every module"],
)
def test_importing_loads_only_the_core(statements: str, core: set[str]) -> None:
    assert third_party_after(statements) <= core


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
