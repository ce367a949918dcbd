"""The drawing of portraits: masks that fit the images, variety, and the same for the same seed."""

from __future__ import annotations

import pytest
import torch

from examples.portraits.drawing import PARTS, SIDE, Portraits, draw_portraits, part_shares
from examples.portraits.shapes import box, ellipse, inside, ring


@pytest.fixture(scope="module")
def portraits() -> Portraits:
    return draw_portraits(60, 5)


def test_images_and_masks_have_the_shapes_they_state(portraits: Portraits) -> None:
    assert portraits.images.shape == (60, 3, SIDE, SIDE)
    assert portraits.parts.shape == (60, SIDE, SIDE)
    assert portraits.parts.dtype == torch.uint8
    assert 0 <= float(portraits.images.min()) <= float(portraits.images.max()) <= 1
    assert int(portraits.parts.max()) == len(PARTS) - 1


def test_the_same_seed_draws_the_same_and_another_one_others(portraits: Portraits) -> None:
    again, other = draw_portraits(60, 5), draw_portraits(60, 6)
    assert torch.equal(again.images, portraits.images)
    assert torch.equal(again.parts, portraits.parts)
    assert not torch.equal(other.parts, portraits.parts)


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    draw_portraits(2, 0)
    assert torch.equal(before, torch.get_rng_state())


def test_nearly_every_portrait_shows_every_part(portraits: Portraits) -> None:
    shown = torch.stack([(portraits.parts == part).flatten(1).any(1) for part in range(len(PARTS))])
    share = dict(zip(PARTS, shown.double().mean(1).tolist(), strict=True))
    assert share.pop("hair") > 0.8  # some are bald
    assert share.pop("clothes") > 0.8
    assert min(share.values()) == 1.0


def test_the_mouth_lies_below_the_nose_and_the_nose_below_the_eyes(portraits: Portraits) -> None:
    rows = torch.arange(SIDE, dtype=torch.float64)[:, None].expand(SIDE, SIDE)

    def height(part: str, item: int) -> float:
        return float(rows[portraits.parts[item] == PARTS.index(part)].mean())

    for item in range(len(portraits)):
        assert height("mouth", item) > height("nose", item) > height("eyes", item)


def test_masks_end_where_colors_change(portraits: Portraits) -> None:
    """Neighbouring pixels of different parts differ more than those of one part."""
    step = (portraits.images[..., 1:] - portraits.images[..., :-1]).abs().mean(1)
    border = portraits.parts[..., 1:] != portraits.parts[..., :-1]
    assert float(step[border].mean()) > 2 * float(step[~border].mean())


def test_no_place_tells_the_part(portraits: Portraits) -> None:
    """The most frequent part of each pixel is right much less often than the networks are."""
    counts = torch.stack([(portraits.parts == part).sum(0) for part in range(len(PARTS))])
    guess = counts.argmax(0)
    found = [
        float((guess.expand(60, -1, -1)[portraits.parts == part] == part).double().mean())
        for part in range(len(PARTS))
    ]
    assert sum(found) / len(found) < 0.45


def test_shares_of_cells_sum_to_one_and_count_pixels() -> None:
    parts = torch.zeros(1, 4, 4, dtype=torch.uint8)
    parts[0, 0, :2] = 3
    shares = part_shares(parts, 2)
    assert shares.shape == (1, 2, 2, len(PARTS))
    assert shares[0, 0, 0].tolist() == [0.5, 0, 0, 0.5, 0, 0, 0]
    torch.testing.assert_close(shares.sum(-1), torch.ones(1, 2, 2))


def test_shapes_cover_their_area() -> None:
    places = torch.arange(200.0) + 0.5
    x, y = places[None, None, :], places[None, :, None]
    one = torch.ones(1, 1, 1)
    center = (100 * one, 100 * one)
    assert float(ellipse(x, y, center, (30 * one, 20 * one), one).sum()) == pytest.approx(
        3.14159 * 600, rel=0.01
    )
    assert float(box(x, y, center, (30 * one, 20 * one), one).sum()) == pytest.approx(
        2400, rel=0.01
    )
    assert float(ring(x, y, center, (30 * one, 30 * one), 2 * one, one).sum()) == pytest.approx(
        3.14159 * (32**2 - 28**2), rel=0.02
    )
    assert inside(torch.tensor([-9.0, 0.0, 9.0]), torch.tensor(1.0)).tolist() == [0, 0.5, 1]
