"""Models of transformers whose layers are the network's blocks, and parts of them by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import nn

from relspace.errors import InvalidInputError, UnknownNameError
from relspace.features.feature_model import FeatureModel

_LAYER = re.compile(r"(layer_\d+)(?:\.(\w+))?")
_BLOCK_LISTS = ("layers", "layer", "blocks", "block", "h", "stages")


class BlockModel(FeatureModel):
    """A network made of blocks, whose layers are called as ``hidden_states`` counts them.

    ``layer_0`` goes into the first block and ``layer_i`` comes out of block i; ``layer_3.key`` is
    the key of the block that gives ``layer_3``, and ``*.key`` stands for the keys of all blocks.
    ``extra_layers`` are layers outside of the blocks.
    """

    extra_layers: tuple[str, ...] = ()

    def _find_blocks(self, count: int, parts: Mapping[str, tuple[str, ...]], title: str) -> None:
        """Find the network's first list of ``count`` blocks, which sets the layers.

        ``parts`` are what a block may show beside its output, and where it may be in the block.
        """
        for name, one in self.module.named_modules():
            is_list = isinstance(one, nn.ModuleList) and len(one) == count
            if is_list and name.rpartition(".")[2] in _BLOCK_LISTS:
                break
        else:
            raise InvalidInputError(
                f"{type(self.module).__name__} has no list of {count} blocks; extract it as a "
                "module, with layers by name."
            )
        self._path, self._parts, self._title = str(name), parts, title
        self.layers = tuple(f"layer_{i}" for i in range(count + 1))

    def match_name(self, name: str) -> Sequence[str]:
        if name in self.extra_layers:
            return [name]
        names = [name]
        if name.startswith("*."):
            names = [f"{layer}.{name[2:]}" for layer in self.layers[1:]]
        for one in names:
            found = _LAYER.fullmatch(one)
            if found is None or found[1] not in self.layers:
                return super().match_name(name)
            if found[2] is not None:
                self._path_of_part(found[1], found[2])
        return names

    def name_hint(self) -> str:
        hint = "".join(f"; also {one!r}" for one in self.extra_layers)
        if self._parts:
            parts = ", ".join(self._parts)
            hint += f" and inside of each, as in '{self.layers[-1]}.key': {parts}"
        return hint

    def others(self) -> tuple[str, ...]:
        inside = [
            f"{layer}.{part}"
            for part in self._parts
            for layer in self.layers[1:]
            if self._find_part(layer, part) is not None
        ]
        return (*self.extra_layers, *inside)

    def part_of(self, name: str) -> nn.Module | None:
        if name in self.extra_layers:
            return None
        path, side = self.hook(name)
        return self.module.get_submodule(path) if side == "output" else None

    def hook(self, name: str) -> tuple[str, str]:
        """Return the module that gives a layer, and whether as its input or its output."""
        layer, _, part = name.partition(".")
        if part:
            return self._path_of_part(layer, part), "output"
        number = block_number(layer)
        return (f"{self._path}.0", "input") if number < 0 else (f"{self._path}.{number}", "output")

    def _path_of_part(self, layer: str, part: str) -> str:
        if part not in self._parts or layer == self.layers[0]:
            allowed = ", ".join(self._parts) or "nothing more"
            raise UnknownNameError(
                f"{self._title} shows no {part!r} in {layer}; its blocks (from layer_1 on) "
                f"show {allowed}."
            )
        found = self._find_part(layer, part)
        if found is None:
            raise UnknownNameError(f"{self._title} keeps no {part!r} of its own in {layer}.")
        return found

    def _find_part(self, layer: str, part: str) -> str | None:
        path = f"{self._path}.{block_number(layer)}"
        known = dict(self.module.get_submodule(path).named_modules())
        return next((f"{path}.{one}" for one in self._parts[part] if one in known), None)


def block_number(layer: str) -> int:
    """Return the block that gives a layer, from 0; -1 for the input of the first block."""
    return int(layer.partition(".")[0].removeprefix("layer_")) - 1
