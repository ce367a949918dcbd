"""What a benchmark demands of the library, and what a missed demand does to the exit status."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Bar:
    """A measured value and the most that it may be.

    Attributes
    ----------
    what : str
        What was measured, with its unit or what it is divided by.
    value : float
        The value measured.
    limit : float
        The most that it may be.
    """

    what: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether the value is within the limit."""
        return self.value <= self.limit

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes by name, and whether the bar is met."""
        return asdict(self) | {"met": self.met}

    def __str__(self) -> str:
        verdict = "met" if self.met else "MISSED"
        return f"bar: {self.what} {self.value:.2f}, at most {self.limit:g}: {verdict}"


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add ``--check``, without which a benchmark that ran ends with 0, whatever it measured."""
    parser.add_argument(
        "--check", action="store_true", help="exit status 1 if a bar is missed (default: 0)"
    )


def conclude(bars: Sequence[Bar], *, check: bool) -> int:
    """Print the bars; the exit status, which is 1 only if one is missed and ``check`` is set."""
    for bar in bars:
        print(bar)
    return int(check and not all(bar.met for bar in bars))
