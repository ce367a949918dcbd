"""Small HTML tables by which notebooks show spaces, feature sets and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_PADDING = "padding: 0 0.5em"
_SHADE = "rgba(11, 92, 173, {:.2f})"
_STRONGEST = 0.45


def html_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    note: str = "",
    shades: Sequence[Sequence[float]] | None = None,
) -> str:
    """Lay a table out as HTML that inherits the colours of the page; all text is escaped.

    Floats are shown to four digits, None as nothing. ``shades`` in [0, 1] say how strongly each
    cell but the first of a row is shaded.

    Examples
    --------
    >>> ">0.3333</td>" in html_table("T", ["", "x"], [["a", 1 / 3]])
    True
    """
    head = "".join(
        f"<th style='text-align: {'right' if number else 'left'}; {_PADDING}'>{escape(one)}</th>"
        for number, one in enumerate(columns)
    )
    body = []
    for number, (first, *others) in enumerate(rows):
        cells = [
            f"<th style='text-align: left; font-weight: normal; {_PADDING}'>{_text(first)}</th>"
        ]
        for column, cell in enumerate(others):
            style = f"text-align: right; {_PADDING}"
            if shades is not None:
                style += f"; background: {_SHADE.format(_STRONGEST * shades[number][column])}"
            cells.append(f"<td style='{style}'>{_text(cell)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    below = f"<div style='opacity: 0.75'>{escape(note)}</div>" if note else ""
    return (
        f"<div><div style='font-weight: 600'>{escape(title)}</div>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>{below}</div>"
    )


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return escape(f"{cell:.4g}" if isinstance(cell, float) else str(cell))
