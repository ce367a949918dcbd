"""The demo as a whole: numbers above their controls, a picture, and one page on its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relspace.demo import pretrained, study
from relspace.demo.page import summary_table
from relspace.demo.photographs import PHOTOGRAPHS, Photograph
from relspace.demo.run import run_demo

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
@pytest.mark.skipif(
    pretrained.find_spec("rembg") is None, reason="the demo's networks need their packages"
)
def test_the_demo_writes_numbers_picture_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without crops, and with fewer landmarks and layers, which changes times more than numbers.
    monkeypatch.setattr(Photograph, "crops", lambda self: {})
    monkeypatch.setattr(study, "N_LANDMARKS", 400)
    monkeypatch.setattr(pretrained, "LAYERS", pretrained.SHOWN)
    said: list[tuple[int, int, str]] = []
    folder = tmp_path / "new" / "folder"
    summary = run_demo(folder, random_state=3, progress=lambda *one: said.append(one))
    assert {file.name for file in folder.iterdir()} == {
        *("report.html", "summary.json", "photographs.png", "photographs"),
        *("U2-Net-p.zarr", "EfficientNet-Lite0.zarr"),
    }
    assert json.loads((folder / "summary.json").read_text()) == summary
    found = summary["photographs"]
    assert found["data"]["photographs"] == list(PHOTOGRAPHS)
    after, chance = found["retrieval"]["aligned"]["mean"], found["controls"]["chance"]["mean"]
    before = max(one["mean"] for one in found["retrieval"].values() if one["kind"] == "before")
    assert chance == pytest.approx(1 / 3)
    assert after > max(before, found["controls"]["position"]["mean"]) + 0.1
    assert found["matching"]["aligned"]["top1"] > 5 * found["matching"]["chance"]
    assert found["colors"]["after"]["consistency"] < 0.6 * found["colors"]["before"]["consistency"]
    assert (folder / "photographs.png").read_bytes().startswith(PNG)
    assert len({text for *_, text in said}) >= 4
    page = (folder / "report.html").read_text()
    assert len(page) < 10_000_000
    assert f'<dd class="value">{100 * after:.0f} %</dd>' in page
    assert f"{after:.3f}" in summary_table(found)
    for outside in ('src="http', 'href="http', "@import", "url(http"):
        assert outside not in page
