"""Numbers, seeds and choices are let in, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relspace._core.arguments import (
    check_choice,
    check_count,
    check_fraction,
    check_path,
    check_positive,
    check_random_state,
    check_resamples,
    name_some,
)
from relspace._core.limits import MOST_RESAMPLES
from relspace.errors import InvalidInputError, InvalidTypeError


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_numbers_of_any_kind_are_let_in(value: object) -> None:
    assert check_fraction(value, "c") == 0.5
    assert check_positive(value, "s") == 0.5


@pytest.mark.parametrize(
    ("check", "value", "error"),
    [
        (check_fraction, 0, InvalidInputError),
        (check_fraction, 1, InvalidInputError),
        (check_fraction, float("nan"), InvalidInputError),
        (check_fraction, "0.5", InvalidTypeError),
        (check_fraction, True, InvalidTypeError),
        (check_fraction, [0.5], InvalidTypeError),
        (check_fraction, 0.5j, InvalidTypeError),
        (check_positive, 0.0, InvalidInputError),
        (check_positive, float("inf"), InvalidInputError),
        (check_positive, None, InvalidTypeError),
        (check_count, 0, InvalidInputError),
        (check_count, 2.0, InvalidTypeError),
        (check_count, True, InvalidTypeError),
        (check_count, "3", InvalidTypeError),
        (check_count, 2**63, InvalidInputError),
        # Python refuses to write so many digits.
        pytest.param(check_count, 10**5000, InvalidInputError, id="huge0"),
        pytest.param(check_count, -(10**5000), InvalidInputError, id="huge1"),
        pytest.param(check_positive, 10**5000, InvalidInputError, id="huge2"),
        (check_positive, np.array("x"), InvalidTypeError),
        (check_positive, np.array(1j), InvalidTypeError),
        (check_positive, torch.tensor(True), InvalidTypeError),
        (check_resamples, 10_000_001, InvalidInputError),
    ],
)
def test_bad_numbers_are_named(check, value, error) -> None:
    with pytest.raises(error, match=r"^size is"):
        check(value, "size")


def test_the_largest_counts_are_let_in() -> None:
    assert check_count(2**63 - 1, "n") == 2**63 - 1
    assert check_resamples(MOST_RESAMPLES, "n") == 10_000_000
    with pytest.raises(InvalidInputError, match=r"^n is 10000001; it must be at most 10000000\."):
        check_resamples(10_000_001, "n")


@pytest.mark.parametrize("seed", [0, 7, np.int64(3), 2**63 - 1])
def test_seeds(seed: int) -> None:
    assert check_random_state(seed) == int(seed)


@pytest.mark.parametrize(
    ("seed", "error"),
    [
        (-1, InvalidInputError),
        (2**63, InvalidInputError),
        (None, InvalidTypeError),
        (1.0, InvalidTypeError),
        (True, InvalidTypeError),
        (np.random.default_rng(0), InvalidTypeError),
    ],
)
def test_bad_seeds_are_named(seed, error) -> None:
    with pytest.raises(error, match="random_state is"):
        check_random_state(seed)


def test_choices() -> None:
    assert check_choice("b", "mode", ("a", "b")) == "b"
    for value in ("c", None, 1):
        with pytest.raises(InvalidInputError, match=r"mode is .*; it must be one of a, b"):
            check_choice(value, "mode", ("a", "b"))


def test_only_some_items_are_named() -> None:
    assert name_some([1, "b"]) == "1, 'b'"
    assert name_some(range(9)) == "0, 1, 2, 3, 4, ..."


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("", InvalidInputError),
        ("a\0b", InvalidInputError),
        (float("nan"), InvalidTypeError),
        (b"x", InvalidTypeError),
    ],
)
def test_what_names_no_file_is_refused(path: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^path is"):
        check_path(path)
