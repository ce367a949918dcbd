"""The Python that the README shows runs as it stands, top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
CODE = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_there_is_code_to_run() -> None:
    assert len(CODE) >= 2


@pytest.mark.parametrize("code", CODE, ids=[f"block {i}" for i in range(1, len(CODE) + 1)])
def test_code_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, str(README), "exec"), names)
    assert names
