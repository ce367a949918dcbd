"""What is installed: the compiled kernels, and a package with the import name of ours."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: The interface of the compiled kernels, as ``interface_of_kernels`` in strips.c gives it.
INTERFACE = 3

_FOLDER = Path(__file__).parents[1] / "kernels" / "compiled"
_LIBRARY = _FOLDER / ("_fused.dll" if sys.platform == "win32" else "_fused.so")


def find_compiled() -> tuple[ctypes.CDLL | None, str]:
    """The compiled kernels, None where they aren't used; and whether they are, in words."""
    if os.environ.get("RELSPACE_COMPILED") == "0":
        return None, "compiled kernels switched off by RELSPACE_COMPILED=0"
    if not _LIBRARY.exists():
        return None, "no compiled kernels: no compiler at installation"
    compiled = ctypes.CDLL(str(_LIBRARY))
    if interface_of(compiled) != INTERFACE:
        return None, f"compiled kernels of another version of relspace, not used: {_LIBRARY}"
    return compiled, "compiled kernels in use"


def interface_of(compiled: ctypes.CDLL) -> int:
    """The interface that a library was built with."""
    try:
        return int(compiled.interface_of_kernels())
    except AttributeError:
        return 1


def conflict() -> str | None:
    """Say that ncut-pytorch is installed too, whose import name relspace provides; else None."""
    try:
        other = version("ncut-pytorch")
    except PackageNotFoundError:
        return None
    return (
        f"ncut-pytorch {other} and relspace are both installed, and both provide the import name "
        "ncut_pytorch: whichever was installed last has overwritten files of the other"
    )


#: How to mend a conflict.
WAYS_OUT = (
    "keep relspace alone: pip uninstall ncut-pytorch, "
    "then pip install --force-reinstall --no-deps relspace",
    "install each in an environment of its own",
)
