"""The demo as a whole: the study's numbers, its figure, and one page on its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relspace.demo.run import run_demo, summary_table

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
def test_the_demo_writes_figure_numbers_and_page(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "new" / "folder"
    summary = run_demo(folder, random_state=3, progress=said.append)
    assert {file.name for file in folder.iterdir()} == {
        "report.html",
        "summary.json",
        "digits.png",
    }
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary["random_state"] == 3
    assert (folder / "digits.png").read_bytes().startswith(PNG)
    assert len(said) == len(set(said)) >= 4
    page = (folder / "report.html").read_text()
    assert len(page) < 3_000_000
    after = summary["digits"]["penultimate"]["after"]["top1"]
    assert f'<dd class="value">{100 * after:.0f} %</dd>' in page
    assert "Digits: the picture" in page
    assert f"{after:.3f}" in summary_table(summary)
    for outside in ('src="http', 'href="http', "@import", "url(http"):
        assert outside not in page
