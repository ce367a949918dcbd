"""The demo as a whole: both studies' numbers in one file, figures, and one page on its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relspace.demo.run import run_demo, summary_table

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
def test_the_demo_writes_figures_numbers_and_page(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "new" / "folder"
    summary = run_demo(folder, random_state=3, progress=said.append)
    pictures = {"portraits.png", "retrieval.png", "digits.png"}
    assert {file.name for file in folder.iterdir()} == {"report.html", "summary.json", *pictures}
    assert json.loads((folder / "summary.json").read_text()) == summary
    for name in pictures:
        assert (folder / name).read_bytes().startswith(PNG)
    assert len(said) == len(set(said)) >= 6
    page = (folder / "report.html").read_text()
    assert len(page) < 15_000_000
    after = summary["portraits"]["retrieval"]["aligned"]["mean"]
    assert f"{100 * after:.0f} %" in page
    assert "Digits: the picture" in page
    table = summary_table(summary)
    assert table.index("Portraits") < table.index("Digits")
    assert f"{after:.2f}" in table
    for outside in ('src="http', 'href="http', "@import", "url(http"):
        assert outside not in page
