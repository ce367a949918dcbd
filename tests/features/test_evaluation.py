"""A user's network comes back as it was, whatever happens while it is read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import relspace
from relspace.errors import InvalidInputError
from relspace.features import ModuleModel
from relspace.features.evaluation import evaluated, forward_pass, own_device, own_dtype
from relspace.features.preprocessing import Preprocessing

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(size=(8, 8))


class Fails(nn.Module):
    """Passes what it gets on, or fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.fails:
            raise torch.OutOfMemoryError("no memory left")
        return x


class Counting(nn.Module):
    """Changes its buffers in every pass, in evaluation mode too, and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(1))
        self.register_buffer("replaced", torch.zeros(3))
        self.register_buffer("quiet", torch.full((2,), torch.nan), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        self.replaced = self.replaced + torch.rand(3)
        return x


class Network(nn.Module):
    """Modes that differ on purpose, and a train() that changes more than modes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.counting, self.fails = Counting(), Fails()
        self.head = nn.Conv2d(4, 5, 1)

    def train(self, mode: bool = True) -> Network:
        super().train(mode)
        self.frozen.eval()
        self.conv.requires_grad_(mode)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.frozen(self.norm(self.conv(x)))
        return self.head(self.drop(self.fails(self.counting(x))))


def trained_network() -> Network:
    torch.manual_seed(0)
    network = Network().train()
    network.head.weight.requires_grad_(False)
    network(torch.randn(6, 3, 8, 8)).square().sum().backward()
    network.conv.register_forward_hook(lambda *_: None)
    network.drop.eval()
    network.drop.train()
    return network


def state_of(network: nn.Module) -> dict[str, Any]:
    """All that must not change: bits, memory, modes, gradients, hooks, the generator."""
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    return {
        "bits": {key: one.detach().numpy().tobytes() for key, one in tensors.items()},
        "memory": {key: (id(one), one.data_ptr(), one.dtype) for key, one in tensors.items()},
        "modes": {key: one.training for key, one in network.named_modules()},
        "requires_grad": {key: one.requires_grad for key, one in tensors.items()},
        "gradients": {
            key: None if one.grad is None else (id(one.grad), one.grad.numpy().tobytes())
            for key, one in network.named_parameters()
        },
        "hooks": {
            key: [
                (name, list(value))
                for name, value in sorted(vars(one).items())
                if "hooks" in name and hasattr(value, "__len__")
            ]
            for key, one in network.named_modules()
        },
        "buffers": {key: list(one._buffers) for key, one in network.named_modules()},
        "random": torch.get_rng_state().numpy().tobytes(),
        "grad_mode": torch.is_grad_enabled(),
    }


def module_model(network: nn.Module, layers: Any = "head", **options: Any) -> ModuleModel:
    return ModuleModel(
        network, layers, layout="bchw", preprocessing=PREPROCESSING, device="cpu", **options
    )


PATHS: dict[str, Callable[[ModuleModel, Path], object]] = {
    "construct": lambda model, _: module_model(model.module, "*"),
    "describe": lambda model, _: model.describe(["conv", "head"]),
    "forward": lambda model, _: model.forward([np.ones((3, 8, 8), np.float32)] * 3, ["head"]),
    "fingerprint": lambda model, _: (model.fingerprint(), model.settings()),
    "extract": lambda model, folder: relspace.extract(
        model, np.zeros((3, 8, 8, 3), np.uint8), folder / "a.zarr", batch_size=2
    ),
}


@pytest.mark.parametrize("path", list(PATHS))
def test_a_network_comes_back_as_it_was(path: str, tmp_path: Path) -> None:
    network = trained_network()
    before = state_of(network)
    model = module_model(network, ["conv", "head"])
    assert state_of(network) == before
    PATHS[path](model, tmp_path)
    assert state_of(network) == before


@pytest.mark.parametrize("path", ["construct", "describe", "forward", "extract"])
def test_a_network_comes_back_as_it_was_after_an_error(path: str, tmp_path: Path) -> None:
    network = trained_network()
    model = module_model(network, ["conv", "head"])
    network.fails.fails = True
    before = state_of(network)
    with pytest.raises(torch.OutOfMemoryError):
        PATHS[path](model, tmp_path)
    assert state_of(network) == before


def test_features_are_those_of_evaluation_mode_whatever_the_mode_is(tmp_path: Path) -> None:
    network = trained_network()
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), dtype=np.uint8)
    model = module_model(network, "head")
    found = [relspace.extract(model, images, tmp_path / "a.zarr", batch_size=2).tokens()]
    network.eval()
    found.append(relspace.extract(model, images, tmp_path / "b.zarr", batch_size=2).tokens())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    network.norm.running_mean += 1
    changed = relspace.extract(model, images, tmp_path / "c.zarr", batch_size=2).tokens()
    assert not torch.allclose(found[0], changed)


def test_random_numbers_of_a_pass_leave_the_generator_as_it_was() -> None:
    network = trained_network()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    module_model(network).describe(["head"])
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_no_pass_depends_on_another(monkeypatch: pytest.MonkeyPatch) -> None:
    class Drifting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 2, stride=2)
            self.register_buffer("shift", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.shift += 1
            return self.conv(x + self.shift)

    model, image = module_model(Drifting(), "conv"), np.ones((3, 8, 8), np.float32)
    with model.held():
        first, second = (model.forward([image], ["conv"])["conv"] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    monkeypatch.setattr("relspace.features.evaluation._COPIED_BUFFER_BYTES", 0)
    with pytest.raises(InvalidInputError, match="changes its buffers 'shift' in evaluation mode"):
        model.forward([image], ["conv"])


def test_blocks_that_overlap_put_the_network_back_when_the_last_is_left() -> None:
    network = trained_network()
    before = state_of(network)
    first, second = evaluated(network, CPU), evaluated(network, CPU)
    first.__enter__()
    network.train()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(one.training for one in network.modules())
    second.__exit__(None, None, None)
    assert state_of(network) == before


def test_threads_that_share_a_network_see_evaluation_mode_and_their_own_calls() -> None:
    network = trained_network()
    before = state_of(network)
    model = module_model(network, "head")
    inputs = [[np.full((3, 8, 8), float(i), np.float32)] for i in range(4)]
    expected = [model.forward(one, ["head"])["head"] for one in inputs]
    wrong: list[int] = []

    def run(i: int) -> None:
        for _ in range(20):
            if not torch.equal(model.forward(inputs[i], ["head"])["head"], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []
    after = state_of(network)
    assert {key: after[key] for key in after if key != "random"} == {
        key: before[key] for key in before if key != "random"
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_another_device_is_left_with_the_memory_that_was() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), Counting())
    tied = nn.Sequential(network, network[0])
    tied(torch.randn(4, 2)).sum().backward()
    before = state_of(tied)
    with forward_pass(tied, torch.device("cuda")):
        assert all(one.is_cuda for one in (*tied.parameters(), *tied.buffers()))
        expected = tied[1](torch.ones(3, 2, device="cuda")).cpu()
        with (
            pytest.raises(InvalidInputError, match=r"is in use on cuda.* and is to run on cpu"),
            evaluated(network, CPU),
        ):
            pass
    assert state_of(tied) == before
    torch.testing.assert_close(tied[1](torch.ones(3, 2)), expected, rtol=1e-3, atol=1e-3)
    model = ModuleModel(
        trained_network(), "head", layout="bchw", preprocessing=PREPROCESSING, device="cuda"
    )
    before = state_of(model.module)
    found = model.forward([np.ones((3, 8, 8), np.float32)], ["head"])["head"]
    assert found.is_cuda
    assert state_of(model.module) == before
    on_gpu = ModuleModel(model.module.cuda(), "head", layout="bchw", preprocessing=PREPROCESSING)
    assert on_gpu.device.type == "cuda"


def test_networks_without_values_are_refused() -> None:
    with (
        pytest.raises(InvalidInputError, match=r"without a shape, '0[.]weight'"),
        forward_pass(nn.Sequential(nn.LazyLinear(3)), CPU),
    ):
        pass
    with (
        pytest.raises(InvalidInputError, match="the device 'meta', which holds no values"),
        forward_pass(nn.Linear(2, 2), torch.device("meta")),
    ):
        pass
    with (
        pytest.raises(InvalidInputError, match="'meta', without values: 'weight', 'bias'"),
        forward_pass(nn.Linear(2, 2, device="meta"), CPU),
    ):
        pass


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_is_given_its_own_type(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.Conv2d(4, 2, 1)).to(dtype)
    model = module_model(network, ["0", "1"])
    inputs = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    found = model.forward(list(inputs), ["1"])["1"]
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs).to(dtype)).permute(0, 2, 3, 1)
    assert (found.dtype, model.dtype) == (dtype, dtype)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(InvalidInputError, match="the module's weights are"):
        module_model(network, "0", dtype=torch.float32)


def test_the_first_floating_tensor_says_the_type_of_the_input() -> None:
    network = nn.Sequential(nn.Embedding(3, 2).half(), nn.Linear(2, 2))
    assert own_dtype(network) == torch.float16
    assert own_dtype(nn.ReLU()) == torch.float32
    assert own_device(nn.ReLU()) is None
    network.register_buffer("index", torch.arange(3))
    assert own_dtype(network[1]) == torch.float32


def test_every_call_of_a_module_is_a_layer_of_the_model(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), relu := nn.ReLU(), nn.Conv2d(4, 4, 1))
    network.append(relu)
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), dtype=np.uint8)
    model = module_model(network, "*")
    assert model.layers == ("0", "1@1", "1@2", "2")
    found = relspace.extract(model, images, tmp_path / "a.zarr", store_dtype="float32")
    with torch.no_grad():
        inputs = torch.from_numpy(np.stack([model.prepare(_image(one))[0] for one in images]))
        states = [network[:2](inputs), network(inputs)]
    for name, state in zip(("1@1", "1@2"), states, strict=True):
        torch.testing.assert_close(
            found.tokens(layer=name).reshape(5, 4, 4, 4), state.permute(0, 2, 3, 1)
        )
    named = module_model(network, ["0", "1"])
    assert named.layers == ("0", "1")
    with pytest.raises(InvalidInputError, match="layer '1' ran 2 times: ask for one of its calls"):
        relspace.extract(named, images, tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()
    assert named.names_of(["1@2"]) == ("1@2",)
    layouts = {"0": "bchw", "1": "bchw", "1@2": "bchw"}
    second = ModuleModel(network, ["1@2", "0"], layout=layouts, preprocessing=PREPROCESSING)
    assert second.layers == ("0", "1@2")


def test_wrappers_are_taken_off(tmp_path: Path) -> None:
    network = trained_network()
    compiled = torch.compile(network, backend="eager")
    compiled(torch.zeros(2, 3, 8, 8))
    expected = module_model(network).forward([np.ones((3, 8, 8), np.float32)], ["head"])["head"]
    for wrapper in (compiled, nn.DataParallel(network), nn.DataParallel(compiled)):
        model = module_model(wrapper)
        assert model.name == "Network"
        found = model.forward([np.ones((3, 8, 8), np.float32)], ["head"])["head"]
        torch.testing.assert_close(found, expected)


def test_the_fingerprint_tells_any_weight_any_buffer_and_any_type() -> None:
    network = trained_network()
    model = module_model(network)
    first = model.fingerprint()
    assert model.fingerprint() == first
    for tensor in (network.head.weight, network.norm.running_var, network.counting.quiet):
        flat = tensor.data.view(-1)
        was = flat[1].clone()
        flat[1] = 3.0
        assert model.fingerprint() != first
        flat[1] = was
        assert model.fingerprint() == first
    zeros = nn.Sequential(nn.Conv2d(3, 4, 1))
    zeros[0].weight.data.zero_()
    zeros[0].bias.data.zero_()
    single = module_model(zeros, "0").fingerprint()
    assert module_model(zeros.double(), "0").fingerprint() != single


def _image(values: np.ndarray[Any, Any]) -> Any:
    from PIL import Image

    return Image.fromarray(values)


@pytest.mark.parametrize("kind", ["dinov2", "resnet", "bert", "diffusion"])
def test_networks_of_families_come_back_as_they_were(
    kind: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    model = relspace.load_model(saved(kind), device="cpu")
    network = model.module
    blocks = list(network.modules())
    for one in blocks[1::3]:
        one.training = True
    next(network.parameters()).requires_grad_(False)
    before = state_of(network)
    items: Any = ["a red house", "birds"] if kind == "bert" else np.zeros((2, 40, 40, 3), np.uint8)
    relspace.extract(model, items, tmp_path / "a.zarr")
    model.describe(model.names_of("all"))
    model.fingerprint()
    if kind == "bert":
        relspace.features.token_features(model, items)
    assert state_of(network) == before

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory left")

    kinds = (nn.Conv2d, nn.LayerNorm)
    handle = next(one for one in blocks if isinstance(one, kinds)).register_forward_hook(fail)
    before = state_of(network)
    with pytest.raises(torch.OutOfMemoryError):
        relspace.extract(model, items, tmp_path / "b.zarr")
    with pytest.raises(torch.OutOfMemoryError):
        model.describe(model.names_of("all"))
    assert state_of(network) == before
    handle.remove()
    again = relspace.extract(model, items, tmp_path / "b.zarr")
    first = relspace.features.open_features(tmp_path / "a.zarr")
    for layer in first.layers:
        torch.testing.assert_close(again.tokens(layer=layer), first.tokens(layer=layer))
