"""Grids and positions, on features that are a known function of where in the image they are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import relspace
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError
from relspace.features import (
    Positions,
    TokenGrid,
    choose_positions,
    read_positions,
    token_centers,
    token_positions,
)

SIZES = torch.tensor([[120, 200], [64, 64], [333, 77]])


def linear(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Two features that bilinear interpolation reproduces exactly, and their product."""
    return torch.stack([2 * y - 3 * x + 1, x * y], dim=-1)


def cropped(rows: int, columns: int) -> TokenGrid:
    """A grid over a centred square of each image."""
    side = SIZES.min(dim=1, keepdim=True).values
    low = (SIZES - side) / 2
    return TokenGrid(rows, columns, torch.cat([low, low + side], dim=1), SIZES)


def padded(rows: int, columns: int) -> TokenGrid:
    """A grid over each image and the padding below or beside it that makes it square."""
    side = SIZES.max(dim=1, keepdim=True).values
    return TokenGrid(rows, columns, torch.cat([0 * SIZES, side, side], dim=1), SIZES)


def features(grid: TokenGrid) -> torch.Tensor:
    return linear(*token_centers(grid).unbind(-1))


@given(st.integers(2, 9), st.integers(5, 9), st.integers(0, 99))
def test_a_bilinear_function_is_recovered_off_every_grid(rows: int, columns: int, seed: int):
    grids = [
        TokenGrid.whole(rows, columns, image_sizes=SIZES),
        cropped(rows, 5),
        padded(8, columns),
    ]
    positions = choose_positions(grids, 40, random_state=seed)
    expected = linear(positions.y, positions.x)
    for grid in grids:
        read = read_positions(features(grid), grid, positions)
        torch.testing.assert_close(read, expected, rtol=1e-9, atol=1e-6)


def test_reading_tokens_at_their_own_centres_gives_them_back():
    grid = cropped(4, 6)
    tokens = torch.randn(grid.n_images, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        read_positions(tokens, grid, token_positions(grid)),
        tokens.reshape(-1, 5),
        atol=1e-5,
        rtol=0,
    )


def test_agrees_with_torch_grid_sample():
    grid = TokenGrid.whole(5, 7, image_sizes=[(50, 70)])
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(1, 5, 7, 3, generator=generator)
    y, x = 50 * torch.rand(200, generator=generator), 70 * torch.rand(200, generator=generator)
    at = torch.stack([2 * x / 70 - 1, 2 * y / 50 - 1], dim=-1)[None, None]
    expected = torch.nn.functional.grid_sample(
        maps.permute(0, 3, 1, 2), at, padding_mode="border", align_corners=False
    )[0, :, 0].T
    read = read_positions(maps, grid, Positions(torch.zeros(200, dtype=torch.long), y, x))
    torch.testing.assert_close(read, expected, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_tokens():
    grid = TokenGrid.whole(2, 2, image_sizes=[(4, 4)])
    tokens = torch.zeros(4, 1, requires_grad=True)
    read_positions(
        tokens, grid, Positions(torch.tensor([0]), torch.tensor([1.5]), torch.tensor([2.0]))
    ).sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[:, 0].tolist() == pytest.approx([0.375, 0.375, 0.125, 0.125])


def test_half_precision_is_interpolated_in_float32():
    grid = TokenGrid.whole(3, 3, image_sizes=[(9, 9)])
    assert (
        read_positions(torch.ones(9, 2).half(), grid, token_positions(grid)).dtype == torch.float32
    )
    assert (
        read_positions(torch.ones(9, 2).double(), grid, token_positions(grid)).dtype
        == torch.float64
    )


def test_positions_are_balanced_seeded_and_seen_by_all_grids():
    grids = {"crop": cropped(4, 4), "pad": padded(16, 16)}
    positions = choose_positions(grids, 100, random_state=3)
    counts = positions.images.bincount()
    assert int(counts.max() - counts.min()) <= 1
    again = choose_positions(grids, 100, random_state=3)
    assert torch.equal(positions.y, again.y)
    assert not torch.equal(positions.y, choose_positions(grids, 100, random_state=4).y)
    assert bool((positions.y < SIZES[positions.images, 0]).all())
    assert bool((positions.x < SIZES[positions.images, 1]).all())


def test_one_row_of_tokens_is_still_read():
    grids = [TokenGrid.whole(1, 1, image_sizes=SIZES), padded(1, 2)]
    positions = choose_positions(grids, 9)
    assert torch.equal(
        read_positions(torch.arange(3)[:, None], grids[0], positions)[:, 0].long(), positions.images
    )


def test_positions_outside_of_a_crop_are_refused():
    grid = cropped(4, 4)
    corner = Positions(torch.tensor([0, 1]), torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0]))
    with pytest.raises(InvalidInputError, match="1 of 2 positions lie outside"):
        read_positions(features(grid), grid, corner)
    with pytest.raises(InvalidInputError, match="positions name images 7; there are 3"):
        read_positions(
            features(grid), grid, Positions(torch.tensor([7]), corner.y[:1], corner.x[:1])
        )


def test_grids_of_other_images_are_refused():
    with pytest.raises(ItemMismatchError, match="different images"):
        choose_positions([cropped(4, 4), TokenGrid.whole(4, 4, n_images=3)], 5)
    top, bottom = (
        TokenGrid(2, 2, torch.tensor([box]), torch.tensor([[10, 10]]))
        for box in ([0.0, 0.0, 4.0, 4.0], [6.0, 6.0, 10.0, 10.0])
    )
    with pytest.raises(InvalidInputError, match="crops don't overlap"):
        choose_positions([top, bottom], 5)
    with pytest.raises(InvalidInputError, match="at least one grid"):
        choose_positions([], 5)


@pytest.mark.parametrize(
    ("boxes", "sizes", "message"),
    [
        ([[0, 0, 4, 4]], [[4, 4], [4, 4]], "they must be"),
        ([[0, 0, 0, 4]], [[4, 4]], "empty or not finite"),
        ([[0, 0, float("nan"), 4]], [[4, 4]], "empty or not finite"),
        ([[0, 0, 4, 4]], [[0, 4]], "at least 1 pixel"),
    ],
)
def test_unsound_grids_are_refused(boxes: list, sizes: list, message: str):
    with pytest.raises(InvalidInputError, match=message):
        TokenGrid(2, 2, torch.tensor(boxes), torch.tensor(sizes))


def test_unsound_positions_are_refused():
    one = torch.zeros(1)
    with pytest.raises(InvalidInputError, match="lists of one length"):
        Positions(torch.tensor([0, 1]), one, one)
    with pytest.raises(InvalidTypeError, match="fractions"):
        Positions(one, one, one)


def test_tokens_that_do_not_fit_the_grid_are_refused():
    grid = cropped(2, 2)
    with pytest.raises(InvalidInputError, match="holds 12 tokens"):
        read_positions(torch.zeros(11, 3), grid, token_positions(grid))


def test_old_names_work_and_warn():
    grid = TokenGrid.whole(2, 2, n_images=3)
    with pytest.warns(DeprecationWarning, match=r"is now relspace\.features\.choose_positions"):
        chosen = relspace.features.choose_places(grid, 4)
    maps = torch.randn(3, 2, 2, 5)
    fs = relspace.FeatureSet.from_arrays({"one": maps}, layout="bhwc")
    for owner in (fs, fs["one"]):
        with pytest.warns(DeprecationWarning, match=r"read_places is now .*read_positions"):
            found = owner.read_places(chosen)
        assert torch.equal(found, owner.read_positions(chosen))
