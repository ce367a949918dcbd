"""The group that commands belong to: errors and warnings in one line, progress on stderr."""

from __future__ import annotations

import ast
import traceback
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import click

from relspace import __version__
from relspace._core.installation import WAYS_OUT, conflict, find_compiled
from relspace._core.progress import ProgressLine
from relspace._core.text_tables import one_line
from relspace.errors import ExplainedMixin, RelspaceError

EXIT_UNEXPECTED = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130

#: Options that are not called like the argument of Python, some by its value. Entries without "--"
#: are forms of a command's arguments, which every command accepts.
_OPTIONS = {
    "overwrite=True": "--force",
    "ids='position'": "--by-position",
    "n_permutations": "--permutations",
    "n_bootstraps": "--bootstraps",
    "n_components": "--components",
    "n_landmarks": "--landmarks",
    "n_prefix_tokens": "--prefix-tokens",
    "out": "--output",
    "key": "FILE::KEY",
    "layer": "FILE::LAYER",
}


class _Commands(click.Group):
    """Commands whose errors are one line on stderr and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            with _warnings_in_one_line():
                return super().invoke(context)
        except BrokenPipeError:
            raise
        except (click.exceptions.Exit, click.ClickException):
            raise
        except (KeyboardInterrupt, click.Abort):
            click.echo("relspace: interrupted", err=True)
            context.exit(EXIT_INTERRUPTED)
        except Exception as error:
            if context.params["debug"]:
                traceback.print_exc()
            reason = one_line(say(error)) or type(error).__name__
            if isinstance(error, RelspaceError | OSError | MemoryError):
                click.echo(f"relspace: error: {reason}", err=True)
                context.exit(EXIT_ERROR)
            # A fault of relspace and not of what it was given.
            click.echo(
                f"relspace: unexpected error: {type(error).__name__}: {reason}: please report it, "
                "with what the same command prints as relspace --debug ...",
                err=True,
            )
            context.exit(EXIT_UNEXPECTED)


def say(message: object) -> str:
    """Say an error or a warning of the library with the options of the command that runs."""
    if not isinstance(message, ExplainedMixin):
        return str(message)
    context = click.get_current_context(silent=True)
    command = None if context is None else context.command
    if context is not None and isinstance(command, click.Group) and context.invoked_subcommand:
        command = command.get_command(context, context.invoked_subcommand)
    flags = set() if command is None else {flag for one in command.params for flag in one.opts}
    return message.in_words_of(lambda name, value: _option(name, value, flags))


def _option(argument: str, value: str | None, flags: Collection[str]) -> str | None:
    """What a command that has these flags calls an argument of Python; None if it has none."""
    own = _OPTIONS.get(f"{argument}={value}")
    if own is not None:
        return own if own in flags else None
    option = _OPTIONS.get(argument, "--" + argument.replace("_", "-"))
    if not option.startswith("--"):
        return option
    if option not in flags:
        return None
    written = True if value is None else ast.literal_eval(value)
    if written is True:
        return option
    if isinstance(written, dict):
        return " ".join(f"{option} {name}=..." for name in written)
    plain = "x".join(map(str, written)) if isinstance(written, tuple) else str(written)
    return f"{option} {plain}"


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        click.echo(f"relspace: warning: {one_line(say(message))}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


class Progress(ProgressLine):
    """Says on stderr what is being done: one changing line on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        super().__init__(end="")

    def __call__(self, done: int, total: int, text: str) -> None:
        """Say how far a step is, with its rate and the time left."""
        super().__call__(done, total, one_line(text))

    def step(self, text: str) -> None:
        """Say what is done next, which isn't counted."""
        self(0, 0, text)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


def _show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    click.echo(f"relspace {__version__} ({find_compiled()[1]})")
    if (found := conflict()) is not None:
        click.echo(f"{found}. To mend it, {', or '.join(WAYS_OUT)}.")
    context.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version, and whether compiled kernels are used.",
)
@click.option(
    "--debug", is_flag=True, envvar="RELSPACE_DEBUG", help="Show the traceback of an error."
)
def commands(debug: bool) -> None:
    """Bring features of different models into one common space and compare them there.

    Exit codes: 0 done, 1 unexpected error, 2 wrong usage or input, 130 interrupted.
    """
