"""Two models that see the same pictures, and a small report with everything on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from relspace import Aligner
from relspace.features import FeatureSet
from relspace.reports.page import (
    Curve,
    CurveChart,
    KeyNumber,
    LayerTable,
    ReportData,
    ReportImage,
    Scatter,
    Section,
    Table,
    Value,
    value_table,
)
from relspace.reports.patches import ModelPatches, report_models

N_IMAGES = 6
SIDE = 48
IDS = [f"picture-{number}.png" for number in range(N_IMAGES)]


def pictures() -> np.ndarray:
    """Noisy discs of two colours on a plain ground."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    made = []
    for _ in range(N_IMAGES):
        image = np.full((SIDE, SIDE, 3), rng.integers(150, 256, 3))
        for color in ([200, 40, 40], [30, 60, 190]):
            center = rng.uniform(0.25, 0.75, 2)
            image[(y - center[0]) ** 2 + (x - center[1]) ** 2 < 0.04] = color
        made.append(image + rng.integers(-20, 21, image.shape))
    return np.clip(np.stack(made), 0, 255).astype(np.uint8)


def model(stride: int, width: int, n_layers: int, seed: int, ids: list[str] | None) -> FeatureSet:
    """Layers of random convolutions over the pictures."""
    generator = torch.Generator().manual_seed(seed)
    shown = torch.from_numpy(pictures()).float().permute(0, 3, 1, 2) / 255
    kernel = torch.randn(width, 3, stride, stride, generator=generator)
    x = torch.tanh(torch.nn.functional.conv2d(shown, kernel / stride, stride=stride))
    layers = {}
    for number in range(n_layers):
        layers[f"layer {number}"] = x
        kernel = torch.randn(width, width, 3, 3, generator=generator) / (3 * width**0.5)
        x = torch.nn.functional.conv2d(x, kernel, padding=1).relu()
    return FeatureSet.from_arrays(
        layers, layout="bchw", ids=ids, image_sizes=[(SIDE, SIDE)] * N_IMAGES
    )


@pytest.fixture(scope="session")
def models() -> dict[str, FeatureSet]:
    return {"fine": model(4, 12, 3, 0, IDS), "coarse": model(8, 20, 2, 1, IDS)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for name, pixels in zip(IDS, pictures(), strict=True):
        Image.fromarray(pixels).save(folder / name)
    return folder


N_OF_PAGE = 5
LAYERS = ("early", "middle", "late")
GRIDS = {"fine <net>": (6, 6), "coarse & net": (4, 4)}


def patches(grid: tuple[int, int], seed: int) -> ModelPatches:
    """Features that know whether a patch lies in the left or the right half of its image."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = grid
    side = (torch.arange(columns) >= columns // 2).float().repeat(N_OF_PAGE * rows)
    landmark_side = (torch.arange(40) % 2).float()
    relative, features = {}, {}
    for number, layer in enumerate(LAYERS):
        direction = torch.randn(10 + seed, generator=generator)

        def make(
            one: torch.Tensor, strength: float = number + 1, direction: torch.Tensor = direction
        ) -> torch.Tensor:
            noise = torch.randn(len(one), len(direction), generator=generator)
            return strength * (2 * one[:, None] - 1) * direction + noise

        features[layer] = make(side)
        aligner = Aligner(density=0.2, normalize="center+unit", standardize="columns")
        aligned = aligner.fit(make(landmark_side)).transform(features[layer])
        relative[layer] = torch.as_tensor(aligned)
    return ModelPatches(relative, grid, features, description="sides")


@pytest.fixture(scope="session")
def report_data() -> ReportData:
    rng = np.random.default_rng(0)
    models, quantization = report_models(
        {name: patches(grid, seed) for seed, (name, grid) in enumerate(GRIDS.items())},
        segment_counts=(2, 3, 4),
    )
    fine, coarse = GRIDS
    points = rng.normal(size=(30, 2))
    colors = rng.integers(0, 255, (30, 3)).astype(np.uint8)
    values = np.array([[0.9, 0.5, 0.1], [0.5, 0.9, 0.3], [0.1, 0.3, 0.9]])
    return ReportData(
        title="Sides </script><b> & more",
        lead="Two models know left from right.",
        key_numbers=[KeyNumber("0.9", "sides found", "chance 0.5")],
        images=[
            ReportImage(f"picture {name}", rng.integers(0, 255, (24, 32, 3)).astype(np.uint8))
            for name in ("ant", "bee", "cat", "dog", "eel")
        ],
        models=models,
        quantization=quantization,
        layer_tables=[
            LayerTable(
                "Likeness", fine, coarse, LAYERS, LAYERS, values, 0.05, np.full((3, 3), 0.01)
            )
        ],
        charts=[
            CurveChart(
                "Retrieval", "rate", LAYERS, [Curve("aligned", [0.2, float("nan"), 0.9])], 0.1
            )
        ],
        scatters=[
            Scatter(
                "Items",
                [f"item {i}" for i in range(30)],
                {fine: points, coarse: points + 0.1},
                {fine: colors, coarse: colors},
            )
        ],
        tables=[
            value_table("How alike", [Value("CKA, debiased", 0.61234567, 0.01, 0.001)]),
            Table("Nearest", ["item", "near"], [[f"item {i}", f"near {i}"] for i in range(30)]),
        ],
        matched_by="Matched by file name.",
        parameters={"density": 0.2, "layers": list(LAYERS)},
        versions={"relspace": "test"},
        sections=[Section("More", ["A paragraph."])],
    )
