"""The demo's networks: shapes, layer names, seeded weights, training that repeats itself."""

import pytest
import torch

from examples.digits.digits import Digits, accuracy, load_split
from examples.digits.networks import NETWORKS, initial_network, load_network
from examples.digits.train import shift, train
from examples.digits.weights import write_weights

LAYERS = {
    "cnn": {"conv1": 96, "conv2": 192, "conv3": 256, "hidden": 96},
    "vit": {
        "patches": 224,
        "block1": 224,
        "block2": 224,
        "block3": 224,
        "block4": 224,
        "mean token": 56,
    },
}


@pytest.fixture(scope="module")
def split() -> tuple[Digits, Digits]:
    return load_split()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_gives_one_row_per_image(name: str) -> None:
    network = initial_network(name, 0)
    images = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(0))
    layers = network.layers(images)
    assert {layer: X.shape for layer, X in layers.items()} == {
        layer: (5, width) for layer, width in LAYERS[name].items()
    }
    assert network(images).shape == (5, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_images_of_a_batch_do_not_see_each_other(name: str) -> None:
    network = initial_network(name, 0)
    images = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
    together, alone = network.layers(images), network.layers(images[:1])
    for layer, X in alone.items():
        torch.testing.assert_close(together[layer][:1], X)


@pytest.mark.parametrize("name", NETWORKS)
def test_building_leaves_the_global_random_state_alone(name: str) -> None:
    before = torch.get_rng_state()
    initial_network(name, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_the_split_is_fixed_and_has_no_image_twice(split: tuple[Digits, Digits]) -> None:
    train_part, held_out = split
    assert (len(train_part.labels), len(held_out.labels)) == (1000, 797)
    again = load_split()[1]
    assert torch.equal(again.images, held_out.images)
    together = torch.cat([train_part.images, held_out.images]).flatten(1)
    assert len(together.unique(dim=0)) == 1797


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_weights_reach_the_accuracy_they_state(
    name: str, split: tuple[Digits, Digits]
) -> None:
    network, record = load_network(name)
    reached = accuracy(network, split[1])
    assert reached == pytest.approx(record["accuracy_held_out"], abs=2 / 797)
    assert reached > 0.95


@pytest.mark.parametrize("name", NETWORKS)
def test_training_repeats_itself_and_follows_its_seed(
    name: str, split: tuple[Digits, Digits]
) -> None:
    few = split[0].take(torch.arange(150))
    first, second, other = (train(name, few, seed=seed, epochs=2) for seed in (4, 4, 5))
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_a_shift_moves_an_image_by_a_pixel_at_most() -> None:
    images = torch.zeros(200, 8, 8)
    images[:, 4, 4] = 1
    moved = shift(images, torch.Generator().manual_seed(0))
    places = {tuple(place) for place in moved.nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in (3, 4, 5) for column in (3, 4, 5)}
    assert moved.sum() == 200


def test_weights_are_written_whole(tmp_path) -> None:
    path = tmp_path / "new" / "cnn.safetensors"
    write_weights(path, initial_network("cnn", 0), {"seed": 0})
    assert [file.name for file in path.parent.iterdir()] == ["cnn.safetensors"]
