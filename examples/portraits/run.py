"""The portraits study from networks to files: numbers, figures, a page with the digits below."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from examples.digits import study as digits
from examples.digits.figure import draw_study
from examples.digits.page import study_sections
from examples.portraits.figure import draw_numbers_figure, draw_panel_figure
from examples.portraits.page import report_data
from examples.portraits.study import run_study
from relspace._core.arguments import check_random_state
from relspace._core.progress import Progress, as_listener
from relspace.demo.run import write_results
from relspace.pictures.theme import DARK, LIGHT


def run(
    output: Path,
    *,
    random_state: int = 0,
    progress: Progress = None,
) -> dict[str, Any]:
    """Run the portraits study, and the digits study for the same page.

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
        What ``summary.json`` holds, with the numbers of the studies as ``portraits`` and
        ``digits``.

    Raises
    ------
    MissingDependencyError
        If scikit-learn, matplotlib, jinja2 or Pillow isn't installed.
    """
    seed = check_random_state(random_state)
    tell = as_listener(progress)
    of_portraits = run_study(random_state=seed, progress=tell)
    of_digits = digits.run_study(random_state=seed, progress=tell)
    tell(0, 0, "Drawing the figures and the page")
    panel = (draw_panel_figure(of_portraits, LIGHT), draw_panel_figure(of_portraits, DARK))
    numbers = (
        draw_numbers_figure(of_portraits.summary, LIGHT),
        draw_numbers_figure(of_portraits.summary, DARK),
    )
    light, dark = (draw_study(of_digits, theme) for theme in (LIGHT, DARK))
    page = report_data(of_portraits, {"panel": panel, "numbers": numbers})
    below = study_sections(of_digits.summary, light, dark)
    return write_results(
        output,
        {"portraits": of_portraits.summary, "digits": of_digits.summary},
        {"portraits.png": panel[0], "retrieval.png": numbers[0], "digits.png": light},
        dataclasses.replace(page, sections=[*page.sections, *below]),
        random_state=seed,
    )
