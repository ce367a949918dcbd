"""Options that several commands share, each written once, and what their values become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from relspace._core.limits import (
    DEFAULT_ALPHA,
    DEFAULT_PERMUTATIONS,
    LARGEST_WHOLE_NUMBER,
    MOST_RESAMPLES,
)
from relspace.cli.group import Progress
from relspace.errors import InvalidInputError

Command = TypeVar("Command", bound=Callable[..., Any])

#: How many permutations or random halves.
RESAMPLES = click.IntRange(0, MOST_RESAMPLES)


def give_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """Give a command some options, in the order in which help lists them."""
    for option in reversed(options):
        command = option(command)
    return command


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Make one decorator of several options, in the order in which help lists them."""
    return lambda command: give_options(command, options)


def refuse_same_names(names: Sequence[str], what: str, example: str) -> None:
    """Refuse sets or models of which several have one name."""
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise click.UsageError(
            f"{count} {what} are called {name!r}: name them, as in first={example}"
        )


def parse_bytes(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> int | None:
    """Read a number of bytes, such as 1.5GiB, 800M or 1000000."""
    if value is None:
        return None
    from relspace._core.resources import parse_bytes as bytes_of

    try:
        return bytes_of(value, "the value")
    except InvalidInputError as error:
        raise click.BadParameter(error.message) from error


def with_memory_budget(said: str) -> Callable[[Command], Command]:
    """Give a command the option of a number of bytes, and say what they are for."""
    return click.option("--memory-budget", callback=parse_bytes, metavar="BYTES", help=said)


def with_force(what: str) -> Callable[[Command], Command]:
    """Give a command the option to overwrite what it writes."""
    return click.option("--force", is_flag=True, help=f"Overwrite {what} if it exists.")


def with_pool(*further: str, said: str = "") -> Callable[[Command], Command]:
    """Give a command the option of pooling tokens: "mean", "class" and further ways."""
    return click.option(
        "--pool",
        type=click.Choice(["mean", "class", *further]),
        default="mean",
        show_default=True,
        help=f"How an image's tokens in a feature store become one row{said}.",
    )


with_random_state = click.option(
    "--random-state",
    type=click.IntRange(0, LARGEST_WHOLE_NUMBER),
    default=0,
    show_default=True,
    help="Seed.",
)
with_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
with_by_position = click.option(
    "--by-position", is_flag=True, help="Match rows by position, whatever the ids."
)
with_measure = click.option(
    "--measure",
    default="affinity",
    show_default=True,
    help="What layers are compared by; relspace compare --list-measures shows all.",
)
with_dissimilarities = click.option(
    "--dissimilarities",
    is_flag=True,
    help="The files hold dissimilarities of the items (.npy, .mat::VARIABLE, .h5 of rsatoolbox), "
    "which RSA measures compare as they are, matched by position.",
)
with_permutations = click.option(
    "--permutations",
    type=RESAMPLES,
    default=DEFAULT_PERMUTATIONS,
    show_default=True,
    help="How many permutations of the items make the null distribution, and so the p-values.",
)
with_alpha = click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=DEFAULT_ALPHA,
    show_default=True,
    help="Level of the test that calibrated scores are of: 0 where p is above it, 1 for identical "
    "sets.",
)
with_resume = click.option(
    "--resume",
    type=click.Choice(["identified", "trust"]),
    default="identified",
    show_default=True,
    help="Whether an output is resumed only where its input is known to be the same by content "
    "or etag, or also where that can't be known, because you say so.",
)


def with_scheduler(*, do: str = "Run", reach: str) -> Callable[[Command], Command]:
    """Give a command the option of a cluster, on which it does something with what it reaches."""
    return click.option(
        "--scheduler",
        metavar="ADDRESS",
        help=f"{do} on the Dask cluster whose scheduler is there (tcp://host:8786); its workers "
        f"must reach {reach} under the same paths.",
    )


@contextmanager
def cluster_at(scheduler: str | None, progress: Progress) -> Iterator[Any]:
    """Be connected to the cluster at an address; None where there is none."""
    if scheduler is None:
        yield None
        return
    from relspace.rows.dask import connect

    progress.step(f"Connecting to {scheduler}")
    with connect(scheduler) as client:
        yield client


#: How features that may be larger than memory are compared.
with_comparison = together(
    with_permutations,
    with_alpha,
    click.option(
        "--max-items",
        type=click.IntRange(min=4),
        metavar="N",
        help="Compare a random part of the items, of this many at most; all by default.",
    ),
    with_memory_budget(
        "What features on disk may take, such as 2GiB; beyond, they are read in blocks and summed "
        "over."
    ),
    with_random_state,
    with_scheduler(do="Sum over the items", reach="the files"),
    with_json,
)

#: What an interactive page holds, and where it goes.
with_page = together(
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("report.html"),
        show_default=True,
        metavar="PAGE",
        help="The HTML file.",
    ),
    click.option("--title", help="What the page is called."),
    click.option(
        "--n-images",
        type=click.IntRange(min=1),
        default=16,
        show_default=True,
        help="How many images are explored, where there are tokens of images; the first ones.",
    ),
    with_permutations,
)
