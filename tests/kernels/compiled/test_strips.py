"""Affinities in compiled strips: against float64, against tiles, and when they are left alone."""

import ctypes
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from relspace import rbf_affinity
from relspace.errors import BandwidthError, NonFiniteError
from relspace.kernels.backend import at_most, backend
from relspace.kernels.compiled import strips
from relspace.kernels.compiled.library import LIBRARY
from relspace.kernels.density import Moments, solve_root
from relspace.kernels.frame import Frame

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="switched off, or never compiled")

SHAPES = [(3, 1), (15, 2), (16, 7), (17, 64), (33, 16), (130, 200), (257, 128), (600, 30)]
# Strips that share what they multiply with.
MANY = (2070, 20)


def make_features(n: int, width: int, *, offset: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n + width)
    return torch.randn(n, width, generator=generator) * 3 + offset


def in_float64(X: torch.Tensor, sigma: float) -> torch.Tensor:
    points = X.double() - X.double().mean(0)
    return (-torch.cdist(points, points).square() / (2 * sigma**2)).exp()


@pytest.mark.parametrize("shape", [*SHAPES, MANY])
def test_affinities_and_density_are_right(shape: tuple[int, int]) -> None:
    X = make_features(*shape)
    found = strips.affinities_in_strips(X, None, 0.3)
    assert found is not None
    A, root = found
    n = len(X)
    assert root is not None
    expected = in_float64(X, math.exp(root.log_variance / 2))
    torch.testing.assert_close(A.double(), expected, rtol=0.0, atol=5e-5)
    density = float((expected.sum() - n) / (n * (n - 1)))
    assert density == pytest.approx(0.3, rel=2e-5)
    assert torch.equal(A, A.T)
    assert torch.equal(A.diagonal(), torch.ones(n))


@pytest.fixture
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(
    LIBRARY is not None and LIBRARY.team is None, reason="torch's threads are not those of libgomp"
)
@pytest.mark.parametrize("sigma", [None, 7.0])
@pytest.mark.parametrize("shape", [(257, 128), (600, 30), MANY])
def test_a_team_of_threads_gives_what_one_gives(
    restored_threads: None, shape: tuple[int, int], sigma: float | None
) -> None:
    X = make_features(*shape)
    found = []
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        assert LIBRARY is not None
        assert backend(X, whole_set=True) == "strips"
        whole = strips.describe(X, sigma, 0.3, torch.empty(len(X), len(X)), LIBRARY.level)
        assert (whole.team is not None, whole.n_threads) == (n_threads > 1, n_threads)
        result = strips.affinities_in_strips(X, sigma, 0.3)
        assert result is not None
        found.append(result)
    for A, root in found[1:]:
        assert torch.equal(A, found[0][0])
        assert root == found[0][1]


def test_the_team_is_found_where_torch_brings_libgomp() -> None:
    assert LIBRARY is not None
    brought = list((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    assert (LIBRARY.team is not None) == bool(brought) or sys.platform != "linux"


@pytest.mark.parametrize("kind", ["in order", "first rows alike", "clusters"])
def test_first_rows_that_are_not_like_the_others_do_no_harm(kind: str) -> None:
    X = make_features(700, 20)
    if kind == "in order":
        X = X[X.norm(dim=1).argsort()]
    elif kind == "first rows alike":
        X[:40] = X[0]
    else:
        X += 30 * torch.arange(700)[:, None] // 100
    A = rbf_affinity(X, density=0.1)
    assert float((A.double().sum() - 700) / (700 * 699)) == pytest.approx(0.1, rel=2e-6)
    assert strips.affinities_in_strips(X, None, 0.1) is not None


@pytest.mark.parametrize("shape", SHAPES)
def test_a_given_bandwidth_is_used(shape: tuple[int, int]) -> None:
    X = make_features(*shape, offset=1e3)
    sigma = 2.0 * math.sqrt(shape[1])
    found = strips.affinities_in_strips(X, sigma, 0.05)
    assert found is not None
    assert found[1] is None
    torch.testing.assert_close(found[0].double(), in_float64(X, sigma), rtol=0.0, atol=5e-5)


@pytest.mark.parametrize("density", [0.01, 0.05, 0.5, 0.95])
def test_strips_and_tiles_agree(density: float) -> None:
    X = make_features(300, 40)
    in_strips = rbf_affinity(X, density=density)
    given = rbf_affinity(X, sigma=4.0)
    with at_most("loops"):
        torch.testing.assert_close(in_strips, rbf_affinity(X, density=density), rtol=0.0, atol=1e-5)
        torch.testing.assert_close(given, rbf_affinity(X, sigma=4.0), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("level", [0, 3, 4])
@pytest.mark.parametrize("shape", [*SHAPES, (530, 300), MANY])
def test_every_kind_of_processor_has_the_same_affinities(
    shape: tuple[int, int], level: int
) -> None:
    assert LIBRARY is not None
    if level > LIBRARY.level:
        pytest.skip(f"this processor is not of level {level} of x86-64")
    X = make_features(*shape)
    sigma = 2.0 * math.sqrt(shape[1])
    given = strips.affinities_in_strips(X, sigma, 0.05, level=level)
    solved = strips.affinities_in_strips(X, None, 0.3, level=level)
    assert given is not None
    assert solved is not None
    torch.testing.assert_close(given[0].double(), in_float64(X, sigma), rtol=0.0, atol=2e-5)
    assert solved[1] is not None
    expected = in_float64(X, math.exp(solved[1].log_variance / 2))
    torch.testing.assert_close(solved[0].double(), expected, rtol=0.0, atol=2e-5)


@pytest.mark.parametrize("density", [0.003, 0.05, 0.3, 0.9])
def test_the_compiled_solution_takes_the_steps_of_the_reference(density: float) -> None:
    # Too few for a start of their own: both begin where all distances are typical.
    X = make_features(300, 25)
    found = strips.affinities_in_strips(X, None, density)
    assert found is not None
    assert found[1] is not None
    frame = Frame.of(X)
    halves = -torch.cdist(X.double(), X.double()).square() / (2 * frame.unit**2)
    pairs = halves[tuple(torch.triu_indices(300, 300, 1))]

    def moments(scale: float) -> Moments:
        u = -scale * pairs
        sums = [float((u.neg().exp() * u**k).sum()) for k in range(4)]
        return Moments(*sums, len(pairs))

    start = -math.log(math.log(1 / density))
    root = solve_root(moments, density, start=start, lowest=-20.0, last_step=3e-2)
    assert found[1].iterations == root.iterations
    in_own_units = root.log_variance + 2 * math.log(frame.unit)
    assert found[1].log_variance == pytest.approx(in_own_units, abs=4e-6)


def test_rows_may_lie_apart() -> None:
    wide = make_features(200, 50)
    some = wide[::2, 5:25]
    torch.testing.assert_close(rbf_affinity(some), rbf_affinity(some.clone()), rtol=0, atol=0)


@pytest.mark.parametrize("n", [3, 4, 32, 33, 34, 70])
def test_a_set_is_located_as_by_torch(n: int) -> None:
    X = make_features(n, 37, offset=50.0)
    X[n // 3] = 1e3
    assert LIBRARY is not None
    whole = strips.describe(X, 1e6, 0.05, torch.empty(n, n), LIBRARY.level)
    LIBRARY.affinities_of_set(ctypes.byref(whole))
    assert whole.done
    frame = Frame.of(X)
    assert torch.equal(whole.memory[-1][-37:], frame.origin)
    assert whole.unit == pytest.approx(frame.unit)


def spoil(kind: str) -> torch.Tensor:
    X = make_features(100, 5)
    if kind == "one far point":
        X[40] = 1e5
    elif kind == "same rows":
        X[:60] = X[0]
    elif kind == "nearly the same rows":
        X[:60] = X[0] + 1e-5 * X[:60]
    else:
        X[17, 3] = float(kind)
    return X


@pytest.mark.parametrize(
    "kind", ["nan", "inf", "one far point", "same rows", "nearly the same rows"]
)
def test_what_float32_or_a_guess_can_not_do_is_left_to_others(kind: str) -> None:
    assert strips.affinities_in_strips(spoil(kind), None, 0.05) is None


def test_what_is_left_to_others_gives_their_results_and_errors() -> None:
    for kind in ("nan", "inf"):
        with pytest.raises(NonFiniteError, match=r"first at \(row, column\) \(17, 3\)"):
            rbf_affinity(spoil(kind))
    with pytest.raises(BandwidthError, match="coincide"):
        rbf_affinity(spoil("same rows"))
    A = rbf_affinity(spoil("one far point"))
    assert float((A.sum() - 100) / 9900) == pytest.approx(0.05, rel=1e-5)
    B = rbf_affinity(spoil("nearly the same rows"))
    assert float((B.sum() - 100) / 9900) == pytest.approx(0.05, rel=1e-5)


def test_bandwidths_finer_than_float32_are_left_to_others() -> None:
    X = make_features(50, 4)
    assert strips.affinities_in_strips(X, 1e-3, 0.05) is None
    torch.testing.assert_close(rbf_affinity(X, sigma=1e-3), torch.eye(50), rtol=0.0, atol=1e-6)
    assert strips.affinities_in_strips(X, 1e30, 0.05) is not None
