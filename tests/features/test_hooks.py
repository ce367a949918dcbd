"""Recording by hooks: names, kinds of output, and that nothing is left behind."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import relspace
from relspace.errors import InvalidInputError, InvalidTypeError, UnknownNameError


@dataclass
class State:
    note: str
    hidden: torch.Tensor


Pair = namedtuple("Pair", ["hidden", "weights"])


class Block(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.kind = kind

    def forward(self, x: torch.Tensor) -> object:
        y = self.linear(x)
        return {
            "tensor": y,
            "tuple": (y, None),
            "named": Pair(y, None),
            "dict": {"hidden": y},
            "dataclass": State("a", y),
            "nothing": "text",
        }[self.kind]


class Network(nn.Module):
    def __init__(self, kind: str = "tensor") -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(kind) for _ in range(3)])
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            block(x)
            x = block.linear(x).relu_()
        return self.norm(x)


def n_hooks(module: nn.Module) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in module.modules())


@pytest.mark.parametrize("kind", ["tensor", "tuple", "named", "dict", "dataclass"])
def test_every_kind_of_output(kind: str) -> None:
    network, x = Network(kind), torch.randn(5, 4)
    with relspace.record(network, ["blocks.0"]) as features:
        network(x)
    torch.testing.assert_close(features["blocks.0"], network.blocks[0].linear(x).detach())
    assert not features["blocks.0"].requires_grad


def test_an_output_without_a_tensor_says_so_and_leaves_no_hook() -> None:
    network = Network("nothing")
    with (
        pytest.raises(InvalidTypeError, match=r"'blocks.0' gives str"),
        relspace.record(network, "blocks.0"),
    ):
        network(torch.zeros(1, 4))
    assert n_hooks(network) == 0


def test_patterns_match_between_dots() -> None:
    network = Network()
    with relspace.record(network, ["norm", "blocks.*"]) as features:
        network(torch.zeros(2, 4))
    assert list(features) == ["blocks.0", "blocks.1", "blocks.2", "norm"]
    with relspace.record(network, "blocks.*.linear") as features:
        network(torch.zeros(2, 4))
    assert list(features) == ["blocks.0.linear", "blocks.1.linear", "blocks.2.linear"]


def test_what_a_later_layer_changes_in_place_is_kept_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
    x = torch.randn(50, 4)
    for device in ("cpu", None):
        with relspace.record(network, "0", device=device) as features:
            network(x)
        torch.testing.assert_close(features["0"], network[0](x).detach())
        assert bool((features["0"] < 0).any())


def test_the_input_of_a_layer_is_recorded_too() -> None:
    network, x = Network(), torch.randn(2, 4)
    with relspace.record(network, "blocks.0", side="input") as features:
        network(x)
    torch.testing.assert_close(features["blocks.0"], x)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("heads", "no layer is called 'heads'; the module has blocks, norm"),
        ("blocks.7", "in 'blocks': blocks.0, blocks.1, blocks.2"),
        ("blocks.0.conv", "in 'blocks.0': blocks.0.linear"),
        ("*.*.*.*", "no layer is called"),
    ],
)
def test_a_wrong_name_says_what_exists(layers: str, message: str) -> None:
    network = Network()
    with pytest.raises(UnknownNameError, match=message), relspace.record(network, layers):
        pass
    assert n_hooks(network) == 0


def test_hooks_are_gone_whatever_happens() -> None:
    network = Network()
    with relspace.record(network, "blocks.*"):
        assert n_hooks(network) == 3
    assert n_hooks(network) == 0
    with pytest.raises(RuntimeError), relspace.record(network, "blocks.*"):
        network(torch.zeros(2, 5))
    assert n_hooks(network) == 0


def test_what_has_not_run_says_so() -> None:
    network = Network()
    with relspace.record(network, "norm") as features:
        with pytest.raises(UnknownNameError, match="did not run"):
            features["norm"]
        with pytest.raises(UnknownNameError, match=r"'blocks.0' is not recorded"):
            features["blocks.0"]
        assert repr(features) == "Recording(nothing has run yet)"
        network(torch.zeros(2, 4))
        assert (len(features), "norm" in features) == (1, True)
        features.clear()
        assert len(features) == 0


def test_bad_arguments() -> None:
    with pytest.raises(InvalidTypeError, match=r"must be a nn\.Module"), relspace.record(3, "a"):
        pass
    with pytest.raises(InvalidInputError, match="layers is empty"), relspace.record(Network(), []):
        pass
    with (
        pytest.raises(InvalidInputError, match="one of output, input"),
        relspace.record(Network(), "norm", side="both"),
    ):
        pass
