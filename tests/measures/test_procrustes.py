"""Procrustes distances of awkward sets, and the few permutations that show their chance level."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import relspace
from relspace import measures

RNG = np.random.default_rng(0)
SETS = {
    "rank 3 of 40": RNG.normal(size=(60, 3)) @ RNG.normal(size=(3, 40)),
    "sizes down to 1e-12": RNG.normal(size=(60, 40)) * np.logspace(0, -12, 40),
    "wider than items": RNG.normal(size=(60, 300)) * np.logspace(0, -8, 300),
    "items twice": np.repeat(RNG.normal(size=(30, 20)), 2, axis=0),
}


def distance(X: np.ndarray, Y: np.ndarray) -> float:
    """By singular values of all features, in float64."""
    X, Y = (Z - Z.mean(axis=0) for Z in (X, Y))
    nuclear = np.linalg.svd(X.T @ Y, compute_uv=False).sum()
    return math.sqrt(2 - 2 * nuclear / np.linalg.norm(X) / np.linalg.norm(Y))


@pytest.mark.parametrize("first", SETS)
@pytest.mark.parametrize("second", SETS)
def test_is_that_of_all_singular_values(first: str, second: str) -> None:
    X, Y = SETS[first], SETS[second]
    if first == second:
        Y = Y + 0.1 * np.random.default_rng(1).normal(size=Y.shape)
    assert measures.get("procrustes")(X, Y) == pytest.approx(distance(X, Y), abs=1e-10)


@pytest.mark.parametrize("name", SETS)
def test_a_set_and_its_rotation_are_at_no_distance(name: str) -> None:
    X = SETS[name]
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(X.shape[1], X.shape[1])))[0]
    assert measures.get("procrustes")(X, X @ turn) < 1e-6


@pytest.mark.parametrize("name", ["procrustes", "procrustes_angle"])
@pytest.mark.parametrize(("n", "power"), [(60, 0.0), (60, 1.0), (200, 0.5)])
def test_few_permutations_show_the_chance_level(name: str, n: int, power: float) -> None:
    generator = torch.Generator().manual_seed(0)
    X, Y = (
        torch.randn(n, 12, generator=generator) * torch.arange(1, 13) ** -power for _ in range(2)
    )
    compared = relspace.compare(X, Y, measure=name, n_permutations=0)
    assert len(compared.null) == measures.get(name).permutations_for_chance == 5
    many = relspace.compare(X, Y, measure=name, n_permutations=300)
    assert compared.chance == pytest.approx(many.chance, rel=0.03)
    layers = relspace.compare_layers({"a": X}, {"b": Y}, measure=name, n_permutations=0)
    assert layers.chance[0, 0] == pytest.approx(many.chance, rel=0.03)
