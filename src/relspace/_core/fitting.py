"""Classes with a ``fit`` method: parameters kept as given, results refused before there are any."""

from __future__ import annotations

import inspect
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from relspace._core.arguments import name_some
from relspace._core.devices import choose_device, to_device
from relspace.errors import InvalidInputError, NotFittedError


class Fitted:
    """Base of classes whose results are set by ``fit``, in the manner of scikit-learn.

    The constructor keeps its parameters under their names, unchanged, and ``fit`` checks them.
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

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({given})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the constructor, by name; scikit-learn's ``clone`` asks for them.

        Parameters
        ----------
        deep : bool
            Without effect: no parameter has parameters of its own.
        """
        return {name: getattr(self, name) for name in _parameter_names(type(self))}

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters of the constructor; fitted results stay until the next ``fit``.

        Raises
        ------
        InvalidInputError
            If there is no parameter of such a name.
        """
        names = _parameter_names(type(self))
        if unknown := [name for name in parameters if name not in names]:
            raise InvalidInputError(
                f"{type(self).__name__} has no parameter {name_some(unknown)}; it has "
                f"{', '.join(names)}."
            )
        vars(self).update(parameters)
        return self

    def to(self, device: str | torch.device) -> Self:
        """The same on another device, which computes from then on.

        Fitted parameters and results in memory move; results in files stay there. New rows may be
        on any device: they are moved block by block.

        Parameters
        ----------
        device : str or torch.device
            Such as "cuda", "cuda:1" or "cpu"; "auto" is the first GPU, or the CPU without one.

        Returns
        -------
        object of the same class
            A copy; this one stays where it is.

        Raises
        ------
        InvalidInputError
            If there is no such device.
        """
        self._check_fitted()
        where = choose_device(device)
        moved = copy(self)
        for name in self._results:
            setattr(moved, name, to_device(getattr(self, name), where))
        return moved

    def _check_fitted(self) -> None:
        """Refuse to go on before ``fit``."""
        for name in self._results:
            getattr(self, name)


def _parameter_names(fitted: type[Fitted]) -> tuple[str, ...]:
    return tuple(inspect.signature(fitted).parameters)
