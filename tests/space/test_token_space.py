"""Tokens on grids of their own in one common space: what matches, what must not, and its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.generators.fresh_process import printed

import relspace as rs
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError
from relspace.features import Positions, TokenGrid, choose_positions, token_centers
from relspace.kernels.correlation import correlation_blocks

N_IMAGES, SIZE = 8, 32
N_WAVES = 6


def fields(n_rows: int, n_columns: int, box: tuple[float, ...], seed: int) -> torch.Tensor:
    """Smooth random functions of the place, other ones in every image, at a grid's centres."""
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.randn(N_IMAGES, N_WAVES, 2, generator=generator) * 0.25
    phase = torch.rand(N_IMAGES, N_WAVES, generator=generator) * 6.28
    grid = TokenGrid.whole(n_rows, n_columns, image_sizes=[(SIZE, SIZE)] * N_IMAGES)
    boxes = torch.tensor([box] * N_IMAGES, dtype=torch.float64)
    centers = token_centers(TokenGrid(n_rows, n_columns, boxes, grid.image_sizes)).float()
    return torch.einsum("nrcz,nwz->nrcw", centers, frequency).add(phase[:, None, None]).sin()


def seen_by(
    seed: int,
    *,
    shape: tuple[int, int] = (8, 8),
    width: int = 24,
    box: tuple[float, ...] = (0.0, 0.0, SIZE, SIZE),
    content: int = 0,
    ids: list[str] | None = None,
) -> rs.FeatureSet:
    """What a model makes of the images: a random nonlinear map of the fields at its own grid."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(N_WAVES, width, generator=generator)
    maps = torch.tanh(fields(*shape, box, content) @ weights)
    return rs.FeatureSet.from_arrays(
        {"early": torch.zeros(N_IMAGES, 2, 2, 3), "late": maps},
        layout="bhwc",
        ids=ids,
        image_sizes=[(SIZE, SIZE)] * N_IMAGES,
        boxes=[box] * N_IMAGES,
    )


@pytest.fixture(scope="module")
def space() -> rs.TokenSpace:
    sets = {"fine": seen_by(1, shape=(12, 12)), "coarse": seen_by(2, shape=(8, 8), width=40)}
    found = rs.align(sets, landmarks=400)
    assert isinstance(found, rs.TokenSpace)
    return found


def test_each_set_keeps_its_own_tokens(space: rs.TokenSpace) -> None:
    assert {name: tuple(rows.shape) for name, rows in space.items()} == {
        "fine": (N_IMAGES * 144, 400),
        "coarse": (N_IMAGES * 64, 400),
    }
    assert (space.grid("fine").rows, space.grid("coarse").rows) == (12, 8)
    assert repr(space) == (
        "TokenSpace('fine' 12 x 12, 'coarse' 8 x 8: 8 images matched by position, 400 landmarks)"
    )
    assert space.parameters["layers"] == {"fine": "late", "coarse": "late"}


def test_the_same_place_is_found_across_grids(space: rs.TokenSpace) -> None:
    match = space.match("coarse", "fine", 3)
    assert match.chance == pytest.approx(3 / (N_IMAGES * 144))
    assert match.accuracy > 0.3
    assert float(space.distances("coarse", "fine").mean()) < 0.3
    assert space.chance_distance("coarse", "fine") == pytest.approx(1.0, abs=0.05)


def test_match_agrees_with_pairwise(space: rs.TokenSpace) -> None:
    distances = torch.as_tensor(space.pairwise("coarse", "fine"))
    assert distances.shape == (N_IMAGES * 64, N_IMAGES * 144)
    match = space.match("coarse", "fine", 2)
    torch.testing.assert_close(
        torch.as_tensor(match.distances), distances.topk(2, largest=False).values
    )


def test_matching_some_images_names_their_tokens(space: rs.TokenSpace) -> None:
    match = space.match("fine", "coarse", images=[1, 4, 6])
    assert match.n_items == 3 * 144
    assert match.chance == pytest.approx(1 / (3 * 64))
    assert set((torch.as_tensor(match.indices) // 64).flatten().tolist()) <= {1, 4, 6}


@pytest.fixture(scope="module", params=["columns", "half-whiten", "whiten"])
def unrelated(request: pytest.FixtureRequest) -> rs.TokenSpace:
    """Features that change slowly within an image, of images that have nothing in common."""
    sets = {"a": seen_by(1, content=1), "b": seen_by(2, content=2)}
    found = rs.align(sets, landmarks=400, standardize=request.param)
    assert isinstance(found, rs.TokenSpace)
    return found


def in_the_same_image(best: torch.Tensor) -> float:
    """How often the best of the other set's tokens lies in the token's own image."""
    best = best.flatten()
    return float((best // 64 == torch.arange(len(best)) // 64).double().mean())


class TestUnrelated:
    def test_matches_are_chance(self, unrelated: rs.TokenSpace) -> None:
        match = unrelated.match("a", "b")
        assert match.accuracy <= 4 * match.chance

    def test_distances_are_chance(self, unrelated: rs.TokenSpace) -> None:
        assert float(unrelated.distances("a", "b").mean()) == pytest.approx(1.0, abs=0.1)

    def test_the_image_is_not_found(self, unrelated: rs.TokenSpace) -> None:
        best = torch.as_tensor(unrelated.match("a", "b").indices)
        assert 0.25 / N_IMAGES < in_the_same_image(best) < 1.5 / N_IMAGES

    def test_landmarks_of_the_same_image_would_leak(self, unrelated: rs.TokenSpace) -> None:
        rows = [torch.as_tensor(unrelated[name]) for name in ("a", "b")]
        best = torch.cat([c.argmax(dim=1) for _, c in correlation_blocks(*rows, None, None)])
        assert in_the_same_image(best) > 1.5 / N_IMAGES


def test_places_outside_of_a_crop_have_no_distance() -> None:
    inner = (8.0, 8.0, 24.0, 24.0)
    space = rs.align({"whole": seen_by(1), "crop": seen_by(2, box=inner)}, landmarks=200)
    assert isinstance(space, rs.TokenSpace)
    distances = torch.as_tensor(space.distances("whole", "crop")).reshape(N_IMAGES, 8, 8)
    assert bool(distances[:, 2:6, 2:6].isfinite().all())
    assert int(distances.isfinite().sum()) == N_IMAGES * 16
    assert not bool(torch.as_tensor(space.distances("crop", "whole")).isnan().any())
    assert space.match("whole", "crop").n_items == N_IMAGES * 16


def test_images_are_matched_by_id() -> None:
    ids = [f"photo {i}" for i in range(N_IMAGES)]
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    straight = rs.align({"a": seen_by(1, ids=ids), "b": seen_by(2, ids=ids)}, landmarks=100)
    turned = rs.align(
        {"a": seen_by(1, ids=ids), "b": seen_by(2, ids=ids).select(images=order)}, landmarks=100
    )
    assert turned.ids == tuple(ids)
    torch.testing.assert_close(turned["b"], straight["b"])


def test_images_that_differ_are_refused() -> None:
    ids = [f"photo {i}" for i in range(N_IMAGES)]
    with pytest.raises(ItemMismatchError, match="photo 0"):
        rs.align({"a": seen_by(1, ids=ids), "b": seen_by(2, ids=["other", *ids[1:]])})


def test_a_layer_can_be_named_for_each() -> None:
    with pytest.raises(rs.errors.BandwidthError, match="landmarks of a"):
        rs.align({"a": seen_by(1), "b": seen_by(2)}, layer={"a": "early"}, landmarks=50)


def test_grids_and_single_rows_do_not_mix() -> None:
    with pytest.raises(InvalidTypeError, match=r"pool"):
        rs.align({"a": seen_by(1), "b": torch.randn(N_IMAGES, 3)})


def test_pooled_feature_sets_are_items() -> None:
    ids = [f"photo {i}" for i in range(N_IMAGES)]
    space = rs.align({k: seen_by(s, ids=ids).pool("mean") for k, s in (("a", 1), ("b", 2))})
    assert isinstance(space, rs.ItemSpace)
    assert space.ids == tuple(ids)


@pytest.mark.parametrize(
    ("landmarks", "error"), [([1, 2, 3], InvalidTypeError), (2, InvalidInputError)], ids=str
)
def test_landmarks_are_places(landmarks: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="landmarks"):
        rs.align({"a": seen_by(1), "b": seen_by(2)}, landmarks=landmarks)


@pytest.mark.parametrize("standardize", ["whiten", "half-whiten"])
def test_columns_are_decorrelated_where_rows_are_compared(standardize: str) -> None:
    sets = {"fine": seen_by(1, shape=(12, 12)), "coarse": seen_by(2, shape=(8, 8), width=40)}
    plain = rs.align(sets, landmarks=400, standardize="columns")
    mixed = rs.align(sets, landmarks=400, standardize=standardize)
    assert isinstance(plain, rs.TokenSpace)
    assert isinstance(mixed, rs.TokenSpace)
    # What is embedded and drawn stays the same.
    torch.testing.assert_close(mixed["fine"], plain["fine"], rtol=0, atol=0)
    assert float(mixed.distances("coarse", "fine").mean()) != float(
        plain.distances("coarse", "fine").mean()
    )
    assert mixed.match("coarse", "fine").accuracy > plain.match("coarse", "fine").accuracy


def test_unknown_standardizations_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="half-whiten"):
        rs.align({"a": seen_by(1), "b": seen_by(2)}, standardize="rows", landmarks=50)


def test_landmarks_can_be_given() -> None:
    sets = {"a": seen_by(1), "b": seen_by(2)}
    places = choose_positions([fs["late"].grid for fs in sets.values()], 60, random_state=5)
    space = rs.align(sets, landmarks=places)
    assert isinstance(space, rs.TokenSpace)
    assert isinstance(space.landmarks, Positions)
    assert torch.equal(space.landmarks.y, places.y)
    with pytest.warns(DeprecationWarning, match="TokenSpace.landmarks"):
        assert space.places is space.landmarks


def test_fewer_than_three_images_can_not_be_matched(space: rs.TokenSpace) -> None:
    with pytest.raises(InvalidInputError, match="at least 3"):
        space.match("fine", "coarse", images=[0, 1])


def test_another_process_reads_the_same(space: rs.TokenSpace, tmp_path: Path) -> None:
    file = space.save(tmp_path / "space.safetensors")
    code = (
        "import relspace, torch, sys\n"
        "space = relspace.load_space(sys.argv[1])\n"
        "print(repr(space)); print(space.match('coarse', 'fine').accuracy)\n"
        "print(float(torch.as_tensor(space['fine']).double().sum()))\n"
    )
    assert printed(code, file).splitlines() == [
        repr(space),
        repr(space.match("coarse", "fine").accuracy),
        repr(float(torch.as_tensor(space["fine"]).double().sum())),
    ]


def test_summary_is_of_both_directions(space: rs.TokenSpace) -> None:
    summary = space.summary()
    assert [(pair["from"], pair["to"]) for pair in summary["pairs"]] == [
        ("fine", "coarse"),
        ("coarse", "fine"),
    ]
    assert summary["sets"]["fine"]["rows"] == 12
    for pair in summary["pairs"]:
        assert pair["match_accuracy"] > 10 * pair["match_chance"]
        assert pair["distance"] < 0.5 * pair["distance_chance"]


@pytest.mark.parametrize(
    ("n_images", "what", "message"),
    [
        (1, lambda s: s.distances("fine", "coarse"), "0 are left .* align 2 images or more"),
        (1, lambda s: s.chance_distance("fine", "coarse"), "takes at least 3 images"),
        (1, lambda s: s.pairwise("fine", "coarse"), "takes at least 3 images"),
        (2, lambda s: s.chance_distance("fine", "coarse"), "0 are left .* align 3 images or more"),
        (2, lambda s: s.pairwise("fine", "coarse"), "0 are left .* align 3 images or more"),
        (3, lambda s: s.chance_distance("fine", "coarse", random_state=-1), "random_state is -1"),
    ],
)
def test_comparisons_that_leave_no_landmark_are_refused(
    n_images: int, what: Callable[[rs.TokenSpace], object], message: str
) -> None:
    maps = torch.randn(n_images, 6, 6, 5, generator=torch.Generator().manual_seed(0))
    fine = rs.FeatureSet.from_arrays({"maps": maps}, layout="bhwc")
    space = rs.align({"fine": fine, "coarse": fine.pool((3, 3))}, landmarks=40)
    with pytest.raises(InvalidInputError, match=message):
        what(space)
