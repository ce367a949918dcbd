"""Plain tables and pictures -> one self-contained page that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from relspace.errors import MissingDependencyError


@dataclass(frozen=True)
class Table:
    """A table: its caption, the titles of its columns, and rows that start with their own title.

    Attributes
    ----------
    emphasis : int, optional
        The column that the eye should find first.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    emphasis: int | None = None


@dataclass(frozen=True)
class Picture:
    """A PNG for light pages and one for dark pages, with what it shows in words."""

    caption: str
    description: str
    light: bytes
    dark: bytes


@dataclass(frozen=True)
class KeyNumber:
    """A number that the page opens with, and what it is to be read beside."""

    value: str
    title: str
    beside: str


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then pictures, then tables."""

    heading: str
    paragraphs: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """All that a page says.

    Attributes
    ----------
    footer : mapping of str to str
        Versions and seeds.
    """

    title: str
    lead: str
    key_numbers: Sequence[KeyNumber]
    sections: Sequence[Section]
    footer: Mapping[str, str] = field(default_factory=dict)


def render_page(page: Page) -> str:
    """Render a page as HTML with its style and pictures inside.

    Parameters
    ----------
    page : Page
        What it says; all text is escaped.

    Returns
    -------
    str
        The HTML, which refers to nothing outside itself.

    Raises
    ------
    MissingDependencyError
        If jinja2 isn't installed.

    Examples
    --------
    >>> html = render_page(Page("A & B", "Two models.", [], [Section("Numbers")]))
    >>> "<h1>A &amp; B</h1>" in html
    True
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError(
            'pages need jinja2, which is not installed: pip install "relspace[report]".'
        ) from error
    environment = Environment(
        loader=PackageLoader("relspace.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["png_address"] = png_address
    return environment.get_template("page.html.j2").render(page=page)


def png_address(png: bytes) -> str:
    """A PNG as the address of itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
