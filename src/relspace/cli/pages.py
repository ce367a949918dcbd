"""Options that commands which write an interactive page share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from relspace._core.limits import DEFAULT_PERMUTATIONS
from relspace.cli.group import give_options
from relspace.cli.outputs import check_output
from relspace.cli.resamples import RESAMPLES

_Command = TypeVar("_Command", bound=Callable[..., Any])


def with_page(command: _Command) -> _Command:
    """Give a command the options of what its page holds."""
    options = [
        click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path, dir_okay=False),
            default=Path("report.html"),
            show_default=True,
            metavar="PAGE",
            help="The HTML file.",
        ),
        click.option("--title", help="What the page is called."),
        click.option(
            "--n-images",
            type=click.IntRange(min=1),
            default=16,
            show_default=True,
            help="How many images are explored, where there are tokens of images; the first ones.",
        ),
        click.option(
            "--permutations",
            type=RESAMPLES,
            default=DEFAULT_PERMUTATIONS,
            show_default=True,
            help="How many permutations p-values rest on.",
        ),
    ]
    return give_options(command, options)


def said_of_page(page: Path) -> str:
    """Say where a page is and how large it became."""
    return f"Report: {page} ({page.stat().st_size / 1e6:.1f} MB)"


def check_page(page: Path, *, force: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse a page that can't or mustn't be written; see :func:`check_output`."""
    check_output(page, what="a report", endings=[".html", ".htm"], force=force, inputs=inputs)
