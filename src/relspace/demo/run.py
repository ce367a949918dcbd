"""The demo: the digits study, its numbers, its figure and its page."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from relspace import __version__
from relspace._core.files import write_whole
from relspace._core.validation import check_random_state
from relspace.demo import study as digits

if TYPE_CHECKING:
    from relspace.reports.page import ReportData


def run_demo(
    output: Path,
    *,
    random_state: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run the case study; write ``summary.json``, ``digits.png`` and ``report.html`` into a folder.

    Returns
    -------
    dict
        What ``summary.json`` holds; :func:`summary_table` prints it.

    Raises
    ------
    MissingDependencyError
        If scikit-learn, matplotlib or jinja2 isn't installed.
    """
    from relspace.demo.figure import draw_study
    from relspace.demo.page import report_data
    from relspace.pictures.theme import DARK, LIGHT

    seed = check_random_state(random_state)
    say = progress or (lambda _: None)
    study = digits.run_study(random_state=seed, progress=say)
    say("Drawing the figure and the page")
    light, dark = (draw_study(study, theme) for theme in (LIGHT, DARK))
    return write_results(
        output,
        {"digits": study.summary},
        {"digits.png": light},
        report_data(study.summary, light, dark),
        random_state=seed,
    )


def write_results(
    output: Path,
    studies: Mapping[str, Mapping[str, Any]],
    pictures: Mapping[str, bytes],
    page: ReportData,
    *,
    random_state: int,
) -> dict[str, Any]:
    """Write what case studies found: ``summary.json``, pictures and ``report.html``.

    Files of these names are replaced. Versions and seed go into the summary, which is returned,
    and to the foot of the page.
    """
    from relspace.reports.page import render_report

    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    summary = {
        "relspace": __version__,
        "random_state": random_state,
        "versions": versions,
        **studies,
    }
    at_foot = {"relspace": __version__, **versions, "seed": str(random_state)}
    html = render_report(dataclasses.replace(page, versions=at_foot))
    write_whole(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    for name, png in pictures.items():
        write_whole(output / name, png)
    write_whole(output / "report.html", html)
    return summary


def summary_table(summary: Mapping[str, Any]) -> str:
    """Lay the main numbers of :func:`run_demo` out for a terminal, as several lines."""
    return "Digits\n" + digits.summary_table(summary["digits"])
