"""The quality benchmark on pretrained networks: its halves, its scores, the grid of settings."""

from __future__ import annotations

import itertools

import torch

from quality.grid import Grid
from quality.layers import prepared
from quality.matchers import Views, affinities, affinities_by_parts
from quality.overall import below_ridge
from quality.pretrained import (
    CHOOSING,
    ENDINGS,
    HALVES,
    JUDGING,
    LITE0,
    OPENINGS,
    STAGES,
    ends_of_stages,
    layer_at_stride,
    part_of,
    stage_ends,
)
from quality.results import Scores
from quality.transfer import depth_error, split_of_crops
from relspace import measures


def test_what_chooses_settings_does_not_judge_them() -> None:
    for name in ("seeds", "photographs", "matched", "unlike", "packages"):
        assert not set(getattr(CHOOSING, name)) & set(getattr(JUDGING, name)), name


def test_stages_of_networks() -> None:
    assert stage_ends(LITE0)[-3:] == ["_blocks.10", "_blocks.14", "_blocks.15"]
    assert ends_of_stages(LITE0)[:4] == ["_blocks.0", "_blocks.1", "_blocks.2", "_blocks.3"]
    assert {len(ends_of_stages(network)) for network in STAGES} == {12}
    pairs = [pair for half in HALVES for pair in (*half.matched, *half.unlike)]
    for a, b in pairs:
        assert layer_at_stride(a, 16) is not None
        assert layer_at_stride(b, 16) is not None


def test_parts_of_a_sentence() -> None:
    sentence = "one two three four five six seven."
    assert part_of(sentence, OPENINGS) == "one two three four five"
    assert part_of(sentence, ENDINGS) == "three four five six seven."


def test_depths_are_relative() -> None:
    assert depth_error(torch.eye(6)) == 0.0
    assert depth_error(torch.tensor([[0.0, 1.0], [1.0, 0.0]])) == 1.0


def test_landmarks_and_what_is_looked_for_are_of_other_crops() -> None:
    landmarks, others = split_of_crops(0)
    assert len(landmarks) == 500
    assert not set((landmarks // 12).tolist()) & set((others // 12).tolist())


def test_settings_that_share_a_fit_match_as_an_aligner_does() -> None:
    generator = torch.Generator().manual_seed(0)
    views = Views(*(torch.randn(n, d, generator=generator) for n, d in ((60, 8), (60, 5)) * 2))
    for how in ("whiten", "half-whiten", "columns"):
        expected = affinities(normalize="center+unit", density=0.2, standardize=how)(views)
        found = affinities_by_parts(normalize="center+unit", density=0.2, standardize=how)(views)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_weights_of_the_spread_share_a_factor() -> None:
    X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    named = {str(p): measures.get("affinity", spread=p) for p in (0.0, 2.0)}
    factors = prepared({**named, "cka": measures.get("cka")}, X)
    assert factors["0.0"] is factors["2.0"]
    assert factors["cka"] is not factors["0.0"]


def test_bars_of_a_default() -> None:
    errors = [0.02, 0.02]
    grid = Grid(
        ("normalize", "density"),
        ("one", "two"),
        [
            (("none", "0.1"), [0.51, 0.70], errors),
            (("unit", "0.1"), [0.51, 0.60], errors),
            (("zscore", "0.1"), [0.52, 0.60], errors),
            (("cka",), [0.54, 0.70], errors),
        ],
    )
    within, first, above = grid.bars(("none", "0.1"), "it").items()
    assert (within[1], first[1], above[1]) == (True, True, False)
    assert "one 0.010, two 0.000" in within[0]
    assert "is on one by 0.030" in above[0]
    assert list(grid.bars(("unit", "0.1"), "it").values()) == [False, False, False]


def test_where_matching_is_below_ridge_is_named() -> None:
    scores = Scores("task")
    for column, (ours, ridge) in {"a": (0.5, 0.4), "b": (0.4, 0.45)}.items():
        for _ in itertools.repeat(None, 2):
            scores.add("affinity (defaults)", column, "block", ours)
            scores.add("ridge regression", column, "block", ridge)
    assert below_ridge(scores) == "b by 0.050"
