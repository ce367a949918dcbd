"""A report as an object: shown by a notebook, saved once or again, and then a path."""

from __future__ import annotations

import os
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import relspace as rs
from relspace.errors import InvalidInputError
from relspace.reports import Report


@pytest.fixture(scope="module")
def space() -> rs.ItemSpace:
    X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    return rs.align({"a <b>": X, "c": X.flip(1)})


@pytest.fixture
def report(space: rs.ItemSpace) -> Report:
    return rs.report(space, n_permutations=0)


def test_nothing_is_written_before_it_is_saved(
    space: rs.ItemSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = rs.report(space, n_permutations=0)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        InvalidInputError, match=r"in no file yet: save it with report.save\(path\)"
    ):
        os.fspath(report)
    assert report.save("page.html") == Path("page.html")
    assert Path("page.html").read_text() == report.html
    with pytest.raises(
        InvalidInputError, match=r"path is 'page\.html', which exists: overwrite it"
    ):
        report.save("page.html")
    with pytest.raises(
        InvalidInputError, match=r"path is 'page.pdf'; a report is a file that ends"
    ):
        report.save("page.pdf")
    report.save("page.html", overwrite=True)


def test_a_page_is_refused_before_any_work_where_it_can_not_or_must_not_be_written(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 4, 4), torch.nn.Tanh())
    preprocessing = rs.Preprocessing(size=(8, 8))
    model = rs.ModuleModel(network, ["1"], layout="bchw", preprocessing=preprocessing)
    store = tmp_path / "a.zarr"
    stored = {"a": rs.extract(model, torch.rand(6, 8, 8, 3).numpy(), store)}
    stored["b"] = stored["a"]
    kept = rs.report(stored, n_permutations=0)
    monkeypatch.setattr(sys.modules[Report.__module__], "summarize_feature_sets", None)
    (tmp_path / "file").touch()
    for page, problem in [
        (store / "page.html", r"lies in .*a\.zarr', one of the inputs: name another output"),
        (tmp_path / "file" / "page.html", "can't be written"),
        (tmp_path / ("a" * 300 + ".html"), "can't be written"),
    ]:
        with pytest.raises(InvalidInputError, match=f"^out is .*{problem}"):
            rs.report(stored, page)
        with pytest.raises(InvalidInputError, match=f"^path is .*{problem}"):
            kept.save(page)
    assert report.inputs == ()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.zarr", "file"]


def test_once_saved_it_stands_for_its_file(space: rs.ItemSpace, tmp_path: Path) -> None:
    report = rs.report(space, tmp_path / "page.html", n_permutations=0)
    assert report.path == Path(report) == tmp_path / "page.html"
    assert Path(os.fspath(report)).read_text() == report.html


def test_it_says_what_is_in_it(report: Report, tmp_path: Path) -> None:
    first, sets, sections, saved = str(report).splitlines()
    assert first == f"Report('a <b> and c in one space', {len(report.html) / 1e6:.1f} MB)"
    assert sets == "sets: a <b>, c"
    assert sections == "sections: Items, Values, How it was made"
    assert saved.startswith("not saved")
    report.save(tmp_path / "p.html")
    assert str(report).endswith(f"saved: {tmp_path / 'p.html'}")


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(report: Report) -> None:
    found: list[dict[str, str | None]] = []

    class Frames(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag == "iframe"
            found.append(dict(attrs))

    Frames().feed(report._repr_html_())
    (frame,) = found
    assert frame["srcdoc"] == report.html
    assert "allow-same-origin" not in str(frame["sandbox"])


def test_its_summary_is_the_numbers(report: Report, space: rs.ItemSpace) -> None:
    assert report.summary.names == space.names
    assert report.data.title == "a <b> and c in one space"
