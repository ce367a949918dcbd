"""Quantised vectors: their products are correlations up to the error that they come with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from relspace.errors import InvalidInputError
from relspace.reports.quantize import quantize_rows


def rows_of_rank(n: int, rank: int, m: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(m, rank, generator=generator)).Q
    rows = torch.randn(n, rank, generator=generator) @ basis.T
    return torch.nn.functional.normalize(rows, dim=1)


def products(
    a: NDArray[np.int8], b: NDArray[np.int8], scales: NDArray[np.floating]
) -> torch.Tensor:
    left, right = (torch.from_numpy(one.astype(np.float64) * scales) for one in (a, b))
    return left @ right.T


def test_rows_of_low_rank_keep_all_their_products() -> None:
    A, B = rows_of_rank(300, 8, 64), rows_of_rank(200, 8, 64, seed=0)
    (a, b), found = quantize_rows([A, B], 8)
    error = products(a, b, found.scales) - A.double() @ B.T.double()
    # Rounding alone: 8 components, each off by half a step at most on either side.
    assert error.abs().max() < 0.03
    assert found.energy == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("n_components", [4, 12])
def test_the_error_stated_is_the_error_made(n_components: int) -> None:
    A = rows_of_rank(2000, 32, 64)
    (a,), found = quantize_rows([A], n_components)
    error = products(a, a, found.scales) - A.double() @ A.T.double()
    error = error[~torch.eye(len(A), dtype=torch.bool)]
    assert found.error == pytest.approx(float(error.square().mean().sqrt()), rel=0.05)
    assert found.error_95 == pytest.approx(np.quantile(error.abs().numpy(), 0.95), rel=0.05)


def test_more_bytes_err_less() -> None:
    A = rows_of_rank(1000, 32, 64)
    errors = [quantize_rows([A], d)[1].error for d in (4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


def test_same_seed_same_bytes() -> None:
    A = rows_of_rank(500, 16, 40)
    (first,), (second,) = (quantize_rows([A], 8, random_state=3)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_there_are_no_more_components_than_columns() -> None:
    (vectors,), found = quantize_rows([rows_of_rank(50, 4, 6)], 48)
    assert vectors.shape == (50, 6)
    assert found.n_columns == 6


def test_blocks_of_different_spaces_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"\[6, 7\] columns"):
        quantize_rows([rows_of_rank(50, 4, 6), rows_of_rank(50, 4, 7)])
