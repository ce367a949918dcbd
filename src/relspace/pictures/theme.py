"""The look of figures: light and dark themes, fonts, names, files; no global state."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from relspace.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 150
#: Told apart without colour, in the order of sets or models.
MARKERS = "os^Dv<>pPX*h"


@dataclass(frozen=True)
class Theme:
    """Colours of figures and pages, and the OKLab lightness of lines on their ground."""

    ground: str
    raised: str
    ink: str
    quiet: str
    faint: str
    muted: str
    accent: str
    lightness: float


LIGHT = Theme("#ffffff", "#f5f6f8", "#1a2130", "#5a6576", "#dee2e8", "#9aa5b4", "#0b5cad", 0.60)
DARK = Theme("#14181f", "#1c212a", "#e6eaf0", "#9da8b8", "#313945", "#778395", "#79b8f3", 0.76)


@dataclass(frozen=True)
class Look:
    """What a caller of a ``plot`` method says of its looks: where it goes, title and colours."""

    axes: Axes | None = None
    title: str | None = None
    cmap: Any = None
    theme: Theme = LIGHT

    def titled(self, title: str) -> str:
        """The title that was asked for, or else this one."""
        return title if self.title is None else self.title


@contextmanager
def themed(theme: Theme) -> Iterator[None]:
    """Apply a theme to figures drawn inside, and restore matplotlib's settings afterwards."""
    try:
        import matplotlib
    except ImportError as error:
        raise MissingDependencyError(
            'figures need matplotlib, which is not installed: pip install "relspace[report]".'
        ) from error
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    grounds = ("axes.facecolor", "figure.facecolor", "savefig.facecolor")
    settings: dict[str, Any] = {
        # Names are users' own: "a$b$c" is no formula.
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "font.family": "DejaVu Sans",
        "font.size": 8.5,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": theme.muted,
        "legend.frameon": False,
        **dict.fromkeys(inks, theme.ink),
        **dict.fromkeys(grounds, theme.ground),
    }
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, in inches, that no global list refers to."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DOTS_PER_INCH)


def shown_figure(width: float, height: float) -> Figure:
    """Make an empty figure, in inches, that pyplot and notebooks show."""
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height), dpi=_DOTS_PER_INCH)


def axes_bytes(axes: Axes, kind: Literal["png", "pdf", "svg"] = "png") -> bytes:
    """Draw the figure of axes that a ``plot`` method made as a file, and close it."""
    import matplotlib.pyplot as plt

    figure: Any = axes.get_figure(root=True)
    plt.close(figure)
    return figure_bytes(figure, kind)


def figure_bytes(figure: Figure, kind: Literal["png", "pdf", "svg"] = "png") -> bytes:
    """Draw a figure as a file, without a date: the same bytes for the same figure."""
    undated = {"png": "Software", "pdf": "CreationDate", "svg": "Date"}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={undated[kind]: None})
    return buffer.getvalue()


def drawn_name(name: str, longest: int = 40) -> str:
    """A user's name for a set, a model or a layer as figures show it: one line, not too long.

    Characters that can't be drawn are escaped, and the middle of a long name is an ellipsis. A
    name that begins with an underscore, which matplotlib leaves out of legends, gets a space of no
    width before it.

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
