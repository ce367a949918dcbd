"""Exceptions and warnings of relspace, all derived from Python's own classes.

Every error and warning has a message, which says what was found and what is allowed, and may have
ways out, which say what to do. Ways out are data, because what a Python function calls
``overwrite=True`` is ``--force`` on the command line:

    raise InvalidInputError(
        f"{path} holds another extraction.",
        ways_out=["choose another name", "overwrite it with {overwrite=True}"],
    )

``str(error)`` is "... holds another extraction: choose another name, or overwrite it with
overwrite=True." The command prints "... or overwrite it with --force." and leaves out the ways that
name an argument it has no option for. No message of the library names an option of the command
line; keywords of Python stand in ways out only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self

#: An argument in a way out: {name} or {name=value}.
_ARGUMENT = re.compile(r"\{(\w+)(?:=((?:[^{}]|\{[^{}]*\})*))?\}")

# An ellipsis, as of a list that was cut short, is none.
_FINAL_PERIOD = re.compile(r"(?<=\.\.\.)\.$|(?<!\.)\.$")


_LONGEST_REASON = 300


class ExplainedMixin:
    """A message about what was found, and the ways out.

    Parameters
    ----------
    message : str
        What was found and what is allowed.
    ways_out : sequence of str, optional
        What to do, one clause each, which begins with a verb in lower case and has no final
        period. Arguments of the Python function stand in braces, by name or with a value, such as
        ``"raise {memory_budget}"`` and ``"compare a part of the items by {max_items=10_000}"``.
        Names that come from the user belong into the message.

    Examples
    --------
    >>> error = InvalidInputError("f.zarr exists.", ways_out=["overwrite it: {overwrite=True}"])
    >>> str(error)
    'f.zarr exists: overwrite it: overwrite=True.'
    """

    def __init__(self, *message: object, ways_out: Iterable[str] = ()) -> None:
        super().__init__(*message)
        self.message = str(message[0]) if message else ""
        self.ways_out = tuple(way.rstrip(".") for way in ways_out)

    def __str__(self) -> str:
        return self.in_words_of(name_keyword)

    def in_words_of(self, name_argument: Callable[[str, str | None], str | None]) -> str:
        """Write the message and the ways out in the terms of one interface.

        Parameters
        ----------
        name_argument : callable
            Given the name of an argument and its value or None, returns what the interface calls
            it; None if it has no such argument, and then ways out that need it are left out.
        """
        said = [_say(way, name_argument) for way in self.ways_out]
        open_ways = [way for way in said if way is not None]
        if not open_ways:
            return self.message
        *others, last = open_ways
        listed = f"{', '.join(others)}, or {last}" if others else last
        return f"{_FINAL_PERIOD.sub('', self.message)}: {listed}."

    def about(self, what: str) -> Self:
        """Return the same error with a message that begins with what it is about."""
        return type(self)(f"{what}: {self.message}", ways_out=self.ways_out)


def name_keyword(argument: str, value: str | None) -> str:
    """Name an argument as Python calls it.

    >>> name_keyword("overwrite", "True"), name_keyword("memory_budget", None)
    ('overwrite=True', 'memory_budget')
    """
    return argument if value is None else f"{argument}={value}"


def reason_of(error: BaseException, *, with_type: bool = False) -> str:
    """What another library's error says, in one line that isn't too long.

    >>> reason_of(ValueError("no\\n  such file.")), reason_of(ValueError("no"), with_type=True)
    ('no such file', 'ValueError: no')
    """
    name = type(error).__name__
    said = " ".join(str(error).split())[:_LONGEST_REASON].rstrip(".")
    return f"{name}: {said}" if with_type else said or name


def _say(way: str, name_argument: Callable[[str, str | None], str | None]) -> str | None:
    """A way out with its arguments named; None if one has no name."""
    names = [name_argument(*found.groups()) for found in _ARGUMENT.finditer(way)]
    if any(name is None for name in names):
        return None
    remaining = iter(names)
    return _ARGUMENT.sub(lambda found: str(next(remaining)), way)


class RelspaceError(ExplainedMixin, Exception):
    """Base of every error that relspace raises on purpose; its message says what to do."""


class InvalidInputError(RelspaceError, ValueError):
    """An argument has a value that is not allowed."""


class InvalidTypeError(RelspaceError, TypeError):
    """An argument has a type that is not allowed."""


class NotFittedError(InvalidInputError, AttributeError):
    """A result was asked for before ``fit``; ``hasattr`` says that it is not there."""


class NonFiniteError(InvalidInputError):
    """Features hold NaN, infinite or missing values."""


class ItemMismatchError(InvalidInputError):
    """Feature sets do not describe the same items."""


class UndefinedValueError(InvalidInputError):
    """The measure has no value on these features, though others may have one."""


class BandwidthError(UndefinedValueError):
    """No bandwidth gives the features the density asked for."""


class ClusterError(RelspaceError, RuntimeError):
    """The workers of a cluster are lost, again and again, or there are none."""


class MemoryBudgetError(RelspaceError, MemoryError):
    """A call would need more memory than it may take.

    Attributes
    ----------
    n_bytes : int or None
        What it would need.
    limit : int or None
        What it may take: its budget, or what is free.
    """

    def __init__(
        self,
        *message: object,
        ways_out: Iterable[str] = (),
        n_bytes: int | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(*message, ways_out=ways_out)
        self.n_bytes = n_bytes
        self.limit = limit

    def about(self, what: str) -> Self:
        """Return the same error with a message that begins with what it is about."""
        make, _ = self.__reduce__()
        led: Self = make(f"{what}: {self.message}")
        return led

    def __reduce__(self) -> tuple[Any, ...]:
        # Dask's way of sending errors makes them without arguments, which MemoryError refuses.
        with_data = partial(
            type(self), ways_out=self.ways_out, n_bytes=self.n_bytes, limit=self.limit
        )
        return with_data, (self.message,)


class FileFormatError(InvalidInputError):
    """A file can't be read as what it claims to be."""


class MissingDependencyError(RelspaceError, ImportError):
    """An optional dependency is needed and not installed."""


class RelspaceWarning(ExplainedMixin, UserWarning):
    """Base of every warning that relspace gives."""


class ConflictingPackageWarning(RelspaceWarning):
    """Another installed package provides the same import name."""


class SamplingWarning(RelspaceWarning):
    """A sampled estimate stopped before it reached the tolerance asked for."""


class RenamedWarning(RelspaceWarning, DeprecationWarning):
    """A public name was used that has another one now; the old one still works."""


class UnknownNameError(RelspaceError, KeyError):
    """A name is not among those that exist."""
