"""A report in a real browser: pointed at, pinned, driven by keys, filtered, saved, and silent."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _browser import open_browser, open_page, why_no_browser
from relspace.reports.page import ReportData, render_report

pytestmark = pytest.mark.skipif(
    why_no_browser() is not None, reason=why_no_browser() or "a browser is there"
)
STRIPS = 'document.querySelectorAll(".model .strip > canvas")'
PIXEL = f"""
const strip = {STRIPS}[arguments[0]];
const scale = strip.width / parseFloat(strip.style.width);
const copy = Object.assign(document.createElement("canvas"), {{ width: 1, height: 1 }});
const context = copy.getContext("2d", {{ willReadFrequently: true }});
context.drawImage(strip, -Math.round(arguments[1] * scale), -Math.round(arguments[2] * scale));
return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
"""
SETTLE = """
const done = arguments[arguments.length - 1];
requestAnimationFrame(() => requestAnimationFrame(() => done()));
"""


class Page:
    """An open report: what a reader does, and what a reader sees."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def settle(self) -> None:
        self.driver.execute_async_script(SETTLE)

    def pointer(self, strip: int, x: float, y: float, *, click: bool = False) -> None:
        """Move the real pointer to a point of a strip, in CSS pixels, and perhaps click."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        self.run(
            f'{STRIPS}[arguments[0]].scrollIntoView({{block: "center", behavior: "instant"}})',
            strip,
        )
        left, top = self.run(
            f"const r = {STRIPS}[arguments[0]].getBoundingClientRect(); return [r.left, r.top]",
            strip,
        )
        actions = ActionBuilder(self.driver)
        actions.pointer_action.move_to_location(round(left + x), round(top + y))
        if click:
            actions.pointer_action.click()
        actions.perform()
        self.settle()

    def leave(self) -> None:
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        actions = ActionBuilder(self.driver)
        actions.pointer_action.move_to_location(2, 2)
        actions.perform()
        self.settle()

    def keys(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()
        self.settle()

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)
        self.settle()

    def write(self, selector: str, value: str | int) -> None:
        self.run(
            "const input = document.querySelector(arguments[0]); input.value = arguments[1];"
            'input.dispatchEvent(new Event("input", {bubbles: true}))',
            selector,
            value,
        )
        self.settle()

    def text(self, part: str) -> str:
        return str(self.run(f"return document.querySelector('[data-part=\"{part}\"]').textContent"))

    def size(self, strip: int = 0) -> tuple[float, float]:
        style = self.run(
            f"const s = {STRIPS}[arguments[0]].style; return [s.width, s.height]", strip
        )
        width, height = (float(one.removesuffix("px")) for one in style)
        return width, height

    def chosen_layers(self) -> list[str]:
        frames = self.run("return [...document.querySelectorAll('.frame[aria-checked=true]')]")
        return [frame.get_attribute("title") for frame in frames]

    def pinned(self, slot: str, line: str) -> str:
        selector = f"[data-part={slot}] .{line}"
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def pixel(self, strip: int, x: float, y: float) -> list[int]:
        """The colour of a strip at a point in CSS pixels, read off a copy."""
        return list(self.run(PIXEL, strip, x, y))

    def picture(self) -> str:
        """All strips as they are drawn, as text to compare."""
        return str(self.run(f'return [...{STRIPS}].map((one) => one.toDataURL()).join(" ")'))

    def saved(self, name: str) -> bytes:
        until = time.monotonic() + 120
        while not (self.downloads / name).is_file():
            found = sorted(path.name for path in self.downloads.iterdir())
            assert time.monotonic() < until, f"{name} was not saved, but {found}"
            time.sleep(0.05)
        return (self.downloads / name).read_bytes()


@pytest.fixture(scope="module")
def browser(
    tmp_path_factory: pytest.TempPathFactory, report_data: ReportData
) -> Iterator[tuple[Any, Path, Path]]:
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.html"
    path.write_text(render_report(report_data))
    downloads = folder / "downloads"
    downloads.mkdir()
    with open_browser(height=1600, downloads=downloads) as driver:
        yield driver, path, downloads


@pytest.fixture
def page(browser: tuple[Any, Path, Path]) -> Iterator[Page]:
    driver, path, downloads = browser
    for log in ("browser", "performance"):
        driver.get_log(log)
    open_page(driver, path)
    found = Page(driver, downloads)
    # No photograph under the colours, so that a pixel is a patch's colour.
    found.write("[data-part=photo]", 0)
    yield found
    assert driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [
        one["params"]["request"]["url"]
        for one in messages
        if one["method"] == "Network.requestWillBeSent"
        and one["params"]["documentURL"] == path.resolve().as_uri()
    ]
    assert path.resolve().as_uri() in asked
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def lightness(color: list[int]) -> float:
    return float(np.dot(color, [0.2126, 0.7152, 0.0722]))


def left_and_right(page: Page, strip: int) -> tuple[list[int], list[int]]:
    """Colours of a patch in the left and in the right half of the second image."""
    width, height = page.size(strip)
    panel = (width + 6) / 5
    left, right = (
        page.pixel(strip, panel + share * (panel - 6), height / 2 + 3) for share in (0.2, 0.8)
    )
    return left, right


def test_it_opens_with_joint_colours_that_are_the_data(page: Page, report_data: ReportData) -> None:
    width, height = page.size()
    panel = (width + 6) / 5
    side = (panel - 6) / 6
    top = (height - 0.75 * (panel - 6)) / 2
    joint = report_data.models[0].layers[-1].colors["joint"]
    for image, row, column in [(0, 0, 0), (1, 3, 5), (4, 5, 2)]:
        x = image * panel + (column + 0.5) * side
        y = top + (row + 0.5) * 0.75 * side
        found = page.pixel(0, x, y)
        np.testing.assert_allclose(found, joint[image, row, column], atol=1)


def test_it_opens_with_an_example_and_its_nearest_patches(page: Page) -> None:
    shown = "return document.querySelectorAll('.near:not(:disabled)').length"
    assert page.pinned("A", "title") == "For example, fine <net> · late"
    assert page.pinned("A", "position") == "picture ant, row 3, column 3"
    assert page.run(shown) == 8
    page.pointer(1, page.size(1)[0] / 5 - 20, 60)
    assert page.pinned("A", "title") == "coarse & net · late"
    page.leave()
    assert page.pinned("A", "title").startswith("For example")


def test_pointing_shows_what_is_alike_in_every_model_at_once(page: Page) -> None:
    page.pointer(0, 20, 60)
    for strip in (0, 1):
        left, right = left_and_right(page, strip)
        assert lightness(left) > lightness(right) + 60
    assert "fine <net> · late · picture ant" in page.text("readout")
    page.pointer(1, 20, 60)
    assert lightness(left_and_right(page, 0)[0]) > lightness(left_and_right(page, 0)[1]) + 60
    assert "coarse & net" in page.text("readout")


def test_leaving_brings_the_colours_back(page: Page) -> None:
    before = page.picture()
    page.pointer(0, 20, 60)
    assert page.picture() != before
    page.leave()
    assert page.picture() == before


def test_a_pin_stays_and_two_are_compared(page: Page) -> None:
    page.pointer(0, 20, 60, click=True)
    page.leave()
    left, right = left_and_right(page, 1)
    assert lightness(left) > lightness(right) + 60
    page.pointer(1, page.size()[0] / 5 - 20, 60, click=True)
    page.leave()
    left, right = left_and_right(page, 1)
    assert lightness(left) < lightness(right) - 60
    assert float(page.text("between").replace("\u2212", "-")) < 0
    page.click("input[name=shown][value=difference]")
    left, right = left_and_right(page, 0)
    assert left[0] > left[2] + 40
    assert right[2] > right[0] + 40
    page.click("[data-part=unpin]")
    assert page.text("between") == "\u2013"


def test_nearest_patches_come_from_other_images_of_every_model(page: Page) -> None:
    page.pointer(0, 20, 60, click=True)
    labels = page.run(
        "return [...document.querySelectorAll('.near')].filter((b) => !b.disabled)"
        ".map((b) => b.getAttribute('aria-label'))"
    )
    assert len(labels) == 8
    assert sum("coarse & net" in label for label in labels) == 4
    assert not any("picture ant" in label for label in labels)
    columns = [int(label.split("column ")[1].split(":")[0]) for label in labels]
    assert all(c <= (3 if "fine" in label else 2) for c, label in zip(columns, labels, strict=True))
    page.click(".near:not(:disabled)")
    assert (
        page.run("return document.querySelector('[data-part=A] .position').textContent")
        in labels[0]
    )


def test_keys_alone_do_what_the_pointer_does(page: Page) -> None:
    page.run("document.querySelector('[data-part=panels]').focus()")
    page.keys("\ue014")  # right: begins in the middle of the first image
    assert "picture ant, row 3, column 3" in page.text("readout")
    page.keys("\ue014", "\ue014", "\ue014")
    assert "picture bee, row 3, column 0" in page.text("readout")
    page.keys("\ue015", "\ue015", "\ue015")
    assert "coarse & net · late · picture bee, row 0, column 0" in page.text("readout")
    page.keys("\ue007")  # enter
    page.keys("[")
    assert page.chosen_layers() == ["late", "middle"]
    assert page.pinned("A", "title") == "coarse & net · late"
    page.keys("\ue00c")  # escape
    assert page.text("readout").startswith("Point at a patch")


def test_the_slider_wipes_from_before_to_after(page: Page) -> None:
    after = page.picture()
    page.write("[data-part=wipe]", 100)
    all_before = page.picture()
    page.click("input[name=coloring][value=before]")
    assert page.picture() == all_before
    page.click("input[name=coloring][value=joint]")
    page.write("[data-part=wipe]", 50)
    half = left_and_right(page, 0)
    page.write("[data-part=wipe]", 0)
    assert page.picture() == after
    assert half[1] == left_and_right(page, 0)[1]
    page.run("document.querySelector('[data-part=wipe]').focus()")
    page.keys("\ue014", "\ue014")
    assert page.run("return document.querySelector('[data-part=wipe]').value") == "2"


def test_colours_and_segments_are_chosen(page: Page, report_data: ReportData) -> None:
    seen = {page.picture()}
    for coloring in ("per model", "before", "segments"):
        page.click(f'input[name=coloring][value="{coloring}"]')
        seen.add(page.picture())
    assert len(seen) == 4
    page.write("[data-part=segment-count]", 0)
    assert page.text("segment-output") == "2"
    left, right = left_and_right(page, 0)
    assert left != right
    assert (left, right) == left_and_right(page, 1)


def test_layers_are_chosen_in_the_filmstrip_and_shown_all(page: Page) -> None:
    last = page.picture()
    page.click(".film .frame")
    assert page.picture() != last
    page.click("input[name=view][value=all]")
    assert page.run(f"return {STRIPS}.length") == 6
    page.click("input[name=view][value=chosen]")
    assert page.run(f"return {STRIPS}.length") == 2


def test_zoom_and_filter_change_the_panels(page: Page) -> None:
    page.write("[data-part=zoom]", 60)
    assert page.size()[0] == 5 * 66 - 6
    page.write("[data-part=filter]", "PICTURE ee")
    assert page.size()[0] == 2 * 66 - 6
    page.pointer(0, 66 + 10, 30)
    assert "picture eel" in page.text("readout")
    page.write("[data-part=filter]", "nothing like this")
    assert page.run("return document.querySelector('[data-part=filter]').ariaInvalid") == "true"
    assert page.size()[0] == 2 * 66 - 6


def test_a_cell_of_the_layer_map_shows_its_two_layers(page: Page) -> None:
    assert page.chosen_layers() == ["late", "late"]
    page.run(
        'document.querySelector(\'.cell[data-row="1"][data-column="0"]\')'
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    page.settle()
    assert page.chosen_layers() == ["middle", "early"]
    page.run("document.querySelector('.cell').focus()")
    page.keys("\ue015", "\ue015", "\ue014", "\ue007")  # down twice, right, enter
    assert page.chosen_layers() == ["late", "middle"]


def test_the_menu_names_every_section_and_closes_when_one_is_chosen(page: Page) -> None:
    def is_open() -> bool:
        return bool(page.run("return document.getElementById('contents').matches(':popover-open')"))

    page.click("[data-part=contents]")
    assert is_open()
    anchors = page.run(
        "return [...document.querySelectorAll('#contents a')].map((a) => a.hash.slice(1))"
    )
    assert anchors == page.run(
        "return [...document.querySelectorAll('main > section')].map((one) => one.id)"
    )
    page.click("#contents a")
    assert not is_open()
    page.click("[data-part=contents]")
    page.keys("\ue00c")  # escape
    assert not is_open()


def test_layer_tables_have_a_legend_in_the_page_and_in_their_files(page: Page) -> None:
    legend = page.run("return document.querySelector('[data-legend=\"Likeness\"]').textContent")
    assert "Likeness \u00b7 lighter is more alike" in legend
    drawn = page.run("return document.querySelector('[data-figure=layer-table]').textContent")
    assert "lighter" not in drawn
    page.click("[aria-label='Save Likeness as SVG']")
    assert "lighter is more alike" in page.saved("likeness.svg").decode()


def test_tables_are_filtered_and_saved(page: Page) -> None:
    page.write("[data-part=table-filter]", "near 2")
    shown = page.run(
        "return [...document.querySelector('[data-part=table-filter]').closest('.table')"
        ".querySelectorAll('tbody tr')].filter((row) => !row.hidden).length"
    )
    assert shown == 12
    page.click("[aria-label='Save How alike as CSV']")
    lines = list(csv.reader(page.saved("how-alike.csv").decode().splitlines()))
    assert lines == [["", "value", "chance", "p"], ["CKA, debiased", "0.61234567", "0.01", "0.001"]]


@pytest.mark.parametrize(
    ("button", "name", "start"),
    [
        ("Save Likeness as SVG", "likeness.svg", b"<svg "),
        ("Save Retrieval as PNG", "retrieval.png", b"\x89PNG"),
        ("Save Items as SVG", "items.svg", b"<svg "),
        ("Save the panels as PNG", "panels.png", b"\x89PNG"),
    ],
)
def test_figures_are_saved(page: Page, button: str, name: str, start: bytes) -> None:
    page.click(f"[aria-label='{button}']")
    content = page.saved(name)
    assert content.startswith(start)
    assert len(content) > 1000


def test_an_item_is_found_and_linked_across_sets(page: Page) -> None:
    page.write("[data-part=find-item]", "item 17")
    assert page.text("item") == "item 17"
    rings = page.run(
        "return document.querySelectorAll('[data-figure=scatter] circle[r=\"7\"]').length"
    )
    assert rings == 2


def test_the_theme_follows_the_system_and_the_switch(page: Page) -> None:
    def ground() -> str:
        return str(page.run("return getComputedStyle(document.body).backgroundColor"))

    assert ground() == "rgb(255, 255, 255)"
    page.click("#theme")
    assert ground() == "rgb(20, 24, 31)"
    assert "#14181f" in page.run(
        "return document.querySelector('[data-figure=chart] svg').outerHTML"
    )
    page.click("#theme")
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    assert ground() == "rgb(255, 255, 255)"
    page.run("delete document.documentElement.dataset.theme")
    assert ground() == "rgb(20, 24, 31)"
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_nothing_jumps(page: Page) -> None:
    places = (
        "scrollTo({top: 0, behavior: 'instant'});"
        "return [...document.querySelectorAll('h2, .strip, .toolbar > *, .pin, h4, .near')]"
        ".map((one) => { const r = one.getBoundingClientRect();"
        " return [r.x, r.y, r.width, r.height].map(Math.round) })"
    )
    page.pointer(0, 20, 60)
    page.leave()
    at_rest = page.run(places)
    page.pointer(0, 20, 60)
    assert page.run(places) == at_rest
    page.pointer(0, 20, 60, click=True)
    page.pointer(1, 90, 60, click=True)
    page.click("input[name=shown][value=difference]")
    assert page.run(places) == at_rest
    page.click("input[name=coloring][value=segments]")
    assert page.run(places) == at_rest


def test_a_narrow_window_does_not_scroll_sideways(page: Page) -> None:
    size = page.driver.get_window_size()
    page.driver.set_window_size(500, 900)
    page.settle()
    wide, seen = page.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen
    page.driver.set_window_size(size["width"], size["height"])
