"""Partial whitening of tokens, and whitening of landmark columns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import relspace
import relspace.embedding
from relspace.errors import BandwidthError, InvalidInputError
from relspace.kernels import fit_normalization
from relspace.kernels.normalization import normalize_by_own
from relspace.kernels.relative import column_profile, standardize_rows

EXPONENTS = {"quarter-whiten": 0.25, "half-whiten": 0.5}


def features(n: int, d: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scales = torch.linspace(1.0, 3.0, d, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * scales + 2


@pytest.mark.parametrize("method", EXPONENTS)
@pytest.mark.parametrize(("n", "d"), [(60, 8), (8, 60)])
def test_covariance_is_a_power_of_what_it_was(method: str, n: int, d: int) -> None:
    X = features(n, d)
    before = np.linalg.svd(X - X.mean(0), compute_uv=False) / n**0.5
    after = torch.linalg.svdvals(fit_normalization(X, method).apply(X)) / n**0.5
    kept = min(n - 1, d)
    expected = before[:kept] ** (1 - EXPONENTS[method])
    np.testing.assert_allclose(after[:kept], expected, rtol=1e-8)


@pytest.mark.parametrize("method", EXPONENTS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.01, 100.0))
def test_distances_do_not_depend_on_rotation_and_shift(
    method: str, seed: int, scale: float
) -> None:
    X = features(40, 6, seed)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    moved = scale * (X @ rotation) + 5
    before, after = (torch.pdist(fit_normalization(Z, method).apply(Z)) for Z in (X, moved))
    torch.testing.assert_close(after / after.mean(), before / before.mean(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["quarter-whiten", "half-whiten+unit", "zscore", "center+unit"])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize(("n", "d"), [(60, 8), (20, 60)])
def test_features_normalised_by_their_own_fit(method: str, scale: float, n: int, d: int) -> None:
    X = scale * features(n, d)
    X[:, 1] *= 100
    expected, found = fit_normalization(X, method).apply(X), normalize_by_own(X, method)
    before, after = torch.pdist(expected), torch.pdist(found)
    torch.testing.assert_close(after / after.mean(), before / before.mean(), rtol=1e-6, atol=1e-9)


def spectrum(n: int, d: int, deviations: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
    return (torch.randn(n, d, generator=generator) * deviations) @ rotation


@pytest.mark.parametrize("method", [f"{one}+unit" for one in EXPONENTS])
@pytest.mark.parametrize(("n", "d"), [(200, 80), (80, 200)])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("spoiled", ["nothing", "a channel", "items", "offset"])
def test_float32_finds_the_values_of_float64(
    method: str, n: int, d: int, power: float, spoiled: str
) -> None:
    deviations = torch.arange(1.0, d + 1) ** -power
    X = spectrum(n, d, deviations, 0)
    Y = X + 0.3 * spectrum(n, d, deviations, 1)
    if spoiled == "a channel":
        X[:, 3] *= 1e4
    elif spoiled == "items":
        X[:7] *= 1e3
    elif spoiled == "offset":
        X += 100 * X.std()
    measure = relspace.measures.get("affinity", normalize=method)
    assert abs(measure(X, Y) - measure(X.double(), Y.double())) < 1e-5


@pytest.mark.parametrize(("loud", "last"), [(1.0, torch.float32), (1e4, torch.float64)])
def test_float32_decomposes_features_where_rounding_does_not_count(
    loud: float, last: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    eigh = torch.linalg.eigh

    def recorded(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found.append(matrix.dtype)
        return eigh(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", recorded)
    X = features(120, 40).float()
    X[:, 0] *= loud
    assert normalize_by_own(X, "quarter-whiten+unit").dtype == torch.float32
    assert found[0] == torch.float32
    assert found[-1] == last


def test_an_axis_far_louder_than_the_third_comes_out_like_it() -> None:
    X = features(200, 6)
    X[:, 2] *= 100
    deviations = torch.linalg.svdvals(fit_normalization(X, "half-whiten").apply(X))
    assert float(deviations[0] / deviations[2]) < 1.6


@pytest.mark.parametrize("apart", [10.0, 30.0])
@pytest.mark.parametrize("shares", [(40, 40, 40), (60, 60), (40, 80)])
@pytest.mark.parametrize("shape", [50, 200])
def test_groups_along_one_loud_axis_are_kept(
    apart: float, shares: tuple[int, ...], shape: int
) -> None:
    labels = torch.arange(len(shares)).repeat_interleave(torch.tensor(shares))
    X = torch.randn(120, shape, generator=torch.Generator().manual_seed(0))
    X[:, 0] += apart * labels
    # Columns that are decorrelated throughout set items apart, and groups less.
    for standardize, least in (("half-whiten", 0.95), ("whiten", 0.8)):
        space = relspace.align({"a": X}, standardize=standardize)
        embedding = relspace.NormalizedCut(n_components=3).fit(space).embedding_
        found = relspace.embedding.kway(embedding, len(shares))["a"]
        together = [labels[found == one].bincount().max() for one in found.unique()]
        assert sum(map(int, together)) >= least * len(X), standardize


@pytest.mark.parametrize(
    "loud",
    [
        pytest.param(lambda z: 100 * z, id="normal channel"),
        pytest.param(lambda z: 100 * z.relu(), id="rectified channel"),
        pytest.param(lambda z: z + 1000 * (z > 2), id="few tokens"),
    ],
)
def test_massive_activations_are_turned_down(loud: Callable[[torch.Tensor], torch.Tensor]) -> None:
    X = features(400, 12)
    channel = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    X[:, 0] = loud(channel)
    deviations = torch.linalg.svdvals(fit_normalization(X, "quarter-whiten").apply(X))
    assert float(deviations[0] / deviations[2]) < 1.6


def test_constant_features_have_no_bandwidth() -> None:
    with pytest.raises(BandwidthError, match="landmarks"):
        relspace.align({"a": torch.ones(20, 4)}, normalize="half-whiten+unit")


def test_whitened_columns_are_uncorrelated_up_to_the_ridge() -> None:
    A = relspace.rbf_affinity(features(50, 5), density=0.2)
    profile = column_profile(torch.as_tensor(A), standardize="whiten")
    assert profile.whitening is not None
    standard = (A - profile.mean) / profile.deviation
    correlation = standard.T @ standard / 50
    ridge = 0.1 * correlation.diagonal().mean() * torch.eye(50)
    expected = torch.linalg.inv(correlation + ridge)
    torch.testing.assert_close(
        profile.whitening @ profile.whitening, expected, rtol=1e-6, atol=1e-8
    )


def test_half_whitening_is_the_square_root_of_whitening() -> None:
    A = torch.as_tensor(relspace.rbf_affinity(features(50, 5), density=0.1))
    half, whole = (column_profile(A, standardize=one) for one in ("half-whiten", "whiten"))
    assert half.whitening is not None
    assert whole.whitening is not None
    torch.testing.assert_close(
        half.whitening @ half.whitening, whole.whitening, rtol=1e-6, atol=1e-8
    )


def test_own_entries_are_left_out_before_columns_are_mixed() -> None:
    A = torch.as_tensor(relspace.rbf_affinity(features(30, 5), density=0.2))
    profile = column_profile(A, standardize="whiten")
    own = torch.arange(30)
    other = A.clone().fill_diagonal_(0.3)
    rows = [standardize_rows(one.clone(), profile, own, how="whiten") for one in (A, other)]
    torch.testing.assert_close(*rows)
    assert bool((rows[0].diagonal() == 0).all())


def test_new_items_have_the_width_that_the_model_has() -> None:
    X = features(100, 12)
    X[:, 3] = 1.0
    aligner = relspace.Aligner().fit(X)
    assert aligner.n_features_in_ == 12
    assert torch.as_tensor(aligner.transform(X[:7])).shape == (7, 100)
    with pytest.raises(InvalidInputError, match="12"):
        aligner.transform(X[:7, :11])


def test_unknown_standardization() -> None:
    with pytest.raises(InvalidInputError, match="whiten"):
        relspace.Aligner(standardize="pca").fit(features(20, 3))
