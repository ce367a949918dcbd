"""Try all hostile cases and print how many were refused by name and how many answered rightly.

    python -m tests.hostile

The table of docs/reliability.md. Ends with exit code 1 if a case is wrong.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.cases import Tried, try_case
from tests.hostile.commands import command_cases, try_command, write_inputs
from tests.hostile.test_library import SUITES

_TITLES = {
    "features": "features of odd kinds, types and scales, by every function that takes some",
    "measures": "features of odd scales and types, by every measure",
    "parameters": "parameters out of range",
    "shapes": "too few items, no spread, sets that don't fit together",
    "items": "ids doubled, mixed, missing, of other items",
    "mappings": "layers and models that are none",
    "files": "files missing, damaged, of other kinds",
    "outputs": "locations that can't be written to",
    "commands": "commands: files, options, names",
}


def main() -> int:
    """Print the table and whatever is wrong."""
    warnings.simplefilter("ignore")
    counts: dict[str, Counter[str]] = {name: Counter() for name in _TITLES}
    wrong = []
    for suite, name, tried in _all_tried():
        counts[suite][tried.outcome] += 1
        if tried.outcome == "wrong":
            wrong.append(f"{name}: {tried.why}")
    print("| hostile input | tried | refused by name | answered rightly | wrong |")
    print("|---|---|---|---|---|")
    total: Counter[str] = Counter()
    for suite, found in counts.items():
        print(_line(_TITLES[suite], found))
        total += found
    print(_line("**all**", total))
    for one in wrong:
        print(one, file=sys.stderr)
    return 1 if wrong else 0


def _line(title: str, found: Counter[str]) -> str:
    outcomes = ("refused by name", "right value", "wrong")
    return f"| {title} | {found.total()} | {' | '.join(str(found[one]) for one in outcomes)} |"


def _all_tried() -> Iterator[tuple[str, str, Tried]]:
    for suite, cases in SUITES.items():
        for case in cases():
            with tempfile.TemporaryDirectory() as folder:
                yield suite, str(case), try_case(case, Path(folder))
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder))
        os.chdir(folder)
        for command in command_cases():
            yield "commands", str(command), try_command(command, Path(folder))
        os.chdir(before)


if __name__ == "__main__":
    sys.exit(main())
