"""Files that commands write: refused before any work where they can't or mustn't be written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from relspace._core.files import check_writable
from relspace.errors import InvalidInputError
from relspace.rows.locations import refuse_inputs


def check_output(
    output: Path,
    *,
    what: str,
    endings: Sequence[str],
    force: bool,
    inputs: Iterable[str | Path] = (),
) -> None:
    """Refuse, before any work, a file that can't or mustn't be written.

    ``what`` names the content in errors. The file may not be one of ``inputs``, nor lie in one.
    """
    if output.suffix.lower() not in endings:
        raise InvalidInputError(
            f"{what} is saved as {', '.join(endings)}, and {output} is not named so"
        )
    if output.is_dir():
        raise InvalidInputError(f"{output} is a folder; name a file for {what}")
    if not output.absolute().parent.is_dir():
        raise InvalidInputError(f"there is no folder {output.parent} to write {output.name} in")
    refuse_inputs(output, inputs, called="--output")
    try:
        check_writable(output)
    except OSError as error:
        raise InvalidInputError(f"{output} {error.strerror}") from error
    if output.exists() and not force:
        raise InvalidInputError(f"{output} exists; overwrite it with --force or name another file")


def check_page(page: Path, *, force: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse a page that can't or mustn't be written; see :func:`check_output`."""
    check_output(page, what="a report", endings=[".html", ".htm"], force=force, inputs=inputs)


def said_of_page(page: Path) -> str:
    """Say where a page is and how large it became."""
    return f"Report: {page} ({page.stat().st_size / 1e6:.1f} MB)"


@contextmanager
def printed_in_any_case(result: str) -> Iterator[None]:
    """Print the result even if writing a picture or a page of it fails."""
    try:
        yield
    except Exception:
        click.echo(result)
        raise
