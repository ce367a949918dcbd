"""Progress: what listeners are told, and the line with rate and time left."""

from __future__ import annotations

import io

import pytest

from relspace._core.progress import ProgressLine, StepClock, as_listener
from relspace.errors import InvalidTypeError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_step_is_told_of_a_hundred_times_at_most_and_its_end_always() -> None:
    told: list[tuple[int, int, str]] = []
    tell = as_listener(lambda *one: told.append(one))
    tell(0, 0, "Reading")
    for done in range(1, 1000):
        tell(done, 999, "Permutations")
    assert told[:2] == [(0, 0, "Reading"), (1, 999, "Permutations")]
    assert told[-1] == (999, 999, "Permutations")
    assert 80 < len(told) <= 102
    assert as_listener(tell) is tell


def test_a_short_step_is_told_whole() -> None:
    told: list[int] = []
    tell = as_listener(lambda done, total, text: told.append(done))
    for _ in range(2):
        for done in range(4):
            tell(done, 3, "a")
    assert told == [0, 1, 2, 3, 0, 1, 2, 3]


def test_none_and_false_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (None, False):
        as_listener(quiet)(1, 2, "a")
    assert capsys.readouterr() == ("", "")
    as_listener(True)(2, 2, "Permutations")
    assert capsys.readouterr().err == "Permutations: 2 of 2\n"


def test_what_can_not_be_told_is_refused() -> None:
    with pytest.raises(InvalidTypeError, match=r"progress is of type str; .*done, total and text"):
        as_listener("yes")  # type: ignore[arg-type]


def test_rate_and_time_left_are_of_the_step() -> None:
    clock = Clock()
    steps = StepClock(clock)
    assert steps.line(0, 0, "Loading") == "Loading"
    clock.now = 100.0
    assert steps.line(10, 100, "Permutations") == "Permutations: 10 of 100"
    clock.now = 110.0
    assert steps.line(30, 100, "Permutations") == (
        "Permutations: 30 of 100 (2 a second, 35 s left)"
    )
    clock.now = 145.0
    assert steps.line(100, 100, "Permutations") == "Permutations: 100 of 100 (2 a second)"
    # The same step once more, from its beginning.
    assert steps.line(1, 100, "Permutations") == "Permutations: 1 of 100"


@pytest.mark.parametrize("terminal", [False, True])
def test_lines_come_no_more_often_than_they_can_be_read(terminal: bool) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    clock, stream = Clock(), Stream()
    line = ProgressLine(stream, clock)
    for done in range(1, 101):
        clock.now += 0.01
        line(done, 100, "Permutations")
    said = stream.getvalue()
    assert said.endswith("Permutations: 100 of 100\n")
    assert said.count("Permutations") == (11 if terminal else 2)
    assert said.count("\n") == (1 if terminal else 2)
