"""Reports of common spaces: panels or points, matches, values beside chance, parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.reports.conftest import IDS, pictures

import relspace
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    ItemMismatchError,
    UnknownNameError,
)
from relspace.features import FeatureSet, TokenGrid
from relspace.pictures.theme import LIGHT
from relspace.reports import SpaceSummary, summarize_feature_sets, summarize_space
from relspace.reports.page import ReportData, Table, report_panel
from relspace.reports.page.comparison import feature_sets_page
from relspace.reports.page.space import space_page
from relspace.reports.thumbnails import grid_boxes, read_thumbnails

N_ITEMS = 60


@pytest.fixture(scope="module")
def space() -> relspace.ItemSpace:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(N_ITEMS, 8, generator=generator)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    ids = [f"item {i}" for i in range(N_ITEMS)]
    return relspace.align({"here": X, "there": 3 * X @ rotation}, ids=ids, landmarks=30)


def page_of(space: relspace.ItemSpace | relspace.TokenSpace, **options: object) -> ReportData:
    return space_page(summarize_space(space, **options))


@pytest.fixture(scope="module")
def summary(space: relspace.ItemSpace) -> SpaceSummary:
    return summarize_space(space, n_permutations=19)


@pytest.fixture(scope="module")
def of_items(summary: SpaceSummary) -> ReportData:
    return space_page(summary)


def table(data: ReportData, start: str) -> Table:
    (found,) = (one for one in data.tables if one.caption.startswith(start))
    return found


def test_equal_geometry_coincides(of_items: ReportData) -> None:
    (scatter,) = of_items.scatters
    np.testing.assert_allclose(scatter.points["here"], scatter.points["there"], atol=1e-3)
    assert scatter.items[:2] == ["item 0", "item 1"]


def test_every_item_finds_itself(of_items: ReportData) -> None:
    rows = table(of_items, "Nearest item in there").rows
    assert len(rows) == N_ITEMS
    assert all(row[0] == row[1] and row[2] == "yes" for row in rows)


def test_matches_have_p_values(of_items: ReportData) -> None:
    found = table(of_items, "Matching across sets")
    assert found.columns == ["", "top-1 match", "chance", "p", "mean distance", "chance"]
    assert [row[3] for row in found.rows] == pytest.approx([1 / 20, 1 / 20])


def test_values_stand_beside_chance_and_p(of_items: ReportData) -> None:
    found = table(of_items, "How alike the relative features of here and there")
    assert found.columns == ["", "value", "chance", "p", "calibrated"]
    for title, value, chance, p, calibrated in found.rows:
        assert value == pytest.approx(1, abs=1e-3), title
        assert abs(float(chance)) < 0.6
        assert calibrated == pytest.approx(1, abs=1e-2), title
        assert p == pytest.approx(1 / 20)


def test_unrelated_sets_are_not_made_to_look_alike() -> None:
    generator = torch.Generator().manual_seed(1)
    A, B = (torch.randn(80, 10, generator=generator) for _ in range(2))
    data = page_of(relspace.align({"a": A, "b": B}), n_permutations=39)
    for title, value, chance, p, calibrated in table(data, "How alike").rows:
        assert float(value) == pytest.approx(float(chance), abs=0.1), title
        assert float(p) > 0.025, title
        assert (float(calibrated) > 0) == (float(p) <= 0.05), title
    for _, _, _, p, *_ in table(data, "Matching across sets").rows:
        assert float(p) > 0.025


def test_it_says_how_items_were_matched_and_with_what(of_items: ReportData) -> None:
    assert of_items.matched_by == "Items of different sets were matched by ids."
    assert of_items.parameters["density"] == 0.2
    assert of_items.parameters["landmarks"] == 30
    assert of_items.versions["relspace"] == relspace.__version__


def test_items_show_their_images(space: relspace.ItemSpace) -> None:
    images = np.zeros((N_ITEMS, 20, 30, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(N_ITEMS)
    no_ids = relspace.align({name: torch.as_tensor(space[name]) for name in space})
    data = page_of(no_ids, images=images, n_permutations=0)
    assert data.scatters[0].shows_images
    assert [int(one.pixels[0, 0, 0]) for one in data.images] == list(range(N_ITEMS))


def test_tokens_become_panels_of_their_images(models: dict[str, FeatureSet], photos: Path) -> None:
    space = relspace.align(models, layer={"fine": "layer 1"}, landmarks=150)
    data = page_of(space, images=photos, n_images=4, n_permutations=9)
    assert [layer.name for one in data.models for layer in one.layers] == ["layer 1", "layer 1"]
    assert data.models[0].layers[0].vectors.shape[:3] == (4, 12, 12)
    np.testing.assert_array_equal(data.images[2].pixels, pictures()[2])
    assert [one.title for one in data.images] == IDS[:4]
    assert not data.scatters
    assert table(data, "The sets").rows[0][-1] == "12 \u00d7 12"
    assert len(table(data, "How alike").rows) == 4


def test_given_what_was_aligned_it_shows_the_colours_before(models: dict[str, FeatureSet]) -> None:
    space = relspace.align(models, layer={"fine": "layer 1"}, landmarks=150)
    alone = page_of(space, n_permutations=0)
    assert "before" not in alone.models[0].layers[0].colors
    # Sets in another order: images are found by their ids.
    turned = {name: one.select(images=list(reversed(IDS))) for name, one in models.items()}
    data, same = (
        page_of(space, features=given, n_images=4, n_permutations=0) for given in (models, turned)
    )
    for one, other in zip(data.models, same.models, strict=True):
        before = one.layers[0].colors["before"]
        assert before.shape == (*one.layers[0].vectors.shape[:3], 3)
        np.testing.assert_array_equal(before, other.layers[0].colors["before"])
    # The same colours make a panel, before beside after.
    assert report_panel(data, LIGHT).startswith(b"\x89PNG")


def test_features_that_were_not_aligned_are_refused(
    space: relspace.ItemSpace, models: dict[str, FeatureSet], tmp_path: Path
) -> None:
    of_tokens = relspace.align(models, landmarks=150)
    with pytest.raises(UnknownNameError, match="features are given of 'third'"):
        page_of(of_tokens, features={"third": models["fine"]})
    with pytest.raises(ItemMismatchError, match=r"features of fine .*a grid of 12 x 12"):
        page_of(of_tokens, features={"fine": models["fine"].pool((6, 6))})
    with pytest.raises(InvalidInputError, match="have no grid: leave features out"):
        page_of(space, features=models)
    with pytest.raises(InvalidInputError, match="they are known: leave features out"):
        relspace.report(models, tmp_path / "page.html", features=models)


def test_quantised_vectors_approximate_the_spaces_correlations(
    models: dict[str, FeatureSet],
) -> None:
    space = relspace.align(models, landmarks=150)
    data = page_of(space, n_permutations=0)
    assert data.quantization is not None
    scales = data.quantization.scales
    rows = [
        one.layers[0].vectors.reshape(-1, len(scales)).astype(float) * scales for one in data.models
    ]
    exact = torch.as_tensor(space["fine"]) @ torch.as_tensor(space["coarse"]).T
    error = rows[0] @ rows[1].T - exact.numpy()
    assert np.sqrt(np.square(error).mean()) < 0.02


def test_without_images_there_are_grey_ones_of_their_shape() -> None:
    maps = torch.randn(3, 4, 8, 5, generator=torch.Generator().manual_seed(0))
    one = FeatureSet.from_arrays({"l": maps}, layout="bhwc", image_sizes=[(100, 200)] * 3)
    data = page_of(relspace.align({"a": one, "b": one}, landmarks=60), n_permutations=0)
    assert data.images[0].pixels.shape == (32, 64, 3)


def test_boxes_become_fractions_of_the_images() -> None:
    boxes = torch.tensor([[0.0, 25.0, 100.0, 175.0]])
    found = grid_boxes(TokenGrid(2, 3, boxes, torch.tensor([[100, 200]])), 1)
    np.testing.assert_allclose(found, [[0, 0.125, 1, 0.875]])
    assert grid_boxes(TokenGrid.whole(2, 2, image_sizes=[(10, 20)]), 1) is None


def test_images_are_found_with_or_without_their_ending(photos: Path) -> None:
    found = read_thumbnails(photos, ["picture-3", "picture-0.png"], 2, [0, 1], side=16)
    assert found.images[0].pixels.shape == (16, 16, 3)
    with pytest.raises(ItemMismatchError, match="no images for the items 'picture-9'"):
        read_thumbnails(photos, ["picture-9"], 1, [0])


def _mirrored() -> relspace.ItemSpace:
    X = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    return relspace.align({"a": X, "b": X.flip(1)})


def test_a_page_is_replaced_only_when_told(tmp_path: Path) -> None:
    space = _mirrored()
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(InvalidInputError, match="exists: overwrite it with overwrite=True"):
        relspace.report(space, page, n_permutations=0)
    assert page.read_text() == "mine"
    relspace.report(space, page, n_permutations=0, overwrite=True)
    assert page.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize(
    ("of", "out", "message"),
    [
        ({"a": np.zeros((9, 3))}, "p.html", r"of\['a'\] is of type ndarray and not a FeatureSet"),
        (np.zeros((9, 3)), "p.html", "of is of type ndarray; a report is of a space"),
        ({}, "p.html", "of holds 0 feature sets"),
        ({1: None}, "p.html", "of has the name 1"),
        ("space", "p.pdf", "out is '.*p.pdf'; a report is a file that ends in .html"),
        ("space", "", "out is '.*'"),
    ],
)
def test_what_no_page_is_of_is_named(tmp_path: Path, of: object, out: str, message: str) -> None:
    with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
        relspace.report(_mirrored() if isinstance(of, str) else of, tmp_path / out)
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_out_of_a_table_is_said() -> None:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(320, 6, generator=generator)
    Y = X + 0.5 * torch.randn(320, 6, generator=generator)
    space = relspace.align({"a": X, "b": Y})
    found = table(page_of(space, n_permutations=0), "Nearest item in b")
    assert found.caption.endswith("(300 of 320 items, at random; space.match(a, b) gives all)")
    assert len(found.rows) == 300
    # Items look for their nearest among all, not among those that are listed.
    nearest = torch.as_tensor(space.match("a", "b").indices)[:, 0]
    assert all(int(other) == int(nearest[int(item)]) for item, other, *_ in found.rows)


def test_values_of_aligned_features_are_called_so(of_items: ReportData) -> None:
    titles = [
        row[0] for row in table(of_items, "How alike the relative features of here and there").rows
    ]
    assert all(str(title).endswith(" of relative features") for title in titles)


def test_a_part_of_the_images_is_said_to_be_one(models: dict[str, FeatureSet]) -> None:
    space = relspace.align(models, landmarks=150)
    shown = "Explored are the first 4 of 6 images; n_images=6 shows all."
    assert page_of(space, n_images=4, n_permutations=0).lead.endswith(shown)
    assert "Explored" not in page_of(space, n_images=6, n_permutations=0).lead
    assert feature_sets_page(
        summarize_feature_sets(models, n_images=4, n_permutations=0)
    ).lead.endswith(shown)


def test_the_summary_holds_numbers_names_and_arrays(
    space: relspace.ItemSpace, summary: SpaceSummary
) -> None:
    assert summary.names == ("here", "there")
    assert summary.match_p_values == {
        ("here", "there"): pytest.approx(1 / 20),
        ("there", "here"): pytest.approx(1 / 20),
    }
    found = summary.matches["here", "there"]
    np.testing.assert_array_equal(found.items, found.nearest)
    assert len(found.items) == len(found.distances) == N_ITEMS
    assert not found.among_themselves
    assert summary.points is not None
    assert summary.points.points["here"].shape == (N_ITEMS, 2)
    assert [one.value for one in summary.values["here", "there"]] == pytest.approx(
        [1] * 4, abs=1e-3
    )
    assert summary.numbers == space.summary()
    assert (summary.n_measured, summary.n_rows) == (N_ITEMS, N_ITEMS)


def test_pages_say_how_pictures_were_matched(space: relspace.ItemSpace) -> None:
    images = np.zeros((N_ITEMS, 20, 30, 3), dtype=np.uint8)
    without_ids = relspace.align({name: torch.as_tensor(space[name]) for name in space})
    said = page_of(without_ids, images=images, n_permutations=0).matched_by
    assert said.endswith(
        "Pictures were matched by position: picture 0 is that of item 0, and so on."
    )
    assert "Pictures" not in page_of(without_ids, n_permutations=0).matched_by
    with pytest.raises(ItemMismatchError, match=r"59 images and 60 items without ids.*or ids of"):
        page_of(without_ids, images=images[:-1], n_permutations=0)


def test_pictures_are_found_by_ids_and_never_by_position_where_there_are_ids(
    models: dict[str, FeatureSet], photos: Path
) -> None:
    space = relspace.align(models, landmarks=150)
    said = page_of(space, images=photos, n_images=2, n_permutations=0).matched_by
    assert said.endswith(
        "Images of different sets were matched by ids. Pictures were found by ids."
    )
    with pytest.raises(ItemMismatchError, match="no images for the items"):
        page_of(space, images=list(pictures()), n_images=2, n_permutations=0)


def test_an_id_with_two_images_is_refused(photos: Path) -> None:
    from PIL import Image

    Image.fromarray(pictures()[0]).save(photos / "picture-3.jpg")
    found = read_thumbnails(photos, ["picture-3.jpg"], 1, [0])
    assert found.matched_by == "ids"
    with pytest.raises(ItemMismatchError, match=r"'picture-3' has several images.*picture-3.png"):
        read_thumbnails(photos, ["picture-3"], 1, [0])


def test_features_of_other_images_are_refused_where_there_are_no_ids() -> None:
    maps = torch.randn(5, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    five, four = (FeatureSet.from_arrays({"l": one}, layout="bhwc") for one in (maps, maps[1:]))
    space = relspace.align({"a": five, "b": five}, landmarks=40)
    with pytest.raises(ItemMismatchError, match="features of a have 4 images and the space has 5"):
        page_of(space, features={"a": four, "b": four}, n_permutations=0)


def test_a_sample_of_items_is_said_to_be_one() -> None:
    X = torch.randn(1100, 4, generator=torch.Generator().manual_seed(0))
    data = page_of(relspace.align({"a": X, "b": X.flip(1)}, landmarks=50), n_permutations=0)
    assert data.scatters[0].title.endswith("600 of 1,100 items of each set, at random")
    assert table(data, "How alike").caption.endswith("1,000 of 1,100 items, at random")
