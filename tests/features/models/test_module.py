"""A module of one's own: how it is shown, and which layouts go to which layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from relspace.errors import InvalidInputError, UnknownNameError
from relspace.features import ModuleModel, Preprocessing


class Tokens(nn.Module):
    """Maps, then two blocks of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images).flatten(2).mT
        for block in self.blocks:
            x = block(x)
        return x


LAYERS = ["stem", "blocks.*"]
SMALL = Preprocessing(size=(16, 16))


def test_a_module_says_its_name_its_layers_and_where_it_runs() -> None:
    model = ModuleModel(
        Tokens(), LAYERS, layout={"stem": "bchw"}, preprocessing=SMALL, n_prefix_tokens=0
    )
    assert repr(model) == "ModuleModel('Tokens': 3 layers, images, cpu)"


def test_a_pattern_in_layout_stands_for_the_layers_that_it_matches() -> None:
    network = Tokens()
    given = ModuleModel(
        network,
        LAYERS,
        layout={"blocks.*": "btd", "stem": "bchw"},
        preprocessing=SMALL,
        n_prefix_tokens=0,
    )
    listed = ModuleModel(
        network,
        LAYERS,
        layout={"stem": "bchw", "blocks.0": "btd", "blocks.1": "btd"},
        preprocessing=SMALL,
        n_prefix_tokens=0,
    )
    assert given.settings() == listed.settings()
    found = given.forward([np.zeros((3, 16, 16), np.float32)], given.layers)
    assert {name: tuple(one.shape) for name, one in found.items()} == {
        "stem": (1, 4, 4, 8),
        "blocks.0": (1, 4, 4, 8),
        "blocks.1": (1, 4, 4, 8),
    }


def test_the_name_of_a_layer_goes_before_a_pattern() -> None:
    with pytest.raises(
        InvalidInputError, match=r"'blocks\.1' gives shape .* not of the layout 'nd'"
    ):
        ModuleModel(
            Tokens(),
            LAYERS,
            layout={"blocks.*": "btd", "blocks.1": "nd"},
            preprocessing=SMALL,
            n_prefix_tokens=0,
        ).forward([np.zeros((3, 16, 16), np.float32)], ["blocks.1"])


def test_a_layout_of_no_layer_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"layout has 'block.\*'.* the layers are 'stem', "):
        ModuleModel(
            Tokens(), LAYERS, layout={"block.*": "btd"}, preprocessing=SMALL, n_prefix_tokens=0
        )
