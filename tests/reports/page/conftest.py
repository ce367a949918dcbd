"""A small report with everything on it, and a browser to open it in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relspace import Aligner
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

N_IMAGES = 5
LAYERS = ("early", "middle", "late")
GRIDS = {"fine <net>": (6, 6), "coarse & net": (4, 4)}


def patches(grid: tuple[int, int], seed: int) -> ModelPatches:
    """Features that know whether a patch lies in the left or the right half of its image."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = grid
    side = (torch.arange(columns) >= columns // 2).float().repeat(N_IMAGES * rows)
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
