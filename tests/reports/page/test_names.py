"""Names that users give, of whatever characters, on pages and in notebooks: shown as text."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pictures.test_names import NAMES

import relspace as rs
from relspace.reports.page import (
    Curve,
    CurveChart,
    KeyNumber,
    LayerTable,
    ReportData,
    Scatter,
    Section,
    Table,
    Value,
    render_report,
    value_table,
)

INJECTIONS = {
    "a script": "<script>alert(1)</script>",
    "an image that fails": "<img src=x onerror=alert(1)>",
    "out of an attribute": '" onmouseover="alert(1)',
    "out of an attribute, single": "' onmouseover='alert(1)",
    "an address": "javascript:alert(1)",
    "out of the style": "</style><script>alert(1)</script>",
    "an entity": "&lt;b&gt;",
    "a comment": "<!--",
    "CDATA": "]]>",
    "a template of JavaScript": "${alert(1)}",
    "the end of JSON": '"}]}</script>',
    "a statement of a template": "{% for x in y %}",
    "a line separator": "a\u2028b",
    "__proto__": "__proto__",
    "constructor": "constructor",
}
ALL = {**NAMES, **INJECTIONS}


class _Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def count(self) -> dict[str, int]:
        tags = [tag for tag, _ in self.elements]
        return {tag: tags.count(tag) for tag in set(tags)}


def page_of(name: str) -> _Page:
    """A page with a name in every place that has one."""
    rows = np.zeros((2, 2))
    values = [Value(name, 0.5, 0.1)]
    return _Page(
        render_report(
            ReportData(
                title=name,
                lead=name,
                key_numbers=[KeyNumber(name, name, name)],
                layer_tables=[LayerTable(name, name, name, [name, "b"], [name, "b"], rows)],
                charts=[CurveChart(name, name, [name, "b"], [Curve(name, [0.0, 1.0])])],
                scatters=[Scatter(name, [name, "b"], {name: rows}, {name: rows.astype(np.uint8)})],
                tables=[value_table(name, values), Table(name, [name, name], [[name, name]])],
                matched_by=name,
                parameters={name: name},
                versions={name: name},
                sections=[Section(name, [name])],
            )
        )
    )


@pytest.fixture(scope="module")
def plain() -> dict[str, int]:
    return page_of("plain").count()


@pytest.mark.parametrize("kind", list(ALL))
def test_a_name_adds_no_element_and_no_handler(kind: str, plain: dict[str, int]) -> None:
    name = ALL[kind]
    page = page_of(name)
    assert page.count() == plain
    attributes = [key for _, own in page.elements for key in own]
    assert not [key for key in attributes if key.startswith("on")]
    links = [own.get("href") or own.get("src") or "" for _, own in page.elements]
    assert not [link for link in links if link.startswith("javascript:")]
    (data,) = [one for one in page.text if one.startswith('{"images"')]
    assert json.loads(data)["layer_tables"][0]["row_model"] == name
    assert not any(ord(one) < 32 and one not in "\n\t\r" for one in "".join(page.text))
    if name.isprintable() and name.strip():
        assert any(name in one for one in page.text)


@pytest.mark.parametrize("kind", list(ALL))
def test_notebooks_show_a_name_as_text(kind: str) -> None:
    X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    space = rs.align({ALL[kind]: X, "B": X})
    ours, plain = _Page(space._repr_html_()), _Page(rs.align({"A": X, "B": X})._repr_html_())
    assert ours.count() == plain.count()
    assert not [key for _, own in ours.elements for key in own if key.startswith("on")]


@pytest.mark.parametrize("kind", list(ALL))
def test_a_space_keeps_its_names_in_its_file(kind: str, tmp_path: Path) -> None:
    X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    space = rs.align({ALL[kind]: X, "B": X})
    assert rs.load_space(space.save(tmp_path / "s.safetensors")).names == (ALL[kind], "B")
    cut = rs.NormalizedCut(2, density=0.2).fit({ALL[kind]: X, "B": X + torch.randn(12, 4)})
    assert rs.NormalizedCut.load(cut.save(tmp_path / "c.safetensors")).names_ == (ALL[kind], "B")
