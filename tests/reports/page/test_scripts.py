"""The page's scripts: their own tests under node, and one script that a browser takes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from relspace.reports.page import scripts
from relspace.reports.page.scripts import page_script

NODE = shutil.which("node")
TESTS = Path(__file__).parent / "scripts"
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


def test_modules_are_joined_in_the_order_of_their_needs() -> None:
    script = page_script()
    assert re.findall(r"^(?:import|export)\b.*", script, re.MULTILINE) == []
    assert script.index("function createStore") < script.index("async function open()")
    assert script.index("function similarities") < script.index("function createHeat")


def test_every_module_is_on_the_page() -> None:
    script = page_script()
    folder = Path(scripts.__file__).parent / "scripts"
    for path in folder.glob("*.mjs"):
        assert path.read_text().splitlines()[0] in script, path.name


def test_nothing_ends_the_script_element_early() -> None:
    assert "</script" not in page_script().lower()
    assert "<!--" not in page_script()


@needs_node
def test_the_joined_script_parses(tmp_path: Path) -> None:
    path = tmp_path / "page.mjs"
    path.write_text(page_script())
    subprocess.run([str(NODE), "--check", str(path)], check=True, timeout=600)


@needs_node
@pytest.mark.parametrize("path", sorted(TESTS.glob("*.test.mjs")), ids=lambda path: path.stem)
def test_the_scripts_own_tests_pass(path: Path) -> None:
    done = subprocess.run(
        [str(NODE), "--test", "--test-reporter=tap", str(path)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"# pass [1-9]", done.stdout)
