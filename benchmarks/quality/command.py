"""The benchmark's command line: which tasks, how much of them, tables and JSON."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from _bars import add_check
from _measure import describe_machine, write_json
from quality import overall
from quality.grid import grid_of_matching, grid_of_measures
from quality.groups import tell_groups
from quality.layers import identify_layers
from quality.matchers import MATCHERS
from quality.matching import match_networks, match_transformed
from quality.results import Scores
from quality.values import values_under_transforms
from relspace import measures
from relspace.measures import Measure

RESULTS = Path(__file__).resolve().parents[1] / "results" / "quality"
#: Measures whose order is that of another one, so that they would only double its rank.
TWINS = ("procrustes_angle",)
#: Measures that take longer than all the others together; only where they are asked for.
SLOW = ("rsa_kendall", "linear_predictivity")

TASKS = ("layers", "matching", "groups", "transforms", "grid", "all")


class Progress:
    """One line on standard error that is written over, or nothing where nobody would see it."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, what: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{time.monotonic() - self._start:4.0f} s  {what}")
            sys.stderr.flush()

    def done(self) -> None:
        """Clear the line."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")


def chosen_measures(slow: bool) -> dict[str, Measure]:
    """The measures that are compared, by name."""
    left_out = {*TWINS, *(() if slow else SLOW)}
    return {
        one.name: one for one in map(measures.get, measures.names()) if one.name not in left_out
    }


def main() -> None:
    """Run tasks, print their tables and write their values."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=TASKS, default="all", help="which one (default: all)")
    parser.add_argument("--quick", action="store_true", help="two or three seeds; nothing written")
    parser.add_argument("--slow", action="store_true", help=f"also {' and '.join(SLOW)}")
    add_check(parser)
    arguments = parser.parse_args()
    # Sums over several threads depend on how many there are; one gives the same anywhere.
    torch.set_num_threads(1)
    passed = run(arguments.task, quick=arguments.quick, slow=arguments.slow)
    raise SystemExit(int(arguments.check and not passed))


def run(task: str, *, quick: bool, slow: bool = False) -> bool:
    """Run one task or all; whether the bars that could be looked at are reached."""
    progress = Progress()
    n_seeds = 2 if quick else 5
    named = chosen_measures(slow)
    runs: dict[str, Callable[[], Scores]] = {
        "layers": lambda: identify_layers(named, n_seeds, progress),
        "matching": lambda: match_networks(MATCHERS, n_seeds, progress),
        "groups": lambda: tell_groups(named, n_seeds, progress),
        "transforms": lambda: match_transformed(MATCHERS, 1 if quick else 3, progress),
    }
    results: dict[str, Scores] = {}
    for name, start in runs.items():
        if task in (name, "all"):
            results[name] = start()
            progress.done()
            show(results[name].table())
            keep(name, results[name].to_dict(), quick)
    if task in ("transforms", "all"):
        values = values_under_transforms(named, progress)
        progress.done()
        show(values.table())
        keep("values_under_transforms", values.to_dict(), quick)
    if task in ("grid", "all"):
        for which, grid in (("measures", grid_of_measures), ("matching", grid_of_matching)):
            table = grid(2, progress)
            progress.done()
            show(table.markdown())
            keep(f"grid_{which}", table.to_dict(), quick)
    return task != "all" or report_bars(results, quick)


def report_bars(results: dict[str, Scores], quick: bool) -> bool:
    """Show all tasks together, and say whether the bars are reached."""
    ranked = overall.rank_measures(results["layers"], results["matching"], results["groups"])
    means = overall.matching_means(results["matching"], results["transforms"])
    show(overall.measures_table(ranked))
    show(overall.matching_table(means))
    bars = {
        "the default measure is first, or within one standard error of first, on the mean rank "
        "over tasks 1 to 3": overall.is_first(ranked),
        "the default matching beats every other one on the mean of tasks 2 and 4": (
            overall.beats_all(means)
        ),
    }
    for bar, reached in bars.items():
        sys.stdout.write(f"{'reached' if reached else 'MISSED'}: {bar}\n")
    keep(
        "overall",
        {
            "measures": {
                name: [
                    {"mean_rank": one.value, "standard_error": one.standard_error} for one in row
                ]
                for name, row in ranked.items()
            },
            "matching": means,
            "bars": bars,
        },
        quick,
    )
    return all(bars.values())


def show(table: str) -> None:
    """Print a table."""
    sys.stdout.write(table + "\n\n")
    sys.stdout.flush()


def keep(name: str, content: dict[str, Any], quick: bool) -> None:
    """Write a task's values, unless the run was a quick one."""
    if not quick:
        made_with = {"torch": str(torch.__version__), **describe_machine(1)}
        write_json(RESULTS / f"{name}.json", {**content, "made_with": made_with})
