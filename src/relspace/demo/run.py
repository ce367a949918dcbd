"""The demo: the portraits study, then the digits study; numbers, figures and one page."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from relspace import __version__
from relspace._validation import check_random_state
from relspace._writing import write_whole
from relspace.demo import study as digits
from relspace.demo.portraits import study as portraits
from relspace.demo.portraits import table as portraits_table


def run_demo(
    output: Path,
    *,
    random_state: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run both case studies and write their numbers, figures and page.

    Parameters
    ----------
    output : Path
        The folder, made if needed, for ``summary.json``, ``portraits.png``, ``retrieval.png``,
        ``digits.png`` and ``report.html``.
    random_state : int
        Seed of portraits and landmarks.
    progress : callable, optional
        Gets a line at the start of every step.

    Returns
    -------
    dict
        What ``summary.json`` holds; :func:`summary_table` prints it.

    Raises
    ------
    MissingDependencyError
        If scikit-learn, matplotlib, jinja2 or Pillow isn't installed.
    """
    from relspace.demo.figure import draw_study
    from relspace.demo.page import study_sections
    from relspace.demo.portraits.figure import draw_numbers_figure, draw_panel_figure
    from relspace.demo.portraits.page import report_data
    from relspace.figures.plots import DARK, LIGHT
    from relspace.pages import render_report

    seed = check_random_state(random_state)
    say = progress or (lambda _: None)
    of_portraits = portraits.run_study(random_state=seed, progress=say)
    of_digits = digits.run_study(random_state=seed, progress=say)
    say("Drawing the figures and the page")
    figures = {
        "panel": tuple(draw_panel_figure(of_portraits, theme) for theme in (LIGHT, DARK)),
        "numbers": tuple(
            draw_numbers_figure(of_portraits.summary, theme) for theme in (LIGHT, DARK)
        ),
        "digits": tuple(draw_study(of_digits, theme) for theme in (LIGHT, DARK)),
    }
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    summary = {
        "relspace": __version__,
        "random_state": seed,
        "versions": versions,
        "portraits": of_portraits.summary,
        "digits": of_digits.summary,
    }
    data = report_data(of_portraits, {key: (one[0], one[1]) for key, one in figures.items()})
    below = study_sections(of_digits.summary, *figures["digits"])
    page = render_report(
        dataclasses.replace(
            data,
            sections=[*data.sections, *below],
            versions={"relspace": __version__, **versions, "seed": str(seed)},
        )
    )
    write_whole(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_whole(output / "portraits.png", figures["panel"][0])
    write_whole(output / "retrieval.png", figures["numbers"][0])
    write_whole(output / "digits.png", figures["digits"][0])
    write_whole(output / "report.html", page)
    return summary


def summary_table(summary: Mapping[str, Any]) -> str:
    """Lay both studies' main numbers out for a terminal.

    Parameters
    ----------
    summary : mapping
        From :func:`run_demo`.

    Returns
    -------
    str
        Several lines.
    """
    return "\n".join(
        [
            "Portraits",
            portraits_table.summary_table(summary["portraits"]),
            "",
            "Digits",
            digits.summary_table(summary["digits"]),
        ]
    )
