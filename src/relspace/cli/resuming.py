"""The option of commands whose outputs are resumed where a run stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def with_resume(command: _Command) -> _Command:
    """Give a command the option ``--resume``."""
    option = click.option(
        "--resume",
        type=click.Choice(["identified", "trust"]),
        default="identified",
        show_default=True,
        help="Whether an output is resumed only where its input is known to be the same by content "
        "or etag, or also where that can't be known, because you say so.",
    )
    return option(command)
