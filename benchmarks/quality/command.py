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
from quality.grid import check_defaults, grid_of_matching, grid_of_measures
from quality.groups import tell_groups
from quality.layers import identify_layers
from quality.matchers import CORRECTED, MATCHERS
from quality.matching import match_networks, match_transformed
from quality.pretrained import CHOOSING, HALVES, JUDGING
from quality.results import Scores
from quality.transfer import identify_pretrained_layers, match_pretrained
from quality.tried import grid_of_tried
from quality.values import values_under_transforms
from relspace import measures
from relspace.measures import Measure

RESULTS = Path(__file__).resolve().parents[1] / "results" / "quality"
#: Measures whose order is that of another one, so that they would only double its rank.
TWINS = ("procrustes_angle", "soft_matching_distance")
#: Measures that take longer than all the others together; only where they are asked for.
SLOW = (
    *("rsa_kendall", "linear_predictivity", "target_predictivity"),
    *("crossvalidated_procrustes", "crossvalidated_cca"),
)

TASKS = (
    *("layers", "matching", "groups", "transforms", "pretrained-layers", "pretrained-matching"),
    *("hubs", "pretrained-hubs", "tried", "grid-measures", "grid-matching", "all"),
)


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
    seeds = JUDGING.seeds[:2] if quick else JUDGING.seeds
    named = chosen_measures(slow)
    runs: dict[str, Callable[[], Scores]] = {
        "layers": lambda: identify_layers(named, seeds, progress),
        "matching": lambda: match_networks(MATCHERS, seeds, progress),
        "groups": lambda: tell_groups(named, seeds, progress),
        "transforms": lambda: match_transformed(MATCHERS, seeds[0], 1 if quick else 3, progress),
        "pretrained-matching": lambda: match_pretrained(
            MATCHERS, JUDGING, 1 if quick else 3, progress
        ),
        "hubs": lambda: match_networks(CORRECTED, seeds, progress),
        "pretrained-hubs": lambda: match_pretrained(
            CORRECTED, JUDGING, 1 if quick else 3, progress
        ),
    }
    results: dict[str, Scores] = {}

    def show(name: str, table: str, content: dict[str, Any]) -> None:
        progress.done()
        sys.stdout.write(table + "\n\n")
        sys.stdout.flush()
        keep(name, content, quick)

    for name, start in runs.items():
        if task in (name, "all"):
            results[name] = start()
            show(name, results[name].table(), results[name].to_dict())
    if task in ("pretrained-layers", "all"):
        found, depth = identify_pretrained_layers(named, JUDGING, progress)
        for name, scores in (("pretrained-layers", found), ("pretrained-depth", depth)):
            show(name, scores.table(), scores.to_dict())
        results["pretrained-layers"] = found
    if task in ("transforms", "all"):
        values = values_under_transforms(named, progress)
        show("values_under_transforms", values.table(), values.to_dict())
    bars: dict[str, bool] = {}
    for which, grid in (("measures", grid_of_measures), ("matching", grid_of_matching)):
        if task not in (f"grid-{which}", "all"):
            continue
        for half in HALVES:
            settings = grid(half, progress)
            show(f"grid_{which}_{half.name}", settings.markdown(), settings.to_dict())
            if half is JUDGING:
                bars |= check_defaults(settings)
    if task == "tried":
        settings = grid_of_tried(CHOOSING, progress)
        show("tried_measures", settings.markdown(), settings.to_dict())
    if task == "all":
        bars |= report_together(results, show)
    for bar, reached in bars.items():
        sys.stdout.write(f"{'reached' if reached else 'MISSED'}: {bar}\n")
    return all(bars.values())


def report_together(
    results: dict[str, Scores], show: Callable[[str, str, dict[str, Any]], None]
) -> dict[str, bool]:
    """Show all tasks together; what is asked of the defaults beside peers, and whether it holds."""
    ranked = overall.rank_measures(
        *(results[name] for name in ("layers", "matching", "groups", "pretrained-layers"))
    )
    values = {
        name: [{"mean_rank": one.value, "standard_error": one.standard_error} for one in row]
        for name, row in ranked.items()
    }
    show("overall_measures", overall.measures_table(ranked), {"measures": values})
    matched = [results[name] for name in ("matching", "transforms", "pretrained-matching")]
    means = overall.matching_means(*matched)
    show("overall_matching", overall.matching_table(means), {"matching": means})
    below = overall.below_ridge(results["matching"], results["pretrained-matching"])
    return {
        "the default measure is first, or within one standard error of first, on the mean rank "
        "over tasks 1, 2, 3 and 5": overall.is_first(ranked),
        "the default matching beats every other one on the mean of tasks 2, 4 and 6": (
            overall.beats_all(means)
        ),
        "the default matching, which sees no pairs, is above ridge regression on each column of "
        f"tasks 2 and 6{f' (below on {below})' if below else ''}": not below,
    }


def keep(name: str, content: dict[str, Any], quick: bool) -> None:
    """Write a task's values, unless the run was a quick one."""
    if not quick:
        made_with = {"torch": str(torch.__version__), **describe_machine(1)}
        write_json(RESULTS / f"{name}.json", {**content, "made_with": made_with})
