"""Panels: joint colours in place, lines that fit their images, pictures that are the same again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import relspace as rs
from relspace.embedding.joint_colors import color_jointly
from relspace.errors import InvalidInputError, ItemMismatchError
from relspace.pictures.panels import PanelRow, panel_png, panel_rows
from relspace.pictures.theme import DARK, LIGHT


def grid_tokens(side: int, n_images: int, width: int, seed: int) -> torch.Tensor:
    """Tokens of images whose left half shows one thing and whose right half another."""
    generator = torch.Generator().manual_seed(seed)
    is_right = (torch.arange(side) >= side // 2).repeat(n_images * side)
    things = 2 * torch.randn(2, width, generator=torch.Generator().manual_seed(7 + width))
    return things[is_right.long()] + torch.randn(len(is_right), width, generator=generator)


@pytest.fixture(scope="module")
def sets() -> dict[str, torch.Tensor]:
    """Two models' relative features of four images, over landmarks that are tokens apart."""
    aligned = {}
    for name, side, width in (("fine", 8, 10), ("coarse", 4, 14)):
        landmarks = grid_tokens(4, 4, width, 1)
        aligned[name] = rs.Aligner().fit(landmarks).transform(grid_tokens(side, 4, width, 2))
    return aligned


SHAPES = {"fine": (8, 8), "coarse": (4, 4)}


def test_a_thing_has_one_color_in_both_models_and_lies_where_it_is(
    sets: dict[str, torch.Tensor],
) -> None:
    joint = color_jointly(sets, SHAPES, n_components=4)
    assert {name: one.shape for name, one in joint.colors.items()} == {
        "fine": (4, 8, 8, 3),
        "coarse": (4, 4, 4, 3),
    }
    halves = {
        name: np.stack(
            [
                one[:, :, : one.shape[2] // 2].mean((0, 1, 2)),
                one[:, :, one.shape[2] // 2 :].mean((0, 1, 2)),
            ]
        )
        for name, one in joint.colors.items()
    }
    same = np.abs(halves["fine"] - halves["coarse"]).max()
    different = np.abs(halves["fine"][0] - halves["coarse"][1]).max()
    assert same < 0.3 * different
    assert -1 <= joint.rank_correlation <= 1


def test_sets_without_a_grid_or_of_other_images_are_named(sets: dict[str, torch.Tensor]) -> None:
    with pytest.raises(InvalidInputError, match="'coarse'"):
        color_jointly(sets, {"fine": (8, 8)})
    with pytest.raises(InvalidInputError, match=r"coarse has 64 tokens.* 5 x 5"):
        color_jointly(sets, {**SHAPES, "coarse": (5, 5)})
    with pytest.raises(ItemMismatchError, match="different numbers of images"):
        color_jointly(sets, {**SHAPES, "coarse": (2, 4)})


def test_rows_show_the_images_asked_for(sets: dict[str, torch.Tensor]) -> None:
    joint = color_jointly(sets, SHAPES, n_components=4)
    rows = panel_rows(joint.colors, [2, 0], titles={"fine": "Fine model"})
    assert [row.title for row in rows] == ["Fine model", "coarse"]
    np.testing.assert_array_equal(rows[1].pictures[0], joint.colors["coarse"][2])


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_panel_is_the_same_png_every_time_for_images_of_any_shape(theme) -> None:
    generator = np.random.default_rng(0)
    images = [generator.random((30, 40, 3)), generator.random((40, 20, 3))]
    halves = {
        name: [PanelRow("layer", [generator.random((4, 5, 3)) for _ in images])]
        for name in ("Before", "After")
    }
    first = panel_png(images, halves, theme, title="Two images")
    assert first.startswith(b"\x89PNG")
    assert first == panel_png(images, halves, theme, title="Two images")


def test_a_line_that_misses_a_picture_is_refused() -> None:
    image = np.zeros((4, 4, 3))
    with pytest.raises(ItemMismatchError, match="'layer' has 1 pictures for 2 images"):
        panel_png([image, image], {"After": [PanelRow("layer", [image])]}, LIGHT, title="")
