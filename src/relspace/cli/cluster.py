"""The cluster that a command runs on: its option, and the connection while it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from relspace.cli.group import Progress

_Command = TypeVar("_Command", bound=Callable[..., Any])


def with_scheduler(*, do: str = "Run", reach: str) -> Callable[[_Command], _Command]:
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
