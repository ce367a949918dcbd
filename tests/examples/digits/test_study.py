"""The digits case study as a whole: sane numbers, controls at chance, a figure of its own."""

import json

import pytest
import torch

from examples.digits.figure import draw_study
from examples.digits.matching import RATE_TITLES
from examples.digits.page import percent
from examples.digits.study import (
    Study,
    one_thread,
    run_study,
    summary_table,
)
from relspace.pictures.theme import LIGHT

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def study() -> Study:
    return run_study(random_state=3)


def test_alignment_finds_what_padding_does_not(study: Study) -> None:
    found = study.summary["penultimate"]
    for rate in RATE_TITLES:
        assert found["after"][rate] > 2 * max(
            found[other][rate] for other in ("before", "before_scaled", "shuffled", "chance")
        )
    assert found["after"]["label"] > 0.9
    assert found["distance"]["same_item"] < 0.5
    assert found["distance"]["other_items"] == pytest.approx(1, abs=0.1)


def test_controls_are_at_chance_over_the_draws(study: Study) -> None:
    draws = study.summary["draws"]
    for control in ("before_scaled", "shuffled"):
        assert draws[control]["top1"]["mean"] < 0.01
    spread = draws["shuffled"]["label"]
    chance = draws["chance"]["label"]["mean"]
    assert abs(spread["mean"] - chance) < 3 * spread["standard_deviation"] / draws["n_draws"] ** 0.5


def test_the_layer_table_holds_the_penultimate_pair(study: Study) -> None:
    table, found = study.summary["layers"], study.summary["penultimate"]
    for when in ("before", "after"):
        for rate in RATE_TITLES:
            assert len(table[when][rate]) == len(table["rows"]["layers"])
            assert len(table[when][rate][0]) == len(table["columns"]["layers"])
            assert table[when][rate][-1][-1] == pytest.approx(found[when][rate])


def test_what_is_drawn_agrees_with_the_numbers(study: Study) -> None:
    items = torch.arange(len(study.digits.labels))
    found = study.summary["penultimate"]
    for when, key in {"before": "before_scaled", "after": "after"}.items():
        right = (study.nearest[when] == items).double().mean()
        assert float(right) == pytest.approx(found[key]["top1"])
        assert [len(points) for points in study.points[when]] == [len(items)] * 2


def test_the_study_repeats_itself(study: Study) -> None:
    assert run_study(random_state=3).summary == study.summary


def test_the_summary_survives_json(study: Study) -> None:
    assert json.loads(json.dumps(study.summary, allow_nan=False)) == study.summary


def test_the_table_shows_before_after_and_chance(study: Study) -> None:
    found = study.summary["penultimate"]
    line = next(
        line for line in summary_table(study.summary).splitlines() if RATE_TITLES["top1"] in line
    )
    for when in ("before", "after", "chance"):
        assert f"{found[when]['top1']:.3f}" in line


def test_the_figure_is_the_same_png_every_time(study: Study) -> None:
    first = draw_study(study, LIGHT)
    assert first.startswith(PNG)
    assert int.from_bytes(first[16:20], "big") == 1650
    assert first == draw_study(study, LIGHT)


def test_one_thread_gives_the_number_back_even_after_an_error() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), one_thread():
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("rate", "text"), [(0.002, "0.2 %"), (0.0996, "10 %"), (0.974, "97 %"), (1.0, "100 %")]
)
def test_percent(rate: float, text: str) -> None:
    assert percent(rate) == text
