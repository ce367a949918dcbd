"""Classes with a ``fit`` method: what it sets is there after it, and refused before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from relspace.errors import NotFittedError


class Fitted:
    """Base of classes whose results are set by ``fit``.

    Whatever needs a result before there is one, a property or a method, raises
    :class:`relspace.errors.NotFittedError`: reading the missing attribute does.
    """

    #: The attributes that ``fit`` sets.
    _results: ClassVar[tuple[str, ...]]
    #: How the class is fitted, for errors.
    _fit_call: ClassVar[str]

    if not TYPE_CHECKING:  # a type checker goes by the attributes that are annotated

        def __getattr__(self, name: str) -> Any:
            # Only reached where the attribute is not there, or where a property found none.
            own = type(self)
            if name in own._results or isinstance(getattr(own, name, None), property):
                missing = [one for one in own._results if one not in vars(self)]
                if missing:
                    raise NotFittedError(
                        f"this {own.__name__} is not fitted; call {own._fit_call} first."
                    )
            raise AttributeError(f"{own.__name__!r} object has no attribute {name!r}")

    def _check_fitted(self) -> None:
        """Refuse to go on before ``fit``."""
        for name in self._results:
            getattr(self, name)
