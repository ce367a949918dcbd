"""Measures that are functions of the user's own."""

from __future__ import annotations

import inspect
import math
import numbers
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from relspace._core.arguments import check_choice
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    RelspaceError,
    RelspaceWarning,
    UndefinedValueError,
)
from relspace.measures._measure import Measure, Names, Range
from relspace.resampling import Permutations

Function = Callable[[Any, Any], Any]


def from_function(
    function: Function,
    *,
    higher_is_better: bool = True,
    name: str | None = None,
    identical: float | None = None,
    arrays: Literal["numpy", "torch"] = "numpy",
) -> FunctionMeasure:
    """Make a measure of a function of two sets of features of the same items.

    It is tested as the measures of relspace are: the function is called again under every
    permutation of the items of the first set, one call after the other.

    Parameters
    ----------
    function : callable
        Takes features X (n, d) and Y (n, e), whose rows are paired, and returns a number. X and Y
        are copies of what was given, in its scale and in float32 or float64; whole numbers and
        other types of floats are converted to float64.
    higher_is_better : bool
        Whether larger values mean more alike. A function that contradicts it, by which a set is
        less like itself than like its own items in random order, is warned of.
    name : str, optional
        What results call it; the function's ``__name__`` by default.
    identical : float, optional
        The value of a set compared with itself, which calibrated scores and ceilings are shares
        of; both are left out without it.
    arrays : "numpy" or "torch"
        What the function takes.

    Returns
    -------
    Measure
        What ``measure=`` takes wherever it takes a name.

    Raises
    ------
    InvalidTypeError
        If ``function`` isn't callable, or an argument is of another type.
    InvalidInputError
        If ``identical`` isn't finite, or ``arrays`` is neither of the two.

    Examples
    --------
    >>> import numpy as np, relspace as rs
    >>> def gap(X, Y):
    ...     return np.linalg.norm(X @ X.T - Y @ Y.T)
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 5))
    >>> measure = rs.measures.from_function(gap, higher_is_better=False, identical=0.0)
    >>> rs.compare(X, X + 0.1 * rng.normal(size=X.shape), measure=measure).p_value
    0.01
    """
    if not callable(function) or isinstance(function, type):
        raise InvalidTypeError(
            f"function is {function!r}; it must be a function (X, Y) -> float of two sets of "
            "features."
        )
    if not isinstance(higher_is_better, bool):
        raise InvalidTypeError(
            f"higher_is_better is {higher_is_better!r}; it must be True or False."
        )
    if name is None:
        name = _name_of(function)
    elif not isinstance(name, str) or not name:
        raise InvalidTypeError(f"name is {name!r}; it must be a string that is not empty.")
    check_choice(arrays, "arrays", ("numpy", "torch"))
    best = math.nan
    if identical is not None:
        best = _number(identical, "identical")
        if not math.isfinite(best):
            raise InvalidInputError(f"identical is {best}; it must be finite, or None.")
    return FunctionMeasure(
        name=name,
        title=name,
        source="a function that was given",
        direction="similarity" if higher_is_better else "distance",
        identical=best,
        function=function,
        arrays=arrays,
    )


@dataclass(frozen=True, eq=False)
class GivenFeatures:
    """Features as they were given, which a function of two sets takes."""

    features: torch.Tensor


@dataclass(frozen=True, kw_only=True, repr=False)
class FunctionMeasure(Measure):
    """A measure that is a function of the features themselves: see :func:`from_function`."""

    function: Function
    arrays: Literal["numpy", "torch"] = "numpy"

    @property
    def range(self) -> Range:
        return (-math.inf, math.inf)

    @property
    def symmetric(self) -> bool:
        return False

    @property
    def invariances(self) -> Names:
        return ()

    @property
    def computed_in(self) -> torch.dtype:
        # A function may square whole numbers, or add up thousands of them.
        return torch.float64

    @property
    def chance(self) -> str:
        return "unknown"

    @property
    def parameters(self) -> dict[str, Any]:
        inner = _inner(self.function)
        return {"function": f"{inner.__module__}.{inner.__qualname__}", "arrays": self.arrays}

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> GivenFeatures:
        return GivenFeatures(X)

    def from_factors(
        self, x: GivenFeatures, y: GivenFeatures, permutation: torch.Tensor | None = None
    ) -> float:
        left, right = x.features, y.features
        if permutation is not None:
            left = left[permutation.to(left.device)]
        try:
            found = self.function(self._given(left), self._given(right))
        except RelspaceError:
            raise
        except Exception as error:
            took = "NumPy arrays" if self.arrays == "numpy" else "torch tensors"
            other = "torch" if self.arrays == "numpy" else "numpy"
            raise InvalidInputError(
                f"the function {self.name} failed on {took} of shape {tuple(left.shape)} and "
                f"{tuple(right.shape)}: {type(error).__name__}: {error}",
                ways_out=[
                    f'if it takes others, relspace.measures.from_function(..., arrays="{other}")'
                ],
            ) from error
        value = _number(found, f"what the function {self.name} returned")
        if not math.isfinite(value):
            raise UndefinedValueError(
                f"the function {self.name} returned {value} of sets of shape {tuple(left.shape)} "
                f"and {tuple(right.shape)}; a value must be a finite number."
            )
        return value

    def table(
        self,
        x: Sequence[GivenFeatures],
        y: Sequence[GivenFeatures],
        permutation: torch.Tensor | None = None,
    ) -> torch.Tensor:
        # One call after the other: the function may not be safe on several threads.
        values = [[self.from_factors(a, b, permutation) for b in y] for a in x]
        return torch.tensor(values, dtype=torch.float64)

    def null_table(
        self,
        x: Sequence[GivenFeatures],
        y: Sequence[GivenFeatures],
        family: Permutations,
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> torch.Tensor:
        tables = []
        for done, batch in enumerate(family.batches(1), start=1):
            tables.append(self.table(x, y, batch[0]))
            if on_progress is not None:
                on_progress(done)
        return torch.stack(tables)

    def warn_of_direction(self, x: GivenFeatures) -> None:
        """Warn where a set is less like itself than like its own items in random order."""
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(x.features), generator=generator)
        try:
            itself, shuffled = self.from_factors(x, x), self.from_factors(x, x, order)
        except RelspaceError:
            # A function of two widths may not take one set twice; its direction isn't known then.
            return
        worse = itself < shuffled if self.direction == "similarity" else itself > shuffled
        if worse:
            larger = "larger" if self.direction == "similarity" else "smaller"
            other = self.direction == "distance"
            warnings.warn(
                f"{larger} values of the function {self.name} are taken to mean more alike, but a "
                f"set compared with itself has {itself:.4g}, and with its own items in random "
                f"order {shuffled:.4g}. If it is the other way round, give "
                f"relspace.measures.from_function(..., higher_is_better={other}).",
                RelspaceWarning,
                stacklevel=3,
            )

    def _given(self, X: torch.Tensor) -> Any:
        # A copy, for the function may write to it.
        return X.clone() if self.arrays == "torch" else np.array(X.cpu().numpy())


def _number(found: object, what: str) -> float:
    """A plain number of what stands for one."""
    if isinstance(found, torch.Tensor | np.ndarray) and found.ndim == 0:
        found = found.item()
    if isinstance(found, numbers.Real) and not isinstance(found, bool | np.bool_):
        try:
            return float(found)
        except OverflowError:
            # A whole number or a fraction beyond float64, which is refused as infinity is.
            return -math.inf if found < 0 else math.inf
    kind = type(found).__name__
    if isinstance(found, torch.Tensor | np.ndarray):
        kind = f"{kind} of shape {tuple(found.shape)}"
    raise InvalidTypeError(f"{what} is of type {kind}; it must be one number.")


def _inner(function: Function) -> Any:
    inner = function.func if isinstance(function, partial) else function
    return inner if inspect.isroutine(inner) else type(inner)


def _name_of(function: Function) -> str:
    name: str = _inner(function).__name__
    return "lambda" if name == "<lambda>" else name
