"""Recording by hooks: names, kinds of output, and that nothing is left behind."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
import torch.utils.checkpoint
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
    assert list(features) == [f"blocks.{i}.linear@{call}" for i in range(3) for call in (1, 2)]


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
        assert [n_hooks(one) for one in network.blocks] == [1, 1, 1]
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


class Shared(nn.Module):
    """One ReLU for all layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
        self.c = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.c(self.relu(self.b(self.relu(self.a(x))))))


def calls_of(network: Shared, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        first = network.a(x).relu()
        second = network.b(first).relu()
        return [first, second, network.c(second).relu()]


def test_calls_of_a_module_that_runs_several_times_have_names() -> None:
    network, x = Shared(), torch.randn(5, 4)
    expected = calls_of(network, x)
    with relspace.record(network, ["relu", "a"]) as features:
        network(torch.randn(7, 4))
        network(x)
        assert list(features) == ["a", "relu@1", "relu@2", "relu@3"]
        assert ("relu" in features, "relu@3" in features, "relu@4" in features) == (
            *(False, True, False),
        )
        with pytest.raises(InvalidInputError, match=r"ran 3 times.*'relu@1', 'relu@2', 'relu@3'"):
            features["relu"]
        with pytest.raises(UnknownNameError, match="'relu' ran 3 times in the last pass"):
            features["relu@4"]
    for i, one in enumerate(expected):
        torch.testing.assert_close(features[f"relu@{i + 1}"], one)
    with relspace.record(network, ["relu@2", "relu@3"], side="input") as features:
        network(x)
    assert list(features) == ["relu@2", "relu@3"]
    torch.testing.assert_close(features["relu@2"].relu(), expected[1])
    assert "relu@2 (5, 4)" in repr(features)


def test_one_call_is_what_its_bare_name_means() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with relspace.record(network, ["0", "1@2"]) as features:
        network(torch.zeros(2, 4))
        network(torch.ones(2, 4))
    torch.testing.assert_close(features["0@1"], features["0"])
    with pytest.raises(UnknownNameError, match="layer '1' ran once in the last pass"):
        features["1@2"]


def test_passes_of_a_part_are_not_taken_for_one_pass() -> None:
    network, x = Shared(), torch.randn(2, 4)
    with relspace.record(network, "a") as features:
        network.a(torch.zeros(2, 4))
        network.a(x)
        with pytest.raises(InvalidInputError, match=r"ran 2 times.*clear\(\)"):
            features["a"]
        features.clear()
        network.a(x)
    torch.testing.assert_close(features["a"], network.a(x).detach())


def test_a_failed_pass_leaves_nothing_to_the_next() -> None:
    network, x = Shared(), torch.randn(2, 4)
    with relspace.record(network, "*") as features:
        with pytest.raises(RuntimeError):
            network(torch.zeros(2, 5))
        network(x)
        network(x)
    assert list(features) == ["a", "b", "relu@1", "relu@2", "relu@3", "c"]


def test_checkpoints_of_activations_count_once() -> None:
    network, x = Shared(), torch.randn(2, 4, requires_grad=True)
    with relspace.record(network, "a") as features:
        y = torch.utils.checkpoint.checkpoint(network, x, use_reentrant=False)
        first = features["a"]
        y.sum().backward()
        assert features["a"] is first


def test_an_alias_is_a_name() -> None:
    relu = nn.ReLU()
    network, x = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu), torch.randn(5, 4)
    with relspace.record(network, ["3@2", "1@1"]) as features:
        network(x)
    assert list(features) == ["1@1", "3@2"]
    torch.testing.assert_close(features["3@2"], network(x).detach())
    with relspace.record(network, "*") as features:
        network(x)
    assert list(features) == ["0", "1@1", "1@2", "2"]
    network.head = network[0]  # of another name, and run once
    with relspace.record(network, "head") as features:
        network[:1](x)
    torch.testing.assert_close(features["head"], network[0](x).detach())


def test_a_module_that_holds_its_parent_has_names() -> None:
    network = Shared()
    network.a.parent = network
    with relspace.record(network, ["a", "c"]) as features:
        network.c(torch.zeros(1, 4))
    assert list(features) == ["c"]


def test_names_do_not_show_wrappers() -> None:
    network, x = Shared(), torch.randn(5, 4)
    expected = network.a(x).detach()
    compiled = torch.compile(network, backend="eager")
    compiled(x)  # compiled code calls no hooks that come later
    for model in (compiled, nn.DataParallel(network), nn.DataParallel(compiled)):
        for name in ("a", "*"):
            with relspace.record(model, name) as features:
                model(x)
            torch.testing.assert_close(features["a"], expected)
        assert n_hooks(model) == 0
    with relspace.record(compiled, "_orig_mod.a") as features:
        compiled(x)
    torch.testing.assert_close(features["_orig_mod.a"], expected)
    outer = nn.Sequential(nn.Linear(4, 4), compiled)
    with relspace.record(outer, ["1.a", "1"]) as features:
        outer(x)
    assert list(features) == ["1", "1.a"]


def test_a_module_that_compiled_itself_runs_its_hooks() -> None:
    network, x = Shared(), torch.randn(5, 4)
    network.compile(backend="eager")
    network(x)
    with relspace.record(network, "a") as features:
        network(x)
    torch.testing.assert_close(features["a"], network.a(x).detach())


def test_torchscript_is_refused_with_its_reason() -> None:
    network, x = Shared(), torch.randn(5, 4)
    for script in (torch.jit.script(network), torch.jit.trace(network, x)):
        with (
            pytest.raises(InvalidInputError, match=r"'a' is TorchScript, which .* calls no hooks"),
            relspace.record(script, "a"),
        ):
            pass
        outer = nn.Sequential(nn.Linear(4, 4), script)
        with relspace.record(outer, "0") as features:
            outer(x)
        assert list(features) == ["0"]
        assert n_hooks(outer[0]) == 0


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
