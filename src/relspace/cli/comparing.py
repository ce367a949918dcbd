"""Options that commands which compare features share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from relspace._core.limits import DEFAULT_PERMUTATIONS
from relspace.cli.group import give_options
from relspace.cli.inputs import parse_bytes
from relspace.cli.resamples import RESAMPLES, with_random_state

_Command = TypeVar("_Command", bound=Callable[..., Any])


def with_comparison(command: _Command) -> _Command:
    """Give a command the options of how features are compared, and how numbers are printed."""
    options = [
        click.option(
            "--permutations",
            type=RESAMPLES,
            default=DEFAULT_PERMUTATIONS,
            show_default=True,
            help="How many permutations of the items make the null distribution.",
        ),
        click.option(
            "--max-items",
            type=click.IntRange(min=4),
            metavar="N",
            help="Compare a random part of the items, of this many at most; all by default.",
        ),
        click.option(
            "--memory-budget",
            callback=parse_bytes,
            metavar="BYTES",
            help="What features on disk may take, such as 2GiB; beyond, they are read in blocks "
            "and summed over.",
        ),
        with_random_state,
        click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON."),
    ]
    return give_options(command, options)
