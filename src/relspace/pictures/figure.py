"""Figures for light and for dark pages, drawn without matplotlib's global state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relspace.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 150


@dataclass(frozen=True)
class Theme:
    """Colours of a figure's ground and ink."""

    ground: str
    ink: str
    faint: str
    muted: str
    accent: str
    lightness: float


LIGHT = Theme("#ffffff", "#1c2430", "#d9dee5", "#9aa5b4", "#0b5cad", 0.60)
DARK = Theme("#14181f", "#e6eaf0", "#333c49", "#778395", "#6db3f2", 0.76)


@contextmanager
def themed(theme: Theme) -> Iterator[None]:
    """Draw what is inside with a theme, and leave matplotlib's settings as they were.

    Raises
    ------
    MissingDependencyError
        If matplotlib isn't installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingDependencyError(
            'figures need matplotlib, which is not installed: pip install "relspace[report]".'
        ) from error
    settings: dict[str, Any] = {
        # Names are users' own: "a$b$c" is no formula.
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "font.family": "DejaVu Sans",
        "font.size": 8.5,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": theme.muted,
        "axes.facecolor": theme.ground,
        "figure.facecolor": theme.ground,
        "savefig.facecolor": theme.ground,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
    }
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        yield


def drawn_name(name: str, longest: int = 40) -> str:
    """A name as it is drawn in a figure: in one line that is not too long, with all its characters.

    Characters that nothing is drawn for are written as escapes, and the middle of a long name as
    an ellipsis. One that begins with an underscore, which matplotlib leaves out of legends, gets a
    space of no width before it.

    Parameters
    ----------
    name : str
        What the user called a set, a model or a layer.
    longest : int
        How many characters are drawn at most.

    Examples
    --------
    >>> drawn_name("two\\nlines"), drawn_name("layer_" * 20, 15)
    ('two\\\\nlines', 'layer_l…_layer_')
    """
    shown = "".join(one if one.isprintable() else repr(one)[1:-1] for one in name)
    if len(shown) > longest:
        half = (longest - 1) // 2
        shown = f"{shown[:half]}…{shown[-half:]}"
    return f"\u200b{shown}" if shown.startswith("_") else shown


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, in inches, that no global list holds on to."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DOTS_PER_INCH)
