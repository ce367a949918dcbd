"""The Python that the README shows runs as it stands, and prints what the README says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
# A block of Python, and the block of text after it where the README shows what is printed.
CODE_AND_OUTPUT = re.findall(
    r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", README.read_text(), flags=re.DOTALL
)


def run(code: str) -> dict[str, Any]:
    """Run the code as a module of its own and return its names."""
    names: dict[str, Any] = {}
    exec(compile(code, str(README), "exec"), names)
    return names


def test_quick_start_is_there_to_the_letter() -> None:
    names = run(CODE_AND_OUTPUT[0][0])
    assert CODE_AND_OUTPUT[0][0].startswith("from ncut_pytorch.utils.math import rbf_affinity\n")
    assert names["aligned_A"].shape == names["aligned_B"].shape == (100, 100)


@pytest.mark.parametrize(("code", "output"), CODE_AND_OUTPUT)
def test_code_prints_what_is_shown(
    code: str,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    run(code)
    assert capsys.readouterr().out == output
