"""Files that commands write: refused before any work where they can't or mustn't be written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from relspace.errors import InvalidInputError

_Command = TypeVar("_Command", bound=Callable[..., Any])


def with_force(what: str) -> Callable[[_Command], _Command]:
    """Give a command the option to overwrite what it writes."""
    return click.option("--force", is_flag=True, help=f"Overwrite {what} if it exists.")


def check_output(
    output: Path,
    *,
    what: str,
    endings: Sequence[str],
    force: bool,
    inputs: Sequence[Path] = (),
) -> None:
    """Refuse an output of another ending, without a folder to be in, or that is there already.

    Parameters
    ----------
    output : Path
        The file.
    what : str
        What it holds, for errors: "a space".
    endings : sequence of str
        The endings that its name may have.
    force : bool
        Whether a file that is there is overwritten.
    inputs : sequence of Path
        Files that are read, none of which may be overwritten.
    """
    if output.suffix.lower() not in endings:
        raise InvalidInputError(
            f"{what} is saved as {', '.join(endings)}, and {output} is not named so"
        )
    if output.is_dir():
        raise InvalidInputError(f"{output} is a folder; name a file for {what}")
    folder = output.absolute().parent
    if not folder.is_dir():
        raise InvalidInputError(f"there is no folder {output.parent} to write {output.name} in")
    if not os.access(folder, os.W_OK):
        raise InvalidInputError(f"{output.parent} can't be written to")
    if not output.exists():
        return
    if any(path.exists() and path.samefile(output) for path in inputs):
        raise InvalidInputError(f"{output} is one of the inputs; name another file for {what}")
    if not force:
        raise InvalidInputError(f"{output} exists; overwrite it with --force or name another file")


@contextmanager
def printed_in_any_case(result: str) -> Iterator[None]:
    """Print what was computed although writing a picture or a page of it fails."""
    try:
        yield
    except Exception:
        click.echo(result)
        raise
