"""Old public names, which work as before and warn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from relspace.errors import InvalidTypeError, RenamedWarning

_Function = TypeVar("_Function", bound=Callable[..., Any])


def warn_renamed(old: str, new: str) -> None:
    """Warn the caller's caller that a name is an old one."""
    warnings.warn(RenamedWarning(f"{old} is now {new}."), stacklevel=3)


def renamed_parameters(**new_names: str) -> Callable[[_Function], _Function]:
    """Let a function take parameters by their old names too, with a warning.

    Examples
    --------
    >>> @renamed_parameters(k="n_neighbors")
    ... def search(n_neighbors: int = 1) -> int:
    ...     return n_neighbors
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     search(k=3), str(caught[0].message)
    (3, 'the parameter k of search is now n_neighbors.')
    """

    def decorate(function: _Function) -> _Function:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in new_names.keys() & kwargs.keys():
                new = new_names[old]
                if new in kwargs:
                    raise InvalidTypeError(f"{old} is the old name of {new}: give {new} only.")
                warn_renamed(f"the parameter {old} of {function.__name__}", new)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return cast("_Function", call)

    return decorate
