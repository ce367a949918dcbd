"""A changed network is never taken for the one whose features are stored; an unchanged one is."""

from __future__ import annotations

import functools
import math
import os
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import relspace as rs
from relspace.features import OtherExtractionError, network_identity
from relspace.rows.identity import Identity

IMAGES = np.random.default_rng(0).integers(0, 255, size=(3, 16, 16, 3), dtype=np.uint8)
FACTOR = 2.0
NAMES = {"gain": 1.5}


def scale(x: torch.Tensor) -> torch.Tensor:
    return x * FACTOR * NAMES["gain"]


def halve(x: torch.Tensor) -> torch.Tensor:
    return x * 0.5


class Kind(Enum):
    PLAIN = 1
    DOUBLE = 2


@dataclass
class Settings:
    gain: float = 1.0
    names: list[str] = field(default_factory=lambda: ["a"])


class Slotted:
    __slots__ = ("gain",)

    def __init__(self, gain: float) -> None:
        self.gain = gain


class Helper:
    offset = 0.0

    def __init__(self) -> None:
        self.gain = 1.0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.shift(x * self.gain)

    def shift(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.offset


class Block(nn.Module):
    power = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bend(x**self.power)

    def bend(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)

    @staticmethod
    def unused(x: torch.Tensor) -> torch.Tensor:
        return x


class Network(nn.Module):
    """Holds one of everything that a forward pass may read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 8, 8)
        self.block = Block()
        self.lookup: dict[str, Any] = {"gain": 1.0, "inside": {"deep": [1, 2]}}
        self.plain = (1.0, "text", None, b"bytes", torch.float32)
        self.chosen = {"a", "b", "c"}
        self.kind = Kind.PLAIN
        self.settings = Settings()
        self.slotted = Slotted(1.0)
        self.helper = Helper()
        self.act: Callable[[torch.Tensor], torch.Tensor] = torch.relu
        self.bound = functools.partial(torch.clamp, min=-1.0)
        self.scale = scale
        self.closed = closing_over(1.0)
        self.branches = [nn.Identity(), nn.ReLU()]
        self.table = np.arange(4.0)
        self.tensors = [torch.ones(2)]
        self.generator = torch.Generator().manual_seed(0)
        self.shown = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(self.conv(x)) * self.lookup["gain"] * self.plain[0]
        x = self.branches[len(self.chosen) % 2](self.bound(self.act(x))) + self.table[0]
        x = self.closed(self.scale(self.helper(x))) * self.tensors[0].sum()
        x = x * self.settings.gain * self.slotted.gain + self.generator.initial_seed()
        self.shown = x
        return x * 2 if self.kind is Kind.DOUBLE else x

    def fit(self) -> None:
        UNRELATED.send(None)


def closing_over(gain: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: x * gain


def endless() -> Iterator[int]:
    yield 1


UNRELATED = endless()


def model_of(network: nn.Module, **given: Any) -> rs.ModuleModel:
    preprocessing = given.pop("preprocessing", rs.Preprocessing(size=(16, 16)))
    return rs.ModuleModel(network, "conv", layout="bchw", preprocessing=preprocessing, **given)


def identity_of(network: nn.Module, **given: Any) -> Identity:
    return model_of(network, **given).identity()


def doubled(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
    return output * 2


def halved(module: nn.Module, args: Any) -> Any:
    return (args[0] / 2,)


def change_in(attribute: str, value: object) -> Callable[[Network], None]:
    return lambda network: setattr(network, attribute, value)


CHANGES: dict[str, Callable[[Network], object]] = {
    "a value of a dict": lambda net: net.lookup.update(gain=2.0),
    "a new key of a dict": lambda net: net.lookup.update(other=1),
    "a list in a dict in a dict": lambda net: net.lookup["inside"]["deep"].append(3),
    "a number in a tuple": change_in("plain", (2.0, "text", None, b"bytes", torch.float32)),
    "a text in a tuple": change_in("plain", (1.0, "other", None, b"bytes", torch.float32)),
    "None in a tuple": change_in("plain", (1.0, "text", 0, b"bytes", torch.float32)),
    "bytes in a tuple": change_in("plain", (1.0, "text", None, b"other", torch.float32)),
    "a dtype in a tuple": change_in("plain", (1.0, "text", None, b"bytes", torch.float64)),
    "True for 1": change_in("plain", (True, "text", None, b"bytes", torch.float32)),
    "a set": lambda net: net.chosen.add("d"),
    "an enum": change_in("kind", Kind.DOUBLE),
    "a field of a dataclass": lambda net: setattr(net.settings, "gain", 3.0),
    "a list in a dataclass": lambda net: net.settings.names.append("b"),
    "a slot": lambda net: setattr(net.slotted, "gain", 3.0),
    "an attribute of an object": lambda net: setattr(net.helper, "gain", 3.0),
    "an attribute that an object gets": lambda net: setattr(net.helper, "shift", halve),
    "a function of torch": change_in("act", torch.sigmoid),
    "an argument of a partial": change_in("bound", functools.partial(torch.clamp, min=-2.0)),
    "the function of a partial": change_in("bound", functools.partial(torch.clip, min=-1.0)),
    "a function of one's own": change_in("scale", halve),
    "what a closure holds": change_in("closed", closing_over(2.0)),
    "a module in a list": lambda net: net.branches.__setitem__(1, nn.GELU()),
    "an attribute of a module in a list": lambda net: setattr(net.branches[1], "inplace", True),
    "an array": lambda net: net.table.__setitem__(0, 9.0),
    "a tensor in a list": lambda net: net.tensors[0].mul_(2),
    "a seed": lambda net: net.generator.manual_seed(1),
    "a module": lambda net: setattr(net, "block", nn.Tanh()),
    "a setting of a module of torch": lambda net: setattr(net.conv, "padding", (1, 1)),
    "the method forward": lambda net: setattr(net.block, "forward", halve),
    "a method that is bound": lambda net: setattr(
        net.block, "bend", types.MethodType(lambda self, x: x * self.power, net.block)
    ),
    "a hook": lambda net: net.conv.register_forward_hook(doubled),
    "a hook with keywords": lambda net: net.conv.register_forward_hook(
        lambda module, args, kwargs, output: output * 2, with_kwargs=True
    ),
    "a hook before": lambda net: net.block.register_forward_pre_hook(halved),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_change_in_a_network_is_seen(change: Callable[[Network], object]) -> None:
    before, network = identity_of(Network()), Network()
    assert before.is_known
    assert before.same_as(identity_of(network))
    change(network)
    assert not before.same_as(identity_of(network))


CODE: dict[str, tuple[str, object]] = {
    "a global": ("FACTOR", 3.0),
    "a global dict": ("NAMES", {"gain": 2.5}),
    "a helper function": ("scale", halve),
    "a function in the module of a helper": ("torch", types.SimpleNamespace(tanh=torch.sin)),
    "a class attribute": ("Block.power", 2),
    "a class attribute of an object": ("Helper.offset", 2.0),
    "a method that forward calls": ("Block.bend", halve),
    "a method of an object": ("Helper.shift", lambda self, x: x - self.offset),
    "forward of a class": ("Block.forward", lambda self, x: torch.sin(x)),
    "a class that torch brings": ("nn.Conv2d._conv_forward", lambda self, *given: given[0]),
    "a function that torch brings": ("nn.functional.conv2d", lambda *given: given[0]),
}


@pytest.mark.parametrize(("where", "value"), CODE.values(), ids=list(CODE))
def test_changed_code_is_seen(where: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    network.scale = lambda x: scale(x)
    before = identity_of(network)
    assert before.same_as(identity_of(network))
    *owners, name = where.split(".")
    owner: Any = sys.modules[__name__]
    for one in owners:
        owner = getattr(owner, one)
    monkeypatch.setattr(owner, name, value)
    assert not before.same_as(identity_of(network))


def made_from(source: str) -> nn.Module:
    space: dict[str, Any] = {"nn": nn, "math": math, "__name__": "mine"}
    exec(source, space)
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(3, 4, 8, 8))
    network.add_module("own", space["Own"]())
    return network


OWN = """
def helper(x, by={default}):
    # {comment}
    return inner(x) * by

def inner(x):
    return x + math.pi * {constant}

class Own(nn.Module):
    def forward(self, x):
        return helper(x, {given})

    def training_step(self, x):
        return {unused}
"""
WRITTEN = {"default": 2, "comment": "said", "constant": 1, "given": "by=3", "unused": 0}


@pytest.mark.parametrize(
    ("change", "is_seen"),
    [
        ({"default": 3}, True),
        ({"constant": 2}, True),
        ({"given": "by=4"}, True),
        ({"comment": "something else"}, False),
        ({"unused": 5}, False),
    ],
)
def test_code_counts_by_what_it_does(change: dict[str, object], *, is_seen: bool) -> None:
    before = identity_of(made_from(OWN.format(**WRITTEN)))
    assert before.same_as(identity_of(made_from(OWN.format(**WRITTEN))))
    after = identity_of(made_from(OWN.format(**WRITTEN | change)))
    assert before.same_as(after) is not is_seen


UNREADABLE: dict[str, tuple[object, str]] = {
    "a generator": (endless(), "'unknown'] is of type builtins.generator"),
    "an open file": (sys.__stderr__, "'unknown'] is of type _io.TextIOWrapper"),
    "a set of objects": ({Helper()}, "what is in the set module.lookup"),
    "a Python module": (sys.modules[__name__], "is the Python module"),
    "something deep inside": ({"a": [functools.partial(halve, x=endless())]}, "['a'][0]"),
    "code that runs code": (eval("lambda x: eval('x * 2')"), "calls eval()"),
    "code that reads any attribute": (lambda x: getattr(x, "fit"), "'UNRELATED', which"),  # noqa: B009
}


@pytest.mark.parametrize(("value", "reason"), UNREADABLE.values(), ids=list(UNREADABLE))
def test_what_cant_be_read_makes_a_network_unidentified(value: object, reason: str) -> None:
    network = Network()
    network.lookup["unknown"] = value
    found = identity_of(network)
    assert not found.is_known
    assert not found.same_as(found)
    assert reason in found.detail["reason"]


def test_attributes_that_no_code_reads_dont_count() -> None:
    network, before = Network(), identity_of(Network())
    network.conv.weight.requires_grad_(False)
    network.train()
    network(torch.zeros(2, 3, 16, 16))
    assert isinstance(network.shown, torch.Tensor)
    network.never_read = endless()
    with rs.record(network, "conv"):
        assert before.same_as(identity_of(network))
    assert before.same_as(identity_of(nn.DataParallel(network)))
    assert before.same_as(identity_of(torch.compile(network, backend="eager")))


def test_hooks_of_all_modules_count() -> None:
    network = Network()
    before = identity_of(network)
    handle = nn.modules.module.register_module_forward_hook(doubled)
    try:
        assert not before.same_as(identity_of(network))
    finally:
        handle.remove()
    assert before.same_as(identity_of(network))


class Inverted(rs.Preprocessing):
    def __call__(self, image: Any) -> Any:
        pixels, view = super().__call__(image)
        return 1 - pixels, view


class Described(rs.ModuleModel):
    def forward(self, *given: Any, **more: Any) -> dict[str, torch.Tensor]:
        return {name: one * 2 for name, one in super().forward(*given, **more).items()}


def test_preprocessing_and_models_of_ones_own_count() -> None:
    before = identity_of(Network())
    assert not before.same_as(identity_of(Network(), preprocessing=Inverted(size=(16, 16))))
    own = Described(
        Network(), "conv", layout="bchw", preprocessing=rs.Preprocessing(size=(16, 16))
    ).identity()
    assert own.is_known
    assert not before.same_as(own)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripts_count_by_their_code_and_not_by_how_many_came_before() -> None:
    def scripted(slope: float) -> nn.Module:
        network = Network()
        network.block = torch.jit.trace(nn.LeakyReLU(slope), torch.zeros(2))  # type: ignore[assignment]
        return network

    before = identity_of(scripted(0.1))
    assert before.is_known
    assert before.same_as(identity_of(scripted(0.1)))
    assert not before.same_as(identity_of(scripted(0.2)))


def test_the_fingerprint_tells_weights_that_a_state_leaves_out() -> None:
    class Shy(Network):
        def state_dict(self, *given: Any, **more: Any) -> dict[str, Any]:
            return {}

    network = Shy()
    model = model_of(network)
    before = model.fingerprint()
    with torch.no_grad():
        network.conv.weight[0] += 1
    assert model.fingerprint() != before


def test_many_modules_take_less_than_a_second() -> None:
    network = nn.Sequential(*[nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(340)])
    network.add_module("conv", nn.Conv2d(3, 3, 1))
    assert len([*network.modules()]) > 1000
    model = model_of(network)
    times = []
    for _ in range(3):
        start = time.process_time()
        model.identity()
        times.append(time.process_time() - start)
    assert min(times) < 1.0


def test_a_network_that_leads_to_too_much_is_unidentified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_identity, "MOST_OBJECTS", 10)
    assert "more than 10 objects" in identity_of(Network()).detail["reason"]


def extracted(network: nn.Module, out: Path, **given: Any) -> torch.Tensor:
    return rs.extract(model_of(network), IMAGES, out, **given)["conv"].tokens()


def test_a_store_of_another_network_is_refused_and_says_what_changed(tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    first = extracted(Network(), out)
    assert torch.equal(extracted(Network(), out), first)
    network = Network()
    network.conv.register_forward_pre_hook(halved)
    with pytest.raises(OtherExtractionError, match=r"another network: .*hooks.*resume='trust'"):
        extracted(network, out)
    assert torch.equal(extracted(network, out, resume="trust"), first)
    other = extracted(network, out, overwrite=True)
    assert not torch.equal(other, first)
    network.conv.weight.data.mul_(2)
    with pytest.raises(OtherExtractionError, match="different are weights"):
        extracted(network, out, resume="trust")


def test_an_unidentified_network_is_resumed_only_by_trust(tmp_path: Path) -> None:
    out, network = tmp_path / "a.zarr", Network()
    network.lookup["sampler"] = endless()
    first = extracted(network, out)
    with pytest.raises(OtherExtractionError, match=r"lookup\['sampler'\] is of type .*generator"):
        extracted(network, out)
    with pytest.raises(OtherExtractionError, match="resume='trust'"):
        extracted(Network(), out)
    assert torch.equal(extracted(network, out, resume="trust"), first)


def test_a_store_without_an_identity_of_its_network_needs_trust(tmp_path: Path) -> None:
    import zarr

    out = tmp_path / "a.zarr"
    first = extracted(Network(), out)
    root = zarr.open_group(out, mode="r+")
    header = dict(root.attrs)["relspace"]
    del header["job"]["network"]
    header["job"]["code"] = "0" * 32
    root.attrs["relspace"] = header
    with pytest.raises(OtherExtractionError, match="written without an identity"):
        extracted(Network(), out)
    assert torch.equal(extracted(Network(), out, resume="trust"), first)


def test_another_version_of_a_package_is_named(tmp_path: Path) -> None:
    import zarr

    out = tmp_path / "a.zarr"
    extracted(Network(), out)
    root = zarr.open_group(out, mode="r+")
    header = dict(root.attrs)["relspace"]
    header["job"]["network"]["detail"]["packages"]["torch"] = "1.0"
    header["job"]["network"]["digest"] = "0" * 32
    root.attrs["relspace"] = header
    with pytest.raises(OtherExtractionError, match=r"torch was 1\.0 and is "):
        extracted(Network(), out)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.features.test_network_identity import Network, extracted, identity_of
from pathlib import Path
print(extracted(Network(), Path(sys.argv[2])).sum().item(), identity_of(Network()).digest)
"""


def test_a_fresh_process_resumes_whatever_its_hashes_of_text(tmp_path: Path) -> None:
    root, said = Path(__file__).parents[2], set()
    for seed in ("1", "4321"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(root), str(tmp_path / "a.zarr")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1


@pytest.mark.parametrize("family", ["vit", "dinov2", "sam", "resnet", "bert", "t5", "diffusion"])
def test_families_resume_after_a_pass_and_in_another_folder(
    family: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    items: Any = ["a red house", "the bird sings"] if family in ("bert", "t5") else IMAGES
    model = rs.load_model(saved(family), device="cpu")
    before = model.identity()
    assert before.is_known
    out = tmp_path / "a.zarr"
    layer = model.layers[1]
    first = rs.extract(model, items, out, layers=[layer])[layer].tokens()
    assert before.same_as(model.identity())
    moved = shutil.copytree(saved(family), tmp_path / saved(family).name)
    again = rs.load_model(moved, device="cpu")
    assert torch.equal(rs.extract(again, items, out, layers=[layer])[layer].tokens(), first)
    next(m for m in again.module.modules() if isinstance(m, nn.Linear | nn.Conv2d)).forward = halve
    with pytest.raises(OtherExtractionError, match="another network: the code that it runs"):
        rs.extract(again, items, out, layers=[layer])


def test_the_tokens_that_a_tokenizer_makes_count(saved: Callable[[str], Path]) -> None:
    model: Any = rs.load_model(saved("bert"), device="cpu")
    before = model.identity()
    model.prepare("a red house")
    assert before.same_as(model.identity())
    model._tokenizer.add_tokens(["castle"])
    assert not before.same_as(model.identity())
