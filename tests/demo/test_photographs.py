"""The demo's photographs and what was drawn over them."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch

from relspace.demo import photographs as module
from relspace.demo.photographs import CONCEPTS, PHOTOGRAPHS, load_photographs, patches_of
from relspace.errors import MissingDependencyError
from relspace.features import TokenGrid

pytest.importorskip("skimage", reason="photographs come from scikit-image")
pytest.importorskip("sklearn", reason="photographs come from scikit-learn")


@pytest.fixture(scope="module")
def photographs() -> dict[str, module.Photograph]:
    return {one.name: one for one in load_photographs()}


def test_all_nine_are_found_and_their_outlines_fit(
    photographs: dict[str, module.Photograph],
) -> None:
    assert tuple(photographs) == PHOTOGRAPHS
    for one in photographs.values():
        width, height = one.image.size
        for polygon in [*one.objects, *one.ignored]:
            points = np.array(polygon)
            assert points.shape[1] == 2
            assert (points >= 0).all()
            assert (points <= (width, height)).all()
        # The rocket is narrower than the cells of coarser grids.
        shares = [np.mean(one.concepts(80, 80) == concept) for concept in range(3)]
        assert min(shares) > 0.01, one.name


@pytest.mark.parametrize(
    ("name", "x", "y", "concept"),
    [
        ("flower", 310, 220, "object"),
        ("flower", 20, 20, "background"),
        ("coffee", 290, 150, "object"),
        ("coffee", 560, 40, "background"),
        ("coffee", 478, 230, "outline"),
        ("chelsea", 200, 150, "object"),
        ("astronaut", 230, 80, "object"),
        ("china", 500, 60, "background"),
        ("grace_hopper", 450, 200, "background"),
        ("motorcycle", 380, 330, "object"),
        ("camera", 440, 60, "background"),
        ("rocket", 250, 60, "background"),
    ],
)
def test_a_cell_shows_what_one_sees_there(
    photographs: dict[str, module.Photograph], name: str, x: int, y: int, concept: str
) -> None:
    one = photographs[name]
    width, height = one.image.size
    concepts = one.concepts(40, 40)
    assert CONCEPTS[concepts[y * 40 // height, x * 40 // width]] == concept


def test_what_could_count_as_an_object_is_left_out(
    photographs: dict[str, module.Photograph],
) -> None:
    concepts = photographs["rocket"].concepts(40, 40)
    assert concepts[20, 2] == -1
    assert (photographs["flower"].concepts(40, 40) == -1).mean() < 0.03


def test_crops_are_squares_of_opposite_corners(
    photographs: dict[str, module.Photograph],
) -> None:
    one = photographs["coffee"]
    left, right = one.crops().values()
    assert left.size == right.size == (320, 320)
    whole = np.asarray(one.image)
    assert np.array_equal(np.asarray(left), whole[:320, :320])
    assert np.array_equal(np.asarray(right), whole[-320:, -320:])


def test_tokens_have_the_concept_of_their_cell(
    photographs: dict[str, module.Photograph],
) -> None:
    chosen = [photographs["flower"], photographs["coffee"]]
    grid = TokenGrid.whole(8, 10, n_images=2)
    images, concepts, centers = patches_of(chosen, grid, [4, 7])
    assert images.tolist() == [0] * 80 + [1] * 80
    assert torch.equal(concepts[80:], torch.from_numpy(chosen[1].concepts(8, 10).reshape(-1)))
    assert centers[0].tolist() == pytest.approx([0.5 / 8, 0.5 / 10])
    assert centers.shape == (160, 2)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = module.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name == "skimage" else found(name)

    monkeypatch.setattr(module, "find_spec", without)
    with pytest.raises(MissingDependencyError, match="scikit-image ships"):
        load_photographs()
    assert "skimage" in sys.modules
