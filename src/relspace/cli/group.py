"""The group that commands belong to: errors and warnings in one line, progress on stderr."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from relspace import __version__
from relspace.errors import RelspaceError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


_Command = TypeVar("_Command", bound=Callable[..., Any])


def give_options(command: _Command, options: Sequence[Callable[[_Command], _Command]]) -> _Command:
    """Give a command options that several share, in the order in which help lists them."""
    for option in reversed(options):
        command = option(command)
    return command


class _Commands(click.Group):
    """Commands whose errors are one line on stderr and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            with _warnings_in_one_line():
                return super().invoke(context)
        except BrokenPipeError:
            raise
        except (RelspaceError, OSError, MemoryError) as error:
            if context.params["debug"]:
                traceback.print_exc()
            reason = " ".join(str(error).split()) or type(error).__name__
            click.echo(f"relspace: error: {reason}", err=True)
            context.exit(EXIT_ERROR)
        except (KeyboardInterrupt, click.Abort):
            click.echo("relspace: interrupted", err=True)
            context.exit(EXIT_INTERRUPTED)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        click.echo(f"relspace: warning: {' '.join(str(message).split())}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


class Progress:
    """Says on stderr what is being done: one changing line on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, message: str) -> None:
        start = "\r\x1b[K" if self._is_terminal else ""
        click.echo(f"{start}{message}", nl=not self._is_terminal, err=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def commands(debug: bool) -> None:
    """Bring features of different models into one common space and compare them there.

    Exit codes: 0 done, 2 wrong usage or input, 130 interrupted.
    """
