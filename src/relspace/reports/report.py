"""The report of a common space, or of feature sets of several models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from relspace._core.files import write_whole
from relspace._core.limits import DEFAULT_PERMUTATIONS
from relspace._core.progress import Progress
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.features import FeatureSet
from relspace.reports.feature_sets import FeatureSetsSummary, summarize_feature_sets
from relspace.reports.page.comparison import feature_sets_page
from relspace.reports.page.data import ReportData
from relspace.reports.page.render import contents, render_report
from relspace.reports.page.space import space_page
from relspace.reports.space import SpaceSummary, summarize_space
from relspace.rows.locations import Located, Locations, check_new_file
from relspace.space.base import CommonSpace


@dataclass(eq=False, repr=False)
class Report(os.PathLike[str]):
    """An interactive page, and the numbers that it shows.

    A notebook shows the page. Once saved, it stands for its file: ``open(report)``.

    Attributes
    ----------
    summary : SpaceSummary or FeatureSetsSummary
        What was found, as numbers, names and arrays.
    data : ReportData
        What the page holds: captions, tables, figures.
    html : str
        The page.
    path : Path or None
        The file it was saved in last.
    inputs : tuple of str or Path
        What it was made from, none of which it is saved over.
    """

    summary: SpaceSummary | FeatureSetsSummary
    data: ReportData
    html: str
    path: Path | None = None
    inputs: Locations = ()

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the page into one HTML file, whole or not at all.

        Parameters
        ----------
        path : str or Path
            The file; it ends in .html.
        overwrite : bool
            Whether a file that exists is replaced.

        Raises
        ------
        InvalidInputError
            If the file exists and is not to be overwritten, can't be written, or lies in an input.
        """
        page = _checked(path, "path", self.inputs, overwrite=overwrite)
        self.path = write_whole(page, self.html)
        return self.path

    def __fspath__(self) -> str:
        if self.path is None:
            raise InvalidInputError(
                "the report is in no file yet.", ways_out=["save it with report.save(path)"]
            )
        return str(self.path)

    def __repr__(self) -> str:
        names = self.summary.names
        megabytes = len(self.html.encode()) / 1e6
        sections = ", ".join(title for _, title in contents(self.data))
        return (
            f"Report({self.data.title!r}, {megabytes:.1f} MB)\n"
            f"sets: {', '.join(names)}\n"
            f"sections: {sections}\n"
            + ("not saved yet: report.save(path)" if self.path is None else f"saved: {self.path}")
        )

    def _repr_html_(self) -> str:
        # A frame of its own origin: the page can't reach the notebook.
        return (
            f'<iframe title="{escape(self.data.title)}" srcdoc="{escape(self.html)}" '
            'sandbox="allow-scripts allow-downloads" '
            'style="width: 100%; height: 52rem; border: 0"></iframe>'
        )


def report(
    of: Mapping[str, Any],
    out: str | Path | None = None,
    *,
    images: object = None,
    features: Mapping[str, FeatureSet] | None = None,
    title: str | None = None,
    n_images: int = 16,
    n_permutations: int = DEFAULT_PERMUTATIONS,
    random_state: int = 0,
    overwrite: bool = False,
    progress: Progress = None,
) -> Report:
    """Make an interactive report: one HTML page that needs no network.

    Of a space with tokens on grids it shows panels to explore, of a space of items without a grid
    points of a plane and matches. Of feature sets it shows all layers of all models: aligned over
    the same landmarks, coloured jointly, and compared layer by layer.

    Parameters
    ----------
    of : ItemSpace, TokenSpace, or mapping of str to FeatureSet
        A space from :func:`relspace.align`, or feature sets of several models over the same
        images.
    out : str or Path, optional
        The file that the page is written into; by default it is saved later (:meth:`Report.save`),
        or shown by a notebook.
    images : path, glob pattern, array, or a sequence of paths, arrays or PIL images, optional
        The items' images, as for :func:`relspace.extract`; found by id where there are ids.
    features : mapping of str to FeatureSet, optional
        Of a space of tokens on grids: what was aligned, by set. With that of every set, the page
        shows the colours before alignment too.
    title : str, optional
        What the page is called.
    n_images : int
        How many images are explored, the first ones.
    n_permutations : int
        How many permutations p-values rest on.
    random_state : int
        Seed.
    overwrite : bool
        Whether a file that exists is replaced, once the new one is complete.
    progress : callable or bool, optional
        Told ``(done, total, text)`` at every step; True prints lines on stderr.

    Returns
    -------
    Report
        The page, with the numbers that it shows as ``summary``.

    Raises
    ------
    InvalidInputError
        If the file exists and is not to be overwritten, can't be written, or lies in an input,
        before any work.
    ItemMismatchError
        If images don't fit the items.
    MissingDependencyError
        If jinja2, or Pillow where there are images, isn't installed.

    Examples
    --------
    >>> import torch, relspace
    >>> X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    >>> space = relspace.align({"a": X, "b": X.flip(1)})
    >>> relspace.report(space)
    Report('a and b in one space', 0.1 MB)
    sets: a, b
    sections: Items, Values, How it was made
    not saved yet: report.save(path)
    """
    if title is not None and not isinstance(title, str):
        raise InvalidTypeError(f"title is of type {type(title).__name__}; it must be text.")
    settings: dict[str, Any] = {
        "images": images,
        "n_images": n_images,
        "n_permutations": n_permutations,
        "random_state": random_state,
        "progress": progress,
    }
    summary: SpaceSummary | FeatureSetsSummary
    given = {} if isinstance(of, CommonSpace) else _feature_sets(of)
    inputs = tuple(_locations(of, features))
    page = None if out is None else _checked(out, "out", inputs, overwrite=overwrite)
    if isinstance(of, CommonSpace):
        summary = summarize_space(of, features=features, **settings)
        data = space_page(summary, title)
    elif features is not None:
        raise InvalidInputError(
            "features go with a space, whose colours before alignment they give; of feature sets "
            "they are known: leave features out."
        )
    else:
        summary = summarize_feature_sets(given, **settings)
        data = feature_sets_page(summary, title)
    made = Report(summary, data, render_report(data), inputs=inputs)
    if page is not None:
        made.save(page, overwrite=overwrite)
    return made


def _checked(page: object, called: str, inputs: Iterable[str | Path], *, overwrite: bool) -> Path:
    return check_new_file(
        page,
        what="a report",
        endings=[".html", ".htm"],
        overwrite=overwrite,
        inputs=inputs,
        called=called,
    )


def _locations(*given: object) -> Iterator[str | Path]:
    """Where the rows of spaces and of feature sets by name lie."""
    for one in given:
        if isinstance(one, CommonSpace):
            rows: list[Located] = [one.rows(name) for name in one]
        else:
            sets = one.values() if isinstance(one, Mapping) else ()
            rows = [fs[layer] for fs in sets if isinstance(fs, FeatureSet) for layer in fs.layers]
        yield from (location for source in rows for location in source.locations())


def _feature_sets(of: object) -> Mapping[str, FeatureSet]:
    wanted = "a report is of a space from relspace.align, or of two feature sets or more by name"
    if isinstance(of, FeatureSet):
        raise InvalidTypeError(f'of is one feature set; {wanted}: {{"sam": sam, "dino": dino}}.')
    if not isinstance(of, Mapping):
        raise InvalidTypeError(f"of is of type {type(of).__name__}; {wanted}.")
    for name, one in of.items():
        if not isinstance(name, str):
            raise InvalidTypeError(f"of has the name {name!r}; names must be strings.")
        if not isinstance(one, FeatureSet):
            raise InvalidTypeError(
                f"of[{name!r}] is of type {type(one).__name__} and not a FeatureSet; {wanted}. "
                "For arrays, align them first: report(relspace.align(sets))."
            )
    if len(of) < 2:
        raise InvalidInputError(f"of holds {len(of)} feature sets; {wanted}.")
    return of
