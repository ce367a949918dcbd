"""Solved bandwidths: closed forms, the promised precision, honest samples, clear refusals."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.generators.closed_form import (
    gaussian_bandwidth,
    gaussian_cloud,
    gaussian_density,
    mean_off_diagonal,
    reference_affinity,
    simplex,
    simplex_bandwidth,
)

from relspace import choose_landmarks, rbf_affinity, solve_bandwidth
from relspace.errors import (
    BandwidthError,
    InvalidInputError,
    InvalidTypeError,
    NonFiniteError,
    SamplingWarning,
)

DENSITIES = [1e-4, 1e-3, 0.05, 0.3, 0.9, 0.999]


@pytest.mark.parametrize("density", DENSITIES)
def test_simplex_has_its_bandwidth_in_closed_form(density: float) -> None:
    bandwidth = solve_bandwidth(simplex(20), density=density)
    assert bandwidth.sigma == pytest.approx(simplex_bandwidth(density), rel=1e-10)
    assert (bandwidth.n_items, bandwidth.n_pairs) == (20, 190)


@pytest.mark.parametrize("d", [1, 4, 32])
def test_gaussian_cloud_has_its_bandwidth_in_closed_form(d: int) -> None:
    X = gaussian_cloud(3000, d, dtype=torch.float32)
    bandwidth = solve_bandwidth(X, density=0.1)
    assert gaussian_density(bandwidth.sigma, d) == pytest.approx(0.1, rel=0.06)
    assert bandwidth.sigma == pytest.approx(gaussian_bandwidth(0.1, d), rel=0.06)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d"), [(3, 1), (3, 5), (10, 2), (100, 1), (700, 20)])
def test_density_is_met_when_every_pair_counts(
    n: int, d: int, dtype: torch.dtype, density: float
) -> None:
    X = gaussian_cloud(n, d, dtype=dtype)
    bandwidth = solve_bandwidth(X, density=density)
    reached = mean_off_diagonal(reference_affinity(X, sigma=bandwidth.sigma))
    assert bandwidth.converged
    assert bandwidth.exact
    assert bandwidth.standard_error == 0.0
    assert bandwidth.target == density
    assert bandwidth.density == pytest.approx(density, rel=1e-6)
    # Distances are themselves rounded in float32; narrow bandwidths show it.
    assert reached == pytest.approx(density, rel=1e-6 if dtype == torch.float64 else 2e-5)


def test_density_of_two_sets_is_met() -> None:
    X, Y = gaussian_cloud(200, 5), gaussian_cloud(30, 5, seed=1) + 2
    bandwidth = solve_bandwidth(X, Y, density=0.2)
    reached = float(reference_affinity(X, Y, sigma=bandwidth.sigma).mean())
    assert reached == pytest.approx(0.2, rel=1e-6)
    assert (bandwidth.n_items, bandwidth.n_pairs) == (230, 6000)


@pytest.mark.parametrize("exponent", [-20, -9, 9, 20])
def test_sigma_is_in_units_of_the_features(exponent: int) -> None:
    X = gaussian_cloud(100, 5, dtype=torch.float32)
    scaled = solve_bandwidth(X * 10.0**exponent).sigma
    assert scaled / 10.0**exponent == pytest.approx(solve_bandwidth(X).sigma, rel=1e-5)


def test_sigma_grows_with_the_density() -> None:
    X = gaussian_cloud(100, 5)
    sigmas = [solve_bandwidth(X, density=c).sigma for c in DENSITIES]
    assert sigmas == sorted(set(sigmas))


def test_bimodal_plateau_is_crossed() -> None:
    X = gaussian_cloud(100, 3)
    X[:50] += 1000
    for density in (0.49, 0.494, 0.495, 0.5, 0.6):
        bandwidth = solve_bandwidth(X, density=density)
        reached = mean_off_diagonal(reference_affinity(X, sigma=bandwidth.sigma))
        assert reached == pytest.approx(density, rel=1e-6)


def test_duplicates_count_as_pairs() -> None:
    X = torch.zeros(20, 2, dtype=torch.float64)
    X[10:, 0] = 1
    floor = (2 * 10 * 9) / (20 * 19)
    bandwidth = solve_bandwidth(X, density=0.6)
    expected = 1 / math.sqrt(-2 * math.log((0.6 - floor) / (1 - floor)))
    assert bandwidth.sigma == pytest.approx(expected, rel=1e-8)
    with pytest.raises(BandwidthError, match=r"can't have density 0.4: 47.4% of their pairs"):
        solve_bandwidth(X, density=0.4)


@pytest.mark.parametrize("value", [0.0, 1e-20, 0.1, 1e20])
@pytest.mark.parametrize("n", [3, 100, 9000])
def test_constant_features_are_refused(value: float, n: int) -> None:
    with pytest.raises(BandwidthError, match="the features are constant"):
        solve_bandwidth(torch.full((n, 4), value), max_items=1000)
    if n <= 100:
        with pytest.raises(BandwidthError, match="the features are constant"):
            rbf_affinity(torch.full((n, 4), value))


@pytest.mark.parametrize(
    ("X", "arguments", "error", "message"),
    [
        (torch.eye(2), {}, InvalidInputError, "X has 2 items; .* at least 3"),
        (torch.eye(5), {"density": 0.0}, InvalidInputError, "density is 0.0"),
        (torch.eye(5), {"density": 1}, InvalidInputError, "density is 1; .* between 0 and 1"),
        (torch.eye(5), {"density": "low"}, InvalidTypeError, "density is of type str"),
        (torch.eye(5), {"tolerance": 0}, InvalidInputError, "tolerance is 0"),
        (torch.eye(5), {"max_items": 2}, InvalidInputError, "max_items is 2; .* at least 3"),
        (torch.eye(5), {"max_items": 9.5}, InvalidTypeError, "max_items is 9.5"),
        (torch.eye(5), {"random_state": -1}, InvalidInputError, "random_state is -1"),
        (torch.eye(5), {"random_state": None}, InvalidTypeError, "random_state is None"),
        (torch.eye(5), {"Y": torch.eye(4)}, InvalidInputError, "X has 5 features and Y has 4"),
        (torch.full((5, 2), math.nan), {}, NonFiniteError, "10 NaN or infinite values in 5 of 5"),
        ([[1e200, 0.0], [-1e200, 0], [0, 1]], {"Y": [[1.0, 0], [0, 1], [1, 1]]}, None, ""),
    ],
)
def test_bad_arguments_are_named(X, arguments, error, message) -> None:
    if error is None:
        with pytest.raises(InvalidInputError, match="span more than floats can square"):
            solve_bandwidth(X, **arguments)
        return
    with pytest.raises(error, match=message):
        solve_bandwidth(X, **arguments)


def test_result_is_plain_data() -> None:
    bandwidth = solve_bandwidth(gaussian_cloud(20, 3))
    assert json.loads(json.dumps(bandwidth.to_dict())) == bandwidth.to_dict()
    assert float(bandwidth) == bandwidth.sigma
    with pytest.raises(AttributeError):
        bandwidth.sigma = 1.0  # type: ignore[misc]


def _heavy(n: int) -> torch.Tensor:
    X = gaussian_cloud(n, 6, dtype=torch.float32)
    X[::20] *= 10
    return X


@pytest.mark.parametrize("two_sets", [False, True])
def test_sample_meets_its_tolerance_and_is_decided_by_the_seed(two_sets: bool) -> None:
    X = _heavy(3000)
    Y = gaussian_cloud(2000, 6, seed=1, dtype=torch.float32) if two_sets else None
    first = solve_bandwidth(X, Y, max_items=100, tolerance=0.02)
    assert first.converged
    assert not first.exact
    assert 0 < first.standard_error <= 0.02 * 0.05
    assert first.density == pytest.approx(0.05, rel=1e-6)
    assert solve_bandwidth(X, Y, max_items=100, tolerance=0.02) == first
    other = solve_bandwidth(X, Y, max_items=100, tolerance=0.02, random_state=1)
    assert other.sigma != first.sigma
    truth = solve_bandwidth(X, Y)
    assert first.sigma == pytest.approx(truth.sigma, rel=0.05)


def test_sampling_leaves_global_random_states_alone() -> None:
    torch.manual_seed(3)
    np_state = np.random.get_state()[1].copy()  # noqa: NPY002
    state = torch.get_rng_state()
    solve_bandwidth(_heavy(1000), max_items=50, tolerance=0.1)
    choose_landmarks(1000, 10)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], np_state)  # noqa: NPY002


@pytest.mark.parametrize(("n", "m"), [(10, None), (63, None), (65, None), (2000, 20), (5000, 2)])
def test_sets_smaller_than_a_group_can_be_sampled(n: int, m: int | None) -> None:
    X = gaussian_cloud(n, 4)
    Y = None if m is None else gaussian_cloud(m, 4, seed=1)
    bandwidth = solve_bandwidth(X, Y, max_items=5, tolerance=0.05)
    assert bandwidth.sigma == pytest.approx(solve_bandwidth(X, Y).sigma, rel=0.05)


def test_warns_where_the_largest_sample_does_not_do(assume_free: Callable[..., None]) -> None:
    # A sample takes a quarter of what is free.
    assume_free(4 * 2**23)
    with pytest.warns(SamplingWarning, match="standard error of .*% of it .* asked for"):
        bandwidth = solve_bandwidth(_heavy(40_000), max_items=100, tolerance=1e-4)
    assert not bandwidth.converged
    assert bandwidth.standard_error > 1e-4 * 0.05


def _log_sigmas(X: torch.Tensor, Y: torch.Tensor | None) -> tuple[list[float], float, float]:
    """Log sigma and the mean standard error over seeds, and the slope that relates the two."""
    solved = [
        solve_bandwidth(X, Y, max_items=100, tolerance=0.999, random_state=seed)
        for seed in range(40)
    ]
    few = X[:3000], None if Y is None else Y[:3000]
    low, high = (solve_bandwidth(*few, density=c).sigma for c in (0.0475, 0.0525))
    slope = 0.005 / math.log(high / low)
    reported = statistics.fmean(bandwidth.standard_error for bandwidth in solved)
    return [math.log(bandwidth.sigma) for bandwidth in solved], reported, slope


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m"), [(3000, None), (12_000, None), (40_000, None), (40_000, 40_000)]
)
def test_standard_error_is_honest(n: int, m: int | None) -> None:
    Y = None if m is None else gaussian_cloud(m, 6, seed=1, dtype=torch.float32)
    positions, reported, slope = _log_sigmas(_heavy(n), Y)
    spread = statistics.stdev(positions) * slope
    assert reported / 1.5 < spread < reported * 1.5


@pytest.mark.slow
def test_estimate_is_unbiased() -> None:
    X = _heavy(6000)
    positions, reported, slope = _log_sigmas(X, None)
    truth = math.log(solve_bandwidth(X).sigma)
    assert abs(statistics.fmean(positions) - truth) * slope < 3 * reported / math.sqrt(40)


def test_far_clusters_can_be_sampled() -> None:
    X = gaussian_cloud(1000, 8, dtype=torch.float32)
    X[::2] += 1e4
    sampled = solve_bandwidth(X, max_items=100, tolerance=0.02).sigma
    assert sampled == pytest.approx(solve_bandwidth(X.double()).sigma, rel=0.02)
