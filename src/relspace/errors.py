"""Exceptions and warnings that relspace raises, all of them built on Python's own kinds."""

from __future__ import annotations


class RelspaceError(Exception):
    """Base of every error that relspace raises on purpose; its message says what to do."""


class InvalidInputError(RelspaceError, ValueError):
    """An argument has a value that is not allowed."""


class InvalidTypeError(RelspaceError, TypeError):
    """An argument has a type that is not allowed."""


class NotFittedError(InvalidInputError, AttributeError):
    """A result was asked for before ``fit``; ``hasattr`` says that it is not there."""


class NonFiniteError(InvalidInputError):
    """Features hold NaN or infinite values."""


class ItemMismatchError(InvalidInputError):
    """Feature sets do not describe the same items."""


class UndefinedValueError(InvalidInputError):
    """What is asked for has no value on these features, though others may have one."""


class BandwidthError(UndefinedValueError):
    """No bandwidth gives the features the density asked for."""


class ClusterError(RelspaceError, RuntimeError):
    """The workers of a cluster are lost, again and again, or there are none."""


class MemoryBudgetError(RelspaceError, MemoryError):
    """A result would not fit into the memory at hand."""


class FileFormatError(InvalidInputError):
    """A file can't be read as what it claims to be."""


class MissingDependencyError(RelspaceError, ImportError):
    """An optional dependency is needed and not installed."""


class RelspaceWarning(UserWarning):
    """Base of every warning that relspace gives."""


class SamplingWarning(RelspaceWarning):
    """A sampled estimate stopped before it reached the tolerance asked for."""


class UnknownNameError(RelspaceError, KeyError):
    """A name is not among those that exist."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0])
