"""Distinguishes code of installed packages, known by name and version, from the user's code."""

from __future__ import annotations

import importlib.util
import platform
import sys
import sysconfig
from abc import ABC
from functools import cache
from importlib import metadata
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Generic

from torch import nn

_SITE_FOLDERS = ("site-packages", "dist-packages")
_OWN_FOLDER = Path(__file__).parents[1]


@cache
def package_of(module: str) -> str | None:
    """Return the package that a Python module is installed with; None for the user's code.

    Python's own modules are of the package "python". Editable packages (``pip install -e``) are the
    user's code, because their version doesn't change with the code.
    """
    if module in sys.builtin_module_names:
        return "python"
    if not module or module == "__main__":
        return None
    top = module.partition(".")[0]
    for one in _files_of(module):
        if one in ("built-in", "frozen"):
            return "python"
        file = Path(one)
        if file.is_relative_to(_OWN_FOLDER) or _is_installed(file, top):
            return top
        if any(file.is_relative_to(folder) for folder in _python_folders()):
            return "python"
    return None


@cache
def version_of(package: str) -> str:
    """Return the version of an installed package."""
    if package == "python":
        # Its last number changes neither bytecode nor behavior.
        return ".".join(platform.python_version_tuple()[:2])
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        names = metadata.packages_distributions().get(package, [])
        own = getattr(sys.modules.get(package), "__version__", "unknown")
        return " ".join(sorted(metadata.version(name) for name in names)) or str(own)


def package_of_function(function: FunctionType) -> str | None:
    """Return the package of the module that a function was defined in, by its globals."""
    name = function.__globals__.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    is_written_there = module is not None and vars(module) is function.__globals__
    return package_of(str(name)) if is_written_there else None


def is_found_in_its_module(thing: FunctionType | type) -> bool:
    """Whether a function or class can be found by its name in its module."""
    found: object = sys.modules.get(thing.__module__)
    for part in thing.__qualname__.split("."):
        # Not getattr, which may import lazy modules.
        found = vars(found).get(part) if isinstance(found, type | ModuleType) else None
        found = found.__func__ if isinstance(found, staticmethod | classmethod) else found
    return found is thing


def is_users(value: object) -> bool:
    """Whether an attribute of a class or module is the user's code: a function, class or module."""
    if isinstance(value, staticmethod | classmethod):
        return is_users(value.__func__)
    if isinstance(value, property):
        return any(map(is_users, (value.fget, value.fset)))
    if isinstance(value, FunctionType):
        return package_of_function(value) is None
    if isinstance(value, type):
        return package_of(value.__module__) is None
    return isinstance(value, nn.Module) and is_users(type(value))


def is_users_module(kind: type) -> bool:
    """Whether a class of modules, and all its bases but ``nn.Module``, are the user's code."""
    installed = {one for one in kind.__mro__ if package_of(one.__module__) is not None}
    return installed <= {nn.Module, object, ABC, Generic}


def _files_of(module: str) -> list[str]:
    found = sys.modules.get(module)
    top, is_inside, _ = module.partition(".")
    if found is not None:
        spec, file = getattr(found, "__spec__", None), getattr(found, "__file__", None)
    else:
        try:
            # Of the top package only: finding a submodule would import the package.
            spec, file = importlib.util.find_spec(top), None
        except (ImportError, ValueError):
            return []
    origin = file or getattr(spec, "origin", None)
    files = [origin] if origin else list(getattr(spec, "submodule_search_locations", None) or ())
    # Compiled modules may hold others that have no file.
    return files if files or not is_inside else _files_of(module.rpartition(".")[0])


def _is_installed(file: Path, top: str) -> bool:
    if any(part in _SITE_FOLDERS for part in file.parts):
        return True
    # Packages in a folder of their own (pip install --target) have their metadata beside them.
    beside = next((one.parent for one in (file, *file.parents) if one.stem == top), None)
    if beside is None or not any(beside.glob("*.dist-info")):
        return False
    owners = metadata.packages_distributions().get(top, [])
    return any(one.metadata["Name"] in owners for one in metadata.distributions(path=[str(beside)]))


@cache
def _python_folders() -> tuple[Path, ...]:
    return tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
