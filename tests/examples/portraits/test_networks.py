"""The portraits study's networks: shapes, seeded weights, what ships, training that repeats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from examples.digits.weights import write_weights
from examples.portraits.drawing import Portraits, draw_portraits
from examples.portraits.networks import (
    NETWORKS,
    initial_network,
    load_network,
    spread_cells,
)
from examples.portraits.train import (
    N_VALIDATION,
    TRAIN_SEEDS,
    VALIDATION_SEED,
    Schedule,
    boundary_cells,
    draw_training_portraits,
    score,
    train,
    varied,
)

SHAPES = {"boundaries": (24, 24, 64), "parts": (12, 12, 96)}
MAX_BYTES = 2_000_000


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_gives_tokens_in_place(name: str) -> None:
    network = initial_network(name, 0).eval()
    images = draw_portraits(3, 0).images
    with torch.no_grad():
        layers = network.layers(images)
        alone = network.layers(images[:1])
    assert {tuple(tokens.shape) for tokens in layers.values()} == {(3, *SHAPES[name])}
    for layer, tokens in alone.items():
        torch.testing.assert_close(layers[layer][:1], tokens, atol=1e-5, rtol=1e-4)


def test_the_two_networks_differ_in_stride_width_and_layers() -> None:
    first, second = (initial_network(name, 0) for name in NETWORKS)
    assert first.stride != second.stride
    assert SHAPES["boundaries"][-1] != SHAPES["parts"][-1]
    assert len(first.blocks) != len(second.blocks)


@pytest.mark.parametrize("name", NETWORKS)
def test_first_weights_follow_the_seed_and_nothing_else(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (initial_network(name, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["patches.weight"], other["patches.weight"])


def test_cells_are_laid_out_in_place() -> None:
    tokens = torch.arange(8.0).reshape(1, 1, 2, 4)
    assert spread_cells(tokens)[0, :, :, 0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_what_ships_is_small_and_does_what_it_states() -> None:
    import examples.portraits as package

    folder = Path(str(package.__file__)).parent / "weights"
    assert sum(file.stat().st_size for file in folder.iterdir()) < MAX_BYTES
    validation = draw_portraits(N_VALIDATION, VALIDATION_SEED).take(torch.arange(24))
    for name in NETWORKS:
        network, record = load_network(name)
        for key, reached in score(network, validation).items():
            # Some of the validation portraits, so about the same.
            assert reached == pytest.approx(record[key], abs=0.06)
    assert record["part_recall"] > 0.8


def test_boundaries_pass_where_neighbours_differ() -> None:
    parts = torch.zeros(1, 8, 8, dtype=torch.uint8)
    parts[0, :, 4:] = 2
    assert boundary_cells(parts, 4)[0].tolist() == [[0, 1, 0, 0]] * 4
    assert float(boundary_cells(torch.zeros_like(parts), 4).sum()) == 0


def test_variation_moves_the_mask_with_the_image() -> None:
    portraits = draw_portraits(6, 0)
    marked = Portraits(portraits.parts[:, None].float().expand(-1, 3, -1, -1) / 10, portraits.parts)
    moved = varied(marked, torch.Generator().manual_seed(0))
    assert not torch.equal(moved.parts, marked.parts)
    # Gains change colours only: within a channel a part keeps one value.
    for item in range(6):
        channel, parts = moved.images[item, 0], moved.parts[item]
        for part in parts.unique():
            assert float(channel[parts == part].std(unbiased=False)) < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_training_repeats_itself_and_follows_its_seed(name: str) -> None:
    portraits = draw_portraits(6, 0)
    first, again, other = (
        train(name, portraits, seed=seed, schedule=Schedule(3, 2)).state_dict()
        for seed in (4, 4, 5)
    )
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["norm.weight"], other["norm.weight"])


def test_training_portraits_are_none_of_the_studys() -> None:
    drawn = draw_training_portraits(3)
    assert len(drawn) == 3
    assert torch.equal(drawn.parts, draw_portraits(3, TRAIN_SEEDS).parts)
    assert VALIDATION_SEED < TRAIN_SEEDS
    assert not torch.equal(drawn.parts, draw_portraits(3, 0).parts)


def test_weights_are_written_in_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "new" / "parts.safetensors"
    write_weights(path, initial_network("parts", 0), {"seed": 0}, torch.float16)
    n_values = sum(value.numel() for value in initial_network("parts", 0).state_dict().values())
    assert 2 * n_values <= path.stat().st_size < 2 * n_values + 10_000
