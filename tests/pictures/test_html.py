"""What notebooks show: tables of spaces, feature sets and comparisons, all text escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

import relspace
from relspace.features import FeatureSet
from relspace.pictures.html import html_table

VOID = {"br", "img"}


class Balance(HTMLParser):
    """Knows which elements are still open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def cells(html: str) -> list[list[str]]:
    """The texts of a table's rows, after a look at whether all elements are closed."""
    balance = Balance()
    balance.feed(html)
    assert balance.open == []
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


@pytest.fixture(scope="module")
def items() -> Mapping[str, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    return {"a <b>": X, "c & d": X @ rng.normal(size=(5, 7))}


def test_tables_escape_text_and_show_four_digits() -> None:
    html = html_table("<t>", ["", "x & y"], [["<r>", 0.123456], ["n", None]], note="<n>")
    assert cells(html) == [["", "x &amp; y"], ["&lt;r&gt;", "0.1235"], ["n", ""]]
    assert "<t>" not in html
    assert "&lt;n&gt;" in html


def test_shades_follow_the_values() -> None:
    html = html_table("t", ["", "a", "b"], [["r", 0.0, 1.0]], shades=[[0.0, 1.0]])
    assert re.findall(r"rgba\(11, 92, 173, (\S+)\)", html) == ["0.00", "0.45"]


def test_a_space_shows_its_sets(items: Mapping[str, np.ndarray]) -> None:
    space = relspace.align(items)
    head, *rows = cells(space._repr_html_())
    assert head == ["", "rows", "features", "sigma", "density"]
    assert [row[:3] for row in rows] == [["a &lt;b&gt;", "60", "5"], ["c &amp; d", "60", "7"]]
    assert "60 items matched by position" in space._repr_html_()


def test_a_space_of_tokens_shows_its_grids() -> None:
    maps = torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(0))
    fs = FeatureSet.from_arrays({"late": maps}, layout="bhwc")
    rows = cells(relspace.align({"a": fs, "b": fs.pool((3, 3))}, landmarks=50)._repr_html_())
    assert rows[1][:3] == ["a", "120", "3"]
    assert [row[-1] for row in rows] == ["grid", "6 x 5", "3 x 3"]


def test_a_feature_set_shows_its_layers() -> None:
    fs = FeatureSet.from_arrays(
        {"early": np.zeros((2, 4, 6, 3), np.float32), "late": np.zeros((2, 2, 2, 8), np.float32)},
        layout="bhwc",
        metadata={"model": "<net>"},
    )
    html = fs._repr_html_()
    assert cells(html) == [
        ["layer", "rows", "features", "grid", "type"],
        ["early", "48", "3", "4 x 6", "float32"],
        ["late", "8", "8", "2 x 2", "float32"],
    ]
    assert "&lt;net&gt;" in html


def test_a_comparison_shows_its_value_beside_chance(items: Mapping[str, np.ndarray]) -> None:
    found = relspace.compare(*items.values(), measure="cka", n_permutations=19)
    html = found._repr_html_()
    assert [row[0] for row in cells(html)[1:]] == [
        "Linear CKA",
        "chance",
        "p",
        "calibrated",
        "items",
    ]
    assert cells(html)[3][1] == "0.05 (19 permutations)"


def test_a_layer_comparison_shows_its_table_shaded(items: Mapping[str, np.ndarray]) -> None:
    found = relspace.compare_layers(dict(items), dict(items), measure="cka", n_permutations=0)
    html = found._repr_html_()
    assert cells(html)[1][1] == "1"
    shades = [float(one) for one in re.findall(r"rgba\(11, 92, 173, (\S+)\)", html)]
    assert len(shades) == 4
    assert max(shades) == shades[0] == shades[3] == 0.45


def test_a_comparison_of_models_shows_its_summary(items: Mapping[str, np.ndarray]) -> None:
    models = {name: dict(items) for name in ("one", "two", "three")}
    rows = cells(relspace.compare_models(models, measure="cka", n_permutations=0)._repr_html_())
    assert rows[0] == ["", "one", "two", "three"]
    assert [row[0] for row in rows[1:]] == ["one", "two", "three"]
