"""Feature sets as named on the command line: which file, which entry, where the ids are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from relspace.cli.group import Progress
from relspace.cli.options import refuse_same_names, together, with_by_position
from relspace.errors import InvalidInputError

if TYPE_CHECKING:
    from relspace._core.items import ItemId
    from relspace.features import FeatureTable
    from relspace.space.base import CommonSpace


@dataclass(frozen=True)
class Source:
    """Where a feature set comes from, as named on the command line."""

    location: str
    name: str | None
    key: str | None

    @property
    def path(self) -> Path:
        """The path, also of a ``file://`` URL; of other URLs only the last part has a meaning."""
        return Path(self.location.removeprefix("file://"))


def parse_sources(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> list[Source]:
    """Read arguments of the form [NAME=]FILE[::KEY]."""
    sources = []
    for value in values:
        name, equals, rest = value.partition("=")
        # A name holds no separator, so ./run=3.npy is always a path.
        if not equals or any(mark in name for mark in ("/", "\\", "::")):
            name, equals, rest = "", "", value
        path, colons, key = rest.partition("::")
        if not path or (equals and not name) or (colons and not key):
            raise click.BadParameter(f"{value!r} is not of the form [NAME=]FILE[::KEY]")
        sources.append(Source(path, name or None, key or None))
    return sources


def saved_space(sources: Sequence[Source]) -> CommonSpace | None:
    """The saved space that a single argument names; None where it names features."""
    if len(sources) > 1 or sources[0].key is not None:
        return None
    from relspace.space.align import is_saved_space, load_space

    path = sources[0].path
    return load_space(path) if is_saved_space(path) else None


with_ids = together(
    click.option(
        "--ids",
        "ids_from",
        multiple=True,
        metavar="[NAME=]WHERE",
        help="Where item ids are: an entry of the file, or a text file with one id in each "
        "line; for all sets, or for the one called NAME (may be repeated). "
        "Found by themselves: an entry 'ids', a column 'id' or 'ids', those of a store.",
    ),
    click.option(
        "--id-column",
        "columns_from",
        multiple=True,
        metavar="[NAME=]COLUMN",
        help="Column of tables (.csv, .parquet, .arrow, .jsonl) that holds the ids; for all of "
        "them, or for the set called NAME (may be repeated).",
    ),
    with_by_position,
)


def named_sources(sources: Sequence[Source], *, at_least: int = 2) -> dict[str, Source]:
    """Give every set a name of its own: the one given, or the file's, or the file's and key."""
    if len(sources) < at_least:
        raise click.UsageError("name two sets or more")
    names = [source.name or source.path.stem for source in sources]
    counts = Counter(names)
    for i, source in enumerate(sources):
        if counts[names[i]] > 1 and source.name is None and source.key is not None:
            names[i] = f"{source.path.stem}::{source.key}"
    refuse_same_names(names, "sets", sources[0].location)
    return dict(zip(names, sources, strict=True))


def read_sets(
    sources: Mapping[str, Source],
    ids_from: Sequence[str],
    columns_from: Sequence[str],
    by_position: bool,
    progress: Progress,
    *,
    in_parts: bool = False,
    on_missing: str | None = None,
) -> tuple[dict[str, FeatureTable], dict[str, tuple[ItemId, ...]] | Literal["position"] | None]:
    """Read named sets and the ids of their rows, as ``ids`` of :func:`relspace.align` takes them.

    With ``in_parts``, files that can be read in parts are opened only.
    """
    own_ids, all_ids = option_by_set("--ids", ids_from, list(sources))
    own_columns, all_columns = option_by_set("--id-column", columns_from, list(sources))
    progress.step("Loading torch")
    from relspace.features import is_table_file, read, scan_table
    from relspace.rows.registry import listed_tables

    open_table = scan_table if in_parts else read
    is_table = {name: is_table_file(source.path) for name, source in sources.items()}
    if all_columns is not None and not any(is_table.values()):
        raise InvalidInputError(f"--id-column is for {listed_tables()} files, and none is given")
    tables: dict[str, FeatureTable] = {}
    for name, source in sources.items():
        progress.step(f"Reading {source.location}")
        # What is said of one set goes before what is said of all.
        ids_here, column = own_ids.get(name), own_columns.get(name)
        if ids_here is None and column is None:
            ids_here, column = all_ids, all_columns if is_table[name] else None
        tables[name] = open_table(source.location, key=source.key, ids=ids_here, id_column=column)
    if by_position:
        return tables, "position"
    ids = _shared_ids(tables, on_missing)
    if ids is None:
        _refuse_other_items(tables)
    return tables, ids


def option_by_set(
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


def _shared_ids(
    tables: Mapping[str, FeatureTable], on_missing: str | None
) -> dict[str, tuple[ItemId, ...]] | None:
    from relspace._core.pairing import pair_items

    ids = {name: table.ids for name, table in tables.items()}
    sizes = {name: table.n_items for name, table in tables.items()}
    # Checked here, so that errors use the names of the command line.
    pair_items(sizes, ids, on_missing)
    return {name: own for name, own in ids.items() if own is not None} or None


def _refuse_other_items(tables: Mapping[str, FeatureTable]) -> None:
    """Refuse rows that are matched by position and are known to be of different items."""
    from relspace._core.pairing import pair_sets

    known = {name: table.contents for name, table in tables.items() if table.contents is not None}
    if known:
        sizes = {name: len(contents.digests) for name, contents in known.items()}
        pair_sets(sizes, dict.fromkeys(known), known)


def read_labels(path: Path) -> list[str]:
    """Read a text file with the label of a group in each line."""
    if not path.is_file():
        raise InvalidInputError(f"there is no file {path} with group labels")
    from relspace.rows.registry import lines_of

    return lines_of(path, "label")


def rows_of(table: FeatureTable, pool: str) -> object:
    """The features as one matrix; of a feature store one row for each image."""
    from relspace.features import FeatureSet

    features = table.features
    if not isinstance(features, FeatureSet):
        return features
    pooled = features if features.grid is None else features.pool(pool)
    return pooled[pooled.layers[0]]


def load_dissimilarities(named: Mapping[str, Source]) -> dict[str, object]:
    """Load the files as matrices of dissimilarities."""
    from relspace.measures.dissimilarities import Dissimilarities

    return {
        name: Dissimilarities.load(source.path, key=source.key) for name, source in named.items()
    }


def files(tables: Mapping[str, FeatureTable]) -> dict[str, dict[str, str | None]]:
    """Say which file and entry each set came from, ready for JSON."""
    return {name: {"path": str(table.source), "key": table.key} for name, table in tables.items()}
