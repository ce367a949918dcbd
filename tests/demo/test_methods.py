"""Methods of the portraits study: what each must do to features whose relation is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from relspace.demo.methods import (
    Method,
    Sides,
    aligned,
    canonical_correlation,
    fixed_bandwidth,
    median_bandwidth,
    over_signs,
    padded,
    principal_components,
    relative_representations,
    separately,
)

ANCHORED = {
    "relative": relative_representations(center=False),
    "relative, centred": relative_representations(center=True),
    "fixed bandwidth": fixed_bandwidth(3.0),
    "median bandwidth": median_bandwidth,
    "aligned": aligned(0.05),
    "aligned, not standardised": aligned(0.05, standardize="none"),
    "aligned, z-scored": aligned(0.05, "zscore+unit"),
}


def related(width: int, rotation: Tensor | None = None) -> Sides:
    """Twice the same tokens, the second turned."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.arange(1.0, width + 1).rsqrt()
    X = torch.randn(60, width, generator=generator) * scales
    landmarks = torch.randn(90, width, generator=generator) * scales
    turn = torch.eye(width) if rotation is None else rotation
    return Sides(X, X @ turn, landmarks, landmarks @ turn)


def found_again(method: Method, sides: Sides) -> float:
    """How often the token itself is nearest."""
    X, Y = method(sides)
    return float(((X @ Y.T).argmax(1) == torch.arange(len(X))).double().mean())


@pytest.mark.parametrize("name", ANCHORED)
def test_rows_are_of_unit_norm_and_describe_by_landmarks(name: str) -> None:
    X, Y = separately(ANCHORED[name])(related(12))
    assert X.shape == Y.shape == (60, 90)
    torch.testing.assert_close(X.norm(dim=1), torch.ones(60), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [name for name in ANCHORED if name != "aligned, z-scored"])
def test_a_rotation_changes_nothing_for_what_compares_with_landmarks(name: str) -> None:
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1))).Q
    assert found_again(separately(ANCHORED[name]), related(12, turn)) == 1.0


def test_padding_does_not_survive_a_rotation() -> None:
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1))).Q
    assert found_again(separately(padded(20)), related(12)) == 1.0
    assert found_again(separately(padded(20)), related(12, turn)) < 0.3


def test_components_survive_a_rotation_until_their_signs_are_drawn() -> None:
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1))).Q
    components = separately(principal_components(12))
    X, Y = components(related(12, turn))
    assert X.shape == (60, 12)
    # Up to the sign of each axis they are the same.
    torch.testing.assert_close(X.abs(), Y.abs(), atol=1e-3, rtol=0)
    drawn = [found_again(method, related(12)) for method in over_signs(components)]
    assert sum(drawn) / len(drawn) < 0.5
    assert drawn == [found_again(method, related(12)) for method in over_signs(components)]


def test_cca_finds_a_linear_map_to_another_width() -> None:
    sides = related(12)
    spread = torch.randn(12, 20, generator=torch.Generator().manual_seed(2))
    mapped = Sides(sides.X, sides.Y @ spread + 3, sides.landmarks_x, sides.landmarks_y @ spread + 3)
    assert found_again(canonical_correlation, mapped) > 0.95
