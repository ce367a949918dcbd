"""The panel of a report is drawn from what the page explores."""

from __future__ import annotations

import numpy as np
import pytest

from relspace.errors import InvalidInputError
from relspace.pictures.theme import DARK, LIGHT
from relspace.reports.page import (
    Quantization,
    ReportData,
    ReportImage,
    ReportLayer,
    ReportModel,
    panel,
    report_panel,
)


def data(n_layers: int = 3, colorings: tuple[str, ...] = ("joint", "before")) -> ReportData:
    rng = np.random.default_rng(0)
    layers = [
        ReportLayer(
            f"layer_{number}",
            rng.integers(-9, 9, (2, 4, 4, 3), dtype=np.int8),
            {name: rng.integers(0, 255, (2, 4, 4, 3), dtype=np.uint8) for name in colorings},
        )
        for number in range(n_layers)
    ]
    return ReportData(
        title="Two",
        images=[ReportImage(name, np.full((8, 12, 3), 90, np.uint8)) for name in "ab"],
        models=[ReportModel("sam", layers), ReportModel("dino", layers[:1])],
        quantization=Quantization(np.ones(3), 9, 1.0, 0.0, 0.0, 1),
    )


def drawn(monkeypatch: pytest.MonkeyPatch, *arguments: object, **options: object) -> dict:
    found = {}

    def keep(images: object, halves: dict, theme: object, *, title: str) -> bytes:
        found.update(images=images, halves=halves, title=title)
        return b""

    monkeypatch.setattr(panel, "panel_png", keep)
    report_panel(*arguments, **options)
    return found


def test_it_is_a_png_that_follows_the_theme() -> None:
    light, dark = report_panel(data(), LIGHT), report_panel(data(), DARK)
    assert light.startswith(b"\x89PNG")
    assert light == report_panel(data(), LIGHT) != dark


def test_lines_are_layers_of_all_models_in_the_colours_of_the_page(monkeypatch) -> None:
    found = drawn(monkeypatch, data(), LIGHT, n_images=1, n_layers=2)
    assert len(found["images"]) == 1
    assert "sam and dino" in found["title"]
    before, after = found["halves"].values()
    for lines in (before, after):
        # Of three layers the first and the last.
        assert [line.title for line in lines] == ["sam\nlayer_0", "sam\nlayer_2", "dino\nlayer_0"]
    joint = data().models[0].layers[2].colors["joint"]
    np.testing.assert_array_equal(after[1].pictures[0], joint[0])


def test_one_layer_is_the_last_and_colours_before_may_be_missing(monkeypatch) -> None:
    found = drawn(monkeypatch, data(colorings=("joint",)), LIGHT, n_layers=1)
    (after,) = found["halves"].values()
    assert [line.title for line in after] == ["sam\nlayer_2", "dino\nlayer_0"]


def test_a_report_without_patches_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="holds no patches"):
        report_panel(ReportData(title="No models"), LIGHT)
