"""Checked input: array-likes become finite float matrices, and items are paired by their ids."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._arrays import in_floats, tensor_from
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError, NonFiniteError

ItemId = str | int
Array = torch.Tensor | NDArray[Any]

_NAMED_AT_MOST = 5
# As many numbers as pairs of a few items say little about what they are.
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
    features: object, name: str = "X", *, check_finite: bool = True, cast: bool = True
) -> Features:
    """Check features and bring them to a float32 or float64 tensor of shape (n, d).

    Parameters
    ----------
    features : tensor, array, table, list of rows, or anything with ``__array__`` or DLPack
        Real numbers of shape (n_items, n_features). float16, bfloat16 and whole numbers are
        computed in float32, whole numbers beyond 2^24 in float64; float32 and float64 stay as they
        are.
    name : str
        What an error calls the argument.
    check_finite : bool
        Whether NaN and infinity are looked for.
    cast : bool
        Whether other types are brought to floats here; those who work block by block do it then.

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
    tensor, is_array = tensor_from(features, name)
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
        tensor = in_floats(tensor, name)
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


def smallest_exact(dtype: torch.dtype) -> float:
    """The magnitude below which numbers of a float type have lost digits that count.

    Below the smallest normal number, every halving costs a binary digit. float32 may lose 6 of its
    24, which leaves an error of 4e-6, and float64 as many; types of half precision have none to
    lose.
    """
    may_lose = 6 if dtype in (torch.float32, torch.float64) else 0
    return math.ldexp(torch.finfo(dtype).smallest_normal, -may_lose)


def refuse_non_finite(tensor: torch.Tensor, name: str, *, first_row: int = 0) -> None:
    """Refuse NaN and infinity, with their count and first places; rows count from ``first_row``."""
    # A sum over finite numbers can only overflow, never become NaN without cause, so a finite
    # sum clears the whole matrix in one pass that allocates nothing.
    if math.isfinite(float(tensor.detach().sum())):
        return
    bad = ~torch.isfinite(tensor.detach())
    count = int(bad.sum())
    if count == 0:
        return
    first = bad.nonzero()[:_NAMED_AT_MOST].tolist()
    places = ", ".join(str((first_row + row, column)) for row, column in first)
    rows = int(bad.any(dim=1).sum())
    raise NonFiniteError(
        f"{name} holds {count} NaN or infinite values in {rows} of {tensor.shape[0]} rows, "
        f"first at (row, column) {places}; remove or repair these rows."
    )


def check_same_width(X: torch.Tensor, Y: torch.Tensor, names: tuple[str, str]) -> None:
    """Refuse two matrices of different numbers of features."""
    if X.shape[1] != Y.shape[1]:
        raise InvalidInputError(
            f"{names[0]} has {X.shape[1]} features and {names[1]} has {Y.shape[1]}; affinities "
            "between them need the same features. Sets of different width meet through align()."
        )


def check_fraction(value: object, name: str) -> float:
    """Refuse anything but a number strictly between 0 and 1."""
    number = check_number(value, name)
    if not 0.0 < number < 1.0:
        raise InvalidInputError(f"{name} is {value}; it must lie strictly between 0 and 1.")
    return number


def check_positive(value: object, name: str) -> float:
    """Refuse anything but a finite number above 0."""
    number = check_number(value, name)
    if not (number > 0.0 and math.isfinite(number)):
        raise InvalidInputError(f"{name} is {value}; it must be a finite number above 0.")
    return number


def check_number(value: object, name: str) -> float:
    """Refuse anything but a real number."""
    if isinstance(value, bool):
        raise InvalidTypeError(f"{name} is {value}; it must be a number.")
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0:
        return float(value.detach() if isinstance(value, torch.Tensor) else value)
    raise InvalidTypeError(f"{name} is of type {type(value).__name__}; it must be a number.")


def check_count(value: object, name: str, *, at_least: int = 1) -> int:
    """Refuse anything but a whole number of at least ``at_least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InvalidTypeError(f"{name} is {value!r}; it must be a whole number.")
    if int(value) < at_least:
        raise InvalidInputError(f"{name} is {value}; it must be at least {at_least}.")
    return int(value)


def check_random_state(random_state: object) -> int:
    """Refuse anything but a seed: a whole number from 0 to 2**63 - 1."""
    if isinstance(random_state, bool) or not isinstance(random_state, numbers.Integral):
        raise InvalidTypeError(
            f"random_state is {random_state!r}; it must be a whole number (the seed)."
        )
    seed = int(random_state)
    if not 0 <= seed < 2**63:
        raise InvalidInputError(f"random_state is {seed}; it must lie in 0 .. 2**63 - 1.")
    return seed


def check_choice(value: object, name: str, allowed: Sequence[str]) -> str:
    """Refuse anything but one of the allowed names."""
    if not isinstance(value, str) or value not in allowed:
        near = near_names(value, allowed)
        meant = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        raise InvalidInputError(
            f"{name} is {value!r}{meant}; it must be one of {', '.join(allowed)}."
        )
    return value


def near_names(
    value: object, allowed: Sequence[str], aliases: Mapping[str, Sequence[str]] | None = None
) -> tuple[str, ...]:
    """Find the allowed names that a name which is none of them may stand for, nearest first.

    Upper and lower case, spaces, hyphens and underscores make no difference.

    Parameters
    ----------
    value : object
        What was given; what is no text is near to nothing.
    allowed : sequence of str
        The names there are.
    aliases : mapping of str to sequence of str, optional
        Other names that are in use, and which of the allowed ones they stand for.

    Examples
    --------
    >>> near_names("Euclidian", ("cosine", "euclidean"))
    ('euclidean',)
    >>> near_names("tau", ("rsa", "rsa_kendall"), {"tau": ["rsa_kendall"]})
    ('rsa_kendall',)
    """
    if not isinstance(value, str):
        return ()
    plain = _plain_name(value)
    known: dict[str, list[str]] = {}
    for name in allowed:
        known.setdefault(_plain_name(name), []).append(name)
    for alias, names in (aliases or {}).items():
        known.setdefault(_plain_name(alias), []).extend(names)
    if plain in known:
        return tuple(dict.fromkeys(known[plain]))
    close = get_close_matches(plain, known, n=3, cutoff=0.7)
    return tuple(dict.fromkeys(name for one in close for name in known[one]))


def _plain_name(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " -_")


def as_item_indices(items: object, name: str, n_items: int) -> torch.Tensor:
    """Check row numbers: whole, in range, none twice."""
    try:
        indices = torch.as_tensor(items)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidTypeError(f"{name} must be a list of row numbers: {error}.") from error
    if indices.ndim != 1 or indices.is_floating_point() or indices.dtype == torch.bool:
        raise InvalidTypeError(
            f"{name} has shape {tuple(indices.shape)} and type {indices.dtype}; it must be a list "
            "of row numbers."
        )
    indices = indices.to(torch.long).cpu()
    outside = indices[(indices < 0) | (indices >= n_items)].tolist()
    if outside:
        raise InvalidInputError(
            f"{name} holds {name_some(outside)}; rows go from 0 to {n_items - 1}."
        )
    if len(set(indices.tolist())) < len(indices):
        raise InvalidInputError(f"{name} holds some rows more than once.")
    return indices


def as_ids(ids: object, name: str, n_items: int) -> tuple[ItemId, ...]:
    """Check item ids: one per item, whole numbers or strings but not both, none twice."""
    if isinstance(ids, torch.Tensor | np.ndarray):
        if ids.ndim != 1:
            raise InvalidInputError(
                f"the ids of {name} have shape {tuple(ids.shape)}; they must be one list."
            )
        ids = ids.tolist()
    if not isinstance(ids, Sequence) or isinstance(ids, str | bytes):
        raise InvalidTypeError(
            f"the ids of {name} are of type {type(ids).__name__}; they must be a list of strings "
            "or of whole numbers."
        )
    if len(ids) != n_items:
        raise ItemMismatchError(f"{name} has {n_items} items and {len(ids)} ids.")
    kinds = {
        str if isinstance(item, str) else int if _is_whole(item) else type(item) for item in ids
    }
    if not kinds <= {str, int}:
        odd = ", ".join(sorted(kind.__name__ for kind in kinds - {str, int}))
        raise InvalidTypeError(
            f"the ids of {name} hold values of type {odd}; use strings or whole numbers."
        )
    if len(kinds) > 1:
        raise ItemMismatchError(
            f"the ids of {name} mix strings and whole numbers, so that '1' and 1 can't be told "
            "apart; use one kind."
        )
    twice = [item for item, count in Counter(ids).items() if count > 1]
    if twice:
        raise ItemMismatchError(
            f"the ids of {name} name {len(twice)} items more than once: {name_some(twice)}; "
            "every item needs an id of its own."
        )
    return tuple(item if isinstance(item, str) else int(item) for item in ids)


def pair_items(
    sizes: Mapping[str, int], ids: Mapping[str, Sequence[ItemId] | None]
) -> tuple[tuple[ItemId, ...] | None, dict[str, torch.Tensor | None]]:
    """Pair the items of several sets, by id where there are ids and by position where not.

    Parameters
    ----------
    sizes : mapping of str to int
        How many items each set has.
    ids : mapping of str to (sequence or None)
        The checked ids of each set, see :func:`as_ids`.

    Returns
    -------
    ids : tuple or None
        The shared ids in the order of the first set; None if items are paired by position.
    order : dict of str to (LongTensor or None)
        For each set, the rows that bring it into that order; None where it has it already.

    Raises
    ------
    ItemMismatchError
        If the sets don't hold the same items, or only some of them have ids.
    """
    names = list(sizes)
    first = names[0]
    without = [name for name in names if ids[name] is None]
    if without and len(without) < len(names):
        raise ItemMismatchError(
            f"{name_some(without)} has no ids while {name_some(sorted(set(names) - set(without)))} "
            "has: give ids to all sets, or match rows by position, ids='position'."
        )
    if without:
        for name in names[1:]:
            if sizes[name] != sizes[first]:
                raise ItemMismatchError(
                    f"{first} has {sizes[first]} items and {name} has {sizes[name]}: without ids "
                    "rows are matched by position and must be equally many; give ids=."
                )
        return None, dict.fromkeys(names)
    reference = tuple(ids[first] or ())
    order: dict[str, torch.Tensor | None] = {first: None}
    for name in names[1:]:
        own = tuple(ids[name] or ())
        if own == reference:
            order[name] = None
            continue
        _refuse_different_items(first, reference, name, own)
        row_of = {item: row for row, item in enumerate(own)}
        order[name] = torch.tensor([row_of[item] for item in reference])
    return reference, order


def _refuse_different_items(
    first: str, reference: tuple[ItemId, ...], name: str, own: tuple[ItemId, ...]
) -> None:
    kinds = isinstance(reference[0], str), isinstance(own[0], str)
    if kinds[0] != kinds[1]:
        kind = ("whole numbers", "strings")
        raise ItemMismatchError(
            f"the ids of {first} are {kind[kinds[0]]} and those of {name} are {kind[kinds[1]]}; "
            "use one kind, so that '1' and 1 can't be confused."
        )
    present, wanted = set(own), set(reference)
    missing = [item for item in reference if item not in present]
    extra = [item for item in own if item not in wanted]
    if missing or extra:
        parts = []
        if missing:
            parts.append(f"{name} lacks {len(missing)} items of {first}: {name_some(missing)}")
        if extra:
            parts.append(f"{first} lacks {len(extra)} items of {name}: {name_some(extra)}")
        raise ItemMismatchError("; ".join(parts) + "; select the shared items first.")


def name_some(items: Sequence[object]) -> str:
    """Name the first few of ``items`` for an error message."""
    shown = ", ".join(repr(item) for item in items[:_NAMED_AT_MOST])
    return shown + (", ..." if len(items) > _NAMED_AT_MOST else "")


def _is_whole(item: object) -> bool:
    return isinstance(item, numbers.Integral) and not isinstance(item, bool)
