"""The interactive page as text: whole, escaped, the same every time, without a way out."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from relspace.reports.page import Picture, ReportData, Section, Table, render_report
from relspace.reports.page.packing import packed_figures
from relspace.reports.page.render import cell_text, image_address


@pytest.fixture(scope="module")
def html(report_data: ReportData) -> str:
    return render_report(report_data)


def test_text_is_escaped_in_html_and_in_data(html: str) -> None:
    assert "<h1>Sides &lt;/script&gt;&lt;b&gt; &amp; more</h1>" in html
    assert html.count("</script>") == 2
    assert "<b> &" not in html


def test_the_page_forbids_itself_to_load_anything(html: str) -> None:
    assert "default-src 'none'" in html
    outside = re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']+""", html)
    assert outside == []
    assert re.findall(r"^import |\bimport\(", html, re.MULTILINE) == []


def test_data_is_read_back_from_the_page(html: str, report_data: ReportData) -> None:
    found = re.search(r'id="report-data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == json.loads(json.dumps(packed_figures(report_data)))


def test_every_table_is_there_with_its_values_in_full(html: str) -> None:
    assert '<td class="emphasis" data-value="0.61234567">0.612</td>' in html
    for caption in ("How alike", "Nearest", "Parameters", "Versions", "Likeness: fine &lt;net&gt;"):
        assert f"<caption>{caption}" in html
    assert html.count('data-part="csv"') == html.count("<table>")


def test_what_is_left_out_is_not_on_the_page() -> None:
    html = render_report(ReportData(title="Little"))
    assert "<section" not in html
    assert "<nav" in html


def test_models_of_one_layer_have_no_layers_to_choose(report_data: ReportData) -> None:
    models = [dataclasses.replace(model, layers=model.layers[:1]) for model in report_data.models]
    html = render_report(dataclasses.replace(report_data, models=models))
    assert '<input type="radio" name="coloring"' in html
    assert '<input type="radio" name="view"' not in html


def test_pictures_come_for_light_and_dark() -> None:
    picture = Picture("Caption", "What it shows", b"light", b"dark")
    html = render_report(ReportData(title="t", sections=[Section("S", pictures=[picture])]))
    assert 'class="light" src="data:image/png;base64,bGlnaHQ="' in html
    assert 'class="dark" src="data:image/png;base64,ZGFyaw=="' in html


def test_the_page_is_the_same_every_time(html: str, report_data: ReportData) -> None:
    assert render_report(report_data) == html


def test_only_long_tables_have_a_filter() -> None:
    short, long = (
        render_report(ReportData(title="t", tables=[Table("c", ["x"], [["a"]] * n)]))
        for n in (12, 13)
    )
    assert 'data-part="table-filter"' not in short
    assert 'data-part="table-filter"' in long


@pytest.mark.parametrize(("side", "kind"), [(96, "png"), (200, "jpeg")])
def test_small_thumbnails_are_exact_and_large_ones_small(side: int, kind: str) -> None:
    address = image_address(np.zeros((side, side, 3), np.uint8))
    assert address.startswith(f"data:image/{kind};base64,")


@pytest.mark.parametrize(
    ("cell", "text"),
    [(1.0, "1.000"), (-0.00012345, "-0.000123"), (12345.6, "1.23e+04"), (0.0, "0.000"), (7, "7")],
)
def test_cells_show_what_can_be_seen(cell: float, text: str) -> None:
    assert cell_text(cell) == text
