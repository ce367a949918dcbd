"""Other libraries: imported when they are needed, their errors turned into errors of relspace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from relspace.errors import MissingDependencyError, RelspaceError, reason_of

MODELS = "relspace[models]"


def import_package(module: str, what: str = "pretrained models", install: str = MODELS) -> Any:
    """Import a module of an optional package, or say what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        reason = reason_of(error, with_type=True)
        raise MissingDependencyError(
            f"{what} need {package}, which can't be imported ({reason}): pip install '{install}'."
        ) from error


@contextmanager
def explained(explain: Callable[[str], RelspaceError]) -> Iterator[None]:
    """Turn whatever another library raises into the error that ``explain`` makes of its reason."""
    try:
        yield
    except (RelspaceError, MemoryError):
        raise
    except Exception as error:
        # Damaged files and sizes that don't fit make libraries raise nearly anything.
        raise explain(reason_of(error, with_type=True)) from error
