"""A network's blocks: what their layers are called, and where in the module these are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from relspace.errors import InvalidInputError, UnknownNameError

_LAYER = re.compile(r"(layer_\d+)(?:\.(\w+))?")
_BLOCK_LISTS = ("layers", "layer", "blocks", "block", "h", "stages")


@dataclass(frozen=True)
class Blocks:
    """The blocks of a network, whose layers are called as ``hidden_states`` counts them.

    ``layer_0`` goes into the first block and ``layer_i`` comes out of block i; ``layer_3.key`` is
    the key of the block that gives ``layer_3``. ``path`` says where in the module the list of
    blocks is, and ``parts`` what a block may show beside the residual stream, and where in it.
    """

    module: nn.Module
    path: str
    count: int
    parts: Mapping[str, tuple[str, ...]]
    title: str

    @classmethod
    def of(
        cls, module: nn.Module, count: int, parts: Mapping[str, tuple[str, ...]], title: str
    ) -> Blocks:
        """Find the blocks of a network: the first list of so many layers."""
        for name, one in module.named_modules():
            is_list = isinstance(one, nn.ModuleList) and len(one) == count
            if is_list and name.rpartition(".")[2] in _BLOCK_LISTS:
                return cls(module, str(name), count, parts, title)
        raise InvalidInputError(
            f"{type(module).__name__} has no list of {count} blocks; extract it as a module, with "
            "layers by name."
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the residual stream, from what goes in to what comes out."""
        return tuple(f"layer_{i}" for i in range(self.count + 1))

    def match(self, name: str) -> Sequence[str] | None:
        """Return the layers that a name stands for, ``*.key`` for the keys of all; None if none."""
        names = [name]
        if name.startswith("*."):
            names = [f"{layer}.{name[2:]}" for layer in self.layers[1:]]
        for one in names:
            found = _LAYER.fullmatch(one)
            if found is None or found[1] not in self.layers:
                return None
            if found[2] is not None:
                self._path_of_part(found[1], found[2])
        return names

    def hint(self) -> str:
        """Say what there is inside of blocks."""
        if not self.parts:
            return ""
        return f" and inside of each, as in 'layer_{self.count}.key': {', '.join(self.parts)}"

    def others(self) -> tuple[str, ...]:
        """Return the names of what there is inside of blocks."""
        return tuple(
            f"{layer}.{part}"
            for part in self.parts
            for layer in self.layers[1:]
            if self._find_part(layer, part) is not None
        )

    def part_of(self, name: str) -> nn.Module | None:
        """Return the module whose output a layer is; None where it is an input."""
        path, side = self.hook(name)
        return self.module.get_submodule(path) if side == "output" else None

    def hook(self, name: str) -> tuple[str, str]:
        """Return the module that gives a layer, and whether as its input or its output."""
        layer, _, part = name.partition(".")
        if part:
            return self._path_of_part(layer, part), "output"
        number = int(layer.removeprefix("layer_"))
        if number == 0:
            return f"{self.path}.0", "input"
        return f"{self.path}.{number - 1}", "output"

    def _path_of_part(self, layer: str, part: str) -> str:
        number = int(layer.removeprefix("layer_"))
        if part not in self.parts or number == 0:
            allowed = ", ".join(self.parts) or "nothing more"
            raise UnknownNameError(
                f"{self.title} shows no {part!r} in {layer}; its blocks (from layer_1 on) "
                f"show {allowed}."
            )
        found = self._find_part(layer, part)
        if found is None:
            raise UnknownNameError(f"{self.title} keeps no {part!r} of its own in {layer}.")
        return found

    def _find_part(self, layer: str, part: str) -> str | None:
        path = f"{self.path}.{int(layer.removeprefix('layer_')) - 1}"
        known = dict(self.module.get_submodule(path).named_modules())
        return next((f"{path}.{one}" for one in self.parts[part] if one in known), None)
