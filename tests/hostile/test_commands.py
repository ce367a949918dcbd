"""Commands on hostile input: one line and exit code 2, or done; nothing is left or changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.hostile.commands import CommandCase, command_cases, try_command, write_inputs

CASES = command_cases()
AREAS = sorted({case.area for case in CASES})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_inputs(folder)
    return folder


@pytest.mark.parametrize("area", AREAS)
def test_hostile_commands_are_refused_in_one_line_or_done(
    area: str, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(inputs)
    wrong = {}
    for case in CASES:
        if case.area == area:
            tried = try_command(case, inputs)
            if tried.outcome == "wrong":
                wrong[str(case)] = tried.why
    assert wrong == {}


def test_every_command_is_tried() -> None:
    from relspace.cli import commands

    assert {f"relspace {name}" for name in commands.commands} <= set(AREAS)
    assert len(CASES) > 300
    assert all(isinstance(case, CommandCase) for case in CASES)
