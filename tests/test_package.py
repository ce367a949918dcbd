"""The package itself: its public names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import relspace

SOURCE = Path(relspace.__file__)


@pytest.mark.parametrize("name", relspace.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(relspace, name) is not None
    assert name in dir(relspace)


def test_type_checkers_see_the_names_that_exist_at_run_time() -> None:
    block = next(node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    declared = {
        (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    provided = {(f"relspace.{home}", name) for name, home in relspace._MODULE_OF.items()}
    provided |= {("relspace", name) for name in relspace._SUBMODULES}
    assert declared == provided
    assert {name for _, name in declared} | {"__version__"} == set(relspace.__all__)


def test_no_module_hides_a_public_name() -> None:
    modules = {path.stem for path in SOURCE.parent.iterdir()}
    hidden = modules & set(relspace._MODULE_OF)
    assert not hidden, "importing such a module would put it in the function's place: rename it"


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'allign'"):
        relspace.allign  # noqa: B018


def test_dir_lists_the_public_names_and_nothing_else() -> None:
    assert dir(relspace) == sorted(relspace.__all__)
