"""The report of whatever has one: a common space, or the feature sets of several models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relspace._core.files import write_whole
from relspace._core.progress import Progress
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.features import FeatureSet
from relspace.reports.feature_sets import feature_sets_report
from relspace.reports.page.render import render_report
from relspace.reports.space import space_report
from relspace.space.base import CommonSpace


def report(
    of: Mapping[str, Any],
    out: str | Path = "report.html",
    *,
    images: object = None,
    features: Mapping[str, FeatureSet] | None = None,
    title: str | None = None,
    n_images: int = 16,
    n_permutations: int = 199,
    random_state: int = 0,
    overwrite: bool = False,
    progress: Progress = None,
) -> Path:
    """Write an interactive report: one HTML file that needs no network.

    Of a space with tokens on grids it shows panels to explore, of a space of items without a grid
    points of a plane and matches. Of feature sets it shows all layers of all models: aligned over
    the same landmarks, coloured jointly, and compared layer by layer.

    Parameters
    ----------
    of : ItemSpace, TokenSpace, or mapping of str to FeatureSet
        A space from :func:`relspace.align`, or feature sets of several models over the same
        images.
    out : str or Path
        The file.
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
        Told ``(done, total, text)`` at every step, where there are several; True prints lines on
        stderr.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InvalidInputError
        If the file exists and is not to be overwritten.
    ItemMismatchError
        If images don't fit the items.
    MissingDependencyError
        If jinja2, or Pillow where there are images, isn't installed.

    Examples
    --------
    >>> import tempfile, torch, relspace
    >>> X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    >>> space = relspace.align({"a": X, "b": X.flip(1)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     relspace.report(space, folder + "/report.html", n_permutations=99).name
    'report.html'
    """
    page = _page(out, overwrite=overwrite)
    if title is not None and not isinstance(title, str):
        raise InvalidTypeError(f"title is of type {type(title).__name__}; it must be text.")
    settings: dict[str, Any] = {
        "images": images,
        "title": title,
        "n_images": n_images,
        "n_permutations": n_permutations,
        "random_state": random_state,
    }
    if isinstance(of, CommonSpace):
        data = space_report(of, features=features, **settings)
    elif features is not None:
        raise InvalidInputError(
            "features go with a space, whose colours before alignment they give; of feature sets "
            "they are known: leave features out."
        )
    else:
        data = feature_sets_report(_feature_sets(of), progress=progress, **settings)
    return write_whole(page, render_report(data))


def _page(out: object, *, overwrite: bool) -> Path:
    """Where a page goes; refused before any work where it can't or mustn't be written."""
    if not isinstance(out, str | Path) or not str(out) or "\0" in str(out):
        raise InvalidTypeError(f"out is {out!r}; it must be the path of an .html file.")
    page = Path(out)
    if page.suffix.lower() not in (".html", ".htm"):
        raise InvalidInputError(f"out is {str(out)!r}; a report is a file that ends in .html.")
    if page.is_dir():
        raise InvalidInputError(f"out is {str(out)!r}, a folder; name a file for the report.")
    if page.exists() and not overwrite:
        raise InvalidInputError(
            f"out is {str(out)!r}, which exists.",
            ways_out=["overwrite it with {overwrite=True}", "name another file"],
        )
    return page


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
