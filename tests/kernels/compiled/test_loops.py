"""Loops over tiles and rows, compiled and in torch: against the same sum or map in float64."""

from __future__ import annotations

import math

import pytest
import torch

import relspace as rs
from relspace.kernels.backend import at_most
from relspace.kernels.compiled.library import LIBRARY
from relspace.kernels.compiled.loops import CompiledLoops
from relspace.kernels.frame import Cloud
from relspace.kernels.tiles import TorchLoops

compiled = pytest.mark.skipif(LIBRARY is None, reason="switched off, or never compiled")
SHAPES = [(1, 1), (7, 5), (16, 16), (33, 70), (64, 600)]

Loops = TorchLoops | CompiledLoops


@pytest.fixture(params=[TorchLoops, pytest.param(CompiledLoops, marks=compiled)])
def loops(request: pytest.FixtureRequest) -> Loops:
    return request.param(torch.empty(0))


def make_tile(rows: int, columns: int, *, spread: float = 10.0) -> torch.Tensor:
    """Values of at most 0, in rows that lie apart as those of a part of a matrix do."""
    generator = torch.Generator().manual_seed(rows + columns)
    wide = torch.rand(rows, columns + 9, generator=generator).mul_(-spread)
    return wide[:, 4 : columns + 4]


def powers(loops: Loops, tile: torch.Tensor, factor: float) -> torch.Tensor:
    out = torch.empty_like(tile)
    loops.exponentiate(tile, factor, out=out, mirrored=None, on_diagonal=False)
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_equal_their_sums_in_float64(loops: Loops, shape: tuple[int, int]) -> None:
    tile = make_tile(*shape)
    exponents = tile.double() * 1.5
    for k, found in enumerate(loops.moments(tile, 1.5, without_diagonal=False)):
        assert found == pytest.approx(float((exponents.exp2() * exponents**k).sum()), rel=1e-5)


def test_moments_leave_out_the_diagonal_of_every_group(loops: Loops) -> None:
    groups = make_tile(5 * 8, 8).contiguous().view(5, 8, 8)
    exponents = groups.double()
    off = ~torch.eye(8, dtype=torch.bool)
    for k, found in enumerate(loops.moments(groups, 1.0, without_diagonal=True)):
        expected = float((exponents.exp2() * exponents**k)[:, off].sum())
        assert found == pytest.approx(expected, rel=1e-5)


def test_what_underflows_counts_as_nothing(loops: Loops) -> None:
    tile = torch.full((3, 40), -1.0)
    tile[:, ::2] = -torch.inf
    tile[:, 1::4] = -3e38
    sums = loops.moments(tile, 2.0, without_diagonal=False)
    assert sums == pytest.approx([30 * 0.25 * (-2.0) ** k for k in range(4)], rel=1e-6)
    expected = torch.where(tile == -1.0, 0.25, 0.0)
    torch.testing.assert_close(powers(loops, tile, 2.0), expected, rtol=1e-6, atol=0.0)


def test_powers_are_right_to_rounding_and_exact_at_whole_numbers(loops: Loops) -> None:
    exponents = torch.linspace(-120, 0, 100_001)[None]
    found = powers(loops, exponents, 1.0)
    torch.testing.assert_close(found.double(), exponents.double().exp2(), rtol=3e-7, atol=2e-38)
    whole = -torch.arange(100, dtype=torch.float32)[None]
    assert torch.equal(powers(loops, whole, 1.0), whole.double().exp2().float())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mirror_image_is_the_transpose(loops: Loops, shape: tuple[int, int]) -> None:
    tile = make_tile(*shape)
    to, mirrored = torch.empty(shape), torch.empty(shape[::-1])
    loops.exponentiate(tile, 0.5, out=to, mirrored=mirrored, on_diagonal=False)
    assert torch.equal(mirrored, to.T)
    torch.testing.assert_close(to, (tile * 0.5).exp2(), rtol=1e-6, atol=0.0)
    loops.exponentiate(tile, 0.5, out=tile, mirrored=None, on_diagonal=False)
    assert torch.equal(tile, to)


@pytest.mark.parametrize("n", [1, 15, 16, 33, 100])
def test_distances_of_a_tile_on_the_diagonal_are_symmetric(loops: Loops, n: int) -> None:
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(n))
    cloud = Cloud(x, x.square().sum(1) / 2)
    expected = -torch.cdist(x.double(), x.double()).square() / 2
    for on_diagonal in (False, True):
        to = torch.empty(n, n + 3)[:, :n]
        loops.half_squared(cloud, cloud, to, on_diagonal=on_diagonal)
        torch.testing.assert_close(to.double(), expected, rtol=1e-5, atol=1e-5)
        assert float(to.max()) <= 0.0
    assert torch.equal(to, to.T)
    assert torch.equal(to.diagonal(), torch.zeros(n))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("is_column_by_column", [False, True])
def test_rows_are_placed(loops: Loops, shape: tuple[int, int], is_column_by_column: bool) -> None:
    rows, origin = make_tile(*shape), torch.linspace(-1, 1, shape[1])
    given = rows.T.contiguous().T if is_column_by_column else rows
    points, half_norms = torch.empty(shape), torch.empty(shape[0])
    loops.place(given, origin, 3.0, points=points, half_norms=half_norms)
    expected = (rows.double() - origin) / 3
    torch.testing.assert_close(points.double(), expected, rtol=1e-6, atol=1e-6)
    norms = expected.square().sum(1) / 2
    torch.testing.assert_close(half_norms.double(), norms, rtol=1e-6, atol=1e-6)


@compiled
@pytest.mark.parametrize(("n", "m"), [(50, None), (700, None), (1300, None), (700, 300)])
def test_all_backends_give_the_same_affinities(n: int, m: int | None) -> None:
    generator = torch.Generator().manual_seed(n)
    X = torch.randn(n, 20, generator=generator)
    Y = None if m is None else torch.randn(m, 20, generator=generator)
    with at_most("torch"):
        plain, sigma = rs.rbf_affinity(X, Y), rs.solve_bandwidth(X, Y).sigma
    with at_most("loops"):
        loops, compiled_sigma = rs.rbf_affinity(X, Y), rs.solve_bandwidth(X, Y).sigma
    torch.testing.assert_close(loops, plain, rtol=3e-6, atol=1e-9)
    torch.testing.assert_close(rs.rbf_affinity(X, Y), plain, rtol=0.0, atol=1e-5)
    assert math.isclose(sigma, compiled_sigma, rel_tol=1e-6)
