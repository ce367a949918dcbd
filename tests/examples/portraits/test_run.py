"""The study's command: its numbers beside those of the digits, figures, and one page on its own."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from examples.portraits.__main__ import main
from examples.portraits.table import summary_table

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.release
def test_the_command_writes_figures_numbers_and_page(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    result = CliRunner().invoke(main, ["-o", str(folder), "--random-state", "3"])
    assert result.exit_code == 0, result.output
    pictures = {"portraits.png", "retrieval.png", "digits.png"}
    assert {file.name for file in folder.iterdir()} == {"report.html", "summary.json", *pictures}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["random_state"] == 3
    for name in pictures:
        assert (folder / name).read_bytes().startswith(PNG)
    steps = result.stderr.splitlines()
    assert len(steps) == len(set(steps)) >= 6
    table = summary_table(summary["portraits"])
    assert result.stdout == f"Portraits\n{table}\n\nReport: {folder / 'report.html'}\n"
    page = (folder / "report.html").read_text()
    assert len(page) < 15_000_000
    after = summary["portraits"]["retrieval"]["aligned"]["mean"]
    assert f"{100 * after:.0f} %" in page
    assert page.index("The panel") < page.index("Digits: the picture")
    for outside in ('src="http', 'href="http', "@import", "url(http"):
        assert outside not in page


@pytest.mark.parametrize("module", ["examples.portraits", "examples.portraits.train"])
def test_the_modules_run(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [module, "--help"])
        # Python warns of modules that are imported already, and run again.
        for name in ("examples.portraits.__main__", "examples.portraits.train"):
            patched.delitem(sys.modules, name, raising=False)
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__")
    assert ended.value.code == 0
    assert "-o" in capsys.readouterr().out


def test_an_output_that_is_a_file_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    result = CliRunner().invoke(main, ["-o", str(tmp_path / "taken")])
    assert result.exit_code == 2
    assert "is a file" in result.stderr
