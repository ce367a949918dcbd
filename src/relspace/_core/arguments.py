"""Arguments of functions: numbers, counts, seeds, paths and choices, refused by name."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch

from relspace._core.limits import LARGEST_WHOLE_NUMBER, MOST_RESAMPLES
from relspace.errors import InvalidInputError, InvalidTypeError

#: The smallest mean affinity that can be asked for.
SMALLEST_DENSITY = 1e-30
#: How many of many things errors name.
NAMED_AT_MOST = 5


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


def check_positive(value: object, name: str) -> float:
    """Refuse anything but a finite number above 0."""
    number = check_number(value, name)
    if not (number > 0.0 and math.isfinite(number)):
        raise InvalidInputError(f"{name} is {value}; it must be a finite number above 0.")
    return number


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


def _say_whole(number: int) -> str:
    # Python refuses to write numbers of thousands of digits.
    size = number.bit_length()
    return str(number) if size <= 128 else f"a whole number of {size} bits"


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
    """Find the allowed names that an unknown name may stand for, nearest first.

    Case, spaces, hyphens and underscores make no difference. ``aliases`` are other names in use,
    with the allowed ones that they stand for.

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


def check_path(path: object) -> None:
    """Refuse anything but the path of a file or folder, as text or a path object."""
    if not isinstance(path, str | Path):
        raise InvalidTypeError(f"path is {path!r}; it must be a string or a pathlib.Path.")
    if not str(path) or "\0" in str(path):
        raise InvalidInputError(f"path is {path!r}, which names no file.")


def say_count(count: int, noun: str) -> str:
    """Say how many there are of something.

    >>> say_count(1, "item"), say_count(3, "item")
    ('1 item', '3 items')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def name_some(items: Sequence[object]) -> str:
    """Name the first few of ``items`` for an error message."""
    shown = ", ".join(repr(item) for item in items[:NAMED_AT_MOST])
    return shown + (", ..." if len(items) > NAMED_AT_MOST else "")
