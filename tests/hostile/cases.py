"""What a hostile case is, how it is tried, and what counts as refused by name."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from relspace.errors import RelspaceError

#: What became of a case.
Outcome = Literal["refused by name", "right value", "wrong"]

#: Words of other libraries' own errors, which tell a user nothing.
_RAW = (
    *("aten::", "TORCH_CHECK", "Traceback", "object at 0x", "c10::", "numpy.core"),
    *("could not broadcast", "not supported between", "has no attribute", "unexpected keyword"),
)
_LONGEST = 800


@dataclass(frozen=True)
class Case:
    """One hostile call.

    Attributes
    ----------
    name : str
        What is hostile about it.
    area : str
        The function or command.
    call : callable
        Gets what ``given`` made and an empty folder.
    given : callable
        Makes the input anew; it must be the same after the call as before.
    words : sequence of str
        Where the call must be refused: what the message must say. Empty where it must be answered.
    expected : callable, optional
        Where it must be answered: makes the right value, an array.
    tolerance : float
        How far the value may be from the right one, absolutely and relatively.
    """

    name: str
    area: str
    call: Callable[[Any, Path], object]
    given: Callable[[], Any] = field(default=lambda: None)
    words: Sequence[str] = ()
    expected: Callable[[], object] | None = None
    tolerance: float = 1e-5

    def __str__(self) -> str:
        return f"{self.area}: {self.name}"


@dataclass(frozen=True)
class Tried:
    """What became of a case, and why it is wrong if it is."""

    outcome: Outcome
    why: str = ""


def try_case(case: Case, folder: Path) -> Tried:
    """Call, and say whether it was refused by name, or answered by the right value."""
    given = case.given()
    before = _digest(given)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = case.call(given, folder)
    except Exception as error:
        problem = _problem_of_refusal(case, error)
        if problem is None and before is not None and _digest(given) != before:
            problem = "the input was changed"
        left = sorted(path.name for path in folder.iterdir())
        if problem is None and left:
            problem = f"files were left: {left}"
        return Tried("wrong", problem) if problem else Tried("refused by name")
    if case.expected is None:
        return Tried("wrong", f"was answered: {_shown(found)}")
    if before is not None and _digest(given) != before:
        return Tried("wrong", "the input was changed")
    return _compared(found, case.expected(), case.tolerance)


def _problem_of_refusal(case: Case, error: Exception) -> str | None:
    message = str(error)
    said = f"{type(error).__name__}: {message}"
    if case.expected is not None:
        return f"was refused: {said}"
    if not isinstance(error, RelspaceError | FileNotFoundError | FileExistsError):
        return f"a raw error: {said}"
    missing = [word for word in case.words if word.lower() not in message.lower()]
    if missing:
        return f"the message lacks {missing}: {said}"
    raw = [word for word in _RAW if word in message]
    if raw:
        return f"the message holds {raw}: {said}"
    if "\n" in message or len(message) > _LONGEST:
        return f"the message is not one readable line: {said}"
    return None


def _compared(found: object, right: object, tolerance: float) -> Tried:
    ours, theirs = (np.asarray(_array(one), dtype=np.float64) for one in (found, right))
    if ours.shape != theirs.shape:
        return Tried("wrong", f"has shape {ours.shape}, and {theirs.shape} is right")
    if not np.isfinite(ours).all() and np.isfinite(theirs).all():
        return Tried("wrong", "holds values that are not finite")
    apart = np.abs(ours - theirs) - tolerance * (1 + np.abs(theirs))
    worst = float(np.nanmax(apart, initial=-np.inf))
    if worst > 0:
        off = float(np.nanmax(np.abs(ours - theirs)))
        return Tried("wrong", f"is off by {off:.3g}")
    return Tried("right value")


def _array(value: object) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().double().cpu().numpy()
    return value


def _digest(value: object) -> str | None:
    """A hash of what an input holds; None where it can't be read twice."""
    with contextlib.suppress(Exception):
        return hashlib.sha256(_bytes(value)).hexdigest()
    return None


def _bytes(value: object) -> bytes:
    if isinstance(value, np.ma.MaskedArray):
        return value.data.tobytes() + np.ma.getmaskarray(value).tobytes()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return repr(value.tolist()).encode()
        return str((value.dtype, value.shape, value.flags.writeable)).encode() + value.tobytes()
    if isinstance(value, torch.Tensor):
        about = str((value.dtype, tuple(value.shape), value.requires_grad)).encode()
        return about + value.detach().contiguous().view(torch.uint8).numpy().tobytes()
    if isinstance(value, Mapping):
        return b"".join(repr(key).encode() + _bytes(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return b"".join(_bytes(one) for one in value)
    return repr(value).encode()


def _shown(value: object) -> str:
    return " ".join(repr(value).split())[:120]
