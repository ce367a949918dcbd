"""The library on hostile input: every case refused by name, or answered by the right value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.hostile.cases import Case, try_case
from tests.hostile.library import (
    feature_cases,
    file_cases,
    item_cases,
    mapping_cases,
    measure_cases,
    output_cases,
    parameter_cases,
    shape_cases,
)

SUITES: dict[str, Callable[[], Iterator[Case]]] = {
    "features": feature_cases,
    "measures": measure_cases,
    "parameters": parameter_cases,
    "shapes": shape_cases,
    "items": item_cases,
    "mappings": mapping_cases,
    "files": file_cases,
    "outputs": output_cases,
}


def by_area() -> dict[str, list[Case]]:
    areas: dict[str, list[Case]] = {}
    for suite, cases in SUITES.items():
        for case in cases():
            areas.setdefault(f"{suite}: {case.area}", []).append(case)
    return areas


AREAS = by_area()


@pytest.mark.parametrize("area", list(AREAS))
def test_hostile_input_is_refused_by_name_or_answered_rightly(area: str, tmp_path: Path) -> None:
    wrong = {}
    for number, case in enumerate(AREAS[area]):
        folder = tmp_path / str(number)
        folder.mkdir()
        tried = try_case(case, folder)
        if tried.outcome == "wrong":
            wrong[str(case)] = tried.why
    assert wrong == {}


def test_there_are_hundreds_of_cases() -> None:
    assert sum(map(len, AREAS.values())) > 1000
