"""A benchmark that ran ends with 0; only --check makes a missed bar an error."""

from __future__ import annotations

import argparse

import pytest

import _bars
import affinity
from _bars import Bar

MET, MISSED = Bar("time", 0.5, 1.0), Bar("peak", 2.0, 1.3)


@pytest.mark.parametrize(
    ("bars", "check", "status"),
    [([MET], True, 0), ([MET, MISSED], True, 1), ([MET, MISSED], False, 0), ([], True, 0)],
)
def test_a_missed_bar_is_an_error_only_if_asked(
    bars: list[Bar], check: bool, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _bars.conclude(bars, check=check) == status
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == [
        "met" if bar.met else "MISSED" for bar in bars
    ]


def test_checking_has_to_be_asked_for() -> None:
    parser = argparse.ArgumentParser()
    _bars.add_check(parser)
    assert not parser.parse_args([]).check
    assert parser.parse_args(["--check"]).check


def test_a_product_with_the_exponential_is_no_bar() -> None:
    def row(ratio: float) -> dict[str, object]:
        return {
            "ours_over_this": {"median": ratio, "low": ratio, "high": ratio},
            "peak_bytes": 110,
            "result_bytes": 100,
        }

    names = {"relspace": 1.0, "ncut-pytorch": 0.1, "torch.mm, exp": 4.6}
    case = {"n_items": 8192, "n_features": 768}
    bars = affinity.bars_of({**case, "contestants": {name: row(r) for name, r in names.items()}})
    assert [(bar.value, bar.limit) for bar in bars] == [(0.1, 0.75), (1.1, 1.3)]
    assert all(bar.met for bar in bars)
