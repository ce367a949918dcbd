"""Pages: everything inside one file, all text escaped, tables and pictures where they belong."""

import base64

from relspace.pages.html import KeyNumber, Page, Picture, Section, Table, render_page

PAGE = Page(
    title="Sets <a> & b",
    lead="Lead.",
    key_numbers=[KeyNumber("0.76", "top-1", "chance 0.002")],
    sections=[
        Section(
            "Numbers",
            ["<script>alert(1)</script>"],
            pictures=[Picture("A caption", 'What "it" shows', b"light", b"dark")],
            tables=[Table("Rates", ["", "before", "after"], [["top-1", "0.1", "0.9"]], emphasis=2)],
        )
    ],
    footer={"seed": "0"},
)


def test_all_text_is_escaped() -> None:
    html = render_page(PAGE)
    assert "<h1>Sets &lt;a&gt; &amp; b</h1>" in html
    assert "<script" not in html
    assert 'alt="What &#34;it&#34; shows"' in html


def test_pictures_are_inside_for_light_and_for_dark() -> None:
    html = render_page(PAGE)
    for png in (b"light", b"dark"):
        assert f"data:image/png;base64,{base64.b64encode(png).decode()}" in html
    assert html.count("prefers-color-scheme: dark") == 2


def test_tables_have_captions_headers_and_their_emphasis() -> None:
    html = render_page(PAGE)
    assert "<caption>Rates</caption>" in html
    assert '<th scope="col">after</th>' in html
    assert '<th scope="row">top-1</th><td>0.1</td><td class="emphasis">0.9</td>' in html


def test_key_numbers_come_with_what_they_are_read_beside() -> None:
    html = render_page(PAGE)
    assert '<dd class="value">0.76</dd><dd class="beside">chance 0.002</dd>' in html


def test_the_page_is_the_same_every_time() -> None:
    assert render_page(PAGE) == render_page(PAGE)
