"""A hook of mkdocs: references in docstrings, as Sphinx writes them, become code."""

import re

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):(?=<code>)")


def on_page_content(html: str, **_: object) -> str:
    """The page without the names of roles."""
    return _ROLE.sub("", html)
