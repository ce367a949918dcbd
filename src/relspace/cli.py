"""The command ``relspace``: parses what is asked, calls the library, prints what it found."""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relspace import __version__
from relspace.errors import InvalidInputError, RelspaceError

# torch takes a second or more to import, so whatever needs it is imported inside the commands:
# help, version and wrong usage are answered at once.
if TYPE_CHECKING:
    from relspace.features import FeatureTable

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


class _Commands(click.Group):
    """Commands whose errors are one line on stderr and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            with _warnings_in_one_line():
                return super().invoke(context)
        except BrokenPipeError:
            raise
        except (RelspaceError, OSError, MemoryError) as error:
            if context.params["debug"]:
                traceback.print_exc()
            reason = " ".join(str(error).split()) or type(error).__name__
            click.echo(f"relspace: error: {reason}", err=True)
            context.exit(EXIT_ERROR)
        except (KeyboardInterrupt, click.Abort):
            click.echo("relspace: interrupted", err=True)
            context.exit(EXIT_INTERRUPTED)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        click.echo(f"relspace: warning: {' '.join(str(message).split())}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


class _Progress:
    """Says on stderr what is being done: one changing line on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, message: str) -> None:
        start = "\r\x1b[K" if self._is_terminal else ""
        click.echo(f"{start}{message}", nl=not self._is_terminal, err=True)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def commands(debug: bool) -> None:
    """Bring features of different models into one common space and compare them there.

    Exit codes: 0 done, 2 wrong usage or input, 130 interrupted.
    """


@dataclass(frozen=True)
class _Source:
    """Where a feature set comes from, as named on the command line."""

    path: Path
    name: str | None
    key: str | None


def _parse_sources(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> list[_Source]:
    sources = []
    for value in values:
        name, equals, rest = value.partition("=")
        # A name holds no separator, so ./run=3.npy is always a path.
        if not equals or any(mark in name for mark in ("/", "\\", "::")):
            name, equals, rest = "", "", value
        path, colons, key = rest.partition("::")
        if not path or (equals and not name) or (colons and not key):
            raise click.BadParameter(f"{value!r} is not of the form [NAME=]FILE[::KEY]")
        sources.append(_Source(Path(path), name or None, key or None))
    return sources


@commands.command(short_help="Align features in files and save the common space.")
@click.argument("sources", nargs=-1, required=True, callback=_parse_sources, metavar="A B [C]...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="SPACE",
    help="File for the aligned space, ending in .safetensors.",
)
@click.option("--force", is_flag=True, help="Overwrite SPACE if it exists.")
@click.option(
    "--ids",
    "ids_from",
    multiple=True,
    metavar="[NAME=]WHERE",
    help="Where item ids are: an entry of the file, or a text file with one id in each line; "
    "for all sets, or for the one called NAME (may be repeated). "
    "Found by themselves: an entry 'ids', a column 'id' or 'ids'.",
)
@click.option(
    "--id-column",
    "columns_from",
    multiple=True,
    metavar="[NAME=]COLUMN",
    help="Column of .csv and .parquet files that holds the ids; for all of them, or for the set "
    "called NAME (may be repeated).",
)
@click.option("--by-position", is_flag=True, help="Match rows by position, whatever the ids.")
@click.option(
    "--landmarks",
    type=click.IntRange(min=3),
    default=1024,
    show_default=True,
    help="How many items rows are described by; all, if there are fewer.",
)
@click.option(
    "--density",
    type=float,
    default=0.05,
    show_default=True,
    help="Mean affinity that sigma is solved for, between 0 and 1.",
)
@click.option(
    "--normalize",
    default="center+unit",
    show_default=True,
    help="How items are normalised before the kernel.",
)
@click.option(
    "--no-standardize", is_flag=True, help="Leave the columns of the landmarks as they are."
)
@click.option("--random-state", type=int, default=0, show_default=True, help="Seed.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def align(
    sources: Sequence[_Source],
    output: Path,
    force: bool,
    ids_from: Sequence[str],
    columns_from: Sequence[str],
    by_position: bool,
    landmarks: int,
    density: float,
    normalize: str,
    no_standardize: bool,
    random_state: int,
    as_json: bool,
) -> None:
    """Align the features of two or more models, layers or brains on the same items.

    A set is [NAME=]FILE[::KEY]. FILE ends in .npy, .npz, .pt, .pth, .safetensors, .h5, .hdf5,
    .csv or .parquet and holds one row for each item. KEY picks an entry when the file holds
    several matrices. NAME is what the set is called, otherwise the file's name.

    Rows are matched by their ids where files bring some, otherwise by position.

    \b
    relspace align dino.npy clip.npy -o space.safetensors
    relspace align dino=a.h5::block11 clip=b.npz::layer_6 -o space.safetensors
    relspace align a.csv b.parquet --id-column image -o space.safetensors --json
    """
    named = _named(sources)
    _check_output(output, [source.path for source in sources], force)
    own_ids, all_ids = _places_of_ids("--ids", ids_from, list(named))
    own_columns, all_columns = _places_of_ids("--id-column", columns_from, list(named))
    with _Progress() as progress:
        progress("Loading torch")
        import relspace
        from relspace.features import is_table_file, read_features

        is_table = {name: is_table_file(source.path) for name, source in named.items()}
        if all_columns is not None and not any(is_table.values()):
            raise InvalidInputError("--id-column is for .csv and .parquet files, and none is given")
        tables: dict[str, FeatureTable] = {}
        for name, source in named.items():
            progress(f"Reading {source.path}")
            # What is said of one set goes before what is said of all.
            ids_here, column = own_ids.get(name), own_columns.get(name)
            if ids_here is None and column is None:
                ids_here, column = all_ids, all_columns if is_table[name] else None
            tables[name] = read_features(
                source.path, key=source.key, ids=ids_here, id_column=column
            )
        ids = None if by_position else _shared_ids(tables)
        progress(f"Aligning {len(tables)} sets")
        space = relspace.align(
            {name: table.features for name, table in tables.items()},
            ids=ids,
            landmarks=landmarks,
            density=density,
            normalize=normalize,
            standardize=not no_standardize,
            random_state=random_state,
        )
        progress("Comparing sets")
        summary = space.summary()
        progress(f"Saving {output}")
        space.save(output)
    summary |= {"files": _files(tables), "output": str(output)}
    click.echo(json.dumps(summary, indent=2) if as_json else _align_report(summary))


@commands.command(short_help="Align two networks on real images, offline.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("relspace-demo"),
    show_default=True,
    metavar="FOLDER",
    help="Folder for the figure, the numbers and the report; files of these names are replaced.",
)
@click.option("--random-state", type=int, default=0, show_default=True, help="Seed.")
def demo(output: Path, random_state: int) -> None:
    """Align two networks trained on handwritten digits, offline, in half a minute.

    A small CNN and a small vision transformer see the same digits. The table says how often an
    item of one network finds itself in the other: before alignment, after it, and by chance.
    """
    with _Progress() as progress:
        progress("Loading torch")
        from relspace.demo.study import run_demo, summary_table

        summary = run_demo(output, random_state=random_state, progress=progress)
    click.echo(summary_table(summary))
    click.echo(f"\nReport: {output / 'report.html'}")


def _named(sources: Sequence[_Source]) -> dict[str, _Source]:
    """Give every set a name of its own: the one given, or the file's, or the file's and key."""
    if len(sources) < 2:
        raise click.UsageError("name two sets or more")
    names = [source.name or source.path.stem for source in sources]
    counts = Counter(names)
    for i, source in enumerate(sources):
        if counts[names[i]] > 1 and source.name is None and source.key is not None:
            names[i] = f"{source.path.stem}::{source.key}"
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise click.UsageError(
            f"{count} sets are called {name!r}: name them, as in first={sources[0].path}"
        )
    return dict(zip(names, sources, strict=True))


def _check_output(output: Path, inputs: Sequence[Path], force: bool) -> None:
    """Refuse an output that can't or mustn't be written before any work is done."""
    if output.suffix != ".safetensors":
        raise InvalidInputError(f"a space is saved as .safetensors, and {output} is not named so")
    if output.is_dir():
        raise InvalidInputError(f"{output} is a folder; name a file for the space")
    if not output.absolute().parent.is_dir():
        raise InvalidInputError(f"there is no folder {output.parent} to save {output.name} in")
    if not os.access(output.absolute().parent, os.W_OK):
        raise InvalidInputError(f"{output.parent} can't be written to")
    if not output.exists():
        return
    if any(path.exists() and path.samefile(output) for path in inputs):
        raise InvalidInputError(f"{output} is one of the inputs; name another file for the space")
    if not force:
        raise InvalidInputError(f"{output} exists; overwrite it with --force or name another file")


def _places_of_ids(
    option: str, values: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, str], str | None]:
    """Split values of the form [NAME=]VALUE into those for one set and the one for all."""
    own: dict[str, str] = {}
    for_all: str | None = None
    for value in values:
        name, _, where = value.partition("=")
        if name in names and where:
            if name in own:
                raise click.UsageError(f"{option} is given twice for {name!r}")
            own[name] = where
        elif for_all is not None:
            raise click.UsageError(
                f"{option} {for_all} and {option} {value} are both for all sets: begin one with "
                f"NAME=, where NAME is one of {', '.join(names)}"
            )
        else:
            for_all = value
    return own, for_all


def _shared_ids(tables: Mapping[str, FeatureTable]) -> dict[str, tuple[str, ...]] | None:
    found = {name: table.ids for name, table in tables.items() if table.ids is not None}
    without = [name for name in tables if name not in found]
    if found and without:
        raise InvalidInputError(
            f"there are ids for {', '.join(found)} and none for {', '.join(without)}: say where "
            "they are with --ids or --id-column, or match rows by position with --by-position"
        )
    return found or None


def _files(tables: Mapping[str, FeatureTable]) -> dict[str, dict[str, str | None]]:
    return {name: {"path": str(table.source), "key": table.key} for name, table in tables.items()}


def _align_report(summary: Mapping[str, Any]) -> str:
    sets = [
        (
            name,
            f"{one['n_items']} x {one['n_features']}",
            f"{one['sigma']:.4g}",
            f"{one['density']:.4g}",
        )
        for name, one in summary["sets"].items()
    ]
    pairs = [
        (
            f"{pair['from']} -> {pair['to']}",
            f"{pair['match_accuracy']:.4f}",
            f"{pair['match_chance']:.4f}",
            f"{pair['distance']:.4f}",
            f"{pair['distance_chance']:.4f}",
        )
        for pair in summary["pairs"]
    ]
    n_matched = summary["pairs"][0]["n_items_matched"]
    return "\n".join(
        [
            *_table(("set", "items x features", "sigma", "density"), sets),
            "",
            *_table(("pair", "top-1 match", "chance", "distance", "chance"), pairs),
            "",
            f"{summary['n_items']} items matched by {summary['matched_by']}, "
            f"{summary['n_landmarks']} of them landmarks; top-1 match among {n_matched} items",
            f"Space saved to {summary['output']}",
        ]
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out columns: the first one to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def main() -> None:
    """Run the command ``relspace``."""
    commands(prog_name="relspace")
