"""The command ``relspace``: parses what is asked, calls the library, prints what it found.

torch takes a second or more to import, so whatever needs it is imported inside the commands: help,
version and wrong usage are answered at once.
"""

from relspace.cli import (
    align,
    compare,
    compare_models,
    curve,
    demo,
    embed,
    extract,
    layers,
    match,
    model,
    plot,
    rank,
    report,
    transform,
    translate,
)
from relspace.cli.group import commands

__all__ = [
    "align",
    "commands",
    "compare",
    "compare_models",
    "curve",
    "demo",
    "embed",
    "extract",
    "layers",
    "main",
    "match",
    "model",
    "plot",
    "rank",
    "report",
    "transform",
    "translate",
]


def main() -> None:
    """Run the command ``relspace``."""
    commands(prog_name="relspace")
