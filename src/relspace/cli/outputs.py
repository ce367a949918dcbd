"""Files that commands write: refused before any work where they can't or mustn't be written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from relspace.errors import InvalidInputError
from relspace.rows.locations import check_new_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What figures can be written as, by the ending of the file.
FIGURES: dict[str, Literal["png", "pdf", "svg"]] = {".png": "png", ".pdf": "pdf", ".svg": "svg"}


def check_output(
    output: Path,
    *,
    what: str,
    endings: Sequence[str],
    force: bool,
    inputs: Iterable[str | Path] = (),
    called: str = "--output",
) -> None:
    """Refuse what :func:`check_new_file` refuses, and a folder that isn't there."""
    check_new_file(
        output, what=what, endings=endings, overwrite=force, inputs=inputs, called=called
    )
    if not output.absolute().parent.is_dir():
        raise InvalidInputError(f"there is no folder {output.parent} to write {output.name} in")


def check_page(page: Path, *, force: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse a page that can't or mustn't be written; see :func:`check_output`."""
    check_output(page, what="a report", endings=[".html", ".htm"], force=force, inputs=inputs)


def said_of_page(page: Path) -> str:
    """Say where a page is and how large it became."""
    return f"Report: {page} ({page.stat().st_size / 1e6:.1f} MB)"


def write_figure(axes: Axes, output: Path) -> None:
    """Write what a ``plot`` method drew in the format that the file's ending names."""
    from relspace._core.files import write_whole
    from relspace.pictures.theme import axes_bytes

    write_whole(output, axes_bytes(axes, FIGURES[output.suffix.lower()]))


@contextmanager
def printed_in_any_case(result: str) -> Iterator[None]:
    """Print the result even if writing a picture or a page of it fails."""
    try:
        yield
    except Exception:
        click.echo(result)
        raise
