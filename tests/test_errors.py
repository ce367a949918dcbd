"""Errors and warnings: their message, and ways out in the words of Python and of a command."""

import ast
import pickle
import re
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import relspace
from relspace import errors
from relspace.cli import commands
from relspace.cli.group import say
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    MemoryBudgetError,
    RelspaceError,
    RelspaceWarning,
    SamplingWarning,
    UnknownNameError,
)

WAYS = [
    "choose another name",
    "overwrite it with {overwrite=True}",
    "take a part by {max_items=10_000}",
]
SOURCES = Path(relspace.__file__).parent
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, RelspaceError | RelspaceWarning)
]


def said_by(command_name: str, error: Exception) -> str:
    command = commands.get_command(click.Context(commands), command_name)
    with click.Context(command):
        return say(error)


def test_ways_out_are_said_in_the_words_of_python():
    error = InvalidInputError("f.zarr exists.", ways_out=WAYS)
    assert str(error) == (
        "f.zarr exists: choose another name, overwrite it with overwrite=True, or take a part by "
        "max_items=10_000."
    )
    assert error.ways_out == tuple(WAYS)
    assert str(InvalidInputError("f.zarr exists.")) == "f.zarr exists."
    assert str(UnknownNameError("no layer 'a'.", ways_out=["give {layer}"])) == (
        "no layer 'a': give layer."
    )


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("a.", "a: go."),
        ("a", "a: go."),
        ("'b', ....", "'b', ...: go."),
        ("'b', ...", "'b', ...: go."),
    ],
)
def test_a_list_that_was_cut_short_still_says_so_before_ways_out(message, said):
    assert str(InvalidInputError(message, ways_out=["go"])) == said


def test_a_command_says_its_own_options_and_leaves_out_what_it_does_not_have():
    error = InvalidInputError("f.zarr exists.", ways_out=WAYS)
    assert said_by("extract", error) == (
        "f.zarr exists: choose another name, or overwrite it with --force."
    )
    assert said_by("compare", error) == (
        "f.zarr exists: choose another name, or take a part by --max-items 10000."
    )
    ways = ["store float32 with {store_dtype='float32'}", "give {image_size=(224, 160)}"]
    assert said_by("extract", InvalidInputError("it overflows.", ways_out=ways)) == (
        "it overflows: store float32 with --store-dtype float32, or give --image-size 224x160."
    )
    assert said_by("demo", InvalidInputError("it overflows.", ways_out=ways)) == "it overflows."


def test_a_command_that_fails_prints_its_own_options(monkeypatch, tmp_path):
    def refuse(*_: object, **__: object) -> None:
        raise MemoryBudgetError(
            "it needs 3 GiB.", ways_out=["raise {memory_budget}", "leave {n_bootstraps} out"]
        )

    monkeypatch.setattr(relspace, "compare", refuse)
    path = tmp_path / "a.npy"
    np.save(path, np.eye(5))
    result = CliRunner().invoke(commands, ["compare", str(path), f"b={path}"])
    assert result.exit_code == 2
    assert "it needs 3 GiB: raise --memory-budget, or leave --bootstraps out." in result.output


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_its_ways_out_when_it_is_sent_to_another_process(kind):
    error = pickle.loads(pickle.dumps(kind("it fails.", ways_out=["do {this=1}"])))
    assert (str(error), error.ways_out) == ("it fails: do this=1.", ("do {this=1}",))
    again = error.about("layer 3")
    assert type(again) is kind
    assert str(again) == "layer 3: it fails: do this=1."


def test_warnings_have_ways_out_too():
    with pytest.warns(SamplingWarning, match=r"^it is rough: raise tolerance\.$"):
        warnings.warn(SamplingWarning("it is rough.", ways_out=["raise {tolerance}"]), stacklevel=1)


def test_an_error_that_wraps_another_keeps_its_ways_out():
    error = FileFormatError("no store.", ways_out=["choose {out}"]).about("f.zarr")
    assert error.ways_out == ("choose {out}",)


def texts_of(module: Path) -> list[tuple[int, str]]:
    """Every text in a module that is not a docstring."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
    ]


def test_no_message_of_the_library_names_an_option_of_the_command_line():
    options = {
        flag
        for command in commands.commands.values()
        for one in command.params
        for flag in one.opts
        if flag.startswith("--")
    }
    assert len(options) > 30
    named = [
        f"{module.relative_to(SOURCES)}:{line}: {text}"
        for module in sorted(SOURCES.rglob("*.py"))
        if not {"cli", "demo"} & set(module.relative_to(SOURCES).parts)
        for line, text in texts_of(module)
        if set(re.findall(r"--[a-z][a-z-]+", text)) & options
        and not text.startswith(("var(--", "\n"))
    ]
    assert named == []


def test_errors_of_memory_are_sent_by_workers_of_a_cluster():
    support = pytest.importorskip("tblib.pickling_support")
    support.install()
    error = MemoryBudgetError("8 GiB don't fit.", ways_out=["raise {memory_budget}"])
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), str(sent)) == (MemoryBudgetError, str(error))
