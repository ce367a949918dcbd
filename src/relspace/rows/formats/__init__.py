"""Formats that rows of features are read from, one module each; a new module is found by itself."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from relspace.rows.formats._format import FileFormat


def _find() -> dict[str, FileFormat]:
    names = sorted(one.name for one in iter_modules(__path__) if not one.name.startswith("_"))
    modules = [import_module(f"{__name__}.{name}") for name in names]
    formats = [vars(one)["FORMAT"] for one in modules if "FORMAT" in vars(one)]
    return {suffix: one for one in formats for suffix in one.suffixes}


#: Formats of files by their suffixes.
FORMATS: Mapping[str, FileFormat] = _find()
