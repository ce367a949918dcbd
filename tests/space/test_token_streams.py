"""Tokens on grids whose relative features no memory holds: made as read, and the same results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import relspace as rs
from relspace.errors import InvalidInputError, MemoryBudgetError, NonFiniteError
from relspace.features import scan
from relspace.rows.source import RowSource

N_IMAGES = 40


def seen_by(seed: int, size: int, width: int) -> rs.FeatureSet:
    """Features of smooth pictures at a grid's own resolution."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(N_IMAGES, 6, 5, 5, generator=generator)
    maps = torch.nn.functional.interpolate(pictures, (size, size), mode="bilinear")
    weights = torch.randn(6, width, generator=torch.Generator().manual_seed(seed))
    tokens = torch.tanh(maps.permute(0, 2, 3, 1) @ weights)
    return rs.FeatureSet.from_arrays(
        {"early": maps[:, :1], "late": tokens}, layout={"early": "bchw", "late": "bhwc"}
    )


SETS = {"fine": seen_by(1, 9, 16), "coarse": seen_by(2, 6, 24)}


@pytest.fixture(scope="module", params=["columns", "none"])
def spaces(request: pytest.FixtureRequest) -> tuple[rs.TokenSpace, rs.TokenSpace]:
    """The same space twice: holding its rows, and making them as they are read."""
    held = rs.align(SETS, landmarks=200, standardize=request.param)
    made = rs.align(SETS, landmarks=200, standardize=request.param, memory_budget=1000)
    assert isinstance(held, rs.TokenSpace)
    assert isinstance(made, rs.TokenSpace)
    return held, made


Spaces = tuple[rs.TokenSpace, rs.TokenSpace]


def test_rows_are_the_same_however_they_are_read(spaces: Spaces) -> None:
    held, made = spaces
    assert repr(made) == repr(held)
    for name in SETS:
        expected = torch.as_tensor(held[name])
        rows = made.rows(name)
        assert isinstance(rows, RowSource)
        assert tuple(rows.shape) == tuple(expected.shape)
        torch.testing.assert_close(torch.as_tensor(made[name]), expected, atol=1e-6, rtol=1e-5)
        for start, stop in ((0, 7), (100, 101), (35, 37), (1400, 1440)):
            torch.testing.assert_close(
                rows.read(start, stop), expected[start:stop], atol=1e-6, rtol=1e-5
            )
            assert torch.equal(held.rows(name).read(start, stop), expected[start:stop])


def test_comparisons_are_the_same(spaces: Spaces, monkeypatch: pytest.MonkeyPatch) -> None:
    held, made = spaces
    # So little that images are taken one by one.
    monkeypatch.setattr("relspace.space.token_space._BYTES_AT_A_TIME", 1000)
    monkeypatch.setattr("relspace.space.token_space._SUMMARY_TOKENS", 800)
    for a, b in (("fine", "coarse"), ("coarse", "fine")):
        expected = torch.as_tensor(held.distances(a, b))
        torch.testing.assert_close(
            torch.as_tensor(made.distances(a, b)), expected, atol=1e-5, rtol=1e-4
        )
        images = [3, 4, 9, 30]
        ours, theirs = (one.match(a, b, 2, images=images) for one in (made, held))
        torch.testing.assert_close(ours.distances, theirs.distances, atol=1e-5, rtol=1e-4)
        assert ours.accuracy == theirs.accuracy
        # From the tokens of some images, where rows are not held.
        assert made.chance_distance(a, b) == pytest.approx(held.chance_distance(a, b), abs=0.05)
    ours, theirs = made.summary(), held.summary()
    assert ours["sets"] == theirs["sets"]
    for one, other in zip(ours["pairs"], theirs["pairs"], strict=True):
        assert one["match_accuracy"] == other["match_accuracy"]
        assert one["distance"] == pytest.approx(other["distance"], abs=1e-5)


def test_they_are_embedded_and_drawn_the_same(spaces: Spaces, tmp_path: Path) -> None:
    held, made = spaces
    out = {name: tmp_path / f"{name}.zarr" for name in SETS}
    exact = rs.NormalizedCut(5, n_landmarks=300).fit(held)
    cut = rs.NormalizedCut(5, n_landmarks=300).fit(made, out=out)
    rgb = rs.colors(cut)
    for name in SETS:
        found = scan(out[name]).read(0, cut[name].shape[0])
        torch.testing.assert_close(found, exact[name], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(rgb[name], rs.colors(exact)[name], atol=2e-3, rtol=0)
    assert made.plot(n_images=3) is not None


def test_feature_sets_are_brought_in_by_the_layer_they_were_aligned_by(
    spaces: Spaces, tmp_path: Path
) -> None:
    held, made = spaces
    written = made.transform("fine", SETS["fine"], out=tmp_path / "fine.zarr")
    assert written.shape == made.rows("fine").shape
    torch.testing.assert_close(
        written.read(0, 500), torch.as_tensor(held["fine"])[:500], atol=1e-6, rtol=1e-5
    )
    early = rs.align(SETS, layer="early", landmarks=50, density=0.2, normalize="center")
    assert early.transform("fine", SETS["fine"]).shape == (N_IMAGES * 81, 50)
    items = rs.align({name: fs.pool("mean") for name, fs in SETS.items()}, layer="late")
    assert items.parameters["layers"] == {"fine": "late", "coarse": "late"}
    assert items.transform("fine", SETS["fine"].pool("mean")).shape == (N_IMAGES, N_IMAGES)


def test_what_does_not_fit_is_refused_and_says_how_else(
    spaces: Spaces, assume_free: Callable[..., None], tmp_path: Path
) -> None:
    _, made = spaces
    assume_free(500_000)
    with pytest.raises(MemoryBudgetError, match=r"3240 tokens over 200 .* space.rows\(name\)"):
        made["fine"]
    with pytest.raises(MemoryBudgetError, match=r"out='aligned.zarr'"):
        made.match("fine", "coarse")
    assert torch.as_tensor(made.distances("fine", "coarse")).shape == (N_IMAGES * 81,)


def test_a_saved_space_takes_new_tokens_but_has_no_rows(spaces: Spaces, tmp_path: Path) -> None:
    held, made = spaces
    loaded = rs.load_space(made.save(tmp_path / "space.safetensors"))
    assert isinstance(loaded, rs.TokenSpace)
    assert repr(loaded) == repr(made)
    assert (tmp_path / "space.safetensors").stat().st_size < 10**6
    new = loaded.transform("coarse", SETS["coarse"])
    np.testing.assert_allclose(new, np.asarray(held["coarse"]), atol=1e-6, rtol=1e-4)
    for use in (
        lambda: loaded["fine"],
        lambda: loaded.distances("fine", "coarse"),
        lambda: loaded.match("fine", "coarse", images=[1, 2, 3]),
    ):
        with pytest.raises(InvalidInputError, match="saved without its rows"):
            use()


def test_a_report_reads_what_it_shows(
    spaces: Spaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, made = spaces
    monkeypatch.setattr("relspace.space.token_space._SUMMARY_TOKENS", 800)
    monkeypatch.setattr("relspace.space.token_space._BYTES_AT_A_TIME", 10_000_000)
    monkeypatch.setattr(
        "relspace.space.aligned_set.hold_rows", lambda rows: pytest.fail("all rows are read")
    )
    page = rs.report(made, tmp_path / "report.html", n_images=4)
    assert Path(page).stat().st_size > 10_000


def test_damaged_tokens_are_found_when_they_are_read() -> None:
    maps = SETS["fine"]["late"].maps().clone()
    damaged = rs.FeatureSet.from_arrays({"late": maps}, layout="bhwc")
    space = rs.align({"fine": damaged, "coarse": SETS["coarse"]}, landmarks=200, memory_budget=1)
    maps[20, 3, 3, 2] = torch.nan
    assert bool(space.rows("fine").read(0, 500).isfinite().all())
    with pytest.raises(NonFiniteError, match="tokens of fine: X holds 1 NaN"):
        space.rows("fine").read(1500, 3000)
