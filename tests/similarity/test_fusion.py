"""Similarity network fusion: the formulas of snfpy, what it finds, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import relspace as rs
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError
from relspace.similarity.fusion import _affinities, _fuse

Matrix = NDArray[np.float64]
MEASURES = ("cka", "rsa", "mutual_neighbors")


def affinity_of_snfpy(distances: Matrix, k: int, mu: float) -> Matrix:
    """``snf.compute.affinity_matrix`` of snfpy 0.2.2, without missing values."""
    near = np.vstack(np.sort(distances, axis=1)[:, 1 : k + 1].mean(axis=1) + np.spacing(1))
    sigma = (near + near.T + distances) / 3
    sigma = sigma * np.greater(sigma, np.spacing(1)) + np.spacing(1)
    found = stats.norm.pdf(distances, loc=0, scale=mu * sigma)
    return (found + found.T) / 2


def snf_of_snfpy(affinities: list[Matrix], k: int, t: int) -> Matrix:
    """``snf.compute.snf`` of snfpy 0.2.2 with alpha = 1, without missing values."""
    aff, dominating = [], []
    for one in affinities:
        mat = one / one.sum(axis=1, keepdims=True)
        mat = (mat + mat.T) / 2
        aff.append(mat)
        strong = mat.copy()
        cut = np.percentile(strong, 100 - 100 * (k / len(mat)), axis=1, keepdims=True)
        strong[strong < cut] = 0
        dominating.append(strong / strong.sum(axis=1, keepdims=True))
    total = np.sum(aff, axis=0)
    for _ in range(t):
        for n, mat in enumerate(aff):
            new = dominating[n] @ (total - mat) @ dominating[n].T / (len(aff) - 1)
            new = new + np.eye(len(new))
            aff[n] = (new + new.T) / 2
        total = np.sum(aff, axis=0)
    found = total / len(aff)
    found = found / found.sum(axis=1, keepdims=True)
    return (found + found.T + np.eye(len(found))) / 2


def models(n_items: int = 60) -> dict[str, dict[str, Matrix]]:
    """Two families of three models each."""
    rng = np.random.default_rng(0)
    families = {name: rng.normal(size=(n_items, 6)) for name in "ab"}
    return {
        f"{name}{i}": {"out": shared + 0.7 * rng.normal(size=shared.shape)}
        for i in range(3)
        for name, shared in families.items()
    }


@pytest.fixture(scope="module")
def compared() -> list[rs.ModelComparison]:
    return [rs.compare_models(models(), measure=one, n_permutations=0) for one in MEASURES]


@pytest.mark.parametrize(("n", "k", "t"), [(6, 3, 20), (25, 20, 5), (10, 2, 1)])
def test_formulas_are_those_of_snfpy(n: int, k: int, t: int) -> None:
    rng = np.random.default_rng(n)
    distances = []
    for width in (2, 5, 9):
        X = rng.normal(size=(n, width))
        distances.append(np.linalg.norm(X[:, None] - X, axis=2))
    ours = [_affinities(one, k, 0.5) for one in distances]
    theirs = [affinity_of_snfpy(one, k, 0.5) for one in distances]
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    np.testing.assert_allclose(_fuse(ours, k, t), snf_of_snfpy(theirs, k, t), rtol=1e-9)


def test_families_are_found_and_measures_agree(compared: list[rs.ModelComparison]) -> None:
    fused = rs.fuse(compared)
    assert fused.n_neighbors == 3
    distances = [one.model_distances for one in compared]
    expected = snf_of_snfpy([affinity_of_snfpy(one, 3, 0.5) for one in distances], 3, 20)
    np.testing.assert_allclose(fused.values, expected, rtol=1e-9)
    family = np.array([name[0] for name in fused.models])
    alike = family[:, None] == family
    np.fill_diagonal(alike, False)
    assert fused.values[alike].min() > 2 * fused.values[family[:, None] != family].max()
    pairs = np.triu_indices(6, 1)
    for one, agreement in zip(compared, fused.agreement, strict=True):
        correlation = stats.spearmanr(one.summary[pairs], fused.values[pairs]).statistic
        assert agreement == pytest.approx(correlation)
    # The two families are merged last.
    assert fused.merges[-1, 3] == 6
    assert fused.merges[-2, 3] == fused.merges[-3, 3] == 3 or fused.merges[-2, 3] == 3


def test_distances_and_measures_of_one_order_can_be_fused() -> None:
    given = models()
    names = ("procrustes", "linear_predictivity")
    found = rs.fuse([rs.compare_models(given, measure=one, n_permutations=0) for one in names])
    np.testing.assert_array_equal(found.values, found.values.T)
    assert (found.agreement > 0.5).all()


def test_what_is_said_and_drawn(compared: list[rs.ModelComparison]) -> None:
    fused = rs.fuse(compared, n_neighbors=2, n_iterations=5, sharpness=0.4)
    plain: dict[str, Any] = json.loads(json.dumps(fused.to_dict()))
    assert [one["measure"] for one in plain["measures"]] == list(MEASURES)
    assert plain["n_neighbors"] == 2
    assert "not tested" in plain["chance"]
    text = repr(fused)
    assert "not tested" in text
    assert "cka 0." in text
    assert "<table" in fused._repr_html_()
    table, tree = fused.plot().figure.axes
    drawn = table.images[0].get_array()
    assert drawn is not None
    assert np.ma.getmaskarray(np.ma.masked_invalid(drawn)).sum() == 6
    assert len(tree.get_yticklabels()) == 6


def test_refusals(compared: list[rs.ModelComparison]) -> None:
    with pytest.raises(InvalidInputError, match="holds 1; fusing needs"):
        rs.fuse(compared[:1])
    with pytest.raises(InvalidTypeError, match="holds a str"):
        rs.fuse(["cka", "rsa"])  # type: ignore[list-item]
    with pytest.raises(InvalidTypeError, match="of type ModelComparison"):
        rs.fuse(compared[0])  # type: ignore[arg-type]
    given = models()
    few = {name: given[name] for name in ("a0", "b0", "a1")}
    with pytest.raises(InvalidInputError, match="there are 3 models"):
        rs.fuse([rs.compare_models(few, measure=one, n_permutations=0) for one in MEASURES])
    others = {name: given[name] for name in ("a0", "b0", "a1", "b1")}
    with pytest.raises(ItemMismatchError, match="different models"):
        rs.fuse([compared[0], rs.compare_models(others, measure="rsa", n_permutations=0)])
    with pytest.raises(ItemMismatchError, match=r"different items \(60 and 40\)"):
        rs.fuse([compared[0], rs.compare_models(models(40), measure="rsa", n_permutations=0)])
    with pytest.raises(InvalidInputError, match="n_neighbors is 6; it must be at most 5"):
        rs.fuse(compared, n_neighbors=6)
    with pytest.raises(InvalidInputError, match="sharpness"):
        rs.fuse(compared, sharpness=0.0)
