"""Weights of the demo's networks: what training begins with, what ships, and how it is written."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from relspace._core.files import write_whole

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class NetworkRecord(Generic[N]):
    """How one of the demo's networks is called, built and seeded."""

    title: str
    build: Callable[[], N]
    seed: int


def empty_network(build: Callable[[], N]) -> N:
    """Build a network without values, so that no global random state is read."""
    with torch.device("meta"):
        network = build()
    return network.to_empty(device="cpu")


def initial_network(
    build: Callable[[], N], seed: int, draw: Callable[[Tensor, int, torch.Generator], object]
) -> N:
    """Build a network with seeded random weights; ``draw(weight, fan_in, generator)`` fills one.

    Norms start as the identity, biases at zero, and positions have a standard deviation of 0.5.
    """
    network = empty_network(build)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            places = getattr(module, "places", None)
            if isinstance(module, nn.Linear | nn.Conv2d):
                draw(module.weight, module.weight[0].numel(), generator)
                assert module.bias is not None
                module.bias.zero_()
            elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
                module.weight.fill_(1.0)
                module.bias.zero_()
            elif isinstance(places, nn.Parameter):
                places.normal_(0.0, 0.5, generator=generator)
    return network


def draw_uniform(weight: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Draw a weight with the variance of PyTorch's own default, 1 / (3 fan-in), evenly."""
    bound = 1 / math.sqrt(fan_in)
    weight.uniform_(-bound, bound, generator=generator)


def shipped_network(build: Callable[[], N], package: str, name: str) -> tuple[N, dict[str, Any]]:
    """Load a trained network of a package's folder ``weights``, and the record of its training."""
    from safetensors import safe_open

    network = empty_network(build)
    folder = resources.files(package) / "weights"
    with (
        resources.as_file(folder / f"{name}.safetensors") as path,
        safe_open(path, framework="pt") as weights,
    ):
        stored = {key: weights.get_tensor(key).float() for key in weights.keys()}  # noqa: SIM118
        record: dict[str, Any] = json.loads(weights.metadata()["record"])
    network.load_state_dict(stored)
    return network.eval(), record


def write_weights(
    path: Path, network: nn.Module, record: dict[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write weights and the record of their training into one file, whole or not at all."""
    from safetensors.torch import save

    weights = {name: value.to(dtype) for name, value in network.state_dict().items()}
    about = {
        **record,
        "n_parameters": sum(one.numel() for one in network.parameters()),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
    write_whole(path, save(weights, {"record": json.dumps(about)}))
