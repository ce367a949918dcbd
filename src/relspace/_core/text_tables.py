"""Text as it is printed: names in one line, tables laid out in columns."""

from __future__ import annotations

from collections.abc import Sequence


def one_line(text: str) -> str:
    """A text in one line: line breaks become spaces, and control characters are escaped.

    Examples
    --------
    >>> one_line("two\\nlines \\x1b[31m red")
    'two lines \\\\x1b[31m red'
    """
    shown = " ".join(text.split())
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in shown)


def text_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, of_text: bool = False
) -> list[str]:
    """Lay out columns: the first one to the left, numbers to the right, ``of_text`` all left."""
    header = [one_line(cell) for cell in header]
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i and not of_text else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]
