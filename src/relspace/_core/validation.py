"""Checked input: array-likes become finite float matrices, and items are paired by their ids."""

from __future__ import annotations

import math
import numbers
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arrays import in_floats, tensor_from
from relspace._core.labelled_tables import as_labelled_table, labels_of_tables
from relspace._core.limits import LARGEST_WHOLE_NUMBER, MOST_RESAMPLES
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError, NonFiniteError

ItemId = str | int
Array = torch.Tensor | NDArray[Any]

_NAMED_AT_MOST = 5
#: The smallest mean affinity that can be asked for.
SMALLEST_DENSITY = 1e-30
# What str() makes of an int; ASCII digits only.
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]*")
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


@cache
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


def check_density(density: object) -> float:
    """Refuse anything but a density that a bandwidth can be solved for in either float type."""
    number = check_fraction(density, "density")
    if number < SMALLEST_DENSITY:
        raise InvalidInputError(
            f"density is {density}; a bandwidth can be solved for densities from "
            f"{SMALLEST_DENSITY:.0e} on, below which float32 can't hold affinities: ask for a "
            "larger one."
        )
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
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
        if isinstance(value, bool):
            raise InvalidTypeError(f"{name} is {value}; it must be a number.")
    if isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:
            raise InvalidInputError(
                f"{name} is a number beyond the largest float, 1.8e308; give a smaller one."
            ) from None
    raise InvalidTypeError(f"{name} is of type {type(value).__name__}; it must be a number.")


def check_count(
    value: object, name: str, *, at_least: int = 1, at_most: int = LARGEST_WHOLE_NUMBER
) -> int:
    """Refuse anything but a whole number from ``at_least`` to ``at_most``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InvalidTypeError(f"{name} is {value!r}; it must be a whole number.")
    count = int(value)
    if count < at_least:
        raise InvalidInputError(f"{name} is {_say_whole(count)}; it must be at least {at_least}.")
    if count > at_most:
        raise InvalidInputError(f"{name} is {_say_whole(count)}; it must be at most {at_most}.")
    return count


def check_resamples(value: object, name: str, *, at_least: int = 1) -> int:
    """Refuse anything but a number of permutations, random halves or splits that can be drawn."""
    return check_count(value, name, at_least=at_least, at_most=MOST_RESAMPLES)


def _say_whole(number: int) -> str:
    # Python refuses to write numbers of thousands of digits.
    size = number.bit_length()
    return str(number) if size <= 128 else f"a whole number of {size} bits"


def check_path(path: object, name: str = "path") -> None:
    """Refuse anything but the path of a file or folder, as text or a path object."""
    if not isinstance(path, str | Path):
        raise InvalidTypeError(f"{name} is {path!r}; it must be a string or a pathlib.Path.")
    if not str(path) or "\0" in str(path):
        raise InvalidInputError(f"{name} is {path!r}, which names no file.")


def check_random_state(random_state: object) -> int:
    """Refuse anything but a seed: a whole number from 0 to 2**63 - 1."""
    if isinstance(random_state, bool) or not isinstance(random_state, numbers.Integral):
        raise InvalidTypeError(
            f"random_state is {random_state!r}; it must be a whole number (the seed)."
        )
    seed = int(random_state)
    if not 0 <= seed <= LARGEST_WHOLE_NUMBER:
        raise InvalidInputError(
            f"random_state is {_say_whole(seed)}; it must lie in 0 .. 2**63 - 1."
        )
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


def without_labels(features: object, name: str) -> object:
    """Return the features that a table with labels holds, without them; else what was given."""
    table = as_labelled_table(features, name)
    return features if table is None else tensor_from(table.read_features(), name)[0].numpy()


def own_ids(features: object, name: str) -> tuple[ItemId, ...] | None:
    """Return the ids that features bring: their ``ids``, or the labels of a table's rows.

    Parameters
    ----------
    features : anything that holds features
        Labels that only count rows (0, 1, 2, ...) are no ids.
    name : str
        What an error calls it.

    Returns
    -------
    tuple or None
        In their normal form, see :func:`as_ids`; None if there are none.

    Raises
    ------
    InvalidInputError
        If labels can't be ids; it says how to match rows by position.
    """
    parts = features if isinstance(features, list | tuple) else [features]
    tables = [as_labelled_table(part, name) for part in parts]
    labelled = [table for table in tables if table is not None]
    if not labelled or len(labelled) < len(parts):
        ids = getattr(features, "ids", None)
        # A masked array has a method of this name.
        return None if ids is None or callable(ids) else as_ids(ids, name, len(ids))
    labels = labels_of_tables(labelled)
    return None if labels is None else as_ids(labels, name, len(labels))


def feature_names(features: object) -> tuple[str, ...] | None:
    """Return the names of the features, where they are columns of a table; None if they have none.

    Numbers that only count columns are no names.
    """
    table = as_labelled_table(features, "the features")
    names = getattr(features, "feature_names", None) if table is None else table.feature_names
    if names is None or all(name == number for number, name in enumerate(names)):
        return None
    return tuple(map(str, names))


def refuse_other_features(
    found: tuple[str, ...] | None, wanted: tuple[str, ...] | None, name: str
) -> None:
    """Refuse features that have names, and other ones, or in another order, than those wanted.

    Raises
    ------
    InvalidInputError
        If both have names and they differ.
    """
    if found is None or wanted is None or found == wanted:
        return
    if sorted(found) == sorted(wanted):
        column = next(
            i for i, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other
        )
        raise InvalidInputError(
            f"{name} has the same features in another order: column {column} is {found[column]!r} "
            f"and was {wanted[column]!r}.",
            ways_out=["bring the columns into the order that they had"],
        )
    said = [
        f"{say_count(len(ones), 'feature')} {what}: {name_some(ones)}"
        for ones, what in (
            ([one for one in wanted if one not in found], "missing"),
            ([one for one in found if one not in wanted], "new"),
        )
        if ones
    ]
    raise InvalidInputError(
        f"{name} has other features than before; {'; '.join(said) or 'some occur again'}.",
        ways_out=["give the same features in the same order"],
    )


def ids_of_layers(layers: Mapping[str, object], name: str) -> tuple[ItemId, ...] | None:
    """Return the ids that all layers of a model bring; None if none brings some.

    Raises
    ------
    ItemMismatchError
        If they bring different ones.
    """
    found = {layer: own_ids(one, f"{name}, {layer}") for layer, one in layers.items()}
    first = next(iter(found.values()), None)
    others = [layer for layer, ids in found.items() if ids != first]
    if others:
        raise ItemMismatchError(
            f"the layers {name_some(others)} of {name} have other ids than its first layer; all "
            "layers of a model must be of the same items in one order.",
            ways_out=["match rows by position with {ids='position'}"],
        )
    return first


def refuse_other_labels(X: object, Y: object, names: tuple[str, str]) -> None:
    """Refuse two tables whose labels say that rows of one place are different items."""
    tables = [as_labelled_table(Z, name) for Z, name in zip((X, Y), names, strict=True)]
    first, second = (None if one is None else labels_of_tables([one]) for one in tables)
    if first is not None and second is not None and list(first) != list(second):
        raise ItemMismatchError(
            f"the rows of {names[0]} and {names[1]} have different labels, or the same in another "
            "order, and they are compared row by row.",
            ways_out=[
                "bring them into one order",
                "use relspace.compare, which matches rows by their labels",
            ],
        )


def as_ids(ids: object, name: str, n_items: int) -> tuple[ItemId, ...]:
    """Bring item ids to their normal form: all ``int`` or all ``str``, none twice.

    Whole numbers of any library become ``int`` and text becomes ``str``, bytes by UTF-8. Nothing
    else changes: "7" stays text, and spaces stay in it.

    Parameters
    ----------
    ids : sequence, array, tensor, or column of a table
        One id for each item.
    name : str
        What an error calls the set.
    n_items : int
        How many there must be.

    Raises
    ------
    InvalidTypeError
        If ids are neither whole numbers nor text.
    ItemMismatchError
        If there are too few or too many, some occur twice, or both kinds are mixed.

    Examples
    --------
    >>> import numpy as np
    >>> as_ids(np.array([7, 8]), "sam", 2), as_ids(np.array([b"cat", b"dog"]), "sam", 2)
    ((7, 8), ('cat', 'dog'))
    """
    if len(shape := getattr(ids, "shape", (0,))) != 1:
        raise InvalidInputError(
            f"the ids of {name} have shape {tuple(shape)}; they must be one list."
        )
    for convert in ("tolist", "to_pylist", "to_list"):
        if hasattr(ids, convert):
            ids = getattr(ids, convert)()
            break
    if not isinstance(ids, Sequence) or isinstance(ids, str | bytes):
        raise InvalidTypeError(
            f"the ids of {name} are of type {type(ids).__name__}; they must be a list of strings "
            "or of whole numbers."
        )
    if len(ids) != n_items:
        raise ItemMismatchError(
            f"{name} has {say_count(n_items, 'item')} and {say_count(len(ids), 'id')}."
        )
    found = tuple(ids)
    if set(map(type, found)) not in ({int}, {str}) or "" in found:
        found = tuple(_as_id(item, name, number) for number, item in enumerate(ids))
    if len({type(item) for item in found}) > 1:
        raise ItemMismatchError(
            f"the ids of {name} mix strings and whole numbers, so that '1' and 1 can't be told "
            "apart; use one kind."
        )
    if len(set(found)) < len(found):
        twice = [item for item, count in Counter(found).items() if count > 1]
        raise ItemMismatchError(
            f"the ids of {name} name {say_count(len(twice), 'item')} more than once: "
            f"{name_some(twice)}; every item needs an id of its own."
        )
    return found


def _as_id(item: object, name: str, number: int) -> ItemId:
    if isinstance(item, str) and item:
        return str(item)
    if isinstance(item, numbers.Integral) and not isinstance(item, bool):
        return int(item)
    if isinstance(item, bytes) and item:
        try:
            return item.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"id {number + 1} of {name} is {item!r:.60}, which is no text in UTF-8."
            ) from error
    raise InvalidTypeError(
        f"id {number + 1} of {name} is {item!r:.60}, of type {type(item).__name__}; ids are text "
        "that is not empty, or whole numbers.",
        ways_out=["give others with {ids}", "match rows by position with {ids='position'}"],
    )


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
    if not refuse_some_without_ids(ids):
        for name in names[1:]:
            if sizes[name] != sizes[first]:
                raise ItemMismatchError(
                    f"{first} has {say_count(sizes[first], 'item')} and {name} has {sizes[name]}; "
                    "without ids rows are matched by position and must be equally many.",
                    ways_out=["give {ids}"],
                )
        return None, dict.fromkeys(names)
    reference = tuple(ids[first] or ())
    order: dict[str, torch.Tensor | None] = {first: None}
    for name in names[1:]:
        own = _of_kind(tuple(ids[name] or ()), reference)
        if own == reference:
            order[name] = None
            continue
        _refuse_different_items(first, reference, name, own)
        row_of = {item: row for row, item in enumerate(own)}
        order[name] = torch.tensor([row_of[item] for item in reference])
    return reference, order


def refuse_some_without_ids(ids: Mapping[str, object]) -> bool:
    """Refuse sets of which some have ids and others none; else say whether they have some."""
    without = [name for name, own in ids.items() if own is None]
    having = [name for name in ids if name not in without]
    if without and having:
        raise ItemMismatchError(
            f"{name_some(without)} {'has' if len(without) == 1 else 'have'} no ids while "
            f"{name_some(having)} {'has' if len(having) == 1 else 'have'} some.",
            ways_out=[
                _name_each(ids),
                "match rows by position with {ids='position'}",
            ],
        )
    return bool(having)


def _name_each(names: Iterable[str]) -> str:
    """The way out to give ids of each of some sets."""
    return f"name the items of each: {{ids={{{', '.join(f'{name!r}: ...' for name in names)}}}}}"


def _of_kind(own: tuple[ItemId, ...], reference: tuple[ItemId, ...]) -> tuple[ItemId, ...]:
    """The ids as the kind that the reference is of, where they are all written as whole numbers.

    A table in text doesn't say whether 7 is a number. As every whole number is written in one way,
    "7" and 7 can't be two items, neither within a set (as_ids refuses both kinds in one) nor here.
    """
    if isinstance(own[0], str) == isinstance(reference[0], str):
        return own
    if isinstance(own[0], int):
        return tuple(map(str, own)) if are_whole_numbers(reference) else own
    return tuple(map(int, own)) if are_whole_numbers(own) else own


def are_whole_numbers(ids: Sequence[object]) -> bool:
    """Whether all ids are text that is what ``str`` makes of a whole number.

    >>> are_whole_numbers(["7", "-12"]), are_whole_numbers(["007"]), are_whole_numbers(["1_000"])
    (True, False, False)
    """
    return all(isinstance(one, str) and _WHOLE_NUMBER.fullmatch(one) for one in ids)


def ids_of_text(ids: Sequence[str]) -> Sequence[ItemId]:
    """Take ids from text: whole numbers, where all of them are written as whole numbers are.

    >>> ids_of_text(["7", "12"]), ids_of_text(["7", "012"])
    ([7, 12], ['7', '012'])
    """
    return [int(one) for one in ids] if are_whole_numbers(ids) else ids


def _refuse_different_items(
    first: str, reference: tuple[ItemId, ...], name: str, own: tuple[ItemId, ...]
) -> None:
    kinds = isinstance(reference[0], str), isinstance(own[0], str)
    if kinds[0] != kinds[1]:
        kind = ("whole numbers", "strings")
        raise ItemMismatchError(
            f"the ids of {first} are {kind[kinds[0]]} and those of {name} are {kind[kinds[1]]}, "
            "which are not all written as whole numbers are; use one kind."
        )
    present, wanted = set(own), set(reference)
    missing = [item for item in reference if item not in present]
    extra = [item for item in own if item not in wanted]
    if missing or extra:
        parts = []
        if missing:
            said = say_count(len(missing), "item")
            parts.append(f"{name} lacks {said} of {first}: {name_some(missing)}")
        if extra:
            said = say_count(len(extra), "item")
            parts.append(f"{first} lacks {said} of {name}: {name_some(extra)}")
        ways_out = ["select the shared items first"]
        if isinstance(reference[0], int):
            # Whole numbers may be what is left of row numbers, and name nothing.
            ways_out = [
                _name_each((first, name)),
                *ways_out,
                "match rows by position with {ids='position'}",
            ]
        raise ItemMismatchError("; ".join(parts) + ".", ways_out=ways_out)


def say_count(count: int, noun: str) -> str:
    """Say how many there are of something.

    >>> say_count(1, "item"), say_count(3, "item")
    ('1 item', '3 items')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8, which names of files and broken texts may not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def name_some(items: Sequence[object]) -> str:
    """Name the first few of ``items`` for an error message."""
    shown = ", ".join(repr(item) for item in items[:_NAMED_AT_MOST])
    return shown + (", ..." if len(items) > _NAMED_AT_MOST else "")
