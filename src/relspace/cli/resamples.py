"""Options of what is drawn at random: the seed, and how many times."""

from __future__ import annotations

import click

from relspace._core.limits import LARGEST_WHOLE_NUMBER, MOST_RESAMPLES

#: How many permutations or random halves.
RESAMPLES = click.IntRange(0, MOST_RESAMPLES)

#: Gives a command ``--random-state``.
with_random_state = click.option(
    "--random-state",
    type=click.IntRange(0, LARGEST_WHOLE_NUMBER),
    default=0,
    show_default=True,
    help="Seed.",
)
