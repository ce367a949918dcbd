"""CKA with a Gaussian kernel where most items coincide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import relspace as rs
from relspace.errors import RelspaceWarning, UndefinedValueError
from relspace.measures.cka import median_distance

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4))


@pytest.mark.parametrize("measure", ["cka_rbf", "cka_rbf_biased"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_median_distance_of_zero_is_refused(measure: str, dtype: str) -> None:
    Z = np.r_[np.zeros((19, 4)), [[1, 2, 3, 4]]].astype(dtype)
    for coincide in (Z, Z + np.array([0.1, 1e3, -0.3, 7.7], dtype=dtype)):
        with pytest.raises(UndefinedValueError, match="median distance is 0"):
            rs.compare(coincide, X, measure=measure)
    with pytest.warns(RelspaceWarning, match="median distance is 0"):
        table = rs.compare_layers({"a": Z, "ok": X}, {"b": X}, measure=measure, n_permutations=0)
    assert list(table.left_out) == ["first, a"]


def test_median_distance_within_far_clusters_in_float32() -> None:
    # Three in four items lie in one tight cluster, far from the others.
    Z = np.r_[1e-4 * RNG.normal(size=(30, 4)), np.full((10, 4), 3.0)].astype("f4")
    wide = torch.tensor(Z, dtype=torch.float64)
    above = torch.ones(40, 40, dtype=torch.bool).triu_(1)
    squared = (wide[:, None] - wide).square().sum(dim=2)[above]
    expected = float(np.median(squared.numpy())) ** 0.5
    assert median_distance(torch.tensor(Z)) == pytest.approx(expected, rel=1e-5)
