"""The page on measures holds the table that its command prints, and examples that run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from relspace import measures

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/measures.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", PAGE, flags=re.DOTALL)


def test_the_table_is_what_the_records_say(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "docs/measures_table.py"), run_name="__main__")
    assert capsys.readouterr().out in PAGE
    assert all(f"| `{name}` |" in PAGE for name in measures.names())


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_examples_print_what_is_shown(
    code: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    exec(compile(code, "docs/measures.md", "exec"), names)
    assert capsys.readouterr().out == output
