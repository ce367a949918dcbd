"""The pages of the site that are read first: their code and commands run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from relspace.cli import commands

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```(python|console|text)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", ["index.md", "conventions.md", "translate.md"])
def test_blocks_run_and_print_what_is_shown(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, content in BLOCK.findall((DOCS / page).read_text()):
        if kind == "python":
            exec(compile(content, page, "exec"), {})
        elif kind == "text":
            assert capsys.readouterr().out == content
        for line in content.splitlines() if kind == "console" else ():
            program, *arguments = line.split()
            result = CliRunner().invoke(commands, arguments)
            assert (program, result.exit_code) == ("relspace", 0), result.output
    if page == "index.md":
        assert (tmp_path / "space.png").stat().st_size > 0
        assert "<html" in (tmp_path / "page.html").read_text()


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text()
    pages = {path.name for path in DOCS.glob("*.md")}
    assert pages == set(re.findall(r": (\w+\.md)$", navigation, flags=re.MULTILINE))
