"""Feature sets from arrays: layouts, order of tokens, selection and pooling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import relspace
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    ItemMismatchError,
    NonFiniteError,
    UnknownNameError,
)
from relspace.features import FeatureSet, choose_positions, token_centers

N, ROWS, COLUMNS, D = 6, 3, 4, 5
MAPS = np.random.default_rng(0).normal(size=(N, ROWS, COLUMNS, D)).astype("float32")
CLASS = np.random.default_rng(1).normal(size=(N, 1, D)).astype("float32")
TOKENS = np.concatenate([CLASS, CLASS + 1, MAPS.reshape(N, -1, D)], axis=1)
IDS = [f"{name}.jpg" for name in "abcdef"]


def from_tokens(**changes) -> FeatureSet:
    declared = {
        "layout": "btd", "ids": IDS, "n_prefix_tokens": 2, "grid_shape": (ROWS, COLUMNS),
    }  # fmt: skip
    return FeatureSet.from_arrays({"layer_0": TOKENS, "layer_1": 2 * TOKENS}, **declared | changes)


@pytest.mark.parametrize(
    ("array", "declared"),
    [
        (MAPS, {"layout": "bhwc"}),
        (MAPS.transpose(0, 3, 1, 2), {"layout": "bchw"}),
        (TOKENS, {"layout": "btd", "n_prefix_tokens": 2, "grid_shape": (ROWS, COLUMNS)}),
        (torch.from_numpy(MAPS), {"layout": {"layer": "bhwc"}}),
    ],
    ids=["bhwc", "bchw", "btd", "tensor"],
)
def test_every_layout_gives_the_same_tokens(array, declared) -> None:
    fs = FeatureSet.from_arrays({"layer": array}, **declared)
    np.testing.assert_array_equal(fs.tokens(layer="layer"), MAPS.reshape(-1, D))
    assert fs["layer"].shape == (N * ROWS * COLUMNS, D)
    assert (fs.grid.rows, fs.grid.columns, fs.grid.n_images) == (ROWS, COLUMNS, N)
    np.testing.assert_array_equal(np.asarray(fs["layer"]), MAPS.reshape(-1, D))
    np.testing.assert_array_equal(fs["layer"].maps(torch.tensor([2])), MAPS[[2]])


@pytest.mark.parametrize(
    ("given", "held"),
    [
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float64),
        (torch.int32, torch.float32),
    ],
)
def test_features_keep_the_type_that_arrays_can_have(given, held) -> None:
    array = torch.from_numpy(8 * MAPS).to(given)
    fs = FeatureSet.from_arrays({"layer": array}, layout="bhwc")
    assert fs["layer"].dtype == fs.tokens().dtype == held
    assert np.asarray(fs["layer"]).dtype == str(held).removeprefix("torch.")
    assert torch.equal(fs.tokens(), array.reshape(-1, D).to(held))
    # What is computed of them is in float32 at least.
    assert fs.pool("mean").tokens().dtype == torch.promote_types(held, torch.float32)


def test_float16_is_aligned_as_it_is_from_a_store() -> None:
    half = FeatureSet.from_arrays({"layer": MAPS.astype("float16")}, layout="bhwc")
    full = FeatureSet.from_arrays(
        {"layer": MAPS.astype("float16").astype("float32")}, layout="bhwc"
    )
    aligned = [relspace.align({"a": one, "b": one}, landmarks=20)["a"] for one in (half, full)]
    torch.testing.assert_close(torch.as_tensor(aligned[0]), torch.as_tensor(aligned[1]))


def test_one_row_for_each_item_has_ids_and_no_grid() -> None:
    fs = FeatureSet.from_arrays({"layer": MAPS[:, 0, 0]}, ids=IDS)
    assert (fs.grid, fs.image_sizes, fs["layer"].ids) == (None, None, tuple(IDS))
    with pytest.raises(InvalidInputError, match="no grid"):
        fs.pool((2, 2))
    with pytest.raises(InvalidInputError, match="no grid"):
        fs.read_positions(choose_positions(from_tokens()["layer_0"].grid, 3))


@pytest.mark.parametrize(
    ("array", "declared", "message"),
    [
        (MAPS, {}, "give layout='bchw', or give layout='bhwc'"),
        (TOKENS, {}, "layout='btd'"),
        (MAPS[0, 0, 0], {}, "fits none"),
        (TOKENS, {"layout": "bhwc"}, "not of the layout"),
        (TOKENS, {"layout": "channels"}, "one of nd, btd"),
        (TOKENS, {"layout": "btd", "grid_shape": (3, 4)}, "give n_prefix_tokens"),
        (TOKENS, {"layout": "btd", "n_prefix_tokens": 2}, "give grid_shape"),
        (TOKENS, {"layout": "btd", "n_prefix_tokens": 1, "grid_shape": (3, 4)}, "make 13"),
        (MAPS[:0], {"layout": "bhwc"}, "empty"),
        (MAPS, {"layout": "bhwc", "image_sizes": [[4, 4, 4]]}, "image_sizes has shape"),
    ],
)
def test_ambiguous_and_wrong_shapes_are_refused(array, declared, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        FeatureSet.from_arrays({"layer": array}, **declared)


def test_items_and_values_are_checked() -> None:
    broken = MAPS.copy()
    broken[1, 2, 3, 4] = np.nan
    with pytest.raises(NonFiniteError, match="layer holds 1 NaN"):
        FeatureSet.from_arrays({"layer": broken}, layout="bhwc")
    with pytest.raises(ItemMismatchError, match="different numbers of items"):
        FeatureSet.from_arrays({"a": MAPS, "b": MAPS[:-1]}, layout="bhwc")
    with pytest.raises(ItemMismatchError, match="6 items and 5 ids"):
        FeatureSet.from_arrays({"a": MAPS}, layout="bhwc", ids=IDS[:-1])
    with pytest.raises(ItemMismatchError, match="image_sizes has 2"):
        FeatureSet.from_arrays({"a": MAPS}, layout="bhwc", image_sizes=[(4, 4), (4, 4)])
    with pytest.raises(InvalidTypeError, match="mapping of layer names"):
        FeatureSet.from_arrays(MAPS, layout="bhwc")
    with pytest.raises(InvalidInputError, match="at least one layer"):
        FeatureSet.from_arrays({}, layout="bhwc")


def test_names_that_do_not_exist_are_refused_with_those_that_do() -> None:
    fs = from_tokens()
    with pytest.raises(UnknownNameError, match="no layer 'layer_9'; the layers are 'layer_0'"):
        fs["layer_9"]
    with pytest.raises(UnknownNameError, match=r"no images 'z\.jpg'"):
        fs.select(images=["a.jpg", "z.jpg"])
    with pytest.raises(InvalidInputError, match="say which"):
        fs.tokens()
    with pytest.raises(InvalidInputError, match="positions go from 0 to 5"):
        fs.tokens(layer="layer_0", images=[6])
    with pytest.raises(InvalidTypeError, match="list of ids"):
        fs.select(images="a.jpg")


def test_rows_are_read_in_parts() -> None:
    layer = from_tokens()["layer_0"]
    whole = MAPS.reshape(-1, D)
    for start, stop in [(0, 5), (7, 31), (12, 24), (70, 99), (3, 3)]:
        np.testing.assert_array_equal(layer.read(start, stop), whole[start:stop])


def test_selection_keeps_ids_grid_and_class_tokens_together() -> None:
    sizes = [(10 + i, 20 + i) for i in range(N)]
    fs = from_tokens(image_sizes=sizes).select(images=["d.jpg", "b.jpg"], layers="layer_1")
    assert (fs.ids, fs.layers, fs.vectors) == (("d.jpg", "b.jpg"), ("layer_1",), ("layer_1.class",))
    assert fs.image_sizes.tolist() == [[13, 23], [11, 21]]
    np.testing.assert_array_equal(fs.tokens(), 2 * MAPS[[3, 1]].reshape(-1, D))
    np.testing.assert_array_equal(fs["layer_1.class"].tokens(), 2 * CLASS[[3, 1], 0])
    again = fs.select(images=slice(1, 2))
    assert again.ids == ("b.jpg",)
    np.testing.assert_array_equal(again.tokens(), 2 * MAPS[1].reshape(-1, D))


def test_pooling() -> None:
    fs = from_tokens()
    mean = fs.pool("mean")
    np.testing.assert_allclose(mean["layer_0"], MAPS.mean(axis=(1, 2)), atol=1e-6)
    assert mean["layer_0"].ids == tuple(IDS)
    np.testing.assert_array_equal(fs.pool("class")["layer_1"], 2 * CLASS[:, 0])
    with pytest.raises(InvalidInputError, match="no class token"):
        FeatureSet.from_arrays({"a": MAPS}, layout="bhwc").pool("class")
    with pytest.raises(InvalidInputError, match="one of mean, class"):
        fs.pool("max")


@pytest.mark.parametrize("shape", [(3, 3), (24, 20)])
def test_resampling_keeps_a_linear_function_of_position(shape: tuple[int, int]) -> None:
    sizes = [(120, 60)] * 2
    fine = FeatureSet.from_arrays({"a": np.zeros((2, 12, 12, 1))}, layout="bhwc", image_sizes=sizes)
    fs = FeatureSet.from_arrays(
        {"a": token_centers(fine.grid)}, layout="bhwc", image_sizes=sizes
    ).pool(shape)
    assert (fs.grid.rows, fs.grid.columns) == shape
    difference = fs["a"].maps() - token_centers(fs.grid)
    # At the edges there is nothing to interpolate with.
    inner = difference[:, 1:-1, 1:-1]
    assert float(inner.abs().max()) < 1e-9


def test_sets_of_different_grids_meet_at_places() -> None:
    sizes = [(120, 60), (50, 200)]
    coarse = FeatureSet.from_arrays({"a": np.zeros((2, 4, 4, 1))}, layout="bhwc", image_sizes=sizes)
    boxes = [[30, 0, 90, 60], [0, 75, 50, 125]]
    fine = FeatureSet.from_arrays(
        {"a": np.zeros((2, 14, 14, 1))}, layout="bhwc", image_sizes=sizes, boxes=boxes
    )
    places = choose_positions([coarse.grid, fine.grid], 50)
    expected = torch.stack([places.y, places.x], dim=1)
    for fs, kept in ((coarse, {}), (fine, {"boxes": boxes})):
        known = FeatureSet.from_arrays(
            {"a": token_centers(fs.grid)}, layout="bhwc", image_sizes=sizes, **kept
        )
        torch.testing.assert_close(known.read_positions(places), expected)


def test_layers_with_grids_of_their_own_say_so() -> None:
    fs = FeatureSet.from_arrays({"a": MAPS, "b": MAPS[:, :2, :2]}, layout="bhwc")
    with pytest.raises(InvalidInputError, match="grids of their own"):
        _ = fs.grid
    assert (fs.pool((2, 2)).grid.rows, fs["b"].grid.rows) == (2, 2)


def test_layers_are_what_functions_of_matrices_take() -> None:
    fs = from_tokens()
    torch.testing.assert_close(
        torch.as_tensor(relspace.rbf_affinity(fs["layer_0"])),
        torch.as_tensor(relspace.rbf_affinity(MAPS.reshape(-1, D))),
    )
    space = relspace.align({"a": fs["layer_0"], "b": fs["layer_1"]})
    assert float(np.max(space.distances("a", "b"))) < 1e-5


def test_prints_what_it_holds() -> None:
    arrays = {f"layer_{i}": MAPS for i in range(12)}
    fs = FeatureSet.from_arrays(arrays, layout="bhwc", metadata={"model": "dino"})
    assert repr(fs) == (
        "FeatureSet(dino: 6 items; "
        "layer_0 3 x 4 x 5, layer_1 3 x 4 x 5, 9 more, layer_11 3 x 4 x 5)"
    )
    assert repr(fs["layer_3"]) == "LayerFeatures(layer_3: 6 items, 3 x 4 tokens, d=5, float32)"
    assert ("layer_3" in fs, "layer_12" in fs, len(fs), list(fs)[1]) == (True, False, 6, "layer_1")
