"""Names of ncut-pytorch that have no equivalent: errors that say what to use."""

from __future__ import annotations

from collections.abc import Callable, Mapping


def refuse(module: str, instead: Mapping[str, str]) -> Callable[[str], object]:
    """The ``__getattr__`` of a module."""

    def get(name: str) -> object:
        if name in instead:
            raise AttributeError(
                f"{module}.{name} is a name of ncut-pytorch that relspace does not provide: "
                f"use {instead[name]}."
            )
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return get
