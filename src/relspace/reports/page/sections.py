"""What sections of a page hold: tables, pictures, numbers and paragraphs, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table: its caption, the titles of its columns, and rows that start with their own title.

    Attributes
    ----------
    emphasis : int, optional
        The column that the eye should find first.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    emphasis: int | None = None


@dataclass(frozen=True)
class Picture:
    """A PNG for light pages and one for dark pages, with what it shows in words."""

    caption: str
    description: str
    light: bytes
    dark: bytes


@dataclass(frozen=True)
class KeyNumber:
    """A number that the page opens with, and what it is to be read beside."""

    value: str
    title: str
    beside: str


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then pictures, then tables."""

    heading: str
    paragraphs: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
