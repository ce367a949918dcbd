"""Names that users give, of whatever characters, in figures: drawn as text, never as a formula."""

from __future__ import annotations

import re
import warnings
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.text import Text

import relspace as rs
from relspace.pictures.theme import drawn_name, figure_bytes

#: Names that mean something to matplotlib, to XML or to a screen.
NAMES = {
    "a formula": "a$b$c",
    "a broken formula": "$^$",
    "one dollar": "100$",
    "an escaped dollar": r"\$x\$",
    "a TeX command": r"\frac{1}{0}",
    "a leading underscore": "_hidden",
    "matplotlib's own": "_nolegend_",
    "two lines": "two\nlines",
    "a tab": "a\tb",
    "NUL": "a\0b",
    "an escape": "\x1b[31mred",
    "XML": '<a b="c">&amp;</a>',
    "the end of a comment": "-->",
    "the end of a script": "</script>",
    "a template": "{{ 7 * 7 }}",
    "format": "%s {0} {name}",
    "right to left": "שלום",
    "turned around": "abc\u202edef",
    "half a surrogate pair": "\udcff",
    "a very long one": "layer_" * 500,
    "a space": " ",
}


def drawn(figure: object) -> list[str]:
    """Draw a figure, which may warn of nothing but glyphs, and say what was written in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.draw_without_rendering()  # type: ignore[attr-defined]
    texts = figure.findobj(Text)  # type: ignore[attr-defined]
    # Numbers of an axis are made as it is drawn.
    said = [text for text in texts if not re.fullmatch("\u2212?[0-9.]+|", text.get_text())]
    assert not any(text.get_parse_math() for text in said)
    return [text.get_text() for text in said]


@pytest.mark.parametrize("kind", list(NAMES))
def test_models_and_layers_of_any_name_are_drawn(kind: str) -> None:
    name = NAMES[kind]
    X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    two = rs.compare_layers(
        {name: X, "other": -X}, {"a": X, "b": X + 1}, names=(name, "B"), n_permutations=0
    )
    said = drawn(two.plot().figure)
    assert said.count(drawn_name(name)) >= 2, said
    three = rs.compare_models(
        {name: {"l": X}, "B": {"l": X.flip(1)}, "C": {"l": X.flip(0)}}, n_permutations=0
    )
    assert any(drawn_name(name) in one for one in drawn(three.plot().figure))


@pytest.mark.parametrize("kind", list(NAMES))
def test_sets_of_any_name_are_drawn_with_a_legend(kind: str) -> None:
    name = NAMES[kind]
    X = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    figure = rs.align({name: X, "B": X.flip(1)}, landmarks=10).plot().figure
    drawn(figure)
    ElementTree.fromstring(figure_bytes(figure, "svg"))
    legend = figure.axes[0].get_legend()
    assert [one.get_text() for one in legend.get_texts()] == [drawn_name(name), "B"]


def test_drawn_names_keep_what_tells_them_apart() -> None:
    assert drawn_name("a$b$c") == "a$b$c"
    assert drawn_name("x\ny") == r"x\ny"
    assert drawn_name("x" * 41) == "x" * 19 + "…" + "x" * 19
    assert drawn_name("x" * 40) == "x" * 40
    assert drawn_name("_x") == "\u200b_x"


def test_settings_of_matplotlib_are_left_as_they_were() -> None:
    import matplotlib

    X = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    rs.align({"a": X, "b": X.flip(1)}).plot()
    assert matplotlib.rcParams["text.parse_math"]
