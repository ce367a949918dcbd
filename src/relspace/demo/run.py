"""The demo as files: numbers, a picture and a page."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from relspace import __version__
from relspace._core.arguments import check_random_state
from relspace._core.files import write_whole
from relspace._core.progress import Progress, as_listener

if TYPE_CHECKING:
    from relspace.reports.page import ReportData


def run_demo(
    output: Path,
    *,
    random_state: int = 0,
    progress: Progress = None,
) -> dict[str, Any]:
    """Run the case study, write what it found, and return the content of ``summary.json``.

    ``summary.json``, ``photographs.png`` and ``report.html`` are written into the folder, beside
    the photographs and both networks' features.
    """
    from relspace.demo.page import draw_panel, report_data
    from relspace.demo.study import run_study
    from relspace.pictures.theme import LIGHT

    tell, seed = as_listener(progress), check_random_state(random_state)
    study = run_study(output, random_state=seed, tell=tell)
    tell(0, 0, "Drawing the picture and the page")
    page = report_data(study, output / "photographs", random_state=seed, tell=tell)
    return write_results(
        output,
        {"photographs": study.summary},
        {"photographs.png": draw_panel(study, LIGHT)},
        page,
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
