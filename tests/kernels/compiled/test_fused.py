"""Compiled loops: each against the same sum or map in float64, and against the torch path."""

import math
import os
import subprocess
import sys

import pytest
import torch

import relspace
from relspace.kernels.compiled import fused, strips

pytestmark = pytest.mark.skipif(
    not fused.is_compiled(), reason="compiled loops are switched off, or were never made"
)

SHAPES = [(1, 1), (7, 5), (16, 16), (33, 70), (64, 600)]


def make_tile(rows: int, columns: int, *, spread: float = 10.0) -> torch.Tensor:
    """Values of at most 0, in rows that lie apart as those of a part of a matrix do."""
    generator = torch.Generator().manual_seed(rows + columns)
    wide = torch.rand(rows, columns + 9, generator=generator).mul_(-spread)
    return wide[:, 4 : columns + 4]


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_equal_their_sums_in_float64(shape: tuple[int, int]) -> None:
    tile = make_tile(*shape)
    exponents = tile.double() * 1.5
    for k, found in enumerate(fused.sum_moments(tile, 1.5, without_diagonal=False)):
        assert found == pytest.approx(float((exponents.exp2() * exponents**k).sum()), rel=1e-6)


def test_moments_leave_out_the_diagonal_of_every_group() -> None:
    groups = make_tile(5 * 8, 8).contiguous().view(5, 8, 8)
    exponents = groups.double()
    off = ~torch.eye(8, dtype=torch.bool)
    for k, found in enumerate(fused.sum_moments(groups, 1.0, without_diagonal=True)):
        expected = float((exponents.exp2() * exponents**k)[:, off].sum())
        assert found == pytest.approx(expected, rel=1e-6)


def test_what_underflows_counts_as_nothing() -> None:
    tile = torch.full((3, 40), -1.0)
    tile[:, ::2] = -torch.inf
    tile[:, 1::4] = -3e38
    sums = fused.sum_moments(tile, 2.0, without_diagonal=False)
    assert sums == pytest.approx([30 * 0.25 * (-2.0) ** k for k in range(4)], rel=1e-6)
    powers = torch.empty_like(tile)
    fused.exponentiate(tile, 2.0, to=powers, mirrored=None)
    expected = torch.where(tile == -1.0, 0.25, 0.0)
    torch.testing.assert_close(powers, expected, rtol=1e-6, atol=0.0)


def test_powers_are_right_to_rounding_and_exact_at_whole_numbers() -> None:
    exponents = torch.linspace(-120, 0, 100_001)[None]
    powers = torch.empty_like(exponents)
    fused.exponentiate(exponents, 1.0, to=powers, mirrored=None)
    torch.testing.assert_close(powers.double(), exponents.double().exp2(), rtol=3e-7, atol=2e-38)
    whole = -torch.arange(100, dtype=torch.float32)[None]
    powers = torch.empty_like(whole)
    fused.exponentiate(whole, 1.0, to=powers, mirrored=None)
    assert torch.equal(powers, whole.exp2())


@pytest.mark.parametrize("shape", SHAPES)
def test_mirror_image_is_the_transpose_and_the_sum_is_of_one(shape: tuple[int, int]) -> None:
    tile = make_tile(*shape)
    to, mirrored = torch.empty(shape), torch.empty(shape[::-1])
    total = fused.exponentiate(tile, 0.5, to=to, mirrored=mirrored)
    assert torch.equal(mirrored, to.T)
    assert total == pytest.approx(float(to.double().sum()), rel=1e-6)
    torch.testing.assert_close(to, (tile * 0.5).exp2(), rtol=1e-6, atol=0.0)


def test_a_tile_can_be_replaced_by_its_powers() -> None:
    tile = make_tile(33, 70)
    expected = torch.empty(33, 70)
    fused.exponentiate(tile, 1.0, to=expected, mirrored=None)
    fused.exponentiate(tile, 1.0, to=tile, mirrored=None)
    assert torch.equal(tile, expected)


@pytest.mark.parametrize("n", [1, 15, 16, 33, 100])
def test_norms_are_subtracted_and_a_diagonal_tile_is_symmetric(n: int) -> None:
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(n))
    half = x.square().sum(1) / 2
    expected = -torch.cdist(x.double(), x.double()).square() / 2
    for on_diagonal in (False, True):
        to = torch.empty(n, n + 3)[:, :n]
        fused.subtract_norms(x @ x.T, half, half, to=to, on_diagonal=on_diagonal)
        torch.testing.assert_close(to.double(), expected, rtol=1e-5, atol=1e-5)
        assert float(to.max()) <= 0.0
    assert torch.equal(to, to.T)
    assert torch.equal(to.diagonal(), torch.zeros(n))


@pytest.mark.parametrize(("n", "m"), [(50, None), (700, None), (1300, None), (700, 300)])
def test_both_paths_give_the_same_affinities(
    n: int, m: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(n)
    X = torch.randn(n, 20, generator=generator)
    Y = None if m is None else torch.randn(m, 20, generator=generator)
    monkeypatch.setattr(strips, "suit", lambda X: False)
    compiled = relspace.rbf_affinity(X, Y)
    monkeypatch.setattr(fused, "_library", None)
    plain = relspace.rbf_affinity(X, Y)
    torch.testing.assert_close(compiled, plain, rtol=3e-6, atol=1e-9)
    bandwidth = relspace.solve_bandwidth(X, Y)
    monkeypatch.undo()
    assert math.isclose(bandwidth.sigma, relspace.solve_bandwidth(X, Y).sigma, rel_tol=1e-6)


def test_only_float32_on_the_processor_is_compiled() -> None:
    assert fused.suits(torch.empty(2, 2))
    assert not fused.suits(torch.empty(2, 2, dtype=torch.float64))
    assert not fused.suits(torch.empty(2, 3).T)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_placed_as_by_torch(shape: tuple[int, int]) -> None:
    rows, origin = make_tile(*shape), torch.linspace(-1, 1, shape[1])
    points, half_norms = torch.empty(shape), torch.empty(shape[0])
    fused.place_rows(rows, origin, 3.0, points=points, half_norms=half_norms)
    expected = (rows.double() - origin) / 3
    torch.testing.assert_close(points.double(), expected, rtol=1e-6, atol=1e-6)
    norms = expected.square().sum(1) / 2
    torch.testing.assert_close(half_norms.double(), norms, rtol=1e-6, atol=1e-6)


def test_rows_without_anything_stay_at_zero() -> None:
    rows = torch.zeros(2, 9)
    fused.describe_rows(rows, mean=torch.zeros(9), last=True)
    assert torch.equal(rows, torch.zeros(2, 9))


@pytest.mark.parametrize(("value", "compiled"), [("0", False), ("1", True)])
def test_the_environment_switches_compiled_loops_off(value: str, compiled: bool) -> None:
    code = "from relspace.kernels.compiled import fused; print(fused.is_compiled())"
    environment = {**os.environ, "RELSPACE_COMPILED": value}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert run.stdout.strip() == str(compiled)
