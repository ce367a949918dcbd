"""Feature matrices: array-likes become checked tensors of floats, and results what was given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray

from relspace._core.arrays import in_floats, refuse_non_finite, tensor_from
from relspace._core.labelled_tables import without_labels
from relspace.errors import InvalidInputError

Array = torch.Tensor | NDArray[Any]
# A vector whose length is the number of pairs of this many items or fewer is not taken for pairs.
_MORE_ITEMS_THAN = 5


@dataclass(frozen=True)
class Features:
    """A checked (n, d) matrix, in float32 or float64 by default, and the way back."""

    tensor: torch.Tensor
    is_array: bool
    dtype: torch.dtype

    def restore(self, result: torch.Tensor) -> Array:
        """Give ``result`` the kind (array or tensor) and the float type of the input."""
        if self.dtype.is_floating_point and result.dtype != self.dtype:
            result = result.to(self.dtype)
        return to_numpy(result) if self.is_array else result


def to_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """Turn a tensor into an array without sharing its autograd history."""
    return tensor.detach().cpu().numpy()


def as_features(
    features: object,
    name: str = "X",
    *,
    check_finite: bool = True,
    cast: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Features:
    """Check features and bring them to a float32 or float64 tensor of shape (n, d).

    Parameters
    ----------
    features : tensor, array, table, list of rows, or anything with ``__array__`` or DLPack
        Real numbers of shape (n_items, n_features). float16, bfloat16 and whole numbers are
        computed in ``dtype``, whole numbers beyond 2^24 in float64; float32 and float64 stay as
        they are.
    name : str
        What an error calls the argument.
    check_finite : bool
        Whether NaN and infinity are looked for.
    cast : bool
        Whether other types are brought to floats here; those who work block by block do it then.
    dtype : torch.float32 or torch.float64
        What other types are brought to.

    Raises
    ------
    InvalidTypeError
        If it is no array of real numbers (nested, quantised, sparse and meta tensors, and float8,
        are none).
    InvalidInputError
        If it is not a matrix, or an empty one, or holds only numbers that have lost digits.
    NonFiniteError
        If it holds NaN or infinite values, or some are missing or masked.
    """
    tensor, is_array = tensor_from(without_labels(features, name), name)
    if tensor.ndim != 2:
        hint = "reshape(-1, 1) makes one feature of it" if tensor.ndim == 1 else "flatten it first"
        if tensor.ndim == 0:
            hint = "a single number is none"
        n_items = (1 + math.isqrt(1 + 8 * tensor.shape[0])) // 2 if tensor.ndim == 1 else 0
        if n_items > _MORE_ITEMS_THAN and n_items * (n_items - 1) // 2 == tensor.shape[0]:
            hint += (
                f". {tensor.shape[0]} is the number of pairs of {n_items} items: if these are "
                "condensed dissimilarities, give the features that they were made from instead"
            )
        raise InvalidInputError(
            f"{name} has shape {tuple(tensor.shape)}; "
            f"features are a matrix (n_items, n_features): {hint}."
        )
    if 0 in tensor.shape:
        raise InvalidInputError(f"{name} is empty: its shape is {tuple(tensor.shape)}.")
    given = tensor.dtype
    if cast:
        tensor = in_floats(tensor, name, dtype)
    if check_finite:
        _check_numbers(tensor, name, given)
    return Features(tensor, is_array, given if given.is_floating_point else torch.float32)


def _check_numbers(tensor: torch.Tensor, name: str, given: torch.dtype) -> None:
    """Refuse NaN and infinity, and features that have lost digits in the type they had."""
    # One pass that allocates nothing says that both don't apply, of nearly all features.
    total = abs(float(tensor.detach().sum()))
    smallest = smallest_exact(given) if given.is_floating_point else 0.0
    if smallest * tensor.numel() <= total < math.inf:
        return
    refuse_non_finite(tensor, name)
    largest = max(abs(float(one)) for one in torch.aminmax(tensor.detach()))
    if 0 < largest < smallest:
        raise InvalidInputError(
            f"{name} holds no number above {largest:.2g}, and below {smallest:.2g} "
            f"{str(given).removeprefix('torch.')} loses digits: multiply the features by a large "
            "number while they have more of them, before they are converted."
        )


@cache
def smallest_exact(dtype: torch.dtype) -> float:
    """The magnitude below which numbers of a float type have lost digits that count.

    Below the smallest normal number, every halving costs a binary digit. float32 may lose 6 of its
    24, which leaves an error of 4e-6, and float64 as many; types of half precision have none to
    lose.
    """
    may_lose = 6 if dtype in (torch.float32, torch.float64) else 0
    return math.ldexp(torch.finfo(dtype).smallest_normal, -may_lose)


def check_same_width(X: torch.Tensor, Y: torch.Tensor, names: tuple[str, str]) -> None:
    """Refuse two matrices of different numbers of features."""
    if X.shape[1] != Y.shape[1]:
        raise InvalidInputError(
            f"{names[0]} has {X.shape[1]} features and {names[1]} has {Y.shape[1]}; affinities "
            "between them need the same features. Sets of different width meet through align()."
        )
