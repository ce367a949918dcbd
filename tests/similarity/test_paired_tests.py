"""Corrected variances, degrees of freedom and corrections for many tests."""

from __future__ import annotations

import numpy as np
import pytest

from relspace.errors import InvalidInputError
from relspace.similarity.paired_tests import adjust, corrected_variance, spread_of_means


def bootstrap_table(n_references: int, n_items: int, seed: int) -> np.ndarray:
    """Means (n_draws, 3, 4) of a table with both resampled, references only, items only."""
    rng = np.random.default_rng(seed)
    shape = (n_references, n_items, 4)
    noise = rng.normal(size=(n_references, 1, 4)) + rng.normal(size=(1, n_items, 4))
    values = noise + 2 * rng.normal(size=shape)
    found = []
    for _ in range(200):
        rows = rng.integers(n_references, size=n_references)
        columns = rng.integers(n_items, size=n_items)
        found.append(
            [
                values[rows][:, columns].mean(axis=(0, 1)),
                values[rows].mean(axis=(0, 1)),
                values[:, columns].mean(axis=(0, 1)),
            ]
        )
    return np.array(found)


@pytest.mark.parametrize("counts", [(3, 8), (10, 40), None], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_corrected_variance_is_that_of_rsatoolbox(
    counts: tuple[int, int] | None, seed: int
) -> None:
    peer = pytest.importorskip("rsatoolbox.util.inference_util")
    n_references, n_items = counts or (5, 12)
    variances = bootstrap_table(n_references, n_items, seed).var(axis=0, ddof=1)
    given = counts or (None, None)
    ours = corrected_variance(*variances, n_references=given[0], n_items=given[1])
    np.testing.assert_allclose(ours, peer._dual_bootstrap(variances, *given), rtol=1e-12)


def test_corrected_variance_lies_between_its_parts() -> None:
    assert corrected_variance([9.0], [1.0], [2.0]) == 2.0
    assert corrected_variance([2.5], [1.0], [2.0]) == 2.5


@pytest.mark.parametrize(
    ("variances", "words"),
    [
        (([1.0], [1.0, 2.0], [1.0]), "one shape"),
        (([1.0], [-1.0], [1.0]), "not below 0"),
        (([np.nan], [1.0], [1.0]), "finite"),
    ],
)
def test_impossible_variances_are_refused(variances: tuple[object, ...], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        corrected_variance(*variances)


def test_one_of_a_kind_has_no_bootstrap() -> None:
    with pytest.raises(InvalidInputError, match="n_references is 1"):
        corrected_variance([1.0], [1.0], [1.0], n_references=1)


def test_spread_of_means_is_unbiased() -> None:
    """Means of a table with effects of references, of items and of both have a known variance."""
    rng = np.random.default_rng(0)
    n_references, n_items, n_tables = 6, 40, 300
    sigma_r, sigma_i, sigma_ri = 0.3, 1.0, 2.0
    true = sigma_r**2 / n_references + sigma_i**2 / n_items
    true += sigma_ri**2 / (n_references * n_items)
    table = (
        sigma_r * rng.normal(size=(n_references, 1, n_tables))
        + sigma_i * rng.normal(size=(1, n_items, n_tables))
        + sigma_ri * rng.normal(size=(n_references, n_items, n_tables))
    )
    halves = [rng.permutation(n_items)[: n_items // 2] for _ in range(100)]
    draws = np.stack([table[:, half].mean(axis=1) for half in halves])
    spread = spread_of_means(table.mean(axis=1), draws, n_items)
    # Bounds of the variance raise it a little.
    assert true < spread.variance.mean() < 1.15 * true
    assert (spread.dof >= n_references - 1.001).all()
    assert (spread.dof <= n_references + n_items).all()


def test_holm_and_benjamini_hochberg_agree_with_scipy() -> None:
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(1).uniform(size=40) ** 3
    np.testing.assert_allclose(adjust(p, "benjamini_hochberg"), false_discovery_control(p))
    ordered = np.sort(p)
    by_hand = [min(1.0, max(ordered[j] * (40 - j) for j in range(i + 1))) for i in range(40)]
    np.testing.assert_allclose(np.sort(adjust(p, "holm")), by_hand)
    np.testing.assert_array_equal(adjust(p, "none"), p)


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="0 to 1"):
        adjust([0.5, 1.5])
    with pytest.raises(InvalidInputError, match="benjamini_hochberg"):
        adjust([0.5], "fdr")
