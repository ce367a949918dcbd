"""Patches of models: colours and segments agree across models, large grids are averaged down."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from relspace._core.memory import limited_memory
from relspace.errors import InvalidInputError, MemoryBudgetError
from relspace.reports.page import ReportData
from relspace.reports.patches import DensityWarning, ModelPatches, report_models, require_patches


def test_the_same_side_has_the_same_segment_in_both_models(report_data: ReportData) -> None:
    fine, coarse = (model.layers[-1].segments[2] for model in report_data.models)
    left = fine[:, :, 0].flat[0]
    assert (fine[:, :, :3] == left).all()
    assert (fine[:, :, 3:] != left).all()
    assert (coarse[:, :, :2] == left).all()
    assert (coarse[:, :, 2:] != left).all()


def test_joint_colours_agree_across_models(report_data: ReportData) -> None:
    fine, coarse = (model.layers[-1].colors["joint"].astype(float) for model in report_data.models)
    left, right = fine[:, :, :3].mean((0, 1, 2)), fine[:, :, 3:].mean((0, 1, 2))
    other = coarse[:, :, :2].mean((0, 1, 2))
    assert np.linalg.norm(left - other) < 0.3 * np.linalg.norm(right - other)


def test_colours_are_cut_where_the_last_layers_have_patches_enough() -> None:
    """Early layers of noise don't blur the colours of the last ones, and have colours too."""
    generator = torch.Generator().manual_seed(0)
    rows, columns, n_images = 24, 24, 4
    side = (torch.arange(columns) * 4 // columns).repeat(n_images * rows)
    centers = torch.randn(4, 30, generator=generator)

    def layer(strength: float) -> torch.Tensor:
        noise = torch.randn(len(side), 30, generator=generator)
        return torch.nn.functional.normalize(strength * centers[side] + noise, dim=1)

    last = layer(2.0)
    noisy = ModelPatches({"noise": layer(0.0), "last": last}, (rows, columns))
    alone = ModelPatches({"last": last}, (rows, columns))
    (found,), _ = report_models({"m": noisy}, segment_counts=(2,))
    (expected,), _ = report_models({"m": alone}, segment_counts=(2,))
    colors = found.layers[-1].colors["joint"].astype(float)
    difference = np.abs(colors - expected.layers[0].colors["joint"])
    assert np.median(difference) < 8
    assert found.layers[0].colors["joint"].std() > 1


def big_model(n_images: int = 2, grid: tuple[int, int] = (8, 9), m: int = 30) -> ModelPatches:
    generator = torch.Generator().manual_seed(0)
    n = n_images * grid[0] * grid[1]
    rows = torch.nn.functional.normalize(torch.randn(n, m, generator=generator), dim=1)
    return ModelPatches({"only": rows}, grid, description="big")


def test_a_grid_too_large_is_averaged_and_says_so() -> None:
    model = big_model()
    (found,), quantization = report_models(
        {"big": model}, segment_counts=(2,), max_vector_bytes=1000
    )
    layer = found.layers[0]
    assert layer.vectors.shape == (2, 4, 4, 30)
    assert layer.averaged_from == (8, 9)
    assert layer.boxes is not None
    np.testing.assert_allclose(layer.boxes, [[0, 0, 1, 8 / 9]] * 2)
    rows = model.relative["only"].reshape(2, 8, 9, -1)
    mean = torch.nn.functional.normalize(rows[1, 2:4, 4:6].mean((0, 1)), dim=0)
    other = torch.nn.functional.normalize(rows[0, :2, :2].mean((0, 1)), dim=0)
    a, b = (
        vector.astype(float) * quantization.scales
        for vector in (layer.vectors[1, 1, 2], layer.vectors[0, 0, 0])
    )
    assert a @ b == pytest.approx(float(mean @ other), abs=0.02)


def test_fewer_bytes_come_before_fewer_patches() -> None:
    (found,), _ = report_models(
        {"big": big_model(m=64)}, segment_counts=(2,), max_vector_bytes=144 * 30
    )
    assert found.layers[0].vectors.shape == (2, 8, 9, 30)


def test_before_colours_need_the_features_of_all_models(report_data: ReportData) -> None:
    model = big_model()
    (found,), _ = report_models({"big": model}, segment_counts=(2,))
    assert list(found.layers[0].colors) == ["joint", "per model"]
    assert "before" in report_data.models[0].layers[0].colors


def test_flat_images_are_coloured_by_a_denser_graph_with_a_warning() -> None:
    model = big_model(grid=(8, 8))
    rows = model.relative["only"].clone()
    rows[: int(0.4 * len(rows))] = rows[0]
    flat = dataclasses.replace(model, relative={"only": rows})
    with pytest.warns(DensityWarning, match=r"density 0.2 instead of 0.05"):
        (found,), _ = report_models({"flat": flat}, segment_counts=(2,))
    colors = found.layers[0].colors["joint"].reshape(-1, 3)
    assert (colors[1:50] == colors[0]).all()


def test_patches_that_are_no_grid_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="big only has 144 patches"):
        report_models({"big": dataclasses.replace(big_model(), grid=(5, 5))})


def test_what_can_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="show fewer images or layers"):
        report_models({"big": big_model()}, max_vector_bytes=10)


def test_patches_that_memory_does_not_hold_are_refused_before_they_are_read() -> None:
    shapes = {"a, last": (1000, 64), "b, last": (500, 32)}
    needed = 12 * (1000 * 64 + 500 * 32)
    with limited_memory(needed):
        require_patches(shapes, 16)
    with (
        limited_memory(needed - 1),
        pytest.raises(MemoryBudgetError, match="a report of 16 images and 2 layers"),
    ):
        require_patches(shapes, 16)
